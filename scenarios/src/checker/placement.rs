//! A new chunk goes to distinct servers, no fewer than its quorum, with the quorum that was asked for, and, while nothing is
//! wrong, to as many racks as it can (invariant 28).

use std::collections::BTreeSet;

use cairn_core::message::{Grant, MasterReply, MasterRequest, Message};

use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "placement";

/// Looks at every grant.
pub fn watch(cluster: &Cluster, violations: &Violations) {
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
