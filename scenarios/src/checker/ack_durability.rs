//! Whatever a writer was told is committed, W members hold as their durability demands (invariant 3).

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::id::{ChunkId, ChunkUuid, ChunkVersion, Durability};
use cairn_core::message::{AppendMessage, Grant, MasterReply, MasterRequest, Message, ToServer};
use cairn_core::time::Span;
use runtime_sim::{Damage, DamageKind};

use crate::cluster::{Cluster, chunk_path, is_journal};
use crate::violation::Violations;

const NAME: &str = "ack-durability";

/// How many of an acknowledged range's last bytes are compared between the members.
const TAIL_BYTES: u64 = 512;

/// A volume that was emptied, or a page cache that was lost, so shortly ago held what had been acknowledged.
const LOST_LATELY: Span = Span::from_ms(30_000);

/// Grants that are remembered; older chunks have been settled long since.
const GRANTS_KEPT: usize = 4_096;

#[derive(Default)]
struct Memory {
    grants: BTreeMap<(ChunkId, ChunkVersion), Grant>,
    /// Chunks whose replicas may be cut, completed or dropped by now: an acknowledgement that was held up in the network
    /// says nothing about them.
    settled: BTreeSet<ChunkId>,
}

/// Looks at the disks whenever a commit reaches a writer.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let world = cluster.world.clone();
    let cluster = cluster.clone();
    let violations = violations.clone();
    let mut memory = Memory::default();
    world.observe_messages(move |_, _, to, message| match message {
        Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. } => {
            memory.grants.insert((grant.chunk, grant.version), grant.clone());
            if memory.grants.len() > GRANTS_KEPT {
                memory.grants.pop_first();
            }
        }
        Message::ToServer(
            ToServer::Fence { chunk, .. } | ToServer::Complete { chunk, .. } | ToServer::Drop { chunk, .. },
        )
        | Message::MasterRequest { body: MasterRequest::SealChunk { chunk, .. }, .. } => {
            memory.settled.insert(*chunk);
        }
        Message::Append(AppendMessage::Committed { chunk, version, end, .. }) if to.starts_with("client") => {
            if *end == 0 || memory.settled.contains(chunk) {
                return;
            }
            if let Some(grant) = memory.grants.get(&(*chunk, *version))
                && let Err(text) = check(&cluster, grant, *end)
            {
                violations.add(NAME, text);
            }
        }
        _ => {}
    });
}

fn check(cluster: &Cluster, grant: &Grant, end: u64) -> Result<(), String> {
    let start = end.saturating_sub(TAIL_BYTES);
    let mut tails: Vec<(String, Vec<u8>)> = Vec::new();
    let path = chunk_path(grant.cluster, grant.chunk);
    for address in &grant.addresses {
        if let Some(tail) = tail(cluster, &address.0, grant.durability, &path, start, (end - start) as usize)
        {
            tails.push((address.0.to_string(), tail));
        }
    }
    let like = |tail: &[u8]| tails.iter().filter(|(_, other)| other == tail).count();
    let agreeing = tails.iter().map(|(_, tail)| like(tail)).max().unwrap_or_default();
    // Nearly always; to find out what harm stands is much dearer.
    if agreeing >= usize::from(grant.quorum) {
        return Ok(());
    }
    let name = ChunkUuid::new(grant.cluster, grant.chunk).to_string();
    let now = cluster.world.now();
    // A file that was removed while it was written is noticed by the next write to it.
    let lost = |d: &Damage| match d.kind {
        DamageKind::Wipe => true,
        DamageKind::HandEdit => d.path.contains(&name),
        _ => false,
    };
    let lost: Vec<String> = cluster
        .world
        .damage_injected()
        .into_iter()
        .filter(|d| lost(d) && now.since(d.at) < LOST_LATELY)
        .map(|d| d.node)
        .collect();
    let mut damaged: BTreeSet<String> = cluster
        .world
        .damage_standing()
        .into_iter()
        .filter(|d| d.path.contains(&name))
        .map(|d| d.node)
        .collect();
    damaged.extend(lost);
    // What was promised of an unsealed chunk is in the journal.
    let rotten = |d: &Damage| is_journal(&d.path) && now.since(d.at) < LOST_LATELY;
    damaged.extend(cluster.world.damage_injected().into_iter().filter(rotten).map(|d| d.node));
    if grant.durability == Durability::Async {
        let cut = |node: &str| cluster.power_cut_at(node).is_some_and(|at| now.since(at) < LOST_LATELY);
        damaged.extend(grant.addresses.iter().filter(|a| cut(&a.0)).map(|a| a.0.to_string()));
    }
    damaged.retain(|node| grant.addresses.iter().any(|a| *a.0 == **node));
    // Which bytes are the right ones, of as many that agree, is not known: any will do that only harm contradicts.
    let agree_but_for_harm = |most: &[u8]| {
        let agrees = |node: &String| tails.iter().any(|(other, tail)| other == node && tail == most);
        like(most) + damaged.iter().filter(|node| !agrees(node)).count() >= usize::from(grant.quorum)
    };
    if agree_but_for_harm(&[]) || tails.iter().any(|(_, tail)| agree_but_for_harm(tail)) {
        return Ok(());
    }
    let holders: Vec<_> = tails.iter().map(|(node, _)| node.as_str()).collect();
    Err(format!(
        "{} {} was acknowledged up to {end} ({}), {} of {:?} must hold that, {agreeing} agree among {holders:?}",
        grant.chunk, grant.version, grant.durability, grant.quorum, grant.addresses,
    ))
}

/// The bytes `start..start + length` as `node` would have them after what its durability must survive.
fn tail(
    cluster: &Cluster,
    node: &str,
    durability: Durability,
    path: &str,
    start: u64,
    length: usize,
) -> Option<Vec<u8>> {
    let part = |whole: &[u8]| {
        let end = whole.len().min(start as usize + length);
        whole.get(start as usize..end).map(<[u8]>::to_vec)
    };
    (0..cluster.volumes(node)).find_map(|volume| {
        let bytes = match durability {
            Durability::Sync => cluster.world.with_durable(node, volume, path, part)??,
            Durability::Async => cluster.world.with_file(node, volume, path, part)??,
        };
        (bytes.len() == length).then_some(bytes)
    })
}
