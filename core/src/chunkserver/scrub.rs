//! Scrubbing: every sealed replica is read again and again, slowly, volume by volume; and checks that the master orders.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::Chunkserver;
use super::job::data_of;
use super::names;
use super::out::Then;
use super::pull::read_step;
use super::read::first_bad_block;
use super::sidecar::Sidecar;
use crate::defect::Defect;
use crate::disk::{DiskError, DiskOk, DiskRequest, DiskResult};
use crate::id::{ChunkId, ChunkVersion};
use crate::message::ReplicaState;
use crate::payload::BLOCK_BYTES;
use crate::reached;
use crate::time::{Span, Time};

/// Each read costs the scrubber at least so many bytes of its budget, so that tiny chunks don't make it spin.
const READ_COST_MIN: u64 = 512 * 1024;
/// Pause between two passes over a volume.
const PASS_PAUSE: Span = Span::from_ms(10_000);

/// One volume's scrubber.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Scrubber {
    /// The chunk that was looked at last.
    cursor: ChunkId,
    /// When the next read may start; `None` while one is under way.
    pub(super) next: Option<Time>,
    /// The chunk under way.
    current: Option<ChunkId>,
}

/// A replica being checked.
#[derive(Clone, Debug, Hash)]
pub(super) struct Check {
    generation: u64,
    volume: u16,
    offset: u64,
    table: Option<Arc<Vec<u32>>>,
    /// The master waits for the outcome: unthrottled.
    ordered: bool,
}

impl Chunkserver {
    /// A volume is ready to be scrubbed.
    pub(super) fn start_scrubbing(&mut self, volume: u16) {
        if self.setup.config.scrub_bytes_per_second > 0 {
            let pause = Span::from_ms(self.rng.between(1_000, 5_000));
            self.scrubbers[usize::from(volume)].next = Some(self.now + pause);
        }
    }

    /// Whatever is due.
    pub(super) fn scrub_due(&mut self) {
        for index in 0..self.setup.volumes {
            let scrubber = &mut self.scrubbers[usize::from(index)];
            if scrubber.next.is_some_and(|at| at <= self.now) {
                scrubber.next = None;
                if self.volume(index).is_ready() {
                    self.scrub_step(index);
                }
            }
        }
    }

    fn scrub_step(&mut self, index: u16) {
        let scrubber = &self.scrubbers[usize::from(index)];
        if let Some(chunk) = scrubber.current {
            return self.check_step(chunk);
        }
        let cursor = scrubber.cursor;
        let next = self
            .replicas
            .range((core::ops::Bound::Excluded(cursor), core::ops::Bound::Unbounded))
            .filter(|(_, r)| r.volume == index)
            .take(1)
            .map(|(chunk, r)| (*chunk, r.unsealed.is_none()))
            .next();
        let now = self.now;
        let scrubber = &mut self.scrubbers[usize::from(index)];
        match next {
            None => {
                scrubber.cursor = ChunkId(0);
                scrubber.next = Some(now + PASS_PAUSE);
            }
            Some((chunk, sealed)) => {
                scrubber.cursor = chunk;
                // Damaged ones too: what was a passing error of the disk may be sound, and it may be the last replica.
                if !sealed || self.checks.contains_key(&chunk) || self.jobs.is_running(chunk) {
                    scrubber.next = Some(now + Span::from_ms(1));
                } else {
                    scrubber.current = Some(chunk);
                    self.start_check(chunk, false);
                }
            }
        }
    }

    /// [`crate::message::ToServer::Verify`].
    pub(super) fn on_verify(&mut self, chunk: ChunkId, version: ChunkVersion) {
        let Some(replica) = self.replicas.get(&chunk) else { return self.tell_gone(chunk, version, None) };
        let ready = self.volume(replica.volume).is_ready();
        if replica.version != version || replica.state == ReplicaState::Open || !ready {
            return self.tell_changed(chunk);
        }
        match self.checks.get_mut(&chunk) {
            Some(check) => check.ordered = true,
            None => self.start_check(chunk, true),
        }
    }

    fn start_check(&mut self, chunk: ChunkId, ordered: bool) {
        let Some(replica) = self.replicas.get(&chunk) else { return };
        let (generation, volume) = (replica.generation, replica.volume);
        let unsealed = replica.unsealed.is_some();
        // What is in memory says nothing about the sidecar on the disk.
        let known = unsealed || self.setup.defects.has(Defect::ScrubTrustsMemory);
        let table = if known { self.table_of(chunk) } else { None };
        let known = table.is_some();
        self.checks.insert(chunk, Check { generation, volume, offset: 0, table, ordered });
        if known {
            self.check_step(chunk);
        } else {
            self.read_sidecar(chunk, Then::ScrubTable { chunk });
        }
    }

    fn check_step(&mut self, chunk: ChunkId) {
        let step = read_step(self.setup.config.copy_read_bytes);
        let Some(check) = self.checks.get(&chunk) else { return };
        let (offset, volume) = (check.offset, check.volume);
        let same = |r: &&super::replica::Replica| r.generation == check.generation;
        let Some(replica) = self.replicas.get(&chunk).filter(same) else {
            return self.end_check(chunk, None);
        };
        // An empty chunk has a file too: it is looked at all the same.
        if offset >= replica.length && offset > 0 {
            return self.end_check(chunk, Some(Ok(())));
        }
        let path = names::data(volume, self.cluster, chunk);
        let length = step.min(replica.length - offset) as u32;
        self.out.disk(DiskRequest::Read { path, offset, length }, Then::ScrubData { chunk });
    }

    pub(super) fn on_scrub_table(&mut self, chunk: ChunkId, result: DiskResult) {
        let Some(check) = self.checks.get(&chunk) else { return };
        if self.replicas.get(&chunk).is_none_or(|r| r.generation != check.generation) {
            return self.end_check(chunk, None);
        }
        self.learn_identity(chunk, &result);
        match self.take_sidecar(chunk, result) {
            Ok(table) => {
                if let Some(check) = self.checks.get_mut(&chunk) {
                    check.table = Some(table);
                }
                self.check_step(chunk);
            }
            Err(error) => self.end_check(chunk, Some(Err(error))),
        }
    }

    /// A sidecar that could not be read when the process started may be readable now: it tells what the replica is.
    fn learn_identity(&mut self, chunk: ChunkId, result: &DiskResult) {
        let Ok(DiskOk::Data(payload)) = result else { return };
        let Ok(sidecar) = Sidecar::decode(&payload.bytes) else { return };
        let kept = self.kept(sidecar.unsynced);
        let Some(replica) = self.replicas.get_mut(&chunk).filter(|r| r.is_unknown()) else { return };
        if sidecar.sealed.chunk == chunk && sidecar.cluster == self.cluster {
            reached!("scrub.sidecar_readable_again");
            let sealed = sidecar.sealed;
            (replica.version, replica.length, replica.crc) = (sealed.version, sealed.length, sealed.crc);
            (replica.kept, replica.unread) = (kept, false);
            self.touch(chunk);
        }
    }

    pub(super) fn on_scrub_data(&mut self, chunk: ChunkId, result: DiskResult) {
        let step = read_step(self.setup.config.copy_read_bytes);
        let Some(check) = self.checks.get_mut(&chunk) else { return };
        let Some(replica) = self.replicas.get(&chunk).filter(|r| r.generation == check.generation) else {
            return self.end_check(chunk, None);
        };
        let expected = step.min(replica.length - check.offset);
        let payload = match data_of(result) {
            Ok(payload) => payload,
            Err(error) => return self.end_check(chunk, Some(Err(error))),
        };
        let table = check.table.clone().unwrap_or_default();
        let mut bad = first_bad_block(&payload, expected, &table);
        if self.setup.defects.has(Defect::FalseAlarm) && !expected.is_multiple_of(BLOCK_BYTES) {
            bad = Some(check.offset);
        }
        if let Some(offset) = bad.filter(|_| !self.setup.defects.has(Defect::ScrubBlind)) {
            reached!("scrub.found_damage");
            let error = DiskError::Io(format!("block at offset {offset} fails its checksum"));
            return self.end_check(chunk, Some(Err(error)));
        }
        self.scrubbed_bytes += expected;
        check.offset += expected;
        let (ordered, volume, done) = (check.ordered, check.volume, check.offset >= replica.length);
        if done {
            return self.end_check(chunk, Some(Ok(())));
        }
        if ordered {
            return self.check_step(chunk);
        }
        self.scrubber_pays(volume, expected);
    }

    fn scrubber_pays(&mut self, volume: u16, bytes: u64) {
        let rate = self.setup.config.scrub_bytes_per_second;
        let cost = bytes.max(READ_COST_MIN).saturating_mul(1_000_000_000);
        if let Some(nanos) = cost.checked_div(rate) {
            self.scrubbers[usize::from(volume)].next = Some(self.now + Span(nanos));
        }
    }

    /// `None`: the replica changed meanwhile, which says nothing about it.
    fn end_check(&mut self, chunk: ChunkId, verdict: Option<Result<(), DiskError>>) {
        let Some(check) = self.checks.remove(&chunk) else { return };
        let scrubber = &mut self.scrubbers[usize::from(check.volume)];
        if scrubber.current == Some(chunk) {
            scrubber.current = None;
            self.scrubber_pays(check.volume, 0);
        }
        match verdict {
            Some(Err(error)) if !self.jobs.is_running(chunk) => self.mark_damaged(chunk, &error.to_string()),
            Some(Ok(())) if self.found_sound(chunk) && !check.ordered => self.tell_changed(chunk),
            _ => {}
        }
        if check.ordered {
            self.tell_changed(chunk);
        }
    }

    /// Every byte of a replica is good. Whether it was taken for damaged: a passing disk error.
    fn found_sound(&mut self, chunk: ChunkId) -> bool {
        let running = self.jobs.is_running(chunk);
        let Some(replica) = self.replicas.get_mut(&chunk).filter(|_| !running) else { return false };
        if replica.state != ReplicaState::Damaged || replica.unsealed.is_some() {
            return false;
        }
        if !self.volumes[usize::from(replica.volume)].is_ready() {
            // It went out of use while its bytes were read.
            return false;
        }
        if replica.kept.is_at_risk() {
            // A sync of it may have failed: the page cache is no witness of the disk. It is written again first.
            reached!("scrub.only_cached");
            self.flush_later(chunk);
            return false;
        }
        reached!("scrub.found_sound");
        self.take_back(chunk);
        true
    }

    /// A replica that was taken for damaged counts again.
    pub(super) fn take_back(&mut self, chunk: ChunkId) {
        let Some(replica) = self.replicas.get_mut(&chunk) else { return };
        replica.state = ReplicaState::Sealed;
        let volume = replica.volume;
        self.flush_later(chunk);
        self.forget_in_journal(volume, chunk);
    }
}
