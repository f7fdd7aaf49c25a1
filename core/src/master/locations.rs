//! Who has which replica, as reported: volatile, rebuilt from reports after every start of the master.
//!
//! A replica is *good* if it is sealed at the logged version, length and checksum (chunk protocol, rule 16), *readable* if it is
//! still fenced at the version before the seal with exactly the sealed length, and otherwise *bad*. Invariant: the
//! indices of endangered, missing, crowded and untidy chunks agree with the replicas and the catalog at any time.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Bound;
use smallvec::SmallVec;

use crate::defect::{Defect, Defects};
use crate::id::{ChunkId, ChunkVersion, ServerId, VolumeId};
use crate::message::{ReplicaReport, ReplicaState, SealedChunk};
use crate::reached;

/// What the catalog says of a sealed chunk: its identity and its goal. `None` for open and unknown chunks.
pub(super) type Expected = Option<(SealedChunk, u8)>;

/// Whether `version` is the one under which a chunk was open before it was sealed.
pub(super) fn is_base(version: ChunkVersion, sealed: SealedChunk) -> bool {
    version.0.checked_add(1) == Some(sealed.version.0)
}

/// A reported replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Replica {
    pub(super) server: ServerId,
    pub(super) report: ReplicaReport,
    /// The first block report that must contain it.
    seen: u64,
    /// Its server's present session told of it. What an earlier one told may be gone: the power may have failed between.
    confirmed: bool,
}

impl Replica {
    /// Whether others may be dropped because this one is there.
    pub(super) fn is_confirmed(&self) -> bool {
        self.confirmed
    }
}

/// How a replica relates to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Quality {
    Good,
    Readable,
    Bad,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Class {
    #[default]
    Unindexed,
    Missing,
    Under(u8),
    Fine,
    Over,
}

#[derive(Clone, Debug, Default, Hash)]
struct Entry {
    replicas: SmallVec<[Replica; 3]>,
    good: u8,
    class: Class,
}

#[derive(Clone, Copy, Debug, Default, Hash)]
struct ReportProgress {
    /// The report that is coming in or came in last.
    number: u64,
    /// Everything up to this chunk was compared.
    compared: Option<ChunkId>,
}

/// The map.
#[derive(Clone, Debug, Hash)]
pub(super) struct Locations {
    defects: Defects,
    chunks: BTreeMap<ChunkId, Entry>,
    by_server: BTreeMap<ServerId, BTreeSet<ChunkId>>,
    progress: BTreeMap<ServerId, ReportProgress>,
    /// Replicas that their servers were told to drop, until they answer: whatever they report meanwhile, these count no more.
    leaving: BTreeSet<(ServerId, ChunkId)>,
    under: BTreeSet<(u8, ChunkId)>,
    missing: BTreeSet<ChunkId>,
    over: BTreeSet<ChunkId>,
    untidy: BTreeSet<ChunkId>,
}

impl Locations {
    pub(super) fn new(defects: Defects) -> Locations {
        Locations {
            defects,
            chunks: BTreeMap::new(),
            by_server: BTreeMap::new(),
            progress: BTreeMap::new(),
            leaving: BTreeSet::new(),
            under: BTreeSet::new(),
            missing: BTreeSet::new(),
            over: BTreeSet::new(),
            untidy: BTreeSet::new(),
        }
    }

    /// How `replica` relates to what is expected.
    pub(super) fn quality(&self, replica: &ReplicaReport, expected: Expected) -> Quality {
        let Some((sealed, _)) = expected else { return Quality::Bad };
        let same =
            replica.version == sealed.version && replica.length == sealed.length && replica.crc == sealed.crc;
        match replica.state {
            _ if self.defects.has(Defect::NoReportVersionCheck) => Quality::Good,
            ReplicaState::Sealed if same => Quality::Good,
            ReplicaState::Fenced if is_base(replica.version, sealed) && replica.length == sealed.length => {
                Quality::Readable
            }
            _ => Quality::Bad,
        }
    }

    /// Replicas of a chunk with their quality, best first.
    pub(super) fn replicas(&self, chunk: ChunkId, expected: Expected) -> Vec<(Quality, Replica)> {
        let Some(entry) = self.chunks.get(&chunk) else { return Vec::new() };
        let mut replicas: Vec<(Quality, Replica)> =
            entry.replicas.iter().map(|r| (self.quality(&r.report, expected), *r)).collect();
        replicas.sort_by_key(|(quality, replica)| (*quality, replica.server));
        replicas
    }

    /// Servers with a good replica of a sealed chunk.
    pub(super) fn good(&self, chunk: ChunkId) -> u8 {
        self.chunks.get(&chunk).map_or(0, |entry| entry.good)
    }

    /// A new session of a server: its replicas on volumes that it no longer has are forgotten, the others are hearsay until
    /// it tells of them.
    pub(super) fn new_session(
        &mut self,
        server: ServerId,
        has: impl Fn(VolumeId) -> bool,
        expected: impl Fn(ChunkId) -> Expected,
    ) {
        self.progress.insert(server, ReportProgress::default());
        self.leaving.retain(|(leaver, _)| *leaver != server);
        let chunks: Vec<ChunkId> = self.by_server.get(&server).into_iter().flatten().copied().collect();
        for chunk in chunks {
            if let Some(entry) = self.chunks.get_mut(&chunk) {
                entry.replicas.retain(|r| r.server != server || has(r.report.volume));
                let (keeps, trusts) =
                    (self.defects.has(Defect::SeenKept), self.defects.has(Defect::HearsayConfirmed));
                for replica in entry.replicas.iter_mut().filter(|r| r.server == server) {
                    replica.seen = if keeps { replica.seen } else { 0 };
                    replica.confirmed &= trusts;
                }
            }
            self.refresh(chunk, expected(chunk));
            self.unlink_if_gone(server, chunk);
        }
    }

    /// A server is dead: nothing on it counts until it reports again.
    pub(super) fn server_died(&mut self, server: ServerId, expected: impl Fn(ChunkId) -> Expected) {
        self.progress.remove(&server);
        if self.defects.has(Defect::CountDeadReplica) {
            return;
        }
        for chunk in self.by_server.remove(&server).unwrap_or_default() {
            if let Some(entry) = self.chunks.get_mut(&chunk) {
                entry.replicas.retain(|r| r.server != server);
            }
            self.refresh(chunk, expected(chunk));
        }
    }

    /// A server is told to drop its replica.
    pub(super) fn leave(&mut self, server: ServerId, chunk: ChunkId) {
        if !self.defects.has(Defect::OrderedDropCounts) {
            self.leaving.insert((server, chunk));
        }
    }

    /// Servers that will never answer.
    pub(super) fn forget_leavers(&mut self, gone: impl Fn(ServerId) -> bool) {
        self.leaving.retain(|(server, _)| !gone(*server));
    }

    /// Orders to drop that are not answered yet.
    pub(super) fn leaving(&self) -> usize {
        self.leaving.len()
    }

    /// A server answered the order to drop its replica.
    pub(super) fn drop_answered(&mut self, server: ServerId, chunk: ChunkId) {
        self.leaving.remove(&(server, chunk));
    }

    /// A replica's state, as told outside of a block report. A report that is under way may not contain it yet.
    pub(super) fn set(&mut self, server: ServerId, report: ReplicaReport, expected: Expected) {
        let seen = self.progress.get(&server).map_or(0, |p| p.number).saturating_add(2);
        self.put(server, report, seen, expected);
    }

    /// A replica is gone.
    pub(super) fn remove(
        &mut self,
        server: ServerId,
        chunk: ChunkId,
        volume: VolumeId,
        expected: Expected,
    ) -> bool {
        let Some(entry) = self.chunks.get_mut(&chunk) else { return false };
        let before = entry.replicas.len();
        entry.replicas.retain(|r| r.server != server || r.report.volume != volume);
        let removed = entry.replicas.len() != before;
        self.refresh(chunk, expected);
        self.unlink_if_gone(server, chunk);
        removed
    }

    /// A server has no replica of a chunk up to `version` any more: a report that was under way may have shown it again.
    pub(super) fn dropped(
        &mut self,
        server: ServerId,
        chunk: ChunkId,
        version: ChunkVersion,
        expected: Expected,
    ) {
        let Some(entry) = self.chunks.get_mut(&chunk) else { return };
        entry.replicas.retain(|r| r.server != server || r.report.version > version);
        self.refresh(chunk, expected);
        self.unlink_if_gone(server, chunk);
    }

    /// Takes a part of a block report: replicas in the order of chunk ids. What the report leaves out is not there.
    pub(super) fn report_part(
        &mut self,
        server: ServerId,
        number: u64,
        replicas: &[ReplicaReport],
        last: bool,
        expected: impl Fn(ChunkId) -> Expected,
    ) {
        let mut progress = self.progress.get(&server).copied().unwrap_or_default();
        if progress.number != number {
            progress = ReportProgress { number, compared: None };
        }
        self.progress.insert(server, progress);
        let upto = if last { ChunkId(u64::MAX) } else { replicas.last().map_or(ChunkId(0), |r| r.chunk) };
        let from = progress.compared.map_or(ChunkId(0), |c| ChunkId(c.0.saturating_add(1)));
        if from <= upto {
            let held: BTreeSet<(ChunkId, VolumeId)> = replicas.iter().map(|r| (r.chunk, r.volume)).collect();
            let known: Vec<ChunkId> = self
                .by_server
                .get(&server)
                .into_iter()
                .flat_map(|chunks| chunks.range(from..=upto))
                .copied()
                .collect();
            for chunk in known {
                let Some(entry) = self.chunks.get_mut(&chunk) else { continue };
                let before = entry.replicas.len();
                entry.replicas.retain(|r| {
                    r.server != server || held.contains(&(chunk, r.report.volume)) || r.seen > number
                });
                if entry.replicas.len() != before {
                    reached!("locations.unreported");
                    self.refresh(chunk, expected(chunk));
                    self.unlink_if_gone(server, chunk);
                }
            }
        }
        for report in replicas {
            self.put(server, *report, number.saturating_add(1), expected(report.chunk));
        }
        if let Some(progress) = self.progress.get_mut(&server) {
            progress.compared = Some(upto.max(progress.compared.unwrap_or_default()));
        }
    }

    fn put(&mut self, server: ServerId, report: ReplicaReport, seen: u64, expected: Expected) {
        if self.leaving.contains(&(server, report.chunk)) {
            reached!("locations.leaving");
            return;
        }
        let entry = self.chunks.entry(report.chunk).or_default();
        match entry.replicas.iter_mut().find(|r| r.server == server && r.report.volume == report.volume) {
            Some(replica) => {
                replica.report = report;
                replica.seen = replica.seen.max(seen);
                replica.confirmed = true;
            }
            None => entry.replicas.push(Replica { server, report, seen, confirmed: true }),
        }
        self.by_server.entry(server).or_default().insert(report.chunk);
        self.refresh(report.chunk, expected);
    }

    fn unlink_if_gone(&mut self, server: ServerId, chunk: ChunkId) {
        if self.defects.has(Defect::StaleServerCount) {
            return;
        }
        let holds = |e: &Entry| e.replicas.iter().any(|r| r.server == server);
        let held = self.chunks.get(&chunk).is_some_and(holds);
        if let Some(chunks) = self.by_server.get_mut(&server).filter(|_| !held) {
            chunks.remove(&chunk);
        }
    }

    /// Counts and indexes a chunk again, after its replicas or the catalog's entry changed.
    pub(super) fn refresh(&mut self, chunk: ChunkId, expected: Expected) {
        let replicas = self.replicas(chunk, expected);
        let distinct = |wanted: Quality| {
            let servers: BTreeSet<ServerId> =
                replicas.iter().filter(|(q, _)| *q <= wanted).map(|(_, r)| r.server).collect();
            servers.len() as u8
        };
        let (good, readable) = (distinct(Quality::Good), distinct(Quality::Readable));
        let class = match expected {
            None => Class::Unindexed,
            Some(_) if readable == 0 => Class::Missing,
            Some((_, goal)) if good < goal => Class::Under(good),
            Some((_, goal)) if good > goal => Class::Over,
            Some(_) => Class::Fine,
        };
        let bad = replicas.iter().any(|(quality, _)| *quality != Quality::Good);
        let twice =
            replicas.iter().filter(|(quality, _)| *quality == Quality::Good).count() > usize::from(good);
        self.index(chunk, class, good, bad || twice);
        if replicas.is_empty() && expected.is_none() {
            self.chunks.remove(&chunk);
        }
    }

    fn index(&mut self, chunk: ChunkId, class: Class, good: u8, untidy: bool) {
        let entry = self.chunks.entry(chunk).or_default();
        entry.good = good;
        let old = core::mem::replace(&mut entry.class, class);
        if untidy && class != Class::Unindexed {
            self.untidy.insert(chunk);
        } else {
            self.untidy.remove(&chunk);
        }
        if old == class {
            return;
        }
        match old {
            Class::Missing => drop(self.missing.remove(&chunk)),
            Class::Under(good) => drop(self.under.remove(&(good, chunk))),
            Class::Over => drop(self.over.remove(&chunk)),
            Class::Fine | Class::Unindexed => {}
        }
        match class {
            Class::Missing => drop(self.missing.insert(chunk)),
            Class::Under(good) => drop(self.under.insert((good, chunk))),
            Class::Over => drop(self.over.insert(chunk)),
            Class::Fine | Class::Unindexed => {}
        }
    }

    /// Chunks below their goal that can be repaired, most endangered first.
    pub(super) fn endangered(&self) -> impl Iterator<Item = ChunkId> {
        self.under.iter().map(|(_, chunk)| *chunk)
    }

    /// The same after a place in that order.
    pub(super) fn endangered_after(&self, after: (u8, ChunkId)) -> impl Iterator<Item = (u8, ChunkId)> {
        self.under.range((Bound::Excluded(after), Bound::Unbounded)).copied()
    }

    /// Chunks with more good replicas than their goal, after `after`.
    pub(super) fn crowded_after(&self, after: ChunkId) -> impl Iterator<Item = ChunkId> {
        self.over.range(ChunkId(after.0.saturating_add(1))..).copied()
    }

    /// Whether a chunk has more good replicas than its goal.
    pub(super) fn is_crowded(&self, chunk: ChunkId) -> bool {
        self.over.contains(&chunk)
    }

    /// Sealed chunks with replicas that are not good, or with two on one server, after `after`.
    pub(super) fn untidy_after(&self, after: ChunkId) -> impl Iterator<Item = ChunkId> {
        self.untidy.range(ChunkId(after.0.saturating_add(1))..).copied()
    }

    /// Whether a live server can serve a sealed chunk: with a good replica, or with one that is still to be sealed.
    pub(super) fn is_readable(&self, chunk: ChunkId) -> bool {
        let class = self.chunks.get(&chunk).map_or(Class::Unindexed, |entry| entry.class);
        matches!(class, Class::Under(_) | Class::Fine | Class::Over)
    }

    /// Chunks with fewer good replicas than their goal, the missing ones included; missing; above their goal.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let missing = self.missing.len() as u64;
        (self.under.len() as u64 + missing, missing, self.over.len() as u64)
    }

    /// Chunks of which replicas were reported, or are wanted.
    pub(super) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Replicas that a server reported.
    pub(super) fn held_by(&self, server: ServerId) -> u64 {
        self.by_server.get(&server).map_or(0, |chunks| chunks.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED: SealedChunk =
        SealedChunk { chunk: ChunkId(5), version: ChunkVersion(2), length: 10, crc: 7 };

    fn expected(chunk: ChunkId) -> Expected {
        (chunk == SEALED.chunk).then_some((SEALED, 2))
    }

    fn replica(chunk: u64, volume: u64, version: u32, state: ReplicaState) -> ReplicaReport {
        let crc = if state == ReplicaState::Sealed { 7 } else { 0 };
        ReplicaReport {
            chunk: ChunkId(chunk),
            volume: VolumeId(volume),
            version: ChunkVersion(version),
            length: 10,
            crc,
            state,
        }
    }

    fn locations() -> Locations {
        let mut locations = Locations::new(Defects::none());
        locations.refresh(SEALED.chunk, expected(SEALED.chunk));
        locations
    }

    fn report(locations: &mut Locations, server: u64, number: u64, replicas: &[ReplicaReport]) {
        locations.report_part(ServerId(server), number, replicas, true, expected);
    }

    #[test]
    fn counts_follow_reports_and_deaths() {
        let mut locations = locations();
        assert_eq!(locations.counts(), (1, 1, 0));
        let good = replica(5, 1, 2, ReplicaState::Sealed);
        report(&mut locations, 1, 1, &[good]);
        assert_eq!((locations.counts(), locations.good(SEALED.chunk)), ((1, 0, 0), 1));
        assert!(locations.endangered().eq([SEALED.chunk]));
        report(&mut locations, 2, 1, &[good]);
        assert_eq!(locations.counts(), (0, 0, 0));
        report(&mut locations, 3, 1, &[good]);
        assert!(locations.crowded_after(ChunkId(0)).eq([SEALED.chunk]));
        locations.server_died(ServerId(2), expected);
        locations.server_died(ServerId(3), expected);
        assert_eq!((locations.counts(), locations.good(SEALED.chunk)), ((1, 0, 0), 1));
        report(&mut locations, 1, 2, &[]);
        assert_eq!(locations.counts(), (1, 1, 0));
    }

    #[test]
    fn only_the_logged_version_length_and_checksum_are_good() {
        for (version, length, crc, state, counts) in [
            (2, 10, 7, ReplicaState::Sealed, (1, 0, 0)),
            (1, 10, 7, ReplicaState::Sealed, (1, 1, 0)),
            (2, 9, 7, ReplicaState::Sealed, (1, 1, 0)),
            (2, 10, 8, ReplicaState::Sealed, (1, 1, 0)),
            (2, 10, 7, ReplicaState::Damaged, (1, 1, 0)),
            (1, 10, 0, ReplicaState::Fenced, (1, 0, 0)),
            (1, 11, 0, ReplicaState::Fenced, (1, 1, 0)),
        ] {
            let mut locations = locations();
            let found = ReplicaReport {
                version: ChunkVersion(version),
                length,
                crc,
                ..replica(5, 1, version, state)
            };
            report(&mut locations, 1, 1, &[found]);
            assert_eq!(locations.counts(), counts, "{found:?}");
            assert!(
                locations.untidy_after(ChunkId(0)).count() == usize::from(locations.good(SEALED.chunk) == 0)
            );
        }
    }

    #[test]
    fn a_report_in_parts_removes_what_it_leaves_out() {
        let mut locations = locations();
        let all: Vec<ReplicaReport> = (1..9).map(|c| replica(c, 1, 1, ReplicaState::Sealed)).collect();
        report(&mut locations, 1, 1, &all);
        assert_eq!(locations.held_by(ServerId(1)), 8);
        locations.report_part(ServerId(1), 2, &all[..2], false, expected);
        assert_eq!(locations.held_by(ServerId(1)), 8);
        locations.report_part(ServerId(1), 2, &all[3..4], false, expected);
        assert_eq!(locations.held_by(ServerId(1)), 7);
        locations.report_part(ServerId(1), 2, &[], true, expected);
        assert_eq!(locations.held_by(ServerId(1)), 3);
    }

    #[test]
    fn a_replica_made_during_a_scan_survives_that_report() {
        let mut locations = locations();
        report(&mut locations, 1, 1, &[]);
        locations.set(ServerId(1), replica(5, 1, 2, ReplicaState::Sealed), expected(ChunkId(5)));
        report(&mut locations, 1, 2, &[]);
        assert_eq!(locations.good(SEALED.chunk), 1);
        report(&mut locations, 1, 3, &[]);
        assert_eq!(locations.good(SEALED.chunk), 0);
    }

    #[test]
    fn a_new_session_forgets_lost_volumes() {
        let mut locations = locations();
        report(
            &mut locations,
            1,
            7,
            &[replica(5, 1, 2, ReplicaState::Sealed), replica(6, 2, 1, ReplicaState::Open)],
        );
        locations.new_session(ServerId(1), |volume| volume == VolumeId(2), expected);
        assert_eq!(locations.held_by(ServerId(1)), 1);
        assert_eq!(locations.counts(), (1, 1, 0));
        report(&mut locations, 1, 1, &[]);
        assert_eq!(locations.held_by(ServerId(1)), 0);
    }

    #[test]
    fn two_replicas_on_one_server_count_once() {
        let mut locations = locations();
        let (a, b) = (replica(5, 1, 2, ReplicaState::Sealed), replica(5, 2, 2, ReplicaState::Sealed));
        report(&mut locations, 1, 1, &[a, b]);
        assert_eq!(locations.good(SEALED.chunk), 1);
        assert!(locations.untidy_after(ChunkId(0)).eq([SEALED.chunk]));
    }
}
