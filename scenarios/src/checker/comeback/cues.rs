//! What servers come back beside the run for: the moments at which a crash shows most.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::chunkserver::{Chunkserver, ReplicaView};
use cairn_core::disk::{DiskPath, DiskRequest};
use cairn_core::id::{ChunkId, ChunkVersion};
use cairn_core::message::{AppendMessage, FromServer, Message, ReplicaState, ToServer, Vote};
use cairn_core::rng::Rng;

use crate::cluster::{Cluster, chunk_of, chunk_of_any, chunk_of_either, is_purged, lock, purged_sidecar};

/// After what, or while what goes on, a server comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cue {
    /// Nothing in particular.
    Any,
    /// READY or a commit was the answer.
    Ready,
    /// A replica was settled: by a vote, by a change that is told, by a copy that is done.
    Settled,
    /// A replica was dropped.
    Dropped,
    /// A replica was made durable later than it was sealed: nobody is told, and everybody relies on it.
    Flushed,
    /// A recovery ended, or files are being moved after one that found a chunk twice.
    Recovered,
    /// Files are moved away after an order to drop.
    Moving,
    /// Files are changed after an order to seal.
    Sealing,
    /// A chunk was sealed as empty or at less than was promised, or one that was is moved away.
    Cutting,
    /// Bytes follow their sidecar that was purged before.
    Purging,
    /// A volume is out of use: what can't be read now the next process may find beside what came in its place.
    Returning,
    /// A copy takes the place of a sound replica.
    Replacing,
}

impl Cue {
    /// One in so many such inputs is followed by a comeback.
    fn one_in(self) -> u64 {
        match self {
            Cue::Any => 3_000,
            Cue::Ready => 2_000,
            Cue::Sealing => 300,
            Cue::Settled | Cue::Moving => 60,
            Cue::Returning => 30,
            Cue::Dropped => 20,
            Cue::Replacing => 10,
            Cue::Flushed => 6,
            Cue::Cutting => 4,
            Cue::Recovered => 3,
            Cue::Purging => 2,
        }
    }
}

/// Comebacks of one cue after which the next ones of it in a run are half as likely, after as many of those a third, and so on:
/// another seed shows more than another moment of the same kind.
const WORN_AFTER: u64 = 12;
/// Inputs of a process after an order to drop or to seal, or after a recovery that found a chunk twice, within which files are moved.
const MOVES: u64 = 20;

/// A moment at which a server comes back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// Files are on their way: two crashes show more than one.
    pub(super) is_in_between: bool,
    /// What is of interest is a chunk that lies on two volumes.
    pub(super) of_doubled: bool,
    /// The chunk that something was promised about.
    pub(super) chunk: Option<ChunkId>,
}

/// A server's votes on chunks that are not settled.
pub(super) type Votes = BTreeMap<ChunkId, (ChunkVersion, u64)>;

/// What is known of the servers.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) votes: BTreeMap<String, Votes>,
    /// Replicas that a server has told to be damaged.
    pub(super) told_damaged: BTreeSet<(String, ChunkId)>,
    pub(super) copies: BTreeMap<String, Copies>,
    /// Chunks that a server's present process was told to seal. If it can't, it may know more of their bytes than its journal does, and
    /// nobody was told of those.
    pub(super) told_to_seal: BTreeMap<String, BTreeSet<ChunkId>>,
    /// Servers that promise something in answer to the present input, and of what chunk.
    promising: BTreeMap<String, (Cue, Option<ChunkId>)>,
    /// Servers whose present process has not recovered yet.
    recovering: BTreeSet<String>,
    /// Servers that are moving files, and for how many inputs that is taken to last.
    moving: BTreeMap<String, (u64, Cue)>,
    /// Replicas that each server has made durable after their seal.
    flushed: BTreeMap<String, u64>,
    /// What a server is told that a chunk is sealed as in the present input.
    sealing: BTreeMap<String, (ChunkId, u64)>,
    /// Chunks that were sealed at less than a server had promised.
    cut: BTreeSet<(String, ChunkId)>,
    /// Chunks whose sidecar a server has purged: their bytes went before, or are still to follow.
    purged: BTreeSet<(String, ChunkId)>,
    /// Comebacks so far.
    taken: BTreeMap<Cue, u64>,
}

/// Copies that a server was told to make.
#[derive(Default)]
pub(super) struct Copies {
    /// How often damage was found before.
    damage_found: u64,
    /// Whether what is there already was sound while the copy was under way: when its files begin to be replaced, its server
    /// counts it among the damaged ones, lest it be read.
    was_sound: BTreeMap<ChunkId, bool>,
}

impl Copies {
    /// True while one of them is replacing what was sound.
    fn look(&mut self, machine: &Chunkserver) -> bool {
        let found_more = machine.damage_found() != self.damage_found;
        self.damage_found = machine.damage_found();
        let mut replacing = false;
        for (chunk, was_sound) in &mut self.was_sound {
            if let Some(replica) = machine.replica(*chunk) {
                let is_damaged = replica.state == ReplicaState::Damaged;
                if !is_damaged || !replica.is_moving || found_more {
                    *was_sound = replica.is_moving && !is_damaged;
                }
                replacing |= is_damaged && *was_sound;
            }
        }
        replacing
    }

    /// Whether a replica counts as damaged because a copy is replacing it, and for no other reason.
    pub(super) fn is_replaced(&self, replica: &ReplicaView) -> bool {
        replica.state == ReplicaState::Damaged && self.was_sound.get(&replica.chunk) == Some(&true)
    }
}

/// Follows what servers are told, what they tell, and what they do to their disks.
pub(super) fn follow(cluster: &Cluster) -> Arc<Mutex<Memory>> {
    let memory: Arc<Mutex<Memory>> = Arc::default();
    let told = memory.clone();
    cluster.world.observe_sends(move |_, node, _, _, message| lock(&told).hear(node, message));
    let ordered = memory.clone();
    cluster.world.observe_messages(move |_, _, to, message| {
        if let Message::ToServer(order) = message {
            lock(&ordered).order(to, order);
        }
    });
    let asked = memory.clone();
    cluster.world.observe_disks(move |_, node, request| match request {
        DiskRequest::Remove(path) => {
            if let Some(chunk) = purged_sidecar(&path.name) {
                lock(&asked).purged.insert((node.to_owned(), chunk));
            }
        }
        DiskRequest::Rename { from, to } => lock(&asked).rename(node, from, to),
        _ => {}
    });
    memory
}

impl Memory {
    fn hear(&mut self, node: &str, message: &Message) {
        let promise = match message {
            Message::FromServer(FromServer::Vote { chunk, version, vote, .. }) => {
                if let Vote::Prefix { length, .. } = vote {
                    let votes = self.votes.entry(node.to_owned()).or_default();
                    votes.insert(*chunk, (*version, *length));
                }
                (Cue::Settled, Some(*chunk))
            }
            Message::FromServer(FromServer::ReplicaChanged(replica)) => {
                if replica.state == ReplicaState::Damaged {
                    self.told_damaged.insert((node.to_owned(), replica.chunk));
                }
                (Cue::Settled, Some(replica.chunk))
            }
            Message::FromServer(FromServer::CopyDone { target, .. }) => {
                if let Some(copies) = self.copies.get_mut(node) {
                    copies.was_sound.remove(&target.chunk);
                }
                (Cue::Settled, Some(target.chunk))
            }
            Message::FromServer(FromServer::DropDone { .. }) => (Cue::Dropped, None),
            Message::Append(AppendMessage::Ready { .. } | AppendMessage::Committed { .. }) => {
                (Cue::Ready, None)
            }
            _ => return,
        };
        self.promising.insert(node.to_owned(), promise);
    }

    fn order(&mut self, node: &str, order: &ToServer) {
        match order {
            ToServer::Drop { .. } => {
                self.moving.insert(node.to_owned(), (MOVES, Cue::Moving));
            }
            ToServer::Seal { sealed, .. } => {
                self.moving.entry(node.to_owned()).or_insert((MOVES, Cue::Sealing));
                self.sealing.insert(node.to_owned(), (sealed.chunk, sealed.length));
                self.told_to_seal.entry(node.to_owned()).or_default().insert(sealed.chunk);
            }
            ToServer::Copy { sealed, .. } => {
                self.copies.entry(node.to_owned()).or_default().was_sound.insert(sealed.chunk, false);
            }
            _ => {}
        }
    }

    fn rename(&mut self, node: &str, from: &DiskPath, to: &DiskPath) {
        if self.purged.is_empty() && self.cut.is_empty() {
            return;
        }
        let Some(chunk) = chunk_of_any(&from.name) else { return };
        let place = (node.to_owned(), chunk);
        // Where a sidecar is moved, or comes anew, nothing is left to follow the one before.
        if self.purged.remove(&place) && chunk_of(&from.name).is_some() {
            self.moving.insert(place.0, (3 * MOVES, Cue::Purging));
        } else if is_purged(&to.name) && chunk_of_either(&from.name).is_some() && self.cut.remove(&place) {
            // Behind a slow seal the order has waited: the journal may not have forgotten yet what was promised.
            self.moving.insert(place.0, (MOVES, Cue::Cutting));
        }
    }

    /// Looks at a server after an input. A comeback is to follow, or not.
    pub(super) fn look(&mut self, node: &str, machine: &Chunkserver, rng: &mut Rng) -> Option<Moment> {
        let promising = take(&mut self.promising, node);
        if !machine.has_recovered() {
            if !self.recovering.contains(node) {
                self.recovering.insert(node.to_owned());
                self.copies.remove(node);
                self.told_to_seal.remove(node);
            }
            return None;
        }
        let copies = self.copies.get_mut(node).filter(|copies| !copies.was_sound.is_empty());
        let replacing = copies.is_some_and(|copies| copies.look(machine));
        let recovered = !self.recovering.is_empty() && self.recovering.remove(node);
        if recovered && machine.second_replicas() > 0 {
            self.moving.insert(node.to_owned(), (MOVES, Cue::Recovered));
        }
        self.look_at_seal(node, machine);
        let moving = self.moving(node);
        let flushed = self.has_flushed(node, machine.flushed());
        let returning = machine.failed_volumes().next().is_some();
        let cues = [
            promising.map(|(cue, _)| cue),
            returning.then_some(Cue::Returning),
            moving,
            recovered.then_some(Cue::Recovered),
            flushed.then_some(Cue::Flushed),
            replacing.then_some(Cue::Replacing),
        ];
        let likely = |cue| (self.one_in(cue), cue);
        let (one_in, cue) = cues.into_iter().flatten().map(likely).min().unwrap_or_else(|| likely(Cue::Any));
        if !rng.chance(1, one_in) {
            return None;
        }
        *self.taken.entry(cue).or_default() += 1;
        let votes = self.votes.entry(node.to_owned()).or_default();
        votes.retain(|chunk, (version, length)| stands(machine, *chunk, *version, *length));
        Some(Moment {
            is_in_between: moving.is_some() || returning,
            of_doubled: recovered || returning,
            chunk: promising.and_then(|(_, chunk)| chunk),
        })
    }

    fn one_in(&self, cue: Cue) -> u64 {
        cue.one_in() * (1 + self.taken.get(&cue).copied().unwrap_or(0) / WORN_AFTER)
    }

    /// Why files are being moved, if they are.
    fn moving(&mut self, node: &str) -> Option<Cue> {
        if self.moving.is_empty() {
            return None;
        }
        let (left, cue) = self.moving.get_mut(node)?;
        *left -= 1;
        let (left, cue) = (*left, *cue);
        if left == 0 {
            self.moving.remove(node);
        }
        Some(cue)
    }

    /// Looks into what a server was told to seal in the present input: what it does next must be done in an order that two crashes
    /// in the midst of it would show.
    fn look_at_seal(&mut self, node: &str, machine: &Chunkserver) {
        if let Some((chunk, length)) = take(&mut self.sealing, node)
            && let Some(replica) = machine.replica(chunk)
            && (replica.promised > length || length == 0)
        {
            self.moving.insert(node.to_owned(), (MOVES, Cue::Cutting));
            if replica.promised > length {
                self.cut.insert((node.to_owned(), chunk));
            }
        }
    }

    /// Whether a replica was made durable just now.
    fn has_flushed(&mut self, node: &str, count: u64) -> bool {
        if count == 0 || self.flushed.get(node) == Some(&count) {
            return false;
        }
        self.flushed.insert(node.to_owned(), count);
        true
    }
}

fn take<T>(all: &mut BTreeMap<String, T>, node: &str) -> Option<T> {
    if all.is_empty() { None } else { all.remove(node) }
}

/// Whether a voter still stands by what it said: what it takes back itself is another checker's business.
fn stands(machine: &Chunkserver, chunk: ChunkId, version: ChunkVersion, length: u64) -> bool {
    machine.replica(chunk).is_some_and(|r| {
        r.state == ReplicaState::Fenced && r.version == version && r.ready >= length && r.fence.is_some()
    })
}

#[cfg(test)]
mod tests {
    use cairn_core::id::{ChunkUuid, ClusterId};

    use super::*;
    use crate::cluster::SIDECAR;

    #[test]
    fn what_has_been_taken_often_is_taken_less_and_the_rest_as_before() {
        let mut memory = Memory::default();
        memory.taken.insert(Cue::Moving, WORN_AFTER - 1);
        assert_eq!(memory.one_in(Cue::Moving), Cue::Moving.one_in());
        memory.taken.insert(Cue::Moving, 3 * WORN_AFTER);
        assert_eq!(memory.one_in(Cue::Moving), 4 * Cue::Moving.one_in());
        assert_eq!(memory.one_in(Cue::Settled), Cue::Settled.one_in());
    }

    /// The sidecar of what was sealed at less than was promised is moved away behind a slow seal, long after the order.
    #[test]
    fn a_drop_of_what_was_cut_is_looked_at_when_it_happens() {
        let mut memory = Memory::default();
        let (chunk, other) = (ChunkId(5), ChunkId(6));
        memory.cut.insert(("cs1".to_owned(), chunk));
        let path = |name: String| DiskPath::new(0, &name);
        let mut rename = |of: ChunkId| {
            let own = format!("chunk-{}{SIDECAR}", ChunkUuid::new(ClusterId(1), of));
            memory.rename("cs1", &path(format!("chunks/05/{own}")), &path(format!("quarantine/{own}.1")));
            memory.moving.remove("cs1").map(|(_, cue)| cue)
        };
        assert_eq!(rename(other), None);
        assert_eq!(rename(chunk), Some(Cue::Cutting));
        assert_eq!(rename(chunk), None, "it is gone");
    }
}
