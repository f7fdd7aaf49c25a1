//! What a volume's files say after a start: identity, lists, sidecars, journal, then the tails of unsealed replicas.
//!
//! Nothing is believed before it is durable: what was only in the page cache of a process that died is synced again
//! (journal, directories) before the volume is used. A replica that was open comes back fenced (chunk protocol, rule 4), with
//! exactly the prefix that the journal promised; bytes beyond it were never promised and are cut. Bytes missing or wrong
//! below it make the replica damaged, never shorter (rule 6). A replica that was sealed in the page cache of another boot
//! counts only if each of its bytes is there.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::Chunkserver;
use super::identity::Identity;
use super::job::data_of;
use super::journal::{self, Replay};
use super::names;
use super::out::Then;
use super::script::Script;
use super::sidecar::Sidecar;
use super::volume::VolumeState;
use crate::defect::Defect;
use crate::disk::{DiskError, DiskOk, DiskPath, DiskRequest, DiskResult, Entry};
use crate::id::{ChunkId, ServerId, VolumeId};
use crate::log::{HEADER_BYTES, Scan};
use crate::machine::Level;
use crate::payload::MAX_PAYLOAD;
use crate::reached;

/// Directory lists and sidecar reads under way at once.
const WIDTH: usize = 16;

/// Where a volume's recovery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    #[default]
    Identity,
    /// No identity: whether there are chunks all the same.
    BlankCheck,
    /// The other volumes' identities are being read.
    Waiting,
    Formatting,
    Root,
    Staging,
    Quarantine,
    Chunks,
    Dirs,
    Sidecars,
    Journal,
    Tails,
    /// The new journal takes over.
    Installing,
    /// There was no room for it: the old one is written again in its place.
    Rewriting,
    Repairs,
    Space,
}

/// A chunk's files.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Found {
    /// Length of the data file.
    pub(super) data: Option<u64>,
    pub(super) meta: bool,
    pub(super) sidecar: Option<Sidecar>,
    /// The disk would not read the sidecar, and may do so again.
    pub(super) unreadable: bool,
}

/// One volume's recovery.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Recovery {
    pub(super) phase: Phase,
    identity: Option<Identity>,
    pub(super) script: Script,
    under_way: u32,
    queue: Vec<u64>,
    pub(super) files: BTreeMap<ChunkId, Found>,
    pub(super) dirs: BTreeSet<u8>,
    /// Highest journal and the others.
    pub(super) journal: Option<u64>,
    pub(super) stale_journals: Vec<u64>,
    pub(super) scan: Option<Scan>,
    pub(super) journal_at: u64,
    /// Number of the journal that was read, if it is sound, and where it ends.
    pub(super) sound: Option<(u64, journal::End)>,
    /// Where the journal is to go on.
    pub(super) journal_end: Option<journal::End>,
    pub(super) replay: Replay,
    /// Chunks whose sealed replicas were moved to the quarantine not long ago.
    pub(super) dropped: BTreeSet<ChunkId>,
    /// Those of them of which the journal that goes on still tells.
    pub(super) forgotten: Vec<ChunkId>,
    /// The journal was damaged: what it does not know of may have been promised all the same.
    pub(super) distrusted: bool,
    pub(super) tail: Option<super::tail::Tail>,
    /// Sealed replicas that a power cut found in the page cache: what there is of them must be read.
    pub(super) unverified: BTreeSet<ChunkId>,
    /// Replicas whose promise is not kept, and why.
    pub(super) broken: BTreeMap<ChunkId, String>,
    /// Those of them that the disk would not read.
    pub(super) unread: BTreeSet<ChunkId>,
}

impl Recovery {
    /// Makes the names in all directories of chunks durable.
    pub(super) fn sync_dirs(&mut self, index: u16) {
        for dir in &self.dirs {
            self.script.step(DiskRequest::SyncDir(DiskPath::new(index, &format!("chunks/{dir:02x}"))));
        }
    }
}

impl Chunkserver {
    /// First wake: reads all identities.
    pub(super) fn start_recovery(&mut self) {
        for volume in 0..self.setup.volumes {
            self.recoveries.insert(volume, Box::default());
            let path = DiskPath::new(volume, names::IDENTITY);
            self.recovery_disk(volume, 0, DiskRequest::Read { path, offset: 0, length: 4096 });
        }
    }

    pub(super) fn recovery_disk(&mut self, volume: u16, tag: u64, request: DiskRequest) {
        self.out.disk(request, Then::Recovery { volume, tag });
    }

    pub(super) fn on_recovery(&mut self, index: u16, tag: u64, result: DiskResult) {
        let Some(mut recovery) = self.recoveries.remove(&index) else { return };
        match self.recovery_step(index, &mut recovery, tag, result) {
            Ok(true) => self.finish_recovery(index, *recovery),
            Ok(false) => {
                self.recoveries.insert(index, recovery);
                self.pass_barrier();
            }
            Err(DiskError::ReadOnly(why)) => {
                let text = format!(
                    "volume {index} is not writable ({why}); mount it read-write or take it out of the configuration"
                );
                self.out.halt(text, true);
            }
            Err(error) => {
                reached!("recovery.failed");
                self.fail_volume(index, "it can't be recovered", &error);
                self.pass_barrier();
                self.check_recovered();
            }
        }
    }

    /// True when the volume's recovery is complete.
    fn recovery_step(
        &mut self,
        index: u16,
        r: &mut Recovery,
        tag: u64,
        result: DiskResult,
    ) -> Result<bool, DiskError> {
        match r.phase {
            Phase::Identity => self.on_identity(index, r, result)?,
            Phase::BlankCheck => {
                if !entries_or_none(result)?.is_empty() {
                    reached!("recovery.identity_missing");
                    let text = format!(
                        "volume {index} has chunks but no {} file; restore it, or use an empty directory",
                        names::IDENTITY
                    );
                    self.out.halt(text, true);
                }
                r.phase = Phase::Waiting;
            }
            Phase::Waiting => {}
            Phase::Formatting | Phase::Installing | Phase::Repairs => match r.script.check(&result) {
                Err(DiskError::NoSpace)
                    if r.may_keep_journal() && !self.setup.defects.has(Defect::FullVolumeFails) =>
                {
                    self.keep_journal(index, r);
                }
                checked => {
                    checked?;
                    self.recovery_script(index, r);
                }
            },
            Phase::Rewriting => self.rewrite_in_place(index, r, result)?,
            Phase::Root => {
                let mut numbers: Vec<u64> =
                    entries_or_none(result)?.iter().filter_map(|e| names::parse_journal(&e.name)).collect();
                numbers.sort_unstable();
                r.journal = numbers.pop();
                r.stale_journals = numbers;
                r.phase = Phase::Staging;
                self.recovery_disk(index, 0, DiskRequest::List(DiskPath::new(index, "staging")));
            }
            Phase::Staging => {
                for entry in entries_or_none(result)? {
                    reached!("recovery.staging_left");
                    let path = DiskPath::new(index, &format!("staging/{}", entry.name));
                    r.script.attempt(DiskRequest::Remove(path));
                }
                r.phase = Phase::Quarantine;
                self.recovery_disk(index, 0, DiskRequest::List(DiskPath::new(index, "quarantine")));
            }
            Phase::Quarantine => {
                self.on_quarantine_list(index, r, &entries_or_none(result)?);
                r.phase = Phase::Chunks;
                self.recovery_disk(index, 0, DiskRequest::List(DiskPath::new(index, "chunks")));
            }
            Phase::Chunks => {
                for entry in entries_or_none(result)? {
                    if let (true, Ok(dir)) = (entry.directory, u8::from_str_radix(&entry.name, 16)) {
                        r.dirs.insert(dir);
                    }
                }
                r.queue = r.dirs.iter().map(|dir| u64::from(*dir)).collect();
                r.phase = Phase::Dirs;
                self.recovery_pump(index, r);
            }
            Phase::Dirs => {
                r.under_way -= 1;
                self.on_dir_list(index, r, &entries_or_none(result)?);
                self.recovery_pump(index, r);
            }
            Phase::Sidecars => {
                r.under_way -= 1;
                self.on_sidecar(index, r, ChunkId(tag), result)?;
                self.recovery_pump(index, r);
            }
            Phase::Journal => self.on_journal_read(index, r, result)?,
            Phase::Tails => self.on_tail_read(index, r, result),
            Phase::Space => {
                self.on_space(index, Ok(result?));
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn on_identity(&mut self, index: u16, r: &mut Recovery, result: DiskResult) -> Result<(), DiskError> {
        let payload = match data_of(result) {
            Ok(payload) => payload,
            Err(DiskError::NotFound) => {
                r.phase = Phase::BlankCheck;
                self.recovery_disk(index, 0, DiskRequest::List(DiskPath::new(index, "chunks")));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match Identity::decode(&payload.bytes) {
            Ok(identity) => {
                r.identity = Some(identity);
                r.phase = Phase::Waiting;
            }
            Err(error) => {
                reached!("recovery.identity_damaged");
                let text = format!(
                    "volume {index}: its file {} {error}; restore it, or use an empty directory",
                    names::IDENTITY
                );
                self.out.halt(text, true);
            }
        }
        Ok(())
    }

    /// When every volume's identity is known: all must be one server's; blank ones are formatted as this server's.
    fn pass_barrier(&mut self) {
        if self.recoveries.is_empty() || self.recoveries.values().any(|r| r.phase != Phase::Waiting) {
            return;
        }
        let known: Vec<(u16, Identity)> =
            self.recoveries.iter().filter_map(|(index, r)| Some((*index, r.identity?))).collect();
        for (i, (index, identity)) in known.iter().enumerate() {
            if let Some((other, _)) = known[..i].iter().find(|(_, o)| o.volume == identity.volume) {
                reached!("recovery.copied_volume");
                let text = format!(
                    "volumes {other} and {index} are copies of {}: what one promised the other does not know; take one of \
                     them out of the configuration",
                    identity.volume
                );
                return self.out.halt(text, true);
            }
            let other_server = self.server.0 != 0 && identity.server != self.server;
            let other_cluster =
                self.cluster.0 != 0 && identity.cluster.0 != 0 && identity.cluster != self.cluster;
            if other_server || other_cluster {
                reached!("recovery.foreign_volume");
                let text = format!(
                    "volume {index} belongs to {} of {}, another one here to {} of {}; give each chunkserver its own directories",
                    identity.server, identity.cluster, self.server, self.cluster
                );
                return self.out.halt(text, true);
            }
            self.server = identity.server;
            if identity.cluster.0 != 0 {
                self.cluster = identity.cluster;
            }
        }
        if self.server.0 == 0 {
            let unreadable = self.failed_volumes().next().map(|(_, why)| {
                format!(
                    "{why}. The others are blank, so nobody knows which server this is: make it readable, or take it out of \
                     the configuration to start as a new server"
                )
            });
            if let Some(text) = unreadable {
                return self.out.halt(text, true);
            }
            self.server = ServerId(self.rng.u64() | 1);
        }
        for (index, mut r) in core::mem::take(&mut self.recoveries) {
            match r.identity {
                Some(identity) => {
                    self.volume_mut(index).identity = identity;
                    self.read_root(index, &mut r);
                }
                None => self.format(index, &mut r),
            }
            self.recoveries.insert(index, r);
        }
    }

    fn read_root(&mut self, index: u16, r: &mut Recovery) {
        r.phase = Phase::Root;
        self.recovery_disk(index, 0, DiskRequest::List(DiskPath::new(index, "")));
    }

    /// The identity comes last, so a crash before it leaves a blank volume again.
    fn format(&mut self, index: u16, r: &mut Recovery) {
        let identity =
            Identity { cluster: self.cluster, server: self.server, volume: VolumeId(self.rng.u64() | 1) };
        self.out.note(Level::Info, format!("volume {index} is blank: formatting it as {}", identity.volume));
        for dir in ["chunks", "staging", "quarantine"] {
            r.script.step(DiskRequest::MakeDir(DiskPath::new(index, dir)));
        }
        let (pieces, _) = journal::whole_file(identity.volume, self.setup.boot, 1, &[]);
        r.script.append(journal::install(index, 1, pieces));
        r.script.append(identity.write(index));
        r.identity = Some(identity);
        self.volume_mut(index).identity = identity;
        r.phase = Phase::Formatting;
        self.recovery_script(index, r);
    }

    /// A script's next step, or what follows.
    pub(super) fn recovery_script(&mut self, index: u16, r: &mut Recovery) {
        match r.script.next() {
            Some(request) => {
                self.schedule_purge(&request);
                self.recovery_disk(index, 0, request);
            }
            None if r.phase == Phase::Formatting => self.read_root(index, r),
            None if r.phase == Phase::Installing => self.repair(index, r),
            None => {
                r.phase = Phase::Space;
                self.recovery_disk(index, 0, DiskRequest::Space { volume: index });
            }
        }
    }

    fn on_quarantine_list(&mut self, index: u16, r: &mut Recovery, entries: &[Entry]) {
        let due = self.purge_due();
        let cluster = self.volume(index).identity.cluster;
        for entry in entries {
            let Some((name, number, keep)) = names::parse_quarantined(&entry.name) else { continue };
            if let Some((owner, chunk, true)) = names::parse(name)
                && owner == cluster
            {
                r.dropped.insert(chunk);
            }
            let volume = self.volume_mut(index);
            volume.quarantine_number = volume.quarantine_number.max(number + 1);
            if !keep && !self.setup.defects.has(Defect::QuarantineForgotten) {
                reached!("recovery.quarantine_left");
                let path = DiskPath::new(index, &format!("quarantine/{}", entry.name));
                self.purges.push_back((due, path));
            }
        }
    }

    fn on_dir_list(&mut self, index: u16, r: &mut Recovery, entries: &[Entry]) {
        let cluster = self.volume(index).identity.cluster;
        for entry in entries {
            let Some((owner, chunk, meta)) = names::parse(&entry.name) else { continue };
            if owner != cluster {
                reached!("recovery.foreign_file");
                let text = format!("volume {index}: {} belongs to {owner}; it is left alone", entry.name);
                self.out.note(Level::Alarm, text);
                continue;
            }
            let found = r.files.entry(chunk).or_default();
            if meta {
                found.meta = true;
            } else {
                found.data = Some(entry.length);
            }
        }
    }

    fn on_sidecar(
        &mut self,
        index: u16,
        r: &mut Recovery,
        chunk: ChunkId,
        result: DiskResult,
    ) -> Result<(), DiskError> {
        let Some(found) = r.files.get_mut(&chunk) else { return Ok(()) };
        let payload = match data_of(result) {
            Ok(payload) => payload,
            Err(error @ DiskError::ReadOnly(_)) => return Err(error),
            Err(error) => {
                reached!("recovery.sidecar_unreadable");
                let text = format!("volume {index}: sidecar of {chunk} can't be read: {error}");
                self.out.note(Level::Alarm, text);
                found.unreadable =
                    error != DiskError::NotFound && !self.setup.defects.has(Defect::UnreadableIsUnsealed);
                return Ok(());
            }
        };
        match Sidecar::decode(&payload.bytes) {
            Ok(sidecar) if sidecar.sealed.chunk == chunk => {
                let trusted = self.setup.defects.has(Defect::TrustUnsyncedSeal);
                if sidecar.unsynced.is_some_and(|boot| boot != self.setup.boot) && !trusted {
                    r.unverified.insert(chunk);
                }
                found.sidecar = Some(sidecar);
            }
            Ok(_) => {}
            Err(error) => {
                reached!("recovery.sidecar_damaged");
                self.out.note(Level::Alarm, format!("volume {index}: {chunk}: {error}"));
            }
        }
        Ok(())
    }

    /// Starts more lists or sidecar reads, or the next phase when all are done.
    fn recovery_pump(&mut self, index: u16, r: &mut Recovery) {
        while (r.under_way as usize) < WIDTH {
            let Some(next) = r.queue.pop() else { break };
            let request = if r.phase == Phase::Dirs {
                DiskRequest::List(DiskPath::new(index, &format!("chunks/{next:02x}")))
            } else {
                let path = names::meta(index, self.volume(index).identity.cluster, ChunkId(next));
                DiskRequest::Read { path, offset: 0, length: MAX_PAYLOAD }
            };
            r.under_way += 1;
            self.recovery_disk(index, next, request);
        }
        if r.under_way > 0 {
            return;
        }
        if r.phase == Phase::Dirs {
            r.phase = Phase::Sidecars;
            r.queue = r.files.iter().filter(|(_, f)| f.meta).map(|(chunk, _)| chunk.0).collect();
            return self.recovery_pump(index, r);
        }
        r.phase = Phase::Journal;
        match r.journal {
            Some(_) => self.read_journal(index, r),
            None => self.journal_damaged(index, r, "it is missing"),
        }
    }

    /// Everything is read: the new journal comes first.
    pub(super) fn start_repairs(&mut self, index: u16, r: &mut Recovery) {
        r.phase = Phase::Installing;
        self.recovery_script(index, r);
    }

    /// Mends what a crash left behind, and makes durable what was only in the page cache.
    fn repair(&mut self, index: u16, r: &mut Recovery) {
        r.phase = Phase::Repairs;
        for number in core::mem::take(&mut r.stale_journals) {
            reached!("recovery.stale_journal");
            r.script.attempt(DiskRequest::Remove(names::journal(index, number)));
        }
        self.plan_cuts(index, r);
        self.put_orphans_aside(index, r);
        r.sync_dirs(index);
        for dir in ["staging", "quarantine"] {
            r.script.step(DiskRequest::MakeDir(DiskPath::new(index, dir)));
        }
        for dir in ["chunks", "quarantine", ""] {
            r.script.step(DiskRequest::SyncDir(DiskPath::new(index, dir)));
        }
        self.recovery_script(index, r);
    }

    fn finish_recovery(&mut self, index: u16, mut r: Recovery) {
        let blank = journal::End { offset: HEADER_BYTES, next_index: 1, marked: true };
        let end = r.journal_end.unwrap_or(blank);
        let journal_bytes = self.setup.config.journal_bytes;
        let volume = self.volume_mut(index);
        volume.journal = journal::Journal::new(r.journal.unwrap_or(1), end, journal_bytes);
        volume.dirs = core::mem::take(&mut r.dirs);
        volume.state = VolumeState::Ready;
        let forgotten = core::mem::take(&mut r.forgotten);
        self.install_recovered(index, r);
        // Not before every replica is in its place: a group may have the journal rewritten from what is in memory.
        for chunk in forgotten {
            self.forget_in_journal(index, chunk);
        }
        self.start_scrubbing(index);
        self.check_recovered();
    }

    /// When the last volume is ready or failed, the server starts to talk.
    fn check_recovered(&mut self) {
        if !self.recoveries.is_empty() || self.volumes.iter().any(|v| v.state == VolumeState::Starting) {
            return;
        }
        if !self.volumes.iter().any(super::volume::Volume::is_ready) {
            return self.out.halt("none of the volumes can be used; see the messages above", true);
        }
        self.open_session();
    }
}

/// A directory's entries; none if it is not there.
fn entries_or_none(result: DiskResult) -> Result<Vec<Entry>, DiskError> {
    match result {
        Ok(DiskOk::Entries(entries)) => Ok(entries),
        Err(DiskError::NotFound) => Ok(Vec::new()),
        Ok(_) => Err(DiskError::Io("the list yielded no entries".into())),
        Err(error) => Err(error),
    }
}
