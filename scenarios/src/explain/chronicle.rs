//! The state of each chunk as it changes: what each replica has, what of it a power cut would leave, what the master knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cairn_core::id::{ChunkId, ClusterId, Durability, ServerId};
use cairn_core::master::Master;
use cairn_core::master::catalog::ChunkState;
use cairn_core::message::ReplicaState;
use runtime_sim::World;
use runtime_sim::record::HappeningId;

use crate::cluster::{chunk_path, lock};

/// A replica at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Its version.
    pub version: u32,
    /// Its state.
    pub state: ReplicaState,
    /// Bytes that arrived.
    pub staged: u64,
    /// Bytes promised.
    pub ready: u64,
    /// Bytes that the server knows to be committed.
    pub committed: u64,
    /// Bytes of the chunk's file that survive any power cut.
    pub durable: u64,
}

/// What the master's catalog says of a chunk at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its version.
    pub version: u32,
    /// Its length once sealed.
    pub sealed: Option<u64>,
    /// Members while open, in order.
    pub members: Vec<ServerId>,
    /// How many of them must hold a record, while open.
    pub quorum: u8,
    /// What READY promises, while open.
    pub durability: Durability,
    /// Good replicas that the master knows of, once sealed.
    pub good: u8,
    /// Replicas wanted.
    pub goal: u8,
    /// Its file's path.
    pub file: Option<String>,
}

/// A change of a chunk's state.
#[derive(Clone, Debug)]
pub struct Change<T> {
    /// The last event before it was seen.
    pub after: HappeningId,
    /// What it is now; `None`: not there.
    pub now: Option<T>,
}

/// All changes of a run.
#[derive(Clone, Debug, Default)]
pub struct Chronicle {
    /// By chunk and server.
    pub replicas: BTreeMap<ChunkId, BTreeMap<String, Vec<Change<Replica>>>>,
    /// The master's view, by chunk.
    pub entries: BTreeMap<ChunkId, Vec<Change<Entry>>>,
    cluster: Option<ClusterId>,
    index: u64,
    files: BTreeMap<ChunkId, String>,
}

impl Chronicle {
    /// Follows all chunkservers and the master of a world that keeps its events.
    pub fn watch(world: &World) -> Arc<Mutex<Chronicle>> {
        let chronicle = Arc::new(Mutex::new(Chronicle::default()));
        let (seen, told) = (chronicle.clone(), world.clone());
        world.observe_master(move |_, master| {
            lock(&seen).see_master(last(&told), master);
        });
        let (seen, told) = (chronicle.clone(), world.clone());
        world.observe_chunkserver(move |_, name, server| {
            let mut seen = lock(&seen);
            let mut now = BTreeMap::new();
            for view in server.replicas() {
                let mut replica = Replica {
                    version: view.version.0,
                    state: view.state,
                    staged: view.staged,
                    ready: view.ready,
                    committed: view.committed,
                    durable: 0,
                };
                replica.durable = match seen.now(view.chunk, name) {
                    // What is sealed stays as it is.
                    Some(before)
                        if before.state == ReplicaState::Sealed
                            && before == (Replica { durable: before.durable, ..replica }) =>
                    {
                        before.durable
                    }
                    _ => {
                        let path = seen.path(view.chunk);
                        path.and_then(|path| told.durable_length(name, view.volume_index, &path)).unwrap_or(0)
                    }
                };
                now.insert(view.chunk, replica);
            }
            seen.see_server(last(&told), name, &now);
        });
        chronicle
    }

    fn path(&self, chunk: ChunkId) -> Option<String> {
        Some(chunk_path(self.cluster?, chunk))
    }

    fn see_server(&mut self, after: HappeningId, name: &str, now: &BTreeMap<ChunkId, Replica>) {
        for (chunk, servers) in &mut self.replicas {
            if let Some(changes) = servers.get_mut(name).filter(|_| !now.contains_key(chunk)) {
                note(changes, after, None);
            }
        }
        for (chunk, replica) in now {
            let servers = self.replicas.entry(*chunk).or_default();
            if !servers.contains_key(name) {
                servers.insert(name.to_owned(), Vec::new());
            }
            if let Some(changes) = servers.get_mut(name) {
                note(changes, after, Some(*replica));
            }
        }
    }

    /// What a server has of a chunk now.
    fn now(&self, chunk: ChunkId, server: &str) -> Option<Replica> {
        self.replicas.get(&chunk)?.get(server)?.last()?.now
    }

    fn see_master(&mut self, after: HappeningId, master: &Master) {
        let catalog = master.catalog();
        self.cluster = Some(catalog.cluster());
        if catalog.applied() != self.index {
            self.index = catalog.applied();
            let paths = catalog.chunks_after(None).filter_map(|(id, _)| Some((id, catalog.chunk_path(id)?)));
            self.files = paths.collect();
        }
        if !master.is_ready() {
            return;
        }
        for (id, changes) in &mut self.entries {
            if catalog.chunk(*id).is_none() {
                note(changes, after, None);
            }
        }
        for (id, chunk) in catalog.chunks_after(None) {
            let mut entry = Entry {
                version: chunk.version.0,
                sealed: None,
                members: Vec::new(),
                quorum: 0,
                durability: Durability::Sync,
                good: 0,
                goal: chunk.goal,
                file: self.files.get(&id).cloned(),
            };
            match &chunk.state {
                ChunkState::Open(open) => {
                    entry.members = open.members.iter().map(|member| member.server).collect();
                    (entry.quorum, entry.durability) = (open.quorum, open.durability);
                }
                ChunkState::Sealed { length, .. } => {
                    (entry.sealed, entry.good) = (Some(*length), master.good_replicas(id));
                }
            }
            note(self.entries.entry(id).or_default(), after, Some(entry));
        }
    }

    /// What each server had of a chunk when event `at` was over.
    pub fn holders(&self, chunk: ChunkId, at: HappeningId) -> Vec<(&str, Replica)> {
        (self.replicas.get(&chunk).into_iter().flatten())
            .filter_map(|(server, changes)| {
                let last = changes.iter().rev().find(|change| change.after <= at)?;
                Some((server.as_str(), last.now?))
            })
            .collect()
    }

    /// A chunk that was not as it should be when event `at` was over: open, not at its goal, or left over.
    pub fn unsettled(&self, at: HappeningId) -> Option<ChunkId> {
        let settled = |chunk: ChunkId| match self.entry(chunk, at) {
            Some(entry) => entry.sealed.is_some() && entry.good == entry.goal,
            None => self.holders(chunk, at).is_empty(),
        };
        self.replicas.keys().chain(self.entries.keys()).copied().find(|chunk| !settled(*chunk))
    }

    /// What the master's catalog said of a chunk when event `at` was over.
    pub fn entry(&self, chunk: ChunkId, at: HappeningId) -> Option<&Entry> {
        let last = self.entries.get(&chunk)?.iter().rev().find(|change| change.after <= at)?;
        last.now.as_ref()
    }
}

fn last(world: &World) -> HappeningId {
    world.happenings().saturating_sub(1) as HappeningId
}

fn note<T: PartialEq>(changes: &mut Vec<Change<T>>, after: HappeningId, now: Option<T>) {
    let before = changes.last().and_then(|change| change.now.as_ref());
    if before != now.as_ref() || changes.is_empty() && now.is_some() {
        changes.push(Change { after, now });
    }
}
