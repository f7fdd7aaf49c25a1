//! The end of recovery: each unsealed replica's bytes against what the journal promised, those of replicas sealed in a page
//! cache that is gone against their sidecars, and what each file becomes.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Bound;

use super::Chunkserver;
use super::fence::Tombstone;
use super::flush::Kept;
use super::job::data_of;
use super::journal::{Record, Replayed, Waiter};
use super::names;
use super::out::Then;
use super::read::first_bad_block;
use super::recovery::{Found, Recovery};
use super::replica::{Replica, Unsealed};
use crate::defect::Defect;
use crate::disk::{DiskRequest, DiskResult};
use crate::id::{ChunkId, ChunkVersion, Durability};
use crate::limits::FILE_PIECE;
use crate::machine::Level;
use crate::message::{ReplicaState, SealedChunk};
use crate::payload::BLOCK_BYTES;
use crate::reached;

/// The replica whose bytes are being read.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Tail {
    chunk: ChunkId,
    offset: u64,
}

/// Whether a chunk's sidecar makes it a sealed one in spite of what the journal says. One that the disk would not read may: by the
/// journal's word its bytes would be cut to less than was sealed.
pub(super) fn is_sealed(found: &Found, replayed: Option<&Replayed>) -> bool {
    let version = found.sidecar.as_ref().map(|s| s.sealed.version);
    found.unreadable || version.is_some_and(|v| replayed.is_none_or(|r| v > r.grant.version))
}

impl Recovery {
    /// Length and block checksums of what must be there of a replica; `None` if nobody doubts it.
    fn promise(&self, chunk: ChunkId) -> Option<(u64, &[u32])> {
        let replayed = self.replay.replicas.get(&chunk);
        match self.files.get(&chunk) {
            Some(found) if is_sealed(found, replayed) => {
                let sidecar = found.sidecar.as_ref().filter(|_| self.unverified.contains(&chunk));
                sidecar.map(|s| (s.sealed.length, &s.blocks[..]))
            }
            _ => replayed.map(|r| (r.length, &r.crcs[..])),
        }
    }

    /// The next replica that may have to be read.
    fn doubtful_after(&self, chunk: Option<ChunkId>) -> Option<ChunkId> {
        let from = (chunk.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let unsealed = self.replay.replicas.range(from).next().map(|(chunk, _)| *chunk);
        let unverified = self.unverified.range(from).next().copied();
        unsealed.into_iter().chain(unverified).min()
    }
}

impl Chunkserver {
    /// Looks at the next replica that may not be what was promised.
    pub(super) fn next_tail(&mut self, index: u16, r: &mut Recovery) {
        let truncates = self.setup.defects.has(Defect::TruncateDamage);
        loop {
            let Some(chunk) = r.doubtful_after(r.tail.map(|tail| tail.chunk)) else {
                return self.start_repairs(index, r);
            };
            r.tail = Some(Tail { chunk, offset: 0 });
            let have = r.files.entry(chunk).or_default().data;
            let Some((length, _)) = r.promise(chunk).filter(|_| !r.broken.contains_key(&chunk)) else {
                continue;
            };
            if have.unwrap_or(0) < length {
                reached!("recovery.short_replica");
                let have = have.unwrap_or(0);
                match r.replay.replicas.get_mut(&chunk).filter(|_| truncates) {
                    Some(replayed) => cut(replayed, have / BLOCK_BYTES),
                    None => {
                        r.broken.insert(chunk, format!("{have} bytes are there, {length} were promised"));
                    }
                }
            } else if length > 0 {
                return self.read_tail(index, r);
            }
        }
    }

    fn read_tail(&mut self, index: u16, r: &Recovery) {
        let Some(tail) = r.tail else { return };
        let length = r.promise(tail.chunk).map_or(0, |(length, _)| length);
        let path = names::data(index, self.volume(index).identity.cluster, tail.chunk);
        let (offset, length) = (tail.offset, (length - tail.offset).min(u64::from(FILE_PIECE)) as u32);
        self.out.disk(DiskRequest::Read { path, offset, length }, Then::Recovery { volume: index, tag: 0 });
    }

    pub(super) fn on_tail_read(&mut self, index: u16, r: &mut Recovery, result: DiskResult) {
        let truncates = self.setup.defects.has(Defect::TruncateDamage);
        let Some(Tail { chunk, offset }) = r.tail else { return };
        let Some((length, crcs)) = r.promise(chunk) else { return };
        let expected = (length - offset).min(u64::from(FILE_PIECE));
        let (bad, why) = match data_of(result) {
            Err(error) => {
                reached!("recovery.tail_unreadable");
                r.unread.insert(chunk);
                (None, Some(error.to_string()))
            }
            Ok(payload) => {
                let bad = first_bad_block(&payload, expected, crcs);
                (bad, bad.map(|offset| format!("block at offset {offset} fails its checksum")))
            }
        };
        if let Some(offset) = bad {
            reached!("recovery.bad_block");
            if truncates && let Some(replayed) = r.replay.replicas.get_mut(&chunk) {
                cut(replayed, offset / BLOCK_BYTES);
            }
        }
        r.tail = Some(Tail { chunk, offset: offset + expected });
        match why {
            Some(why) => {
                if !truncates {
                    r.broken.insert(chunk, why);
                }
                self.next_tail(index, r);
            }
            None if offset + expected >= length => self.next_tail(index, r),
            None => self.read_tail(index, r),
        }
    }

    /// Steps that cut what was never promised.
    pub(super) fn plan_cuts(&self, index: u16, r: &mut Recovery) {
        let cluster = self.volume(index).identity.cluster;
        for (chunk, found) in &r.files {
            let replayed = r.replay.replicas.get(chunk);
            let sealed = is_sealed(found, replayed);
            // Of what is known to be damaged every byte may be wanted by somebody who looks into it.
            let damaged = r.broken.contains_key(chunk) || r.replay.damaged.contains_key(chunk);
            let length = match (sealed, &found.sidecar, replayed) {
                (true, Some(sidecar), _) if replayed.is_some() || sidecar.unsynced.is_some() => {
                    sidecar.sealed.length
                }
                (false, _, Some(replayed)) if !damaged => replayed.length,
                _ => continue,
            };
            // A file that somebody removes meanwhile is missed later, and must not cost the whole volume.
            let path = names::data(index, cluster, *chunk);
            if found.data.is_some_and(|data| data > length) {
                reached!("recovery.cut_unpromised");
                // The seal's name may be in the page cache only: were it lost, the cut would be damage to what the journal promised.
                if sealed && !self.setup.defects.has(Defect::CutBeforeNamed) {
                    reached!("recovery.cut_to_seal");
                    r.script.step(DiskRequest::SyncDir(names::dir(index, *chunk)));
                }
                r.script.attempt(DiskRequest::Truncate { path: path.clone(), length });
                r.script.attempt(DiskRequest::Sync(path));
            } else if sealed && replayed.is_some() && found.data.is_some() {
                // The last process may have cut it in the page cache only; the journal, which excuses that, is to forget it.
                r.script.attempt(DiskRequest::Sync(path));
            }
        }
    }

    /// Steps that put aside what promised nothing: bytes that neither a sidecar nor the journal describes.
    pub(super) fn put_orphans_aside(&mut self, index: u16, r: &mut Recovery) {
        let cluster = self.volume(index).identity.cluster;
        let is_orphan =
            |chunk: &ChunkId, found: &Found| !found.meta && !r.replay.replicas.contains_key(chunk);
        let orphans: Vec<ChunkId> = r
            .files
            .iter()
            .filter(|(chunk, found)| is_orphan(chunk, found))
            .map(|(chunk, _)| *chunk)
            .collect();
        for chunk in orphans {
            reached!("recovery.orphan");
            r.files.remove(&chunk);
            let number = self.volume(index).quarantine_number;
            self.volume_mut(index).quarantine_number += 1;
            let keep = r.distrusted && !self.setup.defects.has(Defect::OrphansPurged);
            // A move of its sidecar may be in the page cache only: if that came back, and this move did not, it would look
            // like a sealed replica without its bytes.
            if !self.setup.defects.has(Defect::OrphanMovedFirst) {
                r.script.step(DiskRequest::SyncDir(names::dir(index, chunk)));
            }
            let to = names::quarantined(index, &names::file_name(cluster, chunk), number, keep);
            r.script.attempt(DiskRequest::Rename { from: names::data(index, cluster, chunk), to });
        }
    }

    /// Takes a volume's replicas and tombstones into service.
    pub(super) fn install_recovered(&mut self, index: u16, r: Recovery) {
        for (chunk, (version, session)) in &r.replay.tombstones {
            let tombstone = Tombstone { version: *version, session: *session, volume: index, kept: true };
            self.tombstones.insert(*chunk, tombstone);
        }
        let mut replayed = r.replay.replicas;
        let mut forgets = Vec::new();
        for (chunk, found) in r.files {
            let unsealed = replayed.remove(&chunk);
            let marked = r.replay.damaged.get(&chunk).copied();
            let had_journal = unsealed.is_some();
            let replica = match unsealed {
                Some(unsealed) if !is_sealed(&found, Some(&unsealed)) => {
                    let broken = r.broken.get(&chunk);
                    let known = marked == Some(unsealed.grant.version);
                    if let Some(why) = broken.filter(|_| !known) {
                        let text = format!("volume {index}: {chunk} does not keep its promise: {why}");
                        self.out.note(Level::Alarm, text);
                        self.damage_found += 1;
                    }
                    let damaged = broken.is_some() || known;
                    let unread = r.unread.contains(&chunk) && !known;
                    Replica { unread, ..self.fenced_by_restart(index, unsealed, damaged) }
                }
                _ => {
                    if had_journal && found.unreadable {
                        // Until somebody has read what was sealed, it is all that is known.
                        reached!("recovery.seal_unreadable");
                    } else if had_journal {
                        reached!("recovery.sealed_before_forgotten");
                        forgets.push(chunk);
                    }
                    let why = r.broken.get(&chunk).map(String::as_str);
                    self.recovered_sealed(index, chunk, &found, marked, why)
                }
            };
            self.install(chunk, replica);
            if self.replicas.get(&chunk).is_some_and(|r| r.state == ReplicaState::Sealed && r.volume == index)
            {
                self.flush_later(chunk);
            }
        }
        for chunk in forgets {
            // Whether it is damaged is all that the journal is to know of the replica from now on.
            let replica = self.replicas.get(&chunk).filter(|replica| replica.volume == index);
            let known = replica.into_iter().flat_map(|replica| replica.snapshot(chunk));
            let records = [Record::Forget { chunk }].into_iter().chain(known).collect();
            self.log(index, records, Waiter::Nobody, true);
        }
        self.start_losers();
    }

    fn fenced_by_restart(&mut self, volume: u16, replayed: Replayed, damaged: bool) -> Replica {
        let state = if damaged { ReplicaState::Damaged } else { ReplicaState::Fenced };
        let version = replayed.grant.version;
        let unsealed = Unsealed {
            grant: replayed.grant,
            position: replayed.position,
            writer: replayed.writer,
            fence: replayed.fence,
            fence_kept: replayed.fence.is_some(),
            opened_kept: true,
            crcs: replayed.crcs,
            record: replayed.record,
            stream: None,
        };
        let generation = self.next_generation();
        let kept = match unsealed.grant.durability {
            Durability::Async => self.inherited(),
            Durability::Sync => Kept::Durable,
        };
        let (length, unsealed) = (replayed.length, Some(Box::new(unsealed)));
        Replica { volume, version, state, length, crc: 0, kept, generation, unread: false, unsealed }
    }

    fn recovered_sealed(
        &mut self,
        index: u16,
        chunk: ChunkId,
        found: &Found,
        marked: Option<ChunkVersion>,
        broken: Option<&str>,
    ) -> Replica {
        let unknown = SealedChunk { chunk, version: ChunkVersion(0), length: 0, crc: 0 };
        let sealed = found.sidecar.as_ref().map_or(unknown, |s| s.sealed);
        let generation = self.next_generation();
        let unsynced = found.sidecar.as_ref().and_then(|s| s.unsynced);
        let kept = self.kept(unsynced);
        let mut replica =
            Replica { unread: found.unreadable, ..Replica::sealed(index, generation, &sealed, kept) };
        // The cut of what lies beyond may have been lost.
        let fits = found.data.is_some_and(|data| data >= sealed.length);
        if kept == Kept::Recovered && (broken.is_some() || !fits) {
            // What an `async` file risks.
            reached!("recovery.unsynced_seal_lost");
            let why = broken.unwrap_or("its file is gone");
            let text = format!("volume {index}: {chunk} was not synced when the power failed: {why}");
            self.out.note(Level::Warn, text);
            replica.state = ReplicaState::Damaged;
        } else if found.sidecar.is_none() || !fits || marked.is_some_and(|v| v <= sealed.version) {
            reached!("recovery.sealed_damaged");
            let text = format!("volume {index}: {chunk} {} is damaged", sealed.version);
            self.out.note(Level::Alarm, text);
            self.damage_found += 1;
            replica.state = ReplicaState::Damaged;
        }
        replica
    }

    /// One replica of a chunk on each server: of two, after a copy that a crash interrupted, the better one stays. Of equals it is
    /// the one that a power cut can't take: the other may be of a volume that was out of use while the chunk was copied. One whose
    /// sidecar the disk would not read may be as good as any: only one that is known to be sound goes before it.
    fn install(&mut self, chunk: ChunkId, replica: Replica) {
        let unknown_loses = self.setup.defects.has(Defect::UnknownLoses);
        let broken_counts = self.setup.defects.has(Defect::BrokenIsUnread);
        let rank = |r: &Replica| {
            let is_safe = !r.kept.is_at_risk();
            let may_be_sound = r.is_unknown() && (r.unread || broken_counts) && !unknown_loses;
            (r.state == ReplicaState::Sealed, may_be_sound, r.version, r.length, is_safe)
        };
        let Some(other) = self.replicas.get(&chunk) else {
            self.replicas.insert(chunk, replica);
            return;
        };
        reached!("recovery.two_replicas");
        let is_better = rank(&replica) > rank(other);
        let (won, lost) = if is_better { (&replica, other) } else { (other, &replica) };
        let (loser, is_unsealed, keep) = (lost.volume, lost.unsealed.is_some(), won.is_unknown());
        if is_better {
            self.replicas.insert(chunk, replica);
        }
        self.quarantine_loser(chunk, loser, is_unsealed, keep);
    }
}

/// Planted defect: damage below the promise is cut away as if it had never been promised.
fn cut(replayed: &mut Replayed, blocks: u64) {
    replayed.length = blocks * BLOCK_BYTES;
    replayed.crcs.truncate(blocks as usize);
}
