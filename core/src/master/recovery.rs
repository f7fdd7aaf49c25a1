//! Opening the operation log at start: formats a blank directory, reads the segments back, cuts a torn tail, and refuses
//! what is damaged, missing or foreign.
//!
//! Formatting is safe against a crash at each step: `cairn-master.new` is durable before the first segment is created,
//! and it is renamed to `cairn-master` only when the first segment is durable. A directory with `cairn-master.new` alone
//! was never served and is formatted again; segments without either name are never touched.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

use super::identity;
use super::oplog::{Segment, path, segment_header, segment_name};
use crate::defect::{Defect, Defects};
use crate::disk::{DiskError, DiskOk, DiskRequest, DiskResult, Entry};
use crate::id::ClusterId;
use crate::limits::LOG_PIECE;
use crate::log::{FileHeader, GroupWriter, HEADER_BYTES, HeaderError, LogKind, Scan};
use crate::reached;

/// Names the cluster that a master's directory belongs to.
const IDENTITY: &str = "cairn-master";
/// The identity of a directory that is being formatted.
const NEW_IDENTITY: &str = "cairn-master.new";

/// What recovery wants next.
#[derive(Clone, Debug, Hash)]
pub(super) enum Step {
    /// Start this operation; records that were read so far.
    Disk { request: DiskRequest, records: Vec<(u64, u8, Vec<u8>)> },
    /// The log is open.
    Opened {
        cluster: ClusterId,
        segment: Segment,
        next_index: u64,
        records: Vec<(u64, u8, Vec<u8>)>,
        bytes: u64,
        bytes_read: u64,
    },
    /// The log can't be opened: one sentence that names file, place and remedy.
    Failed(String),
}

#[derive(Clone, Debug, Hash)]
enum State {
    Start,
    List,
    Format(Format),
    Identity,
    Read {
        scan: Option<Scan>,
        offset: u64,
    },
    RemoveTornSegment,
    Truncate,
    /// Reading the end of the log again, to write it again.
    Reread {
        from: u64,
    },
    Rewrite {
        from: u64,
    },
    Sync,
    SyncDir,
}

/// The steps of formatting, in order.
#[derive(Clone, Copy, Debug, PartialEq, Hash)]
enum Format {
    WriteNew,
    SyncNew,
    SyncDirNew,
    RemoveSegment,
    WriteSegment,
    SyncSegment,
    SyncDirSegment,
    Rename,
    SyncDirDone,
}

/// The state of an opening log.
#[derive(Clone, Debug, Hash)]
pub(super) struct Recovery {
    cluster: ClusterId,
    first: (u8, Vec<u8>),
    defects: Defects,
    state: State,
    /// Segments not read yet: first index and length.
    segments: VecDeque<(u64, u64)>,
    segment: Segment,
    next_index: u64,
    /// Where the part of the last segment begins of which no later group says that it is durable.
    doubtful: Option<u64>,
    records: Vec<(u64, u8, Vec<u8>)>,
    bytes: u64,
    bytes_read: u64,
}

impl Recovery {
    pub(super) fn new(cluster: ClusterId, first: (u8, Vec<u8>), defects: Defects) -> Recovery {
        Recovery {
            cluster,
            first,
            defects,
            state: State::Start,
            segments: VecDeque::new(),
            segment: blank_segment(1),
            next_index: 1,
            doubtful: None,
            records: Vec::new(),
            bytes: 0,
            bytes_read: 0,
        }
    }

    /// The first step.
    pub(super) fn start(&mut self) -> Step {
        self.go(State::List, DiskRequest::List(path("")))
    }

    /// Whether the directory is being made a new cluster's.
    pub(super) fn is_formatting(&self) -> bool {
        matches!(self.state, State::Format(_))
    }

    /// The next step, after an operation ended.
    pub(super) fn on_disk(&mut self, result: DiskResult) -> Step {
        let missing_is_fine = matches!(self.state, State::Format(Format::RemoveSegment));
        let done = match result {
            Ok(done) => done,
            Err(DiskError::NotFound) if missing_is_fine => DiskOk::Done,
            Err(error) => {
                return Step::Failed(format!(
                    "the master's directory can't be opened: {error} (while {}); check the disk and the \
                     permissions, then start again",
                    self.activity()
                ));
            }
        };
        match (core::mem::replace(&mut self.state, State::Start), done) {
            (State::List, DiskOk::Entries(entries)) => self.on_list(&entries),
            (State::Format(step), DiskOk::Done) => self.on_format(step),
            (State::Identity, DiskOk::Data(data)) => self.on_identity(&data.bytes),
            (State::Read { scan, offset }, DiskOk::Data(data)) => self.on_read(scan, offset, &data.bytes),
            (State::RemoveTornSegment | State::Truncate, DiskOk::Done) => self.sync(),
            (State::Reread { from }, DiskOk::Data(data)) if !data.bytes.is_empty() => {
                let to = from + data.bytes.len() as u64;
                let path = self.segment.path.clone();
                let data = alloc::vec![data.bytes];
                let request = DiskRequest::Write { path, offset: from, data, create: false };
                self.go(State::Rewrite { from: to }, request)
            }
            (State::Rewrite { from }, DiskOk::Done) => self.write_again(from),
            (State::Sync, DiskOk::Done) => self.go(State::SyncDir, DiskRequest::SyncDir(path(""))),
            (State::SyncDir, DiskOk::Done) => self.opened(),
            (state, done) => Step::Failed(format!("unexpected disk answer {done:?} during {state:?}")),
        }
    }

    fn activity(&self) -> String {
        match &self.state {
            State::Format(_) => "formatting".to_string(),
            State::Identity => format!("reading {IDENTITY}"),
            State::Read { .. } => format!("reading {}", self.segment.path.name),
            State::RemoveTornSegment | State::Truncate => {
                format!("cutting the end of {}", self.segment.path.name)
            }
            State::Reread { .. } | State::Rewrite { .. } | State::Sync => {
                format!("making the end of {} durable", self.segment.path.name)
            }
            State::Start | State::List | State::SyncDir => "listing it".to_string(),
        }
    }

    fn go(&mut self, state: State, request: DiskRequest) -> Step {
        self.state = state;
        Step::Disk { request, records: core::mem::take(&mut self.records) }
    }

    fn on_list(&mut self, entries: &[Entry]) -> Step {
        let has = |name: &str| entries.iter().any(|entry| entry.name == name);
        let mut segments: Vec<(u64, u64)> =
            entries.iter().filter_map(|entry| Some((segment_index(&entry.name)?, entry.length))).collect();
        segments.sort_unstable();
        if has("cairn-volume") {
            return Step::Failed(
                "the directory is a chunkserver's volume; give the master a directory of its own".into(),
            );
        }
        if has(IDENTITY) {
            return match segments.first() {
                Some((1, _)) => {
                    self.bytes = segments.iter().map(|(_, length)| length).sum();
                    self.segments = segments.into();
                    let request = DiskRequest::Read {
                        path: path(IDENTITY),
                        offset: 0,
                        length: identity::BYTES as u32 * 2,
                    };
                    self.go(State::Identity, request)
                }
                first => Step::Failed(format!(
                    "the operation log begins with {} but {} is missing: put the missing segments back (from a \
                     backup or another disk); starting without them would lose files",
                    first.map_or("nothing".to_string(), |(index, _)| segment_name(*index)),
                    segment_name(1)
                )),
            };
        }
        if !segments.is_empty() && !has(NEW_IDENTITY) {
            return Step::Failed(format!(
                "the directory has log segments but no {IDENTITY}: put that file back from a backup, or use an \
                 empty directory for a new cluster"
            ));
        }
        self.format(Format::WriteNew)
    }

    fn format(&mut self, step: Format) -> Step {
        let segment = || path(&segment_name(1));
        let request = match step {
            Format::WriteNew => {
                let identity = Bytes::from(identity::encode(self.cluster));
                let data = alloc::vec![identity];
                DiskRequest::Write { path: path(NEW_IDENTITY), offset: 0, data, create: true }
            }
            Format::SyncNew => DiskRequest::Sync(path(NEW_IDENTITY)),
            Format::RemoveSegment => DiskRequest::Remove(segment()),
            Format::WriteSegment => {
                let mut group = GroupWriter::new(HEADER_BYTES, HEADER_BYTES, 1);
                group.push(self.first.0, &self.first.1);
                let group = Bytes::from(group.finish());
                self.segment.end = HEADER_BYTES + group.len() as u64;
                self.segment.durable_end = self.segment.end;
                self.segment.marked = false;
                self.bytes = self.segment.end;
                let data = alloc::vec![segment_header(self.cluster, 1), group];
                DiskRequest::Write { path: segment(), offset: 0, data, create: true }
            }
            Format::SyncSegment => DiskRequest::Sync(segment()),
            Format::Rename => DiskRequest::Rename { from: path(NEW_IDENTITY), to: path(IDENTITY) },
            Format::SyncDirNew | Format::SyncDirSegment | Format::SyncDirDone => {
                DiskRequest::SyncDir(path(""))
            }
        };
        self.go(State::Format(step), request)
    }

    fn on_format(&mut self, step: Format) -> Step {
        let next = match step {
            Format::WriteNew => Format::SyncNew,
            Format::SyncNew => Format::SyncDirNew,
            Format::SyncDirNew => Format::RemoveSegment,
            Format::RemoveSegment => Format::WriteSegment,
            Format::WriteSegment => Format::SyncSegment,
            Format::SyncSegment => Format::SyncDirSegment,
            Format::SyncDirSegment => Format::Rename,
            Format::Rename => Format::SyncDirDone,
            Format::SyncDirDone => {
                self.records.push((1, self.first.0, core::mem::take(&mut self.first.1)));
                self.next_index = 2;
                return self.opened();
            }
        };
        self.format(next)
    }

    fn on_identity(&mut self, bytes: &[u8]) -> Step {
        match identity::decode(bytes) {
            Ok(cluster) => {
                self.cluster = cluster;
                self.next_segment()
            }
            Err(reason) => Step::Failed(format!(
                "{IDENTITY} {reason}: put it back from a backup, or run the release that wrote it"
            )),
        }
    }

    fn next_segment(&mut self) -> Step {
        let Some((first_index, _)) = self.segments.front() else { return self.sync() };
        if *first_index != self.next_index {
            return Step::Failed(format!(
                "the operation log ends at record {} but the next segment is {}: a segment between them is missing \
                 or was cut short; put it back from a backup",
                self.next_index - 1,
                segment_name(*first_index)
            ));
        }
        self.segment = blank_segment(*first_index);
        self.read(None, 0)
    }

    fn read(&mut self, scan: Option<Scan>, offset: u64) -> Step {
        let request = DiskRequest::Read { path: self.segment.path.clone(), offset, length: LOG_PIECE };
        self.go(State::Read { scan, offset }, request)
    }

    fn on_read(&mut self, scan: Option<Scan>, offset: u64, bytes: &[u8]) -> Step {
        self.bytes_read += bytes.len() as u64;
        let mut body = bytes;
        let mut scan = match scan {
            Some(scan) => scan,
            None => match self.check_header(bytes) {
                Ok(()) => {
                    body = &bytes[HEADER_BYTES as usize..];
                    Scan::new(self.segment.first_index)
                }
                Err(error) => return self.bad_header(error, bytes.len() as u64),
            },
        };
        scan.feed(body);
        self.take_records(&mut scan);
        if bytes.len() as u64 == u64::from(LOG_PIECE) {
            return self.read(Some(scan), offset + bytes.len() as u64);
        }
        self.end_of_segment(scan)
    }

    fn take_records(&mut self, scan: &mut Scan) {
        while let Some(record) = scan.next_record() {
            self.next_index = record.0 + 1;
            self.records.push(record);
        }
    }

    fn check_header(&self, bytes: &[u8]) -> Result<(), String> {
        let header = match FileHeader::decode(bytes) {
            Ok(header) => header,
            // What a torn header can look like: cut short, or with zeros after a valid beginning.
            Err(HeaderError::Version(version)) if version != 0 => {
                return Err(format!("has format version {version}; run the release that wrote it"));
            }
            Err(error) => return Err(format!("can't be read ({error})")),
        };
        if header.kind != LogKind::Master || header.owner != self.cluster.0 {
            return Err(format!(
                "belongs to another cluster or volume ({:?} of {}); remove the foreign file",
                header.kind, header.owner
            ));
        }
        if header.first_index != self.segment.first_index {
            return Err(format!("begins with record {} and was renamed; undo that", header.first_index));
        }
        Ok(())
    }

    /// A header that can't be used. The newest segment may have been created just before a crash: nothing was in it.
    fn bad_header(&mut self, error: String, length: u64) -> Step {
        let torn = error.starts_with("can't be read");
        if torn && self.segments.len() == 1 && self.segment.first_index > 1 && length <= HEADER_BYTES {
            reached!("oplog.torn_segment_header");
            let request = DiskRequest::Truncate { path: self.segment.path.clone(), length: 0 };
            self.segment.end = 0;
            return self.go(State::RemoveTornSegment, request);
        }
        Step::Failed(format!(
            "operation log {} at byte 0: {error}; if it is damaged, put it back from a backup. Nothing was changed",
            self.segment.path.name
        ))
    }

    fn end_of_segment(&mut self, mut scan: Scan) -> Step {
        let end = scan.finish();
        self.take_records(&mut scan);
        let name = self.segment.path.name.clone();
        self.segments.pop_front();
        let (valid_end, torn, marked, durable) = match end {
            Ok(end) if end.torn > 0 && self.defects.has(Defect::CutDurableTail) => {
                (end.durable_end, end.torn, false, end.durable_end)
            }
            Ok(end) => (end.valid_end, end.torn, end.ends_with_mark, end.durable_end),
            Err(damage) if self.defects.has(Defect::TruncateDamage) => {
                (damage.offset, 1, false, damage.offset)
            }
            Err(damage) => {
                reached!("oplog.damage");
                return Step::Failed(format!(
                    "operation log {name} is {damage}. Starting would lose what was acknowledged: put the file back \
                     from a backup or another disk. Nothing was changed"
                ));
            }
        };
        if !self.segments.is_empty() {
            if torn > 0 {
                return Step::Failed(format!(
                    "operation log {name} is damaged at byte {valid_end}: later segments show that it was complete. \
                     Put the file back from a backup. Nothing was changed"
                ));
            }
            return self.next_segment();
        }
        self.segment.end = valid_end;
        self.segment.durable_end = valid_end;
        self.segment.marked = marked || valid_end == HEADER_BYTES;
        self.doubtful = Some(if durable <= HEADER_BYTES { 0 } else { durable });
        if torn == 0 {
            return self.sync();
        }
        reached!("oplog.torn_tail");
        self.bytes = self.bytes.saturating_sub(torn);
        let request = DiskRequest::Truncate { path: self.segment.path.clone(), length: valid_end };
        self.go(State::Truncate, request)
    }

    /// Writes the end of the log again, from `from` on, with the bytes that are there.
    fn write_again(&mut self, from: u64) -> Step {
        let left = self.segment.end.saturating_sub(from);
        if left == 0 {
            return self.sync();
        }
        let path = self.segment.path.clone();
        let length = left.min(u64::from(LOG_PIECE)) as u32;
        self.go(State::Reread { from }, DiskRequest::Read { path, offset: from, length })
    }

    /// What is valid may be only in the page cache, and the newest name too: both are made durable before they count. A
    /// sync that failed before may have marked the last group as clean, so that only writing it again saves it.
    fn sync(&mut self) -> Step {
        if self.segment.end == 0 {
            // The torn header was cut away; write it anew. The order does not matter: nothing else is in the file.
            self.segment.end = HEADER_BYTES;
            self.segment.durable_end = HEADER_BYTES;
            self.segment.marked = true;
            let data = alloc::vec![segment_header(self.cluster, self.segment.first_index)];
            let request =
                DiskRequest::Write { path: self.segment.path.clone(), offset: 0, data, create: false };
            return self.go(State::Truncate, request);
        }
        if let Some(from) = self.doubtful.take() {
            return self.write_again(from);
        }
        let request = DiskRequest::Sync(self.segment.path.clone());
        self.go(State::Sync, request)
    }

    fn opened(&mut self) -> Step {
        Step::Opened {
            cluster: self.cluster,
            segment: self.segment.clone(),
            next_index: self.next_index,
            records: core::mem::take(&mut self.records),
            bytes: self.bytes,
            bytes_read: self.bytes_read,
        }
    }
}

fn blank_segment(first_index: u64) -> Segment {
    Segment {
        path: path(&segment_name(first_index)),
        first_index,
        end: HEADER_BYTES,
        durable_end: HEADER_BYTES,
        marked: true,
    }
}

/// The first index of the segment called `name`.
fn segment_index(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("master-")?.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}
