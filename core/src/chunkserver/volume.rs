//! A volume: whose it is, whether it can be used, and how much room it has.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::flush::Flusher;
use super::identity::Identity;
use super::journal::{End, Journal};
use super::out::Then;
use super::script::Script;
use super::{Chunkserver, replica};
use crate::defect::Defect;
use crate::disk::{DiskError, DiskOk, DiskRequest, DiskResult};
use crate::id::{ChunkId, ChunkVersion, Incarnation, VolumeId};
use crate::machine::Level;
use crate::message::{FromServer, ReplicaState, VolumeStatus};
use crate::reached;

/// Whether a volume can be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum VolumeState {
    /// Its recovery is under way.
    Starting,
    Ready,
    /// Nothing on it is used until the process restarts.
    Failed(String),
}

/// A rewritten journal's number, and where it goes on.
pub(super) type Successor = (u64, End);

/// One data directory.
#[derive(Clone, Debug, Hash)]
pub(super) struct Volume {
    pub(super) identity: Identity,
    pub(super) state: VolumeState,
    pub(super) journal: Journal,
    /// Steps of rewriting the journal, and what the journal is afterwards; `None` if the old one goes on.
    pub(super) switch: Option<(Script, Option<Successor>)>,
    /// Steps of writing the cluster into the identity.
    pub(super) adopting: Option<Script>,
    /// Total and free bytes of the file system, once known.
    pub(super) space: Option<(u64, u64)>,
    /// Bytes written since that was measured, and how many of them when a measurement under way was asked for.
    pub(super) written: u64,
    pub(super) written_at_poll: u64,
    /// Chunk directories that exist durably.
    pub(super) dirs: BTreeSet<u8>,
    /// The next number in the quarantine.
    pub(super) quarantine_number: u64,
    pub(super) flusher: Flusher,
}

impl Volume {
    pub(super) fn starting() -> Volume {
        Volume {
            identity: Identity::default(),
            state: VolumeState::Starting,
            journal: Journal::new(0, End { offset: 0, next_index: 0, marked: true }, 0),
            switch: None,
            adopting: None,
            space: None,
            written: 0,
            written_at_poll: 0,
            dirs: BTreeSet::new(),
            quarantine_number: 1,
            flusher: Flusher::default(),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.state == VolumeState::Ready
    }

    pub(super) fn is_starting(&self) -> bool {
        self.state == VolumeState::Starting
    }

    /// Ready and part of a cluster.
    pub(super) fn accepts(&self) -> bool {
        self.is_ready() && self.identity.cluster.0 != 0
    }
}

impl Chunkserver {
    /// The index of a volume that is ready.
    pub(super) fn volume_index(&self, id: VolumeId) -> Option<u16> {
        self.volumes.iter().position(|v| v.is_ready() && v.identity.volume == id).map(|i| i as u16)
    }

    pub(super) fn volume(&self, index: u16) -> &Volume {
        &self.volumes[usize::from(index)]
    }

    pub(super) fn volume_mut(&mut self, index: u16) -> &mut Volume {
        &mut self.volumes[usize::from(index)]
    }

    /// What this server's promises on a volume hang on now.
    pub fn incarnation(&self, index: u16) -> Incarnation {
        Incarnation {
            volume: self.volume(index).identity.volume,
            boot: self.setup.boot,
            process: self.setup.process,
        }
    }

    /// Bytes that a new chunk may take: free, less the reserve, what was written since the free space was measured, and
    /// what open chunks and copies under way were promised.
    pub(super) fn room(&self, index: u16) -> u64 {
        let Some((_, free)) = self.volume(index).space else { return 0 };
        let taken = self.volume(index).written.saturating_add(self.jobs.copying_to(index));
        let promised: u64 = self
            .open
            .iter()
            .filter_map(|chunk| self.replicas.get(chunk))
            .filter(|r| r.volume == index)
            .filter_map(|r| r.unsealed.as_ref().map(|u| u.grant.capacity.saturating_sub(r.length)))
            .sum();
        free.saturating_sub(promised).saturating_sub(taken).saturating_sub(self.setup.config.reserve_bytes)
    }

    /// Takes a replica's written records up to `end` into its promised prefix.
    pub(super) fn absorb(&mut self, chunk: ChunkId, end: u64) -> Vec<super::journal::Record> {
        let Some(replica) = self.replicas.get_mut(&chunk) else { return Vec::new() };
        let before = replica.length;
        let records = replica.absorb(end);
        let (volume, grown) = (replica.volume, replica.length.saturating_sub(before));
        self.spend(volume, grown);
        records
    }

    /// `bytes` were written since the free space was measured.
    pub(super) fn spend(&mut self, index: u16, bytes: u64) {
        let volume = self.volume_mut(index);
        volume.written = volume.written.saturating_add(bytes);
    }

    /// The volumes as the master sees them.
    pub(super) fn volume_statuses(&self) -> Vec<VolumeStatus> {
        (0..self.setup.volumes)
            .filter(|index| self.volume(*index).identity.volume.0 != 0)
            .map(|index| {
                let volume = self.volume(index);
                let free_bytes = if volume.is_ready() { self.room(index) } else { 0 };
                VolumeStatus {
                    volume: volume.identity.volume,
                    total_bytes: volume.space.map_or(0, |(total, _)| total),
                    free_bytes,
                    writable: volume.accepts() && free_bytes > 0,
                }
            })
            .collect()
    }

    /// Asks for the space of every usable volume.
    pub(super) fn poll_space(&mut self) {
        for volume in 0..self.setup.volumes {
            if self.volume(volume).is_ready() {
                self.volume_mut(volume).written_at_poll = self.volume(volume).written;
                self.out.disk(DiskRequest::Space { volume }, Then::Space { volume });
            }
        }
    }

    pub(super) fn on_space(&mut self, volume: u16, result: DiskResult) {
        match result {
            Ok(DiskOk::Space { total, free }) => {
                let volume = self.volume_mut(volume);
                volume.space = Some((total, free));
                volume.written = volume.written.saturating_sub(core::mem::take(&mut volume.written_at_poll));
            }
            Ok(_) => {}
            // The file system, or the directory itself, is gone.
            Err(error) => self.fail_volume(volume, "its space can't be measured", &error),
        }
    }

    /// The volume's journal can't be trusted any more, so nothing on it can: its replicas are damaged until a restart
    /// has looked again. Other volumes go on.
    pub(super) fn fail_volume(&mut self, index: u16, what: &str, error: &DiskError) {
        if matches!(self.volume(index).state, VolumeState::Failed(_)) {
            return;
        }
        reached!("chunkserver.volume_failed");
        let reason =
            format!("volume {index}: {what}: {error}; it is out of use until the chunkserver restarts");
        self.out.note(Level::Alarm, reason.clone());
        self.volume_mut(index).state = VolumeState::Failed(reason);
        self.volume_mut(index).flusher = Flusher::default();
        let lost: Vec<ChunkId> =
            self.replicas.iter().filter(|(_, r)| r.volume == index).map(|(chunk, _)| *chunk).collect();
        for chunk in lost {
            let disk = crate::error::ChunkError::Disk { chunk, error: error.to_string() };
            self.fail_stream(chunk, disk);
            self.damage_found += 1;
            if !self.setup.defects.has(Defect::FailedVolumeCounts) {
                self.mark_damaged_unlogged(chunk);
            }
            self.abort_job_on(chunk, index);
        }
        self.abort_jobs_of_volume(index);
        self.abandon_losers(index);
    }

    /// Notes damage in memory, in the journal and at the master.
    pub(super) fn mark_damaged(&mut self, chunk: ChunkId, why: &str) {
        let Some(replica) = self.replicas.get(&chunk).filter(|r| r.state != ReplicaState::Damaged) else {
            return;
        };
        let (volume, version) = (replica.volume, replica.version);
        self.out.note(Level::Alarm, format!("{chunk} {version} on volume {volume} is damaged: {why}"));
        self.damage_found += 1;
        self.write_off(chunk, volume, version);
    }

    /// The chunk was sealed by the others beyond what this replica has. Nothing promised is lost, so nobody needs to look;
    /// but it is of no use any more than a damaged one.
    pub(super) fn mark_behind(&mut self, chunk: ChunkId, sealed: u64) {
        let Some(replica) = self.replicas.get(&chunk).filter(|r| r.state != ReplicaState::Damaged) else {
            return;
        };
        let (volume, version, length) = (replica.volume, replica.version, replica.length);
        let text = format!(
            "{chunk} {version} on volume {volume} fell behind: {length} of {sealed} bytes; it is to be copied"
        );
        self.out.note(Level::Info, text);
        self.write_off(chunk, volume, version);
    }

    fn write_off(&mut self, chunk: ChunkId, volume: u16, version: ChunkVersion) {
        self.mark_damaged_unlogged(chunk);
        if self.volume(volume).is_ready() {
            let records = alloc::vec![super::journal::Record::Damaged { chunk, version }];
            let sync = !self.setup.defects.has(Defect::DamageNotSynced);
            self.log(volume, records, super::journal::Waiter::Nobody, sync);
        }
    }

    fn mark_damaged_unlogged(&mut self, chunk: ChunkId) {
        if let Some(replica) = self.replicas.get_mut(&chunk) {
            replica.state = ReplicaState::Damaged;
            self.tables.forget(chunk);
            self.tell_changed(chunk);
        }
    }

    /// Tells the master a replica's state.
    pub(super) fn tell_changed(&mut self, chunk: ChunkId) {
        let leaving = self.jobs.is_leaving(chunk);
        if !leaving || !self.setup.defects.has(Defect::ChangeUnnoticed) {
            self.touch(chunk);
        }
        if let Some(replica) = self.replicas.get_mut(&chunk) {
            if leaving && replica.state == ReplicaState::Sealed {
                reached!("chunkserver.sealed_while_leaving");
                return;
            }
            let volume = self.volumes[usize::from(replica.volume)].identity.volume;
            let report = replica::report(chunk, replica, volume);
            self.tell_master(FromServer::ReplicaChanged(report));
        }
    }
}
