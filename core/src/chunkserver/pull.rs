//! Pulling a range of a chunk from other servers, several reads at a time, with fail-over between sources.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Chunkserver;
use super::job::Event;
use crate::defect::Defect;
use crate::disk::DiskPath;
use crate::error::ChunkError;
use crate::id::{Address, ChunkId, ChunkVersion, Peer};
use crate::message::ReadMessage;
use crate::payload::{BLOCK_BYTES, MAX_PAYLOAD, Payload, combine, pieces};
use crate::reached;
use crate::time::{Span, Time};

/// Failures for each source before the whole pull fails.
const FAILURES_EACH: u32 = 4;

/// A range on its way from other servers to a file.
#[derive(Clone, Debug, Hash)]
pub(super) struct Pull {
    pub(super) path: DiskPath,
    chunk: ChunkId,
    version: ChunkVersion,
    end: u64,
    next: u64,
    step: u64,
    width: usize,
    timeout: Span,
    sources: Vec<Address>,
    source: usize,
    failures: u32,
    asked: BTreeMap<u64, Asked>,
    again: Vec<(u64, u64)>,
    /// No source has room: nothing is asked until the next housekeeping.
    waits: bool,
    /// Writes of pulled bytes under way.
    pub(super) writing: u32,
    /// CRC32 and length of each piece, by its offset.
    pieces: BTreeMap<u64, (u64, u32)>,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Asked {
    offset: u64,
    length: u64,
    source: usize,
    deadline: Time,
}

impl Pull {
    /// Pulls `from..end` of a chunk into the file at `path`.
    pub(super) fn new(
        config: &crate::config::ChunkserverConfig,
        path: DiskPath,
        (chunk, version): (ChunkId, ChunkVersion),
        (from, end): (u64, u64),
        sources: Vec<Address>,
    ) -> Pull {
        Pull {
            path,
            chunk,
            version,
            end,
            next: from,
            step: read_step(config.copy_read_bytes),
            width: config.copy_reads.max(1) as usize,
            timeout: crate::config::ms(config.copy_timeout_ms),
            sources,
            source: 0,
            failures: 0,
            asked: BTreeMap::new(),
            again: Vec::new(),
            waits: false,
            writing: 0,
            pieces: BTreeMap::new(),
        }
    }

    /// Everything has arrived and is written.
    pub(super) fn is_done(&self) -> bool {
        self.next == self.end && self.asked.is_empty() && self.again.is_empty() && self.writing == 0
    }

    /// It failed, and no write is under way that could still touch the file.
    pub(super) fn is_over(&self) -> bool {
        self.has_failed() && self.writing == 0
    }

    /// Gives up.
    pub(super) fn give_up(&mut self) {
        self.sources.clear();
        self.asked.clear();
    }

    fn has_failed(&self) -> bool {
        self.sources.is_empty() || self.failures > FAILURES_EACH * self.sources.len() as u32
    }

    /// The reads to send now.
    fn requests(&mut self, now: Time, next_read: &mut u64) -> Vec<(Peer, ReadMessage)> {
        let mut requests = Vec::new();
        while !self.waits && !self.has_failed() && self.asked.len() + (self.writing as usize) < self.width {
            let (offset, length) = match self.again.pop() {
                Some(range) => range,
                None if self.next < self.end => {
                    // Reads end where blocks do, so that their checksums are the blocks'.
                    let stop = (self.next / self.step + 1) * self.step;
                    let range = (self.next, stop.min(self.end) - self.next);
                    self.next += range.1;
                    range
                }
                None => break,
            };
            *next_read += 1;
            let asked = Asked { offset, length, source: self.source, deadline: now + self.timeout };
            self.asked.insert(*next_read, asked);
            let (chunk, version, read) = (self.chunk, self.version, *next_read);
            let request = ReadMessage::Request { read, chunk, version, offset, length: length as u32 };
            requests.push((Peer::Dial(self.sources[self.source].clone()), request));
        }
        requests
    }

    /// An answer: the bytes if they are what was asked for.
    fn on_reply(&mut self, read: u64, result: Result<Payload, ChunkError>) -> Option<Payload> {
        let asked = self.asked.remove(&read)?;
        match result {
            Ok(payload)
                if payload.offset == asked.offset
                    && payload.len() == asked.length
                    && payload.crcs.len() == pieces(asked.offset, asked.length).count() =>
            {
                let parts = pieces(payload.offset, payload.len()).zip(&payload.crcs);
                for ((start, length), crc) in parts {
                    self.pieces.insert(payload.offset + start, (length, *crc));
                }
                self.writing += 1;
                Some(payload)
            }
            _ => {
                self.fail(asked);
                None
            }
        }
    }

    /// A source that has too many reads under way is not broken: no more are sent at once than were admitted. If none was,
    /// others have the room: waiting for it counts as a failure, so that every pull ends.
    fn on_busy(&mut self, read: u64) {
        let Some(asked) = self.asked.remove(&read) else { return };
        reached!("pull.source_busy");
        let admitted = self.asked.len() + self.writing as usize;
        if admitted == 0 {
            self.waits = true;
            self.fail(asked);
        } else {
            self.width = admitted;
            self.ask_again(asked);
        }
    }

    /// Goes on if it waited for room.
    fn resume(&mut self) -> bool {
        core::mem::take(&mut self.waits)
    }

    fn fail(&mut self, asked: Asked) {
        reached!("pull.source_failed");
        self.failures += 1;
        self.ask_again(asked);
    }

    /// The range is asked for once more, elsewhere.
    fn ask_again(&mut self, asked: Asked) {
        if self.sources.is_empty() {
            return;
        }
        self.again.push((asked.offset, asked.length));
        if asked.source == self.source {
            self.source = (self.source + 1) % self.sources.len();
        }
    }

    fn fail_all(&mut self, which: impl Fn(&Asked, &Address) -> bool) -> bool {
        let reads: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| self.sources.get(asked.source).is_some_and(|source| which(asked, source)))
            .map(|(read, _)| *read)
            .collect();
        for read in &reads {
            if let Some(asked) = self.asked.remove(read) {
                self.fail(asked);
            }
        }
        !reads.is_empty()
    }

    /// The block checksums of the whole, given those of what lies before the pulled range.
    pub(super) fn join(&self, mut table: Vec<u32>) -> Vec<u32> {
        for (offset, (length, crc)) in &self.pieces {
            match table.last_mut() {
                Some(last) if offset % BLOCK_BYTES != 0 => *last = combine(*last, *crc, *length),
                _ => table.push(*crc),
            }
        }
        table
    }
}

/// A read's size: whole blocks, at least one, at most what one read may have.
pub(super) fn read_step(bytes: u32) -> u64 {
    (u64::from(bytes.min(MAX_PAYLOAD)) / BLOCK_BYTES).max(1) * BLOCK_BYTES
}

impl Chunkserver {
    /// Sends what a job's pull wants to read next.
    pub(super) fn drive_pull(&mut self, pull: &mut Pull) {
        let now = self.now;
        let chunk = pull.chunk;
        for (to, message) in pull.requests(now, &mut self.next_read) {
            if let ReadMessage::Request { read, .. } = message {
                self.pulls.insert(read, chunk);
            }
            self.out.send(to, message);
        }
    }

    /// [`ReadMessage::Reply`] to one of our own reads.
    pub(super) fn on_pull_reply(&mut self, from: &Peer, read: u64, result: Result<Payload, ChunkError>) {
        let Some(chunk) = self.pulls.get(&read).copied() else { return };
        let Some(job) = self.jobs.job_mut(chunk) else { return };
        let id = job.id;
        let Some(pull) = job.pull.as_mut() else { return };
        let asked_there = pull
            .asked
            .get(&read)
            .is_some_and(|a| pull.sources.get(a.source).is_some_and(|s| Peer::Dial(s.clone()) == *from));
        if !asked_there {
            return;
        }
        self.pulls.remove(&read);
        if matches!(result, Err(ChunkError::Busy(_))) && !self.setup.defects.has(Defect::BusyIsFailure) {
            pull.on_busy(read);
        } else if let Some(payload) = pull.on_reply(read, result) {
            let (path, offset, data) = (pull.path.clone(), payload.offset, alloc::vec![payload.bytes]);
            // The file is there; a new one would have a hole where the rest was.
            let request = crate::disk::DiskRequest::Write { path, offset, data, create: false };
            self.out.disk(request, super::out::Then::Job { chunk, job: id });
        }
        self.on_job_event(chunk, id, Event::Pull);
    }

    /// Reads without an answer for too long are tried elsewhere; pulls that waited for room go on.
    pub(super) fn expire_pulls(&mut self) {
        let now = self.now;
        self.fail_pulls(|asked, _| now >= asked.deadline);
        let waited: Vec<(ChunkId, u64)> = self
            .jobs
            .iter_mut()
            .filter_map(|job| job.pull.as_mut()?.resume().then_some((job.chunk, job.id)))
            .collect();
        for (chunk, id) in waited {
            self.on_job_event(chunk, id, Event::Pull);
        }
    }

    /// The connection to a source is lost.
    pub(super) fn on_pull_peer_lost(&mut self, peer: &Peer) {
        let Peer::Dial(lost) = peer else { return };
        self.fail_pulls(|_, address| address == lost);
    }

    fn fail_pulls(&mut self, which: impl Fn(&Asked, &Address) -> bool) {
        let hit: Vec<(ChunkId, u64)> = self
            .jobs
            .iter_mut()
            .filter_map(|job| job.pull.as_mut()?.fail_all(&which).then_some((job.chunk, job.id)))
            .collect();
        for (chunk, id) in hit {
            self.on_job_event(chunk, id, Event::Pull);
        }
        let asked: alloc::collections::BTreeSet<u64> = self
            .jobs
            .iter()
            .filter_map(|job| job.pull.as_ref())
            .flat_map(|p| p.asked.keys().copied())
            .collect();
        self.pulls.retain(|read, _| asked.contains(read));
    }
}
