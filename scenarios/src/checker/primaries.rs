//! A primary commits while its lease runs and never after, and takes no lease for longer than it was given; no replica of an
//! open chunk goes on after a restart (invariant 17).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::chunkserver::Chunkserver;
use cairn_core::id::{ChunkId, ProcessId};
use cairn_core::message::{FromServer, Grant, MasterReply, Message, ReplicaState, ToServer};
use cairn_core::time::{Span, Time};

use crate::cluster::{Cluster, lock, of_node};
use crate::violation::Violations;

const NAME: &str = "primaries";

/// Chunks whose grants are remembered; older ones have been settled long since.
const KEPT: usize = 4_096;

/// Clocks drift by less than one part in so many.
const DRIFT: u64 = 100;

#[derive(Default)]
struct Server {
    /// Those that were heard of: a late registration may be an earlier one's.
    processes: BTreeSet<ProcessId>,
    /// When the master got each heartbeat that is not yet answered.
    heartbeats: BTreeMap<u64, Time>,
    lease: Time,
    /// Until when it believes to have one, by its own clock.
    believed: Option<Time>,
    committed: BTreeMap<ChunkId, u64>,
    open: BTreeSet<ChunkId>,
    /// Open when an earlier process ended.
    closed: BTreeSet<ChunkId>,
}

#[derive(Default)]
struct Memory {
    grants: BTreeMap<ChunkId, Grant>,
    servers: BTreeMap<String, Server>,
}

impl Memory {
    /// What is known of a server, and what was granted.
    fn server(&mut self, name: &str) -> (&mut Server, &BTreeMap<ChunkId, Grant>) {
        (of_node(&mut self.servers, name), &self.grants)
    }
}

/// Follows leases, and looks at the open replicas after each input of their server.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let memory = Arc::new(Mutex::new(Memory::default()));
    let seen = memory.clone();
    cluster.world.observe_messages(move |now, from, to, message| match message {
        Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. } => {
            let mut memory = lock(&seen);
            memory.grants.insert(grant.chunk, grant.clone());
            if memory.grants.len() > KEPT {
                memory.grants.pop_first();
            }
        }
        Message::FromServer(FromServer::Register { process, .. }) => {
            let mut memory = lock(&seen);
            let (server, _) = memory.server(from);
            if server.processes.insert(*process) {
                let open = std::mem::take(&mut server.open);
                server.closed.extend(open);
            }
        }
        Message::FromServer(FromServer::Heartbeat { sequence, .. }) => {
            lock(&seen).server(from).0.heartbeats.insert(*sequence, now);
        }
        Message::ToServer(ToServer::HeartbeatAck { sequence, lease_ms }) => {
            let mut memory = lock(&seen);
            let (server, _) = memory.server(to);
            if let Some(at) = server.heartbeats.remove(sequence) {
                server.lease = server.lease.max(at + Span::from_ms(*lease_ms));
            }
            if server.heartbeats.len() > 1_000 {
                server.heartbeats.pop_first();
            }
        }
        _ => {}
    });
    let (found, clocks) = (violations.clone(), cluster.clone());
    cluster.world.observe_chunkserver(move |now, name, machine| {
        if let Some(until) = machine.lease_until()
            && let server = lock(&memory).server(name).0
            && server.believed.replace(until) != Some(until)
        {
            let left = until.since(clocks.world.clock(name));
            let (ends, given) = (now + Span(left.0 - left.0 / DRIFT), server.lease);
            if left > Span::ZERO && ends > given {
                let text =
                    format!("{name} takes its lease to run until {ends}, it was given one until {given}");
                found.add(NAME, text);
            }
        }
        let mut replicas = machine.open_replicas().peekable();
        if replicas.peek().is_some() {
            look(&mut lock(&memory), now, name, machine, &found);
        }
    });
}

fn look(memory: &mut Memory, now: Time, name: &str, machine: &Chunkserver, found: &Violations) {
    let own = machine.server();
    let (server, grants) = memory.server(name);
    for replica in machine.open_replicas() {
        let chunk = replica.chunk;
        if replica.state == ReplicaState::Open && server.open.insert(chunk) && server.closed.contains(&chunk)
        {
            found.add(NAME, format!("{name} goes on with {chunk} {} after a restart", replica.version));
        }
        let known = server.committed.entry(chunk).or_default();
        if replica.committed > *known {
            *known = replica.committed;
            let is_primary =
                || grants.get(&chunk).is_some_and(|g| g.members.first().is_some_and(|m| m.server == own));
            if now > server.lease && is_primary() {
                found.add(
                    NAME,
                    format!(
                        "{name} committed {} bytes of {chunk} at {now}, but its lease ran out at {}",
                        replica.committed, server.lease
                    ),
                );
            }
        }
    }
}
