//! A vote is a durable promise: no shorter than anything its voter was ever READY for, on disk under `sync`, and not taken
//! back by a restart (invariant 16). Under `async` it is given by one boot (chunk protocol, rules 1 and 4): with the power goes
//! the promise, and the master does not count it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::chunkserver::Chunkserver;
use cairn_core::id::{ChunkId, ChunkVersion, Durability, Incarnation, ProcessId};
use cairn_core::message::{
    AppendMessage, FromServer, Grant, MasterReply, Message, ReplicaState, ToServer, Vote,
};
use cairn_core::time::{Span, Time};
use runtime_sim::{Damage, DamageKind};

use crate::cluster::{Cluster, chunk_path, is_journal, lock};
use crate::violation::Violations;

const NAME: &str = "votes";

/// A volume that was emptied so shortly ago may have held what is missing.
const WIPED_LATELY: Span = Span::from_ms(30_000);

/// Chunks that are remembered; older ones have been settled long since.
const KEPT: usize = 4_096;

#[derive(Clone, Copy)]
struct Promise {
    version: ChunkVersion,
    incarnation: Incarnation,
    durability: Durability,
    length: u64,
}

#[derive(Default)]
struct Member {
    ready: u64,
    vote: Option<Promise>,
}

#[derive(Default)]
struct Memory {
    durability: BTreeMap<ChunkId, (Grant, Durability)>,
    members: BTreeMap<(ChunkId, String), Member>,
    /// Chunks whose replicas may be cut or dropped by now.
    settled: BTreeSet<ChunkId>,
    /// Votes in answer to the present input, and whom they are given as.
    given: BTreeMap<String, Vec<(ChunkId, Incarnation)>>,
    /// When the process before the current one began, and the current one.
    starts: BTreeMap<String, (BTreeSet<ProcessId>, Time, Time)>,
}

impl Memory {
    /// Rot in the last group of a journal can't be told from a torn write: the documented limit. A journal is written anew
    /// at each start, so that only what struck the last two processes counts.
    fn lost_journal(&self, cluster: &Cluster, server: &str) -> bool {
        let since = self.starts.get(server).map_or(Time::ZERO, |start| start.1);
        let misled = |d: &Damage| d.kind != DamageKind::BitFlip && is_journal(&d.path);
        let harmed = |d: &Damage| d.node == server && d.at >= since && misled(d);
        cluster.journal_torn_at(server).is_some_and(|at| at >= since)
            || cluster.world.damage_injected().iter().any(harmed)
    }
}

/// Compares READY, votes, disks, and what restarted servers still have.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let world = cluster.world.clone();
    let cluster = cluster.clone();
    let violations = violations.clone();
    let memory = Arc::new(Mutex::new(Memory::default()));
    let (seen, remembered, told) = (cluster.clone(), memory.clone(), violations.clone());
    world.observe_sends(move |_, from, _, _, message| {
        let Message::FromServer(FromServer::Vote { chunk, incarnation, vote, .. }) = message else { return };
        let memory = &mut *lock(&remembered);
        if *vote != Vote::OtherIncarnation {
            memory.given.entry(from.to_owned()).or_default().push((*chunk, *incarnation));
        }
        let Vote::Prefix { length, .. } = vote else { return };
        // What happens to the disk while the vote is on its way is another story.
        let Some((grant, Durability::Sync)) = memory.durability.get(chunk) else { return };
        if !memory.settled.contains(chunk) && !on_disk(&seen, from, grant, *length) {
            told.add(NAME, format!("{from} votes {length} bytes of {chunk}, which its disk has not"));
        }
    });
    let (seen, remembered, told) = (cluster.clone(), memory.clone(), violations.clone());
    world.observe_chunkserver(move |_, name, server| {
        let memory = &mut *lock(&remembered);
        let Some(given) = memory.given.remove(name) else { return };
        for (chunk, incarnation) in given {
            let durability = memory.durability.get(&chunk).map_or(Durability::Sync, |known| known.1);
            if !(0..seen.volumes(name)).any(|v| incarnation.stands(durability, server.incarnation(v))) {
                told.add(NAME, format!("{name} votes on {chunk} as {incarnation:?}, which it is not"));
            }
        }
    });
    world.observe_messages(move |now, from, _, message| {
        let mut memory = lock(&memory);
        let memory = &mut *memory;
        match message {
            Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. } => {
                memory.durability.insert(grant.chunk, (grant.clone(), grant.durability));
                if memory.durability.len() > KEPT
                    && let Some((old, _)) = memory.durability.pop_first()
                {
                    memory.members.retain(|(chunk, _), _| *chunk != old);
                }
            }
            Message::ToServer(
                ToServer::Seal { sealed: cairn_core::message::SealedChunk { chunk, .. }, .. }
                | ToServer::Copy { sealed: cairn_core::message::SealedChunk { chunk, .. }, .. }
                | ToServer::Drop { chunk, .. },
            ) => {
                memory.settled.insert(*chunk);
            }
            Message::Append(AppendMessage::Ready { chunk, version, ends }) => {
                let Some(own) = ends.first() else { return };
                let member = memory.members.entry((*chunk, from.to_owned())).or_default();
                member.ready = member.ready.max(*own);
                let short = member.vote.filter(|v| v.length < *own && v.version == *version);
                if let Some(vote) = short
                    && !memory.lost_journal(&cluster, from)
                {
                    violations.add(
                        NAME,
                        format!(
                            "{from} is READY for {own} bytes of {chunk} {version}, but voted {}",
                            vote.length
                        ),
                    );
                }
            }
            Message::FromServer(FromServer::Vote { chunk, version, incarnation, vote }) => {
                let length = match vote {
                    Vote::Prefix { length, .. } => *length,
                    Vote::Absent => 0,
                    _ => return,
                };
                let member = memory.members.entry((*chunk, from.to_owned())).or_default();
                let ready = member.ready;
                let durability = memory.durability.get(chunk).map_or(Durability::Async, |known| known.1);
                let (version, incarnation) = (*version, *incarnation);
                let weightier =
                    |v: Promise| v.length > length && v.incarnation.stands(v.durability, incarnation);
                if !member.vote.is_some_and(weightier) {
                    member.vote = Some(Promise { version, incarnation, durability, length });
                }
                if length < ready && memory.lost_journal(&cluster, from) {
                    // What nobody can notice took the rest for good: from now on the vote counts.
                    memory.members.entry((*chunk, from.to_owned())).or_default().ready = length;
                } else if length < ready {
                    violations.add(
                        NAME,
                        format!(
                            "{from} voted {length} bytes of {chunk} {version}, but was READY for {ready}"
                        ),
                    );
                }
            }
            Message::FromServer(FromServer::Register { process, .. }) => {
                let start = memory.starts.entry(from.to_owned()).or_default();
                if start.0.insert(*process) {
                    (start.1, start.2) = (start.2, now);
                }
                for (chunk, vote) in taken_back(&cluster, (from, *process), memory) {
                    violations.add(
                        NAME,
                        format!(
                            "{from} voted {} bytes of {chunk} {}, and forgot them in a restart",
                            vote.length, vote.version
                        ),
                    );
                }
            }
            _ => {}
        }
    });
}

/// Votes that stand and of which a server that started again has less, or nothing.
fn taken_back(
    cluster: &Cluster,
    (server, process): (&str, ProcessId),
    memory: &Memory,
) -> Vec<(ChunkId, Promise)> {
    let found = cluster.world.inspect(server, |machine: &Chunkserver| {
        let replicas: BTreeMap<ChunkId, _> = machine.replicas().map(|r| (r.chunk, r)).collect();
        let now: Vec<Incarnation> =
            (0..cluster.volumes(server)).map(|volume| machine.incarnation(volume)).collect();
        (replicas, now)
    });
    let Some((replicas, now)) = found else { return Vec::new() };
    // A process that died may ask to be registered when the next one has not read its disks yet.
    if now.iter().any(|now| now.process != process) {
        return Vec::new();
    }
    let unharmed = !cluster.disk_errors().contains(server)
        && cluster.world.damage_injected().iter().all(|d| d.node != server);
    let own = memory.members.iter().filter(|((_, of), _)| of == server);
    let fallen = own.filter_map(|((chunk, _), member)| {
        let vote = member.vote?;
        let is_less = match replicas.get(chunk) {
            Some(replica) => {
                let stands = vote.incarnation.stands(vote.durability, now[usize::from(replica.volume_index)]);
                let fenced = replica.state == ReplicaState::Fenced && replica.version == vote.version;
                stands && fenced && replica.ready < vote.length
            }
            None => {
                let stands = now.iter().any(|now| vote.incarnation.stands(vote.durability, *now));
                unharmed && stands && vote.length > 0
            }
        };
        // What was sealed is not voted on again: what is beyond may be cut.
        (is_less && !memory.settled.contains(chunk)).then_some((*chunk, vote))
    });
    let fallen: Vec<_> = fallen.collect();
    if fallen.is_empty() || memory.lost_journal(cluster, server) { Vec::new() } else { fallen }
}

fn on_disk(cluster: &Cluster, server: &str, grant: &Grant, end: u64) -> bool {
    let path = chunk_path(grant.cluster, grant.chunk);
    let there =
        |volume| cluster.world.durable_length(server, volume, &path).is_some_and(|length| length >= end);
    let now = cluster.world.now();
    end == 0
        || (0..cluster.volumes(server)).any(there)
        || cluster.world.damage_injected().iter().any(|d| {
            let wiped = d.kind == DamageKind::Wipe && now.since(d.at) < WIPED_LATELY;
            d.node == server && (wiped || d.path == path)
        })
}
