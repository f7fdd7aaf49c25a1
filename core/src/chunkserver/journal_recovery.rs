//! What a start makes of a volume's journal: it is read, and a new one of the same records takes over.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;

use super::Chunkserver;
use super::identity::Identity;
use super::job::data_of;
use super::journal::{self, End, Record, Replay};
use super::names;
use super::recovery::{Phase, Recovery};
use super::script::Script;
use super::tail::is_sealed;
use crate::defect::{Defect, Defects};
use crate::disk::{DiskError, DiskOk, DiskPath, DiskRequest, DiskResult};
use crate::id::{ChunkId, VolumeId};
use crate::limits::LOG_PIECE;
use crate::log::{FileHeader, HEADER_BYTES, LogKind, Scan, ScanEnd};
use crate::machine::Level;
use crate::reached;

impl Recovery {
    /// Has a journal take over from the one that was read.
    fn replace_journal(&mut self, index: u16, (pieces, end): (Vec<Bytes>, End)) {
        let number = self.journal.unwrap_or(0) + 1;
        self.script.append(journal::install(index, number, pieces));
        self.stale_journals.extend(self.journal.replace(number));
        self.journal_end = Some(end);
    }

    /// A sealed replica's drop does not wait for the journal, which may be without space: a promise from before the seal is
    /// over all the same, and as soon as the sidecar is moved away, since a seal may have cut what was promised. No unsealed
    /// replica ever follows a sealed one; once chunks can be reopened, versions have to decide.
    fn forget_dropped(&mut self, defects: Defects) {
        let whole = defects.has(Defect::HalfDropPromises);
        for chunk in &self.dropped {
            let found = self.files.get(chunk);
            let gone = found.is_none_or(|found| !found.meta && (found.data.is_none() || !whole));
            if gone && self.replay.replicas.remove(chunk).is_some() {
                reached!("recovery.dropped_before_forgotten");
                self.replay.damaged.remove(chunk);
                self.forgotten.push(*chunk);
            }
        }
    }

    /// What was found damaged before anything of it was promised is not there any more, and its note must not be held against
    /// what comes in its place.
    fn forget_notes_of_nothing(&mut self) {
        let (replicas, files) = (&self.replay.replicas, &self.files);
        let is_there = |chunk: &ChunkId| {
            replicas.contains_key(chunk) || files.get(chunk).is_some_and(|found| found.meta)
        };
        let notes = self.replay.damaged.keys().copied();
        let gone: Vec<ChunkId> = notes.filter(|chunk| !is_there(chunk)).collect();
        for chunk in gone {
            reached!("recovery.note_of_nothing");
            self.replay.damaged.remove(&chunk);
            self.forgotten.push(chunk);
        }
    }

    /// Whether the journal that was read can go on: it is sound, and the new one has not taken its name yet.
    pub(super) fn may_keep_journal(&self) -> bool {
        self.phase == Phase::Installing && self.sound.is_some() && self.script.will_rename()
    }
}

impl Chunkserver {
    pub(super) fn read_journal(&mut self, index: u16, r: &Recovery) {
        let path = names::journal(index, r.journal.unwrap_or(0));
        let request = DiskRequest::Read { path, offset: r.journal_at, length: LOG_PIECE };
        self.recovery_disk(index, 0, request);
    }

    pub(super) fn on_journal_read(
        &mut self,
        index: u16,
        r: &mut Recovery,
        result: DiskResult,
    ) -> Result<(), DiskError> {
        let payload = match data_of(result) {
            Ok(payload) => payload,
            Err(error @ DiskError::ReadOnly(_)) => return Err(error),
            Err(error) => {
                self.journal_damaged(index, r, &error.to_string());
                return Ok(());
            }
        };
        let mut bytes = &payload.bytes[..];
        if r.journal_at == 0 {
            let owner = self.volume(index).identity.volume.0;
            match FileHeader::decode(bytes) {
                Ok(h) if h.kind == LogKind::Journal && h.owner == owner => {
                    r.scan = Some(Scan::new(h.first_index));
                    bytes = &bytes[HEADER_BYTES as usize..];
                }
                Ok(_) => {
                    self.journal_damaged(index, r, "it belongs to another volume");
                    return Ok(());
                }
                Err(error) => {
                    self.journal_damaged(index, r, &error.to_string());
                    return Ok(());
                }
            }
        }
        r.journal_at += payload.len();
        let Some(scan) = r.scan.as_mut() else { return Ok(()) };
        scan.feed(bytes);
        let last = payload.len() < u64::from(LOG_PIECE);
        let mut verdict = last.then(|| scan.finish());
        if self.setup.defects.has(Defect::JournalRotTrusted)
            && let Some(Err(damage)) = &verdict
        {
            let (valid_end, durable_end) = (damage.offset, damage.offset);
            verdict = Some(Ok(ScanEnd {
                valid_end,
                durable_end,
                next_index: 1,
                torn: 0,
                holed: false,
                ends_with_mark: true,
            }));
        }
        let mut malformed = false;
        while let Some((_, _, payload)) = scan.next_record() {
            match Record::decode(&payload) {
                Ok(record) => r.replay.apply(record),
                Err(_) => malformed = true,
            }
        }
        match verdict {
            _ if malformed => {
                self.journal_damaged(index, r, "it has a record that this release does not know")
            }
            None => self.read_journal(index, r),
            Some(Err(damage)) => self.journal_damaged(index, r, &damage.to_string()),
            Some(Ok(end)) if self.is_rotten(r, &end) => {
                reached!("recovery.journal_holed");
                let why = format!("byte {} is wrong, which no crash can have made", end.valid_end);
                self.journal_damaged(index, r, &why);
            }
            Some(Ok(end)) => {
                if end.torn > 0 {
                    reached!("recovery.torn_journal");
                }
                // What was read may be in the page cache only, marked as clean by a sync that failed: another sync of
                // the same file would promise nothing. A new file is written for good.
                let (offset, next_index, marked) = (end.valid_end, end.next_index, end.ends_with_mark);
                r.sound = r.journal.map(|number| (number, End { offset, next_index, marked }));
                r.forget_dropped(self.setup.defects);
                r.forget_notes_of_nothing();
                if self.setup.defects.has(Defect::ReplayForgetsDamage) {
                    r.replay.damaged.clear();
                }
                let records = r.replay.records();
                let (owner, boot) = (self.volume(index).identity.volume, self.setup.boot);
                r.replace_journal(index, journal::whole_file(owner, boot, end.next_index, &records));
                r.phase = Phase::Tails;
                self.next_tail(index, r);
            }
        }
        Ok(())
    }

    /// Whether a journal's end is not a torn write: its beginning was durable before it had a name, and a process that dies makes no
    /// holes.
    fn is_rotten(&self, r: &Recovery, end: &ScanEnd) -> bool {
        let unbroken = r.replay.begun.is_none_or(|boot| boot == self.setup.boot && end.holed);
        end.torn > 0 && unbroken && !self.setup.defects.has(Defect::HoleTakenForTear)
    }

    /// What was promised below the damage is not known any more, so every promise of the volume is void: it becomes
    /// another volume (rule 2), its unsealed replicas are damaged. Sealed ones have their sidecars.
    pub(super) fn journal_damaged(&mut self, index: u16, r: &mut Recovery, why: &str) {
        reached!("recovery.damaged_journal");
        self.damaged_journals += 1;
        r.distrusted = true;
        let old = self.volume(index).identity;
        let volume = VolumeId(self.rng.u64() | 1);
        let keeps = self.setup.defects.has(Defect::VolumeKeepsId);
        let identity = Identity { volume: if keeps { old.volume } else { volume }, ..old };
        let text = format!(
            "volume {index}: its journal is damaged ({why}); it goes on as {}, its unsealed replicas are damaged",
            identity.volume
        );
        self.out.note(Level::Alarm, text);
        let (replicas, mut damaged) = (r.replay.replicas.clone(), r.replay.damaged.clone());
        for (chunk, replayed) in &replicas {
            // For a sealed one the sidecar speaks; a note from before the seal would speak against it.
            let sealed = r.files.get(chunk).is_some_and(|found| is_sealed(found, Some(replayed)));
            if sealed && !self.setup.defects.has(Defect::SealedCondemned) {
                reached!("recovery.sealed_since");
            } else {
                r.broken.insert(*chunk, "the journal is damaged".into());
                damaged.insert(*chunk, replayed.grant.version);
            }
        }
        let records = Replay { replicas, damaged, ..Replay::default() }.records();
        // The identity first: the old journal's promises must never be read under the new journal's silence.
        let quarantine = DiskPath::new(index, "quarantine");
        r.script.step(DiskRequest::MakeDir(quarantine.clone()));
        r.script.append(identity.write(index));
        // Then what only the old journal could have told of: the new one's silence would make nothing of it.
        if !self.setup.defects.has(Defect::OrphansLeftBehind) {
            self.put_orphans_aside(index, r);
            r.script.step(DiskRequest::SyncDir(quarantine));
            r.sync_dirs(index);
        }
        r.replace_journal(index, journal::whole_file(identity.volume, self.setup.boot, 1, &records));
        self.volume_mut(index).identity = identity;
        r.phase = Phase::Tails;
        self.next_tail(index, r);
    }

    /// A full disk must not take away what is on it. Overwriting needs no room, and makes what may be in the page cache
    /// only as durable as a new file would be.
    pub(super) fn keep_journal(&mut self, index: u16, r: &mut Recovery) {
        let Some((number, end)) = r.sound.take() else { return };
        reached!("recovery.journal_kept");
        let text = format!(
            "volume {index} is full: there is no room for a new journal, so the old one goes on; what is here can be read, \
             writing waits until there is space"
        );
        self.out.note(Level::Warn, text);
        r.stale_journals.retain(|stale| *stale != number);
        (r.journal, r.journal_end, r.journal_at) = (Some(number), Some(end), 0);
        if self.setup.defects.has(Defect::KeptJournalOverwritten) {
            r.journal_end = Some(End { offset: HEADER_BYTES, ..end });
        }
        r.phase = Phase::Rewriting;
        self.recovery_disk(index, 0, DiskRequest::Remove(names::journal_new(index)));
    }

    /// Reads a piece of the journal, writes it where it was, and so on to the end of what counts.
    pub(super) fn rewrite_in_place(
        &mut self,
        index: u16,
        r: &mut Recovery,
        result: DiskResult,
    ) -> Result<(), DiskError> {
        let path = names::journal(index, r.journal.unwrap_or(0));
        let end = r.journal_end.map_or(0, |end| end.offset);
        match result {
            Ok(DiskOk::Data(piece)) => {
                let whole = (end - r.journal_at).min(u64::from(LOG_PIECE));
                if piece.len() < whole {
                    return Err(DiskError::Io("the journal became shorter while it was read".into()));
                }
                let data = alloc::vec![piece.bytes.slice(..whole as usize)];
                let offset = r.journal_at;
                r.journal_at += whole;
                self.recovery_disk(index, 0, DiskRequest::Write { path, offset, data, create: false });
            }
            // Of the new file there may be nothing to remove.
            Ok(_) | Err(DiskError::NotFound) if r.journal_at < end => {
                let request = DiskRequest::Read { path, offset: r.journal_at, length: LOG_PIECE };
                self.recovery_disk(index, 0, request);
            }
            Ok(_) => {
                r.script = Script::default();
                r.script.step(DiskRequest::Truncate { path: path.clone(), length: end });
                r.script.step(DiskRequest::Sync(path));
                r.script.step(DiskRequest::SyncDir(DiskPath::new(index, "")));
                r.phase = Phase::Installing;
                self.recovery_script(index, r);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
