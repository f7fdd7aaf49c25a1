//! A new chunk goes to distinct servers, no fewer than its quorum, with the quorum that was asked for, and, while nothing is
//! wrong, to as many racks as it can; a copy goes to a server of its own, and to no rack more crowded than need be; of too
//! many replicas none goes that is alone in its rack while another rack has several (invariant 28).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use cairn_core::id::{ChunkId, ServerId};
use cairn_core::master::{CopyPlaces, Master};
use cairn_core::message::{DropReason, Grant, MasterReply, MasterRequest, Message, ToServer};

use super::registered::Registered;
use crate::cluster::{Cluster, MASTER, lock};
use crate::violation::Violations;

const NAME: &str = "placement";

/// Looks at every grant, and at every copy and every drop that is ordered.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    watch_orders(cluster, violations.clone());
    let (seen, violations) = (cluster.clone(), violations.clone());
    let mut wary = BTreeSet::new();
    cluster.world.observe_messages(move |_, from, to, message| match message {
        Message::MasterRequest { body: MasterRequest::OpenChunk { avoid, .. }, .. } if !avoid.is_empty() => {
            wary.insert(from.to_owned());
        }
        Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. } => {
            if let Err(text) = check(&seen, grant, wary.contains(to)) {
                violations.add(NAME, format!("{} is granted to {:?}: {text}", grant.chunk, grant.addresses));
            }
        }
        _ => {}
    });
}

fn watch_orders(cluster: &Cluster, violations: Violations) {
    let registered: Arc<Mutex<Registered>> = Arc::default();
    let heard = registered.clone();
    cluster.world.observe_arrivals(move |to, process, peer, message| {
        let mut registered = lock(&heard);
        registered.begins(to, process);
        registered.hear(to, peer, message);
    });
    let seen = cluster.clone();
    cluster.world.observe_sends(move |_, from, _, to, message| {
        if from != MASTER {
            return;
        }
        let mut registered = lock(&registered);
        registered.tell(to, message);
        let Some(target) = registered.at(to) else { return };
        match message {
            Message::ToServer(ToServer::Copy { sealed, .. }) => {
                let places = |master: &Master| crowded(&master.copy_places(sealed.chunk), target);
                if let Some(Some(text)) = seen.master(places) {
                    violations.add(NAME, format!("a copy of {} is to go to {target}: {text}", sealed.chunk));
                }
            }
            Message::ToServer(ToServer::Drop { chunk, reason: DropReason::Excess, .. }) => {
                if let Some(Some(text)) = seen.master(|master| bared(master, *chunk, target)) {
                    violations.add(NAME, format!("{chunk} is to be dropped from {target}: {text}"));
                }
            }
            _ => {}
        }
    });
}

/// What is wrong with a copy that was just ordered.
fn crowded(places: &CopyPlaces<'_>, target: ServerId) -> Option<String> {
    let crowd = |rack: &str| places.taken.iter().filter(|(id, r)| *id != target && *r == rack).count();
    let (_, own) = places.taken.iter().find(|(id, _)| *id == target)?;
    let better = places.free.iter().find(|(_, rack)| crowd(rack) < crowd(own));
    better.map(|(id, rack)| {
        format!("there are {} replicas in {own}, {} in {rack}, where {id} is free", crowd(own), crowd(rack))
    })
}

/// What is wrong with a drop that was just ordered.
fn bared(master: &Master, chunk: ChunkId, target: ServerId) -> Option<String> {
    let own = master.rack_of(target)?;
    let good = master.good_places(chunk);
    let others = |rack: &str| good.iter().filter(|(id, r)| *id != target && *r == rack).count();
    let (_, crowded) = good.iter().find(|(id, rack)| *id != target && others(rack) > 1)?;
    (others(own) == 0).then(|| format!("it is alone in {own}, {} are in {crowded}", others(crowded)))
}

/// `wary`: the client has asked for a chunk that is not on servers of its choice.
fn check(cluster: &Cluster, grant: &Grant, wary: bool) -> Result<(), String> {
    let members = grant.members.len();
    let servers: BTreeSet<_> = grant.members.iter().map(|member| member.server).collect();
    if servers.len() < members {
        return Err("one server holds two replicas".into());
    }
    let asked = cluster.master(|master| {
        let mut uploads = master.catalog().uploads();
        uploads.find(|(_, upload)| upload.chunks.contains(&grant.chunk)).map(|(_, upload)| upload.options)
    });
    if let Some(Some(options)) = asked
        && (grant.quorum, grant.replication) != (options.quorum, options.replication)
    {
        return Err(format!("as w={}/{}, not as asked for", grant.quorum, grant.replication));
    }
    if members < usize::from(grant.quorum) {
        return Err("they are fewer than its quorum".into());
    }
    // What is cut off, slow or full is rightly passed over.
    if wary || cluster.was_struck() {
        return Ok(());
    }
    let racks: BTreeSet<&str> = cluster.shape.servers.iter().map(|server| server.rack.as_str()).collect();
    let used: BTreeSet<&str> =
        grant.addresses.iter().filter_map(|address| cluster.rack_of(&address.0)).collect();
    if used.len() < racks.len().min(members) {
        return Err(format!("they are in {} of {} racks", used.len(), racks.len()));
    }
    Ok(())
}
