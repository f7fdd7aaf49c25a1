//! The master counts no replica that its server does not vouch for, and has others dropped only for what was told in present
//! sessions (invariant 35).
//!
//! What the master may believe is kept here once more, from the messages alone: each server's latest word on each of its
//! replicas.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::id::{ChunkId, Peer, ServerId, VolumeId};
use cairn_core::master::Master;
use cairn_core::message::{
    DropReason, FromServer, Message, ReplicaReport, ReplicaState, SealedChunk, ToServer,
};

use super::registered::Registered;
use crate::cluster::{Cluster, MASTER, lock};
use crate::violation::Violations;

const NAME: &str = "beliefs";

/// A server's latest word on a replica.
#[derive(Clone, Copy, Debug)]
struct Word {
    report: ReplicaReport,
    /// The first block report that takes it back by leaving it out.
    binds_from: u64,
    /// Said in the present session.
    present: bool,
}

impl Word {
    fn is_good(&self, sealed: &SealedChunk) -> bool {
        let r = &self.report;
        r.state == ReplicaState::Sealed
            && (r.version, r.length, r.crc) == (sealed.version, sealed.length, sealed.crc)
    }
}

/// What one server said.
#[derive(Debug, Default)]
struct Said {
    words: BTreeMap<(ChunkId, VolumeId), Word>,
    /// The latest block report, and up to which chunk it came.
    report: u64,
    upto: Option<ChunkId>,
    /// Replicas that it was told to drop; until it answers, whatever it says of them counts for nothing.
    leaving: BTreeSet<ChunkId>,
}

impl Said {
    fn begin_session(&mut self, volumes: &[VolumeId]) {
        self.words.retain(|(_, volume), _| volumes.contains(volume));
        for word in self.words.values_mut() {
            (word.binds_from, word.present) = (0, false);
        }
        (self.report, self.upto) = (0, None);
        self.leaving.clear();
    }

    fn say(&mut self, report: ReplicaReport, binds_from: u64) {
        if !self.leaving.contains(&report.chunk) {
            let known = self.words.get(&(report.chunk, report.volume)).map_or(0, |word| word.binds_from);
            let word = Word { report, binds_from: known.max(binds_from), present: true };
            self.words.insert((report.chunk, report.volume), word);
        }
    }

    fn take_back(&mut self, chunk: ChunkId, which: impl Fn(&ReplicaReport) -> bool) {
        self.words.retain(|(other, _), word| *other != chunk || !which(&word.report));
    }

    /// Takes a part of a block report. Returns the chunks of which it leaves replicas out.
    fn report_part(&mut self, number: u64, replicas: &[ReplicaReport], last: bool) -> Vec<ChunkId> {
        if self.report != number {
            (self.report, self.upto) = (number, None);
        }
        let upto = if last { ChunkId(u64::MAX) } else { replicas.last().map_or(ChunkId(0), |r| r.chunk) };
        let named: BTreeSet<(ChunkId, VolumeId)> = replicas.iter().map(|r| (r.chunk, r.volume)).collect();
        let (upto_before, mut left_out) = (self.upto, Vec::new());
        self.words.retain(|place, word| {
            let compared = upto_before.is_none_or(|before| place.0 > before) && place.0 <= upto;
            let stays = !compared || named.contains(place) || word.binds_from > number;
            if !stays {
                left_out.push(place.0);
            }
            stays
        });
        self.upto = Some(upto.max(upto_before.unwrap_or_default()));
        replicas.iter().for_each(|report| self.say(*report, number + 1));
        left_out
    }
}

#[derive(Debug, Default)]
struct Memory {
    registered: Registered,
    said: BTreeMap<ServerId, Said>,
    /// Chunks of which something was said since the master was looked at last.
    touched: BTreeSet<ChunkId>,
}

impl Memory {
    fn hear(&mut self, server: ServerId, message: &FromServer) {
        let said = self.said.entry(server).or_default();
        match message {
            FromServer::BlockReport { report, replicas, last } => {
                let left_out = said.report_part(*report, replicas, *last);
                self.touched.extend(left_out);
                self.touched.extend(replicas.iter().map(|r| r.chunk));
            }
            FromServer::ReplicaChanged(report) => {
                self.touched.insert(report.chunk);
                if report.state == ReplicaState::Gone {
                    said.take_back(report.chunk, |_| true);
                } else {
                    said.say(*report, said.report + 2);
                }
            }
            FromServer::DropDone { chunk, version, dropped } => {
                self.touched.insert(*chunk);
                said.leaving.remove(chunk);
                if *dropped {
                    said.take_back(*chunk, |report| report.version <= *version);
                }
            }
            _ => {}
        }
    }

    /// Servers but `without` that vouch for a good replica of a chunk.
    fn vouching(&self, sealed: &SealedChunk, without: Option<ServerId>, presently: bool) -> usize {
        let range = (sealed.chunk, VolumeId(0))..=(sealed.chunk, VolumeId(u64::MAX));
        let vouches = |said: &Said| {
            said.words.range(range.clone()).any(|(_, w)| w.is_good(sealed) && (w.present || !presently))
        };
        self.said.iter().filter(|(server, said)| Some(**server) != without && vouches(said)).count()
    }

    /// Takes an order of the master. Says what is wrong with it.
    fn order(&mut self, cluster: &Cluster, to: &Peer, order: &ToServer) -> Option<String> {
        let server = self.registered.at(to)?;
        let ToServer::Drop { chunk, volume, reason, .. } = order else { return None };
        let wrong = match reason {
            DropReason::Stale | DropReason::Excess => self.judge_drop(cluster, server, *chunk),
            DropReason::Reclaimed | DropReason::Unknown => None,
        };
        let said = self.said.entry(server).or_default();
        said.words.remove(&(*chunk, *volume));
        said.leaving.insert(*chunk);
        self.touched.insert(*chunk);
        wrong
    }

    fn judge_drop(&self, cluster: &Cluster, server: ServerId, chunk: ChunkId) -> Option<String> {
        let wanted = cluster.master(|master| {
            let entry = master.catalog().chunk(chunk)?;
            Some((entry.sealed(chunk)?, entry.goal))
        });
        let (sealed, goal) = wanted??;
        let others = self.vouching(&sealed, Some(server), true);
        (others < usize::from(goal)).then(|| {
            format!("{server} is told to drop {chunk}, {others} others of {goal} have said since they came that they have it")
        })
    }
}

/// Follows what servers say and what the master makes of it.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let memory: Arc<Mutex<Memory>> = Arc::default();
    let heard = memory.clone();
    cluster.world.observe_arrivals(move |to, process, peer, message| {
        let memory = &mut *lock(&heard);
        if memory.registered.begins(to, process) {
            *memory = Memory { registered: std::mem::take(&mut memory.registered), ..Memory::default() };
        }
        if let Some((server, told)) = memory.registered.hear(to, peer, message) {
            memory.hear(server, told);
        }
    });
    let (told, seen, found) = (memory.clone(), cluster.clone(), violations.clone());
    cluster.world.observe_sends(move |_, from, _, to, message| {
        if from != MASTER {
            return;
        }
        let memory = &mut *lock(&told);
        if let Some(server) = memory.registered.tell(to, message) {
            let volumes = &memory.registered.sessions[&server].volumes;
            memory.said.entry(server).or_default().begin_session(volumes);
        } else if let Message::ToServer(order) = message
            && let Some(text) = memory.order(&seen, to, order)
        {
            found.add(NAME, text);
        }
    });
    let violations = violations.clone();
    cluster.world.observe_master(move |_, master| {
        let memory = &mut *lock(&memory);
        for chunk in std::mem::take(&mut memory.touched) {
            if let Some(text) = compare(memory, master, chunk) {
                violations.add(NAME, text);
            }
        }
    });
}

fn compare(memory: &Memory, master: &Master, chunk: ChunkId) -> Option<String> {
    let sealed = master.catalog().sealed(chunk)?;
    let (counted, vouching) = (master.good_replicas(chunk), memory.vouching(&sealed, None, false));
    (usize::from(counted) > vouching).then(|| {
        format!("the master counts {counted} good replicas of {chunk}, {vouching} servers vouch for one")
    })
}
