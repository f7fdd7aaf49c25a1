//! Group commit: one journal write and one sync for whatever collected meanwhile.
//!
//! Crash safety: a waiter goes on only after its group's write (async) or sync (sync) succeeded. A failed write or sync
//! is never retried: the volume is out of use, because what the file holds is then unknown. Only a write that found no
//! space is tried again: nothing of it was ever read or promised. A rewritten journal is
//! complete and synced before it takes its name, and the old one is removed only after that name is durable, so at each
//! moment the journal with the highest number is whole.

use alloc::format;
use alloc::vec::Vec;

use super::Chunkserver;
use super::journal::{self, Record, Waiter};
use super::names;
use super::out::Then;
use super::replica::Replica;
use super::script::Script;
use crate::defect::Defect;
use crate::disk::{DiskError, DiskRequest, DiskResult};
use crate::id::ChunkId;
use crate::machine::Level;
use crate::reached;

impl Chunkserver {
    /// Puts records into a volume's journal; the waiter waits for the last of them.
    pub(super) fn log(&mut self, volume: u16, records: Vec<Record>, waiter: Waiter, sync: bool) {
        let count = records.len();
        for (i, record) in records.into_iter().enumerate() {
            let last = i + 1 == count;
            let waiter = if last { waiter } else { Waiter::Nobody };
            self.volume_mut(volume).journal.push(record, waiter, sync);
        }
        self.pump_journal(volume);
    }

    /// Starts the next group if none is under way.
    pub(super) fn pump_journal(&mut self, index: u16) {
        if !self.volume(index).is_ready() {
            return;
        }
        if self.volume(index).journal.wants_rewrite() {
            self.start_rewrite(index);
        }
        if let Some((offset, bytes)) = self.volume_mut(index).journal.next_group() {
            self.write_journal(index, offset, bytes);
        }
    }

    /// Called when a volume has been quiet.
    pub(super) fn mark_journals(&mut self) {
        for index in 0..self.setup.volumes {
            if let Some((offset, bytes)) = self.volume_mut(index).journal.unblock() {
                self.write_journal(index, offset, bytes);
            }
            if self.volume(index).is_ready()
                && !self.volume(index).journal.has_pending()
                && let Some((offset, bytes)) = self.volume_mut(index).journal.mark()
            {
                self.write_journal(index, offset, bytes);
            }
        }
    }

    fn write_journal(&mut self, index: u16, offset: u64, bytes: bytes::Bytes) {
        let path = names::journal(index, self.volume(index).journal.number);
        let data = alloc::vec![bytes];
        let request = DiskRequest::Write { path, offset, data, create: false };
        self.out.disk(request, Then::JournalWritten { volume: index });
    }

    pub(super) fn on_journal_written(&mut self, index: u16, result: DiskResult) {
        if !self.volume(index).is_ready() {
            return;
        }
        match result {
            Ok(_) => {}
            Err(DiskError::NoSpace) => {
                reached!("chunkserver.journal_without_space");
                self.out.note(Level::Warn, format!("volume {index}: no space for its journal; trying again"));
                return self.volume_mut(index).journal.on_no_space();
            }
            Err(error) => return self.fail_volume(index, "its journal can't be written", &error),
        }
        let early = self.setup.defects.has(Defect::AckBeforeJournalSync);
        let (waiters, sync) = self.volume_mut(index).journal.on_written(early);
        if sync {
            let path = names::journal(index, self.volume(index).journal.number);
            self.out.disk(DiskRequest::Sync(path), Then::JournalSynced { volume: index });
        }
        self.wake_waiters(index, waiters);
        self.pump_journal(index);
    }

    pub(super) fn on_journal_synced(&mut self, index: u16, result: DiskResult) {
        if !self.volume(index).is_ready() {
            return;
        }
        if let Err(error) = result
            && !self.setup.defects.has(Defect::JournalSyncErrorIgnored)
        {
            return self.fail_volume(index, "its journal can't be synced", &error);
        }
        let waiters = self.volume_mut(index).journal.on_synced();
        self.wake_waiters(index, waiters);
        self.pump_journal(index);
    }

    /// Tells everyone that waited before anything is logged for one of them: a rewrite would take a snapshot of what the others
    /// are about to change.
    fn wake_waiters(&mut self, index: u16, waiters: Vec<Waiter>) {
        self.volume_mut(index).journal.waking = true;
        for waiter in waiters {
            match waiter {
                Waiter::Nobody => {}
                Waiter::Ready { chunk, generation, end } => self.on_ready(chunk, generation, end),
                Waiter::Job { chunk, job } => self.on_job_event(chunk, job, super::job::Event::Journalled),
                Waiter::Loser => self.on_loser_forgotten(),
            }
        }
        self.volume_mut(index).journal.waking = false;
    }

    /// All that the volume's journal must say now.
    fn journal_snapshot(&self, index: u16) -> Vec<Record> {
        let mut records = Vec::new();
        let replacing = self.jobs.replacing();
        let kept = |(chunk, replica): &(&ChunkId, &Replica)| {
            let forgotten = replica.unsealed.is_some() && self.jobs.is_forgotten(**chunk);
            replica.volume == index && !replacing.contains(*chunk) && !forgotten
        };
        for (chunk, replica) in self.replicas.iter().filter(kept) {
            records.extend(replica.snapshot(*chunk));
            if self.setup.defects.has(Defect::RewriteForgetsReady) {
                records.retain(|record| !matches!(record, Record::Ready { .. }));
            }
            if self.setup.defects.has(Defect::RewriteForgetsDamage) {
                records.retain(|record| !matches!(record, Record::Damaged { .. }));
            }
        }
        for (chunk, tombstone) in self.tombstones.iter().filter(|(_, t)| t.volume == index) {
            let (version, session) = (tombstone.version, tombstone.session);
            records.push(Record::Tombstone { chunk: *chunk, version, session });
        }
        records
    }

    fn start_rewrite(&mut self, index: u16) {
        reached!("chunkserver.journal_rewritten");
        let session = self.session.id();
        // A tombstone binds until its session ends: an Open of an earlier session is refused for that alone.
        self.tombstones.retain(|_, t| t.volume != index || session.is_none_or(|id| id == t.session));
        let records = self.journal_snapshot(index);
        let boot = self.setup.boot;
        let volume = self.volume_mut(index);
        let number = volume.journal.number + 1;
        let (owner, first_index) = (volume.identity.volume, volume.journal.next_index());
        let (pieces, end) = journal::whole_file(owner, boot, first_index, &records);
        volume.journal.rewriting = true;
        volume.switch = Some((journal::install(index, number, pieces), Some((number, end))));
        self.step_rewrite(index);
    }

    fn step_rewrite(&mut self, index: u16) {
        let Some((script, _)) = self.volume_mut(index).switch.as_mut() else { return };
        if let Some(request) = script.next() {
            return self.out.disk(request, Then::JournalSwitch { volume: index });
        }
        let journal_bytes = self.setup.config.journal_bytes;
        let volume = self.volume_mut(index);
        let Some((_, switched)) = volume.switch.take() else { return };
        let Some((number, end)) = switched else {
            volume.journal.keep(journal_bytes);
            return self.pump_journal(index);
        };
        let old = names::journal(index, volume.journal.number);
        volume.journal.switch(number, end, journal_bytes);
        self.out.disk(DiskRequest::Remove(old), Then::Nothing);
        self.pump_journal(index);
    }

    pub(super) fn on_journal_switch(&mut self, index: u16, result: DiskResult) {
        if !self.volume(index).is_ready() {
            return;
        }
        let Some((script, switched)) = self.volume_mut(index).switch.as_mut() else { return };
        match script.check(&result) {
            Ok(()) => self.step_rewrite(index),
            Err(error) if switched.is_none() || script.will_rename() => {
                // The new file has no name yet: it is removed, and the old one goes on.
                reached!("chunkserver.journal_kept");
                let mut cleaning = Script::default();
                if switched.take().is_some() {
                    cleaning.attempt(DiskRequest::Remove(names::journal_new(index)));
                }
                *script = cleaning;
                self.out.note(
                    Level::Warn,
                    format!("volume {index}: its journal can't be rewritten yet: {error}"),
                );
                self.step_rewrite(index);
            }
            Err(error) => self.fail_volume(index, "its journal can't be rewritten", &error),
        }
    }
}
