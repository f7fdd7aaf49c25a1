//! Removing what is not needed: orphans, stale and excess replicas, expired trash. Every order is logged with its reason
//! before it is sent (chunk protocol, rule 14), is checked once more when the log has it, and ends in the server's quarantine.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::Master;
use super::command::{Change, ReplicaDrop};
use super::locations::{Quality, is_base};
use super::machine::Fx;
use crate::config::ms;
use crate::defect::Defect;
use crate::error::MasterError;
use crate::id::{ChunkId, ServerId, VolumeId};
use crate::message::{DropReason, ReplicaReport, ReplicaState, ToServer};
use crate::reached;
use crate::time::Time;

/// Replicas named in one logged order.
const BATCH: usize = 256;

/// What is to go.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Collect {
    queue: BTreeMap<(ChunkId, ServerId, VolumeId), ReplicaDrop>,
    /// Since when a chunk has had more good replicas than its goal.
    crowded: BTreeMap<ChunkId, Time>,
    /// Where the next look at them begins.
    crowded_cursor: ChunkId,
    /// Where the next look at untidy chunks begins.
    cursor: ChunkId,
    /// An order is on its way into the log.
    ordering: bool,
    /// A step of freeing trash is on its way into the log.
    reclaiming: bool,
    pub(super) dropped: u64,
}

impl Collect {
    pub(super) fn table_sizes(&self) -> [(&'static str, usize); 2] {
        [("queued drops", self.queue.len()), ("crowded chunks", self.crowded.len())]
    }

    /// Notes a reported replica for dropping.
    pub(super) fn queue(&mut self, server: ServerId, replica: &ReplicaReport, reason: DropReason) {
        let drop = ReplicaDrop {
            chunk: replica.chunk,
            version: replica.version,
            server,
            volume: replica.volume,
            reason,
        };
        self.queue.insert((replica.chunk, server, replica.volume), drop);
    }
}

impl Master {
    /// One bounded step. With a full log, what has to be logged waits, and orders to seal go on.
    pub(super) fn step_collection(&mut self, now: Time, fx: &mut Fx) {
        self.queue_stale(fx);
        if self.log.is_full() {
            return;
        }
        self.reclaim_trash(now);
        self.queue_excess(now);
        if self.collect.ordering || self.collect.queue.is_empty() {
            return;
        }
        let mut drops = Vec::new();
        while drops.len() < BATCH {
            let Some((_, drop)) = self.collect.queue.pop_first() else { break };
            if self.may_drop(&drop) {
                drops.push(drop);
            }
        }
        if !drops.is_empty() {
            self.collect.ordering = true;
            self.propose(now, Change::DropReplicas { drops });
        }
    }

    /// A step of freeing trash is in the log. The next follows at once: users delete faster than background steps come.
    pub(super) fn on_trash_reclaimed(&mut self, now: Time) {
        self.collect.reclaiming = false;
        if self.is_ready() {
            self.reclaim_trash(now);
        }
    }

    fn reclaim_trash(&mut self, now: Time) {
        if self.collect.reclaiming {
            return;
        }
        if let Some(entry) = self.catalog.expired_trash(self.wall.at(now)) {
            self.collect.reclaiming = true;
            self.propose(now, Change::ReclaimTrash { entry, budget: self.config.step_budget });
        }
    }

    /// Chunks that kept more good replicas than wanted for a while lose one: of the most crowded rack, then of the fullest
    /// server. A server that comes and goes does not cause this.
    fn queue_excess(&mut self, now: Time) {
        let patience = ms(self.config.dead_after_ms);
        let budget = self.config.step_budget as usize;
        let locations = &self.locations;
        self.collect.crowded.retain(|chunk, _| locations.is_crowded(*chunk));
        let crowded: Vec<ChunkId> =
            locations.crowded_after(self.collect.crowded_cursor).take(budget).collect();
        self.collect.crowded_cursor =
            if crowded.len() < budget { ChunkId(0) } else { crowded[crowded.len() - 1] };
        for chunk in crowded {
            let first = *self.collect.crowded.entry(chunk).or_insert(now);
            if now < first + patience || self.repair.targets(chunk).next().is_some() {
                continue;
            }
            let replicas = self.locations.replicas(chunk, self.expected(chunk));
            let good: Vec<_> = replicas
                .iter()
                .filter(|(quality, _)| *quality == Quality::Good)
                .filter_map(|(_, r)| Some((r, self.servers.by_id(r.server)?)))
                .collect();
            let crowd = |rack: &str| good.iter().filter(|(_, s)| s.rack == rack).count();
            let fewest = self.defects.has(Defect::ExcessFromFewest);
            let rank = |rack: &str| if fewest { good.len() - crowd(rack) } else { crowd(rack) };
            let victim = good
                .iter()
                .max_by_key(|(_, server)| (rank(&server.rack), core::cmp::Reverse(server.free_bytes())));
            if let Some((replica, _)) = victim {
                reached!("collect.excess");
                self.collect.queue(replica.server, &replica.report, DropReason::Excess);
                self.collect.crowded.insert(chunk, now);
            }
        }
    }

    /// Replicas that are not as logged go once their chunk is at its goal without them; unsealed ones are asked again to
    /// become what was logged.
    fn queue_stale(&mut self, fx: &mut Fx) {
        let budget = self.config.step_budget as usize;
        let untidy: Vec<ChunkId> = self.locations.untidy_after(self.collect.cursor).take(budget).collect();
        self.collect.cursor = if untidy.len() < budget { ChunkId(0) } else { untidy[untidy.len() - 1] };
        for chunk in untidy {
            let expected = self.expected(chunk);
            let Some((sealed, _)) = expected else { continue };
            for (quality, replica) in self.locations.replicas(chunk, expected) {
                let report = replica.report;
                let unsealed = matches!(report.state, ReplicaState::Open | ReplicaState::Fenced);
                if quality == Quality::Good {
                    continue;
                }
                if unsealed && is_base(report.version, sealed) {
                    if let Some(peer) = self.servers.peer(replica.server) {
                        fx.send(peer, ToServer::Seal { base: report.version, sealed });
                    }
                } else if self.repair.targets(chunk).all(|target| target != replica.server)
                    && report.version <= sealed.version
                {
                    self.collect.queue(replica.server, &report, DropReason::Stale);
                }
            }
        }
    }

    /// Whether an order may be given, as things stand now.
    pub(super) fn may_drop(&self, drop: &ReplicaDrop) -> bool {
        let chunk = drop.chunk;
        match drop.reason {
            DropReason::Unknown => chunk >= self.catalog.next_chunk(),
            DropReason::Reclaimed => {
                let lost = self.defects.has(Defect::CollectOpenChunks);
                chunk < self.catalog.next_chunk()
                    && self.catalog.chunk(chunk).is_none_or(|entry| lost && entry.open().is_some())
            }
            DropReason::Stale | DropReason::Excess => {
                let expected = self.expected(chunk);
                let Some((_, goal)) = expected else { return false };
                let replicas = self.locations.replicas(chunk, expected);
                let good: Vec<_> = replicas.iter().filter(|(quality, _)| *quality == Quality::Good).collect();
                let others: BTreeSet<ServerId> = good
                    .iter()
                    .filter(|(_, r)| r.server != drop.server && r.is_confirmed())
                    .filter(|(_, r)| self.servers.vouches(r.server))
                    .map(|(_, r)| r.server)
                    .collect();
                let enough =
                    others.len() >= usize::from(goal) || self.defects.has(Defect::DropBeforeReplaced);
                // What was stale may have become good since.
                let is_good = good.iter().any(|(_, r)| r.server == drop.server);
                enough && !(is_good && self.would_bare_a_rack(chunk, drop.server))
            }
        }
    }

    /// Whether a replica is alone in its rack while another rack has several. It was not when it was chosen, or not known to
    /// be: the order may have been long on its way into the log.
    pub(super) fn would_bare_a_rack(&self, chunk: ChunkId, server: ServerId) -> bool {
        let good = self.good_places(chunk);
        let others = |rack: &str| good.iter().filter(|(id, r)| *id != server && *r == rack).count();
        let own = self.rack_of(server).map_or(0, others);
        let bares = own == 0 && good.iter().any(|(id, rack)| *id != server && others(rack) > 1);
        bares && !self.defects.has(Defect::ExcessFromFewest)
    }

    /// The orders are in the log: those that still hold are sent. What they name counts no more from here on.
    pub(super) fn send_drops(&mut self, drops: &[ReplicaDrop], fx: &mut Fx) {
        self.collect.ordering = false;
        for drop in drops {
            if !self.may_drop(drop) && !self.defects.has(Defect::DropUnchecked) {
                reached!("collect.order_withdrawn");
                continue;
            }
            let Some(peer) = self.servers.peer(drop.server) else { continue };
            self.collect.dropped += 1;
            let expected = self.expected(drop.chunk);
            self.locations.remove(drop.server, drop.chunk, drop.volume, expected);
            self.locations.leave(drop.server, drop.chunk);
            fx.send(
                peer,
                ToServer::Drop {
                    chunk: drop.chunk,
                    version: drop.version,
                    volume: drop.volume,
                    reason: drop.reason,
                },
            );
        }
    }

    /// Chunks left the catalog: whatever replicas are known are orphans.
    pub(super) fn on_chunks_removed(&mut self, chunks: &[ChunkId], fx: &mut Fx) {
        for &chunk in chunks {
            self.repair.forget(chunk);
            self.collect.crowded.remove(&chunk);
            self.fail_seal(chunk, &MasterError::ChunkNotOpen(chunk), fx);
            for (_, replica) in self.locations.replicas(chunk, None) {
                self.collect.queue(replica.server, &replica.report, DropReason::Reclaimed);
            }
            self.locations.refresh(chunk, None);
        }
    }
}
