//! The operation log on disk: commits groups of records with one write and one sync, rotates segments, and protects an
//! idle log's last group with a mark. One disk operation is under way at a time. Format: `docs/on-disk.md`.
//!
//! Invariants: a record is handed back as committed only after its sync succeeded; a segment's successor is created
//! only when all of it is durable, so only the last segment can have a torn tail.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::hash::{Hash, Hasher};

use super::recovery::{Recovery, Step};
use crate::defect::{Defect, Defects};
use crate::disk::{DiskError, DiskOk, DiskPath, DiskRequest, DiskResult};
use crate::id::{ClusterId, OpId};
use crate::limits::LOG_GROUP;
use crate::log::{FileHeader, GroupWriter, HEADER_BYTES, LogKind, RECORD_OVERHEAD};
use crate::reached;
use crate::time::{Span, Time};

/// An idle log is marked after so long.
const MARK_AFTER: Span = Span::from_ms(1_000);
/// A write that found no space is tried again after so long.
const RETRY_AFTER: Span = Span::from_ms(1_000);

/// The name of the segment that begins at `first_index`.
pub(super) fn segment_name(first_index: u64) -> String {
    format!("master-{first_index:020}.log")
}

/// A path in the master's directory; empty for the directory itself.
pub(super) fn path(name: &str) -> DiskPath {
    DiskPath::new(0, name)
}

/// The header that starts a segment.
pub(super) fn segment_header(cluster: ClusterId, first_index: u64) -> Bytes {
    let header = FileHeader { kind: LogKind::Master, owner: cluster.0, first_index };
    Bytes::copy_from_slice(&header.encode())
}

/// A record waiting to be committed, and what its owner wants to remember with it.
#[derive(Clone, Debug, Hash)]
pub(super) struct Record<T> {
    pub(super) op: u8,
    pub(super) payload: Vec<u8>,
    pub(super) token: T,
}

/// What the log asks of its owner after a step.
#[derive(Clone, Debug, Hash)]
pub(super) struct Outcome<T> {
    /// Start this operation and bring its result to [`Oplog::on_disk`].
    pub(super) disk: Option<(OpId, DiskRequest)>,
    /// Records read back at recovery: `(index, op, payload)`.
    pub(super) recovered: Vec<(u64, u8, Vec<u8>)>,
    /// Recovery ended with this step: records may be proposed.
    pub(super) opened: bool,
    /// Records that are durable now, in log order, with their indices.
    pub(super) committed: Vec<(u64, T)>,
    /// There is no space any more: nothing is committed until there is some.
    pub(super) blocked: bool,
    /// The log can't go on, and why.
    pub(super) failed: Option<String>,
    /// The last group is durable and marked after [`Oplog::close`].
    pub(super) closed: bool,
}

impl<T> Default for Outcome<T> {
    fn default() -> Self {
        Outcome {
            disk: None,
            recovered: Vec::new(),
            opened: false,
            committed: Vec::new(),
            blocked: false,
            failed: None,
            closed: false,
        }
    }
}

/// The segment that is written to.
#[derive(Clone, Debug, Hash)]
pub(super) struct Segment {
    pub(super) path: DiskPath,
    pub(super) first_index: u64,
    /// Where the next group goes.
    pub(super) end: u64,
    /// Everything below is on stable storage.
    pub(super) durable_end: u64,
    /// Whether the last group is empty, so that the one before it is protected.
    pub(super) marked: bool,
}

#[derive(Clone, Debug, Hash)]
enum State {
    Recovering(Box<Recovery>),
    Idle,
    Writing,
    Syncing,
    RotateWrite(Segment),
    RotateSync(Segment),
    RotateSyncDir(Segment),
    /// The disk is full: at this time the request is made again, and the log goes on as the state within.
    Full(Time, DiskRequest, Box<State>),
    /// Failed or closed: nothing is written any more.
    Ended,
}

/// What was done so far, for status and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OplogStats {
    pub(super) groups: u64,
    pub(super) records: u64,
    pub(super) bytes_written: u64,
    pub(super) bytes_read: u64,
    pub(super) syncs: u64,
    /// Bytes of all segments on disk.
    pub(super) bytes: u64,
}

/// The log. `T` is what the owner wants back with a committed record.
#[derive(Clone, Debug)]
pub(super) struct Oplog<T> {
    segment_bytes: u64,
    defects: Defects,
    state: State,
    cluster: ClusterId,
    segment: Segment,
    next_index: u64,
    next_op: u64,
    pending_op: Option<OpId>,
    /// The latest write. Making it again at the same place is safe: nothing of it counts before its sync.
    write: Option<DiskRequest>,
    /// The latest write found no space, and its owner was told.
    full: bool,
    queue: VecDeque<Record<T>>,
    in_flight: Vec<(u64, T)>,
    group_end: u64,
    group_empty: bool,
    idle_since: Time,
    closing: bool,
    stats: OplogStats,
}

impl<T> Oplog<T> {
    /// A log to be recovered from disk. A blank directory is formatted as `cluster`, with `first` as the first record.
    pub(super) fn new(
        cluster: ClusterId,
        first: (u8, Vec<u8>),
        segment_bytes: u64,
        defects: Defects,
    ) -> Self {
        let blank = Segment {
            path: path(&segment_name(1)),
            first_index: 1,
            end: HEADER_BYTES,
            durable_end: HEADER_BYTES,
            marked: true,
        };
        Oplog {
            segment_bytes,
            defects,
            state: State::Recovering(Box::new(Recovery::new(cluster, first, defects))),
            cluster,
            segment: blank,
            next_index: 1,
            next_op: 1,
            pending_op: None,
            write: None,
            full: false,
            queue: VecDeque::new(),
            in_flight: Vec::new(),
            group_end: 0,
            group_empty: true,
            idle_since: Time::ZERO,
            closing: false,
            stats: OplogStats::default(),
        }
    }

    /// The cluster that the log belongs to. Final once recovery ended.
    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Figures.
    pub(super) fn stats(&self) -> OplogStats {
        self.stats
    }

    /// Records not yet committed.
    pub(super) fn backlog(&self) -> usize {
        self.queue.len() + self.in_flight.len()
    }

    /// Whether recovery has not ended yet.
    pub(super) fn is_recovering(&self) -> bool {
        self.recovery().is_some()
    }

    fn recovery(&self) -> Option<&Recovery> {
        match &self.state {
            State::Recovering(recovery) => Some(recovery),
            State::Full(_, _, state) => match &**state {
                State::Recovering(recovery) => Some(recovery),
                _ => None,
            },
            _ => None,
        }
    }

    /// Takes a record; it is written with the next group.
    pub(super) fn propose(&mut self, record: Record<T>) {
        self.queue.push_back(record);
    }

    /// No more records will come: commit what is queued, mark the log, then say closed.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// When [`Oplog::advance`] has something to do by itself.
    pub(super) fn next_wake(&self) -> Option<Time> {
        match &self.state {
            State::Full(at, ..) => Some(*at),
            State::Idle => (!self.segment.marked).then(|| self.idle_since + MARK_AFTER),
            _ => None,
        }
    }

    /// Whether nothing is committed because the disk is full.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// Starts what can be started. To be called after proposals, and when [`Oplog::next_wake`] is due.
    pub(super) fn advance(&mut self, now: Time) -> Outcome<T> {
        let mut outcome = Outcome::default();
        if self.pending_op.is_some() {
            return outcome;
        }
        match &mut self.state {
            State::Recovering(recovery) => {
                let step = recovery.start();
                self.take_recovery_step(now, step, &mut outcome);
            }
            State::Idle => self.begin(now, &mut outcome),
            // What is not written nobody was told of.
            State::Full(..) if self.closing => {
                self.state = State::Ended;
                outcome.closed = true;
            }
            State::Full(at, request, state) if now >= *at => {
                let (request, state) = (request.clone(), core::mem::replace(&mut **state, State::Idle));
                self.state = state;
                self.start(request, &mut outcome);
            }
            _ => {}
        }
        outcome
    }

    /// Takes the end of a disk operation.
    pub(super) fn on_disk(&mut self, now: Time, op: OpId, result: DiskResult) -> Outcome<T> {
        let mut outcome = Outcome::default();
        if self.pending_op != Some(op) {
            return outcome;
        }
        self.pending_op = None;
        let full = result == Err(DiskError::NoSpace);
        let result = if full && self.defects.has(Defect::FullLogAcks) { Ok(DiskOk::Done) } else { result };
        if result == Err(DiskError::NoSpace)
            && self.waits_for_space()
            && let Some(request) = self.write.take()
        {
            reached!("oplog.full");
            let state = Box::new(core::mem::replace(&mut self.state, State::Idle));
            self.state = State::Full(now + RETRY_AFTER, request, state);
            outcome.blocked = !core::mem::replace(&mut self.full, true);
            return outcome;
        }
        self.full &= result.is_err();
        if let State::Recovering(recovery) = &mut self.state {
            let step = recovery.on_disk(result);
            self.take_recovery_step(now, step, &mut outcome);
            return outcome;
        }
        if let Err(error) = result {
            reached!("oplog.disk_error");
            self.state = State::Ended;
            outcome.failed = Some(format!(
                "operation log {}: {error}; what was not acknowledged may or may not be kept. Free space or replace \
                 the disk, then start the master again",
                self.segment.path.name
            ));
            return outcome;
        }
        match core::mem::replace(&mut self.state, State::Idle) {
            State::Writing => {
                if self.defects.has(Defect::ReplyBeforeLogSync) {
                    outcome.committed = core::mem::take(&mut self.in_flight);
                }
                self.state = State::Syncing;
                self.start(DiskRequest::Sync(self.segment.path.clone()), &mut outcome);
            }
            State::Syncing => {
                self.stats.syncs += 1;
                self.segment.end = self.group_end;
                if !self.defects.has(Defect::LogEndStale) {
                    self.segment.durable_end = self.group_end;
                }
                self.segment.marked = self.group_empty || self.defects.has(Defect::LogNotMarked);
                outcome.committed.append(&mut self.in_flight);
                self.idle_since = now;
                self.begin(now, &mut outcome);
            }
            State::RotateWrite(segment) => {
                let request = DiskRequest::Sync(segment.path.clone());
                self.state = State::RotateSync(segment);
                self.start(request, &mut outcome);
            }
            State::RotateSync(segment) if !self.defects.has(Defect::SkipDirSync) => {
                self.state = State::RotateSyncDir(segment);
                self.start(DiskRequest::SyncDir(path("")), &mut outcome);
            }
            State::RotateSync(segment) | State::RotateSyncDir(segment) => {
                self.stats.syncs += 1;
                self.segment = segment;
                self.begin(now, &mut outcome);
            }
            State::Idle | State::Full(..) | State::Ended | State::Recovering(_) => {}
        }
        outcome
    }

    /// Whoever starts a new cluster is there to choose another disk.
    fn waits_for_space(&self) -> bool {
        let formats = self.recovery().is_some_and(Recovery::is_formatting);
        let refused = self.defects.has(Defect::FullStartRefused) && self.stats.syncs == 0;
        !formats && !refused
    }

    fn start(&mut self, request: DiskRequest, outcome: &mut Outcome<T>) {
        let op = OpId(self.next_op);
        self.next_op += 1;
        self.pending_op = Some(op);
        self.write = matches!(request, DiskRequest::Write { .. }).then(|| request.clone());
        outcome.disk = Some((op, request));
    }

    /// The log is idle: rotate, write the next group or a mark, or close.
    fn begin(&mut self, now: Time, outcome: &mut Outcome<T>) {
        if self.segment.end >= self.segment_bytes && !self.queue.is_empty() {
            reached!("oplog.rotate");
            self.rotate(outcome);
        } else if !self.queue.is_empty() {
            self.write_group(outcome);
        } else if !self.segment.marked && (self.closing || now >= self.idle_since + MARK_AFTER) {
            reached!("oplog.mark");
            self.write_group(outcome);
        } else if self.closing {
            self.state = State::Ended;
            outcome.closed = true;
        }
    }

    fn rotate(&mut self, outcome: &mut Outcome<T>) {
        let segment = Segment {
            path: path(&segment_name(self.next_index)),
            first_index: self.next_index,
            end: HEADER_BYTES,
            durable_end: HEADER_BYTES,
            marked: true,
        };
        let request = DiskRequest::Write {
            path: segment.path.clone(),
            offset: 0,
            data: alloc::vec![segment_header(self.cluster, segment.first_index)],
            create: true,
        };
        self.stats.bytes += HEADER_BYTES;
        self.stats.bytes_written += HEADER_BYTES;
        self.state = State::RotateWrite(segment);
        self.start(request, outcome);
    }

    fn write_group(&mut self, outcome: &mut Outcome<T>) {
        let mut group = GroupWriter::new(self.segment.end, self.segment.durable_end, self.next_index);
        while let Some(record) = self.queue.front() {
            let more = record.payload.len() + RECORD_OVERHEAD;
            if !group.is_empty() && group.len() + more > LOG_GROUP {
                break;
            }
            let Some(record) = self.queue.pop_front() else { break };
            let index = group.push(record.op, &record.payload);
            self.in_flight.push((index, record.token));
        }
        self.next_index += group.records();
        self.group_empty = group.is_empty();
        self.group_end = self.segment.end + group.len() as u64;
        self.stats.groups += 1;
        self.stats.records += group.records();
        self.stats.bytes_written += group.len() as u64;
        self.stats.bytes += group.len() as u64;
        let request = DiskRequest::Write {
            path: self.segment.path.clone(),
            offset: self.segment.end,
            data: alloc::vec![Bytes::from(group.finish())],
            create: false,
        };
        self.state = State::Writing;
        self.start(request, outcome);
    }

    fn take_recovery_step(&mut self, now: Time, step: Step, outcome: &mut Outcome<T>) {
        match step {
            Step::Disk { request, records } => {
                outcome.recovered = records;
                self.start(request, outcome);
            }
            Step::Opened { cluster, segment, next_index, records, bytes, bytes_read } => {
                outcome.recovered = records;
                outcome.opened = true;
                self.cluster = cluster;
                self.segment = segment;
                self.next_index = next_index;
                self.stats.bytes = bytes;
                self.stats.bytes_read = bytes_read;
                self.idle_since = now;
                self.state = State::Idle;
            }
            Step::Failed(reason) => {
                self.state = State::Ended;
                outcome.failed = Some(reason);
            }
        }
    }
}

/// Neither figures nor the names of operations decide anything.
impl<T: Hash> Hash for Oplog<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.state, self.cluster, &self.segment, self.next_index, self.pending_op.is_some()).hash(state);
        (&self.queue, &self.in_flight, self.group_end, self.group_empty).hash(state);
        (self.idle_since, self.closing, self.full).hash(state);
    }
}
