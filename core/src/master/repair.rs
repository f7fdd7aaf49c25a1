//! Bringing sealed chunks back to their replication factor by copies, the most endangered first, throttled.
//!
//! A copy counts only when its target reported that it was synced and read back (chunk protocol, rule 16); a copy that fails or
//! stays without an answer is tried again with other partners.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Master;
use super::locations::{Locations, Quality};
use super::machine::Fx;
use super::placement;
use super::servers::Server;
use crate::config::ms;
use crate::defect::Defect;
use crate::id::{Address, ChunkId, ServerId, VolumeId};
use crate::machine::Level;
use crate::message::{SealedChunk, ToServer};
use crate::reached;
use crate::time::{Span, Time};

/// The pause before a chunk is tried again after a failed copy.
const RETRY: Span = Span::from_ms(1_000);
/// How long a server that failed to make a copy is avoided for that chunk.
const AVOID: Span = Span::from_ms(30_000);

#[derive(Clone, Debug, Hash)]
struct Copy {
    /// The replica that is read first.
    source: ServerId,
    volume: VolumeId,
    deadline: Time,
}

/// Copies under way, and chunks that must wait.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Repair {
    copies: BTreeMap<(ChunkId, ServerId), Copy>,
    delayed: BTreeMap<ChunkId, Time>,
    failed: BTreeMap<(ChunkId, ServerId), Time>,
    /// Where the next look at the less endangered chunks begins.
    cursor: (u8, ChunkId),
    pub(super) done: u64,
    pub(super) errors: u64,
}

/// Servers and their racks, for checkers.
#[derive(Debug)]
pub struct CopyPlaces<'a> {
    /// Those with a replica that counts, or with one on its way.
    pub taken: Vec<(ServerId, &'a str)>,
    /// Others that could take one.
    pub free: Vec<(ServerId, &'a str)>,
}

impl Repair {
    /// Chunks to look at in this round: the most endangered ones, and as many others in turn, so that those that can't
    /// be repaired now don't keep the rest waiting.
    fn round(&mut self, locations: &Locations, budget: usize) -> Vec<ChunkId> {
        let mut due: Vec<ChunkId> = locations.endangered().take(budget).collect();
        let turn: Vec<(u8, ChunkId)> = locations.endangered_after(self.cursor).take(budget).collect();
        self.cursor = if turn.len() < budget { <_>::default() } else { turn[turn.len() - 1] };
        due.extend(turn.into_iter().map(|(_, chunk)| chunk));
        due.retain(|chunk| !self.delayed.contains_key(chunk));
        due
    }

    /// The chunk is not looked at before `until`.
    pub(super) fn delay(&mut self, chunk: ChunkId, until: Time) {
        self.delayed.insert(chunk, until);
    }

    pub(super) fn table_sizes(&self) -> [(&'static str, usize); 3] {
        [
            ("copies", self.copies.len()),
            ("delayed repairs", self.delayed.len()),
            ("failed copies", self.failed.len()),
        ]
    }

    /// Copies under way.
    pub(super) fn under_way(&self) -> usize {
        self.copies.len()
    }

    /// Targets of copies of a chunk.
    pub(super) fn targets(&self, chunk: ChunkId) -> impl Iterator<Item = ServerId> {
        self.copies.range((chunk, ServerId(0))..=(chunk, ServerId(u64::MAX))).map(|((_, target), _)| *target)
    }

    /// A chunk is gone.
    pub(super) fn forget(&mut self, chunk: ChunkId) {
        self.delayed.remove(&chunk);
        let targets: Vec<ServerId> = self.targets(chunk).collect();
        for target in targets {
            self.copies.remove(&(chunk, target));
        }
    }

    /// Servers that failed to make a copy of a chunk a short while ago.
    fn failed_for(&self, chunk: ChunkId) -> impl Iterator<Item = ServerId> {
        self.failed.range((chunk, ServerId(0))..=(chunk, ServerId(u64::MAX))).map(|((_, server), _)| *server)
    }

    fn streams(&self, server: ServerId) -> usize {
        self.copies.iter().filter(|((_, target), copy)| *target == server || copy.source == server).count()
    }

    fn fail(&mut self, now: Time, chunk: ChunkId, target: ServerId, retry: Span) {
        if self.copies.remove(&(chunk, target)).is_some() {
            self.errors += 1;
            self.failed.insert((chunk, target), now + AVOID);
            self.delayed.insert(chunk, now + retry);
        }
    }

    fn prune(&mut self, now: Time) -> Vec<(ChunkId, ServerId)> {
        self.delayed.retain(|_, until| now < *until);
        self.failed.retain(|_, until| now < *until);
        self.copies.iter().filter(|(_, copy)| now >= copy.deadline).map(|(key, _)| *key).collect()
    }
}

impl Master {
    fn retry_pause(&self) -> Span {
        if self.defects.has(Defect::RepairGivesUp) { Span::from_ms(86_400_000) } else { RETRY }
    }

    /// Starts as many copies as may be under way.
    pub(super) fn step_repairs(&mut self, now: Time, fx: &mut Fx) {
        for (chunk, target) in self.repair.prune(now) {
            reached!("repair.timeout");
            fx.note(Level::Warn, format!("copy of {chunk} to {target} got no answer; trying again"));
            self.repair.fail(now, chunk, target, self.retry_pause());
        }
        let limit = self.config.repair_streams as usize;
        let budget = self.config.step_budget as usize;
        for chunk in self.repair.round(&self.locations, budget.max(limit)) {
            if self.repair.under_way() >= limit {
                break;
            }
            self.repair_chunk(now, chunk, fx);
        }
    }

    fn repair_chunk(&mut self, now: Time, chunk: ChunkId, fx: &mut Fx) {
        let expected = self.expected(chunk);
        let Some((sealed, goal)) = expected else { return };
        let replicas = self.locations.replicas(chunk, expected);
        let holders: BTreeSet<ServerId> =
            replicas.iter().filter(|(quality, _)| *quality != Quality::Bad).map(|(_, r)| r.server).collect();
        let targets: BTreeSet<ServerId> = self.repair.targets(chunk).collect();
        let wanted = usize::from(goal).saturating_sub(holders.len() + targets.len());
        if wanted == 0 {
            return;
        }
        let per_server = self.config.repair_streams_per_server as usize;
        let mut sources: Vec<(Quality, usize, ServerId, Address)> = replicas
            .iter()
            .filter(|(quality, _)| *quality != Quality::Bad)
            .filter_map(|(quality, r)| {
                let server = self.servers.by_id(r.server).filter(|s| s.is_usable())?;
                Some((*quality, self.repair.streams(r.server), r.server, server.address.clone()))
            })
            .filter(|(_, streams, ..)| *streams < per_server)
            .collect();
        self.rng.shuffle(&mut sources);
        sources.sort_by_key(|(quality, streams, ..)| (*quality, *streams));
        let Some(first) = sources.first().map(|s| s.2) else { return };
        let busy = self.busy_servers();
        let avoid: Vec<ServerId> = self.repair.failed_for(chunk).collect();
        let free = |id: ServerId| !holders.contains(&id) && !targets.contains(&id) && !busy.contains(&id);
        let candidates = self.candidates(sealed.length, &avoid, free);
        let racks: Vec<String> = holders
            .iter()
            .chain(&targets)
            .filter_map(|id| self.servers.by_id(*id))
            .map(|server| server.rack.clone())
            .collect();
        let ignored = self.defects.has(Defect::CopyIgnoresRacks);
        let racks: Vec<&str> = racks.iter().filter(|_| !ignored).map(String::as_str).collect();
        let chosen = placement::choose(&candidates, wanted, &racks, &mut self.rng);
        let addresses: Vec<Address> = sources.into_iter().map(|s| s.3).collect();
        for target in chosen {
            let Some(peer) = self.servers.peer(target.server) else { continue };
            if self.repair.under_way() >= self.config.repair_streams as usize {
                return;
            }
            reached!("repair.copy");
            let copy = Copy {
                source: first,
                volume: target.volume,
                deadline: now + ms(self.config.repair_timeout_ms),
            };
            self.repair.copies.insert((chunk, target.server), copy);
            self.servers.reserve(target.server, target.volume, sealed.length);
            fx.send(peer, ToServer::Copy { sealed, sources: addresses.clone(), volume: target.volume });
        }
    }

    /// Servers with as many copies under way as they may have.
    fn busy_servers(&self) -> BTreeSet<ServerId> {
        let per_server = self.config.repair_streams_per_server as usize;
        let ids = self.servers.usable().map(|(id, _)| id);
        ids.filter(|id| self.repair.streams(*id) >= per_server).collect()
    }

    /// Where a sealed chunk is or is on its way to, and who else could take a copy of it now, each with its rack.
    pub fn copy_places(&self, chunk: ChunkId) -> CopyPlaces<'_> {
        let expected = self.expected(chunk);
        let bytes = expected.map_or(0, |(sealed, _)| sealed.length);
        let replicas = self.locations.replicas(chunk, expected);
        let holders = replicas.iter().filter(|(quality, _)| *quality != Quality::Bad).map(|(_, r)| r.server);
        let taken: BTreeSet<ServerId> = holders.chain(self.repair.targets(chunk)).collect();
        let passed_over: BTreeSet<ServerId> =
            self.busy_servers().into_iter().chain(self.repair.failed_for(chunk)).collect();
        let rack = |id: &ServerId| Some((*id, self.rack_of(*id)?));
        let could = |(id, server): &(ServerId, &Server)| {
            let here = taken.contains(id) || passed_over.contains(id);
            !here && self.fitting_volumes(server, bytes).next().is_some()
        };
        let free =
            self.servers.usable().filter(could).map(|(id, server)| (id, server.rack.as_str())).collect();
        CopyPlaces { taken: taken.iter().filter_map(rack).collect(), free }
    }

    /// Where a sealed chunk has good replicas, each with its rack.
    pub fn good_places(&self, chunk: ChunkId) -> Vec<(ServerId, &str)> {
        let replicas = self.locations.replicas(chunk, self.expected(chunk));
        let good = replicas.iter().filter(|(quality, _)| *quality == Quality::Good);
        good.filter_map(|(_, r)| Some((r.server, self.rack_of(r.server)?))).collect()
    }

    /// The rack of a server that is registered.
    pub fn rack_of(&self, server: ServerId) -> Option<&str> {
        self.servers.by_id(server).map(|server| server.rack.as_str())
    }

    pub(super) fn on_copy_done(
        &mut self,
        now: Time,
        server: ServerId,
        target: SealedChunk,
        error: Option<String>,
        fx: &mut Fx,
    ) {
        let chunk = target.chunk;
        if let Some(error) = error {
            reached!("repair.copy_failed");
            fx.note(Level::Warn, format!("copy of {chunk} to {server} failed: {error}"));
            self.repair.fail(now, chunk, server, self.retry_pause());
            return;
        }
        if self.repair.copies.remove(&(chunk, server)).is_none() {
            return;
        }
        self.repair.done += 1;
        // It counts by what the server says it is, and where: one that was there already may be on another volume.
        if self.grace_is_over(now) {
            self.step_repairs(now, fx);
        }
    }

    /// A server's connection, session or life ended: copies to it will not be answered.
    pub(super) fn copies_lost_with(&mut self, now: Time, server: ServerId) {
        let lost: Vec<(ChunkId, ServerId)> =
            self.repair.copies.keys().filter(|(_, target)| *target == server).copied().collect();
        for (chunk, target) in lost {
            reached!("repair.target_lost");
            self.repair.fail(now, chunk, target, self.retry_pause());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defect::Defects;
    use crate::id::ChunkVersion;
    use crate::message::{ReplicaReport, ReplicaState};

    #[test]
    fn every_endangered_chunk_has_its_turn() {
        let mut locations = Locations::new(Defects::none());
        for chunk in (1..=10).map(ChunkId) {
            let sealed = SealedChunk { chunk, version: ChunkVersion(2), length: 10, crc: 7 };
            let replica = ReplicaReport {
                chunk,
                volume: VolumeId(1),
                version: sealed.version,
                length: sealed.length,
                crc: sealed.crc,
                state: ReplicaState::Sealed,
            };
            locations.set(ServerId(1), replica, Some((sealed, 3)));
        }
        let mut repair = Repair::default();
        let mut looked_at = BTreeSet::new();
        for _ in 0..5 {
            let round = repair.round(&locations, 2);
            assert!(round.len() <= 4 && round.starts_with(&[ChunkId(1), ChunkId(2)]), "{round:?}");
            looked_at.extend(round);
        }
        assert_eq!(looked_at.len(), 10);
    }
}
