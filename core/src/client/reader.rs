//! One read of a range of a file: cut into pieces, each fetched from some replica, and from another one if that fails.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;

use super::ClientResponse;
use super::action::{Context, Origin};
use super::retry::pause;
use super::sources::Sources;
use crate::config::ms;
use crate::defect::Defect;
use crate::error::{ChunkError, ClientError, MasterError};
use crate::id::{CallId, FileId, Peer, ServerId};
use crate::message::{ExtentPlan, FilePlan, MasterReply, MasterRequest, ReadMessage, ReplicaPlace};
use crate::payload::{MAX_PAYLOAD, Payload};
use crate::reached;
use crate::time::Time;

/// How far ahead locations are asked for, in bytes.
pub(super) const LOCATE_BYTES: u64 = 4 << 30;

/// One call of [`super::ClientRequest::Read`].
#[derive(Debug)]
pub(super) struct ReadCall {
    call: CallId,
    path: Arc<str>,
    file: FileId,
    end: u64,
    /// Everything below was cut into pieces.
    cursor: u64,
    pieces: Vec<Piece>,
    /// Bytes that arrived, by offset in the file.
    done: BTreeMap<u64, Bytes>,
    /// The offset for which the master is being asked.
    locating: Option<u64>,
    retry_at: Option<Time>,
    attempt: u32,
    progress: Time,
    /// The last trouble, for the error message.
    trouble: Option<ClientError>,
    /// Answered: can be forgotten.
    pub(super) gone: bool,
}

/// Consecutive bytes of one extent. Without a flight it waits for a fresh location.
#[derive(Debug)]
struct Piece {
    at: u64,
    length: u32,
    extent: Arc<ExtentPlan>,
    tried: Vec<ServerId>,
    flight: Option<Flight>,
}

#[derive(Debug)]
struct Flight {
    read: u64,
    replica: ReplicaPlace,
    expires: Time,
}

impl Piece {
    fn chunk_offset(&self) -> u64 {
        self.extent.chunk_offset + (self.at - self.extent.file_offset)
    }
}

impl ReadCall {
    /// A read of `range`, which lies within the file and is not empty.
    pub(super) fn new(
        call: CallId,
        path: Arc<str>,
        file: FileId,
        range: core::ops::Range<u64>,
        now: Time,
    ) -> ReadCall {
        ReadCall {
            call,
            path,
            file,
            end: range.end,
            cursor: range.start,
            pieces: Vec::new(),
            done: BTreeMap::new(),
            locating: None,
            retry_at: None,
            attempt: 0,
            progress: now,
            trouble: None,
            gone: false,
        }
    }

    /// Does everything that can be done now.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>, sources: &mut Sources) {
        if self.gone || self.locating.is_some() || self.retry_at.is_some_and(|at| at > cx.now) {
            return;
        }
        if self.retry_at.take().is_some() {
            return self.locate(cx);
        }
        // All that can go does, also past one that can't: each fresh location may serve only some of the pieces.
        let mut stuck = None;
        for index in 0..self.pieces.len() {
            if self.pieces[index].flight.is_none() && !self.dispatch(cx, sources, index) {
                stuck = stuck.or(Some(index));
            }
        }
        if let Some(index) = stuck {
            return self.start_over(cx, sources, index);
        }
        let limit = cx.config.parallel_reads.max(1) as usize;
        while self.cursor < self.end && self.pieces.len() < limit {
            let Some(extent) = sources.cache.lookup(self.file, self.cursor) else {
                return self.locate(cx);
            };
            self.cut(cx, extent);
            let index = self.pieces.len() - 1;
            if !self.dispatch(cx, sources, index) {
                return self.start_over(cx, sources, index);
            }
        }
        self.finish(cx);
    }

    /// The master answered where the file's bytes are.
    pub(super) fn on_located(
        &mut self,
        cx: &mut Context<'_>,
        sources: &mut Sources,
        result: Result<MasterReply, ClientError>,
    ) {
        // Pieces lower down may have failed since, so this is not always the lowest byte wanted now.
        let Some(wanted) = self.locating.take() else { return };
        let plan = match result {
            Ok(MasterReply::Located(plan)) if cx.defects.has(Defect::MixedFiles) => {
                FilePlan { file: self.file, ..plan }
            }
            Ok(MasterReply::Located(plan)) => plan,
            Ok(reply) => {
                let text = format!("unexpected answer to a question for locations: {reply:?}");
                return self.fail(cx, sources, ClientError::Master(MasterError::Protocol(text)));
            }
            Err(ClientError::Timeout(text)) => {
                let error = self.trouble.take().unwrap_or(ClientError::Timeout(text));
                return self.fail(cx, sources, error);
            }
            // Of the path, not of the file that was opened: "not found" could be said of a file that was always there.
            Err(ClientError::Master(MasterError::NotFound(_))) => return self.fail_stale(cx, sources),
            Err(error) => return self.fail(cx, sources, error),
        };
        if plan.file != self.file {
            reached!("client.file_replaced_while_read");
            return self.fail_stale(cx, sources);
        }
        let covers = |e: &ExtentPlan| (e.file_offset..e.file_offset + e.length).contains(&wanted);
        if !plan.extents.iter().any(covers) {
            let text = format!("{}: the master names no extent for offset {wanted}", self.path);
            return self.fail(cx, sources, ClientError::Master(MasterError::Protocol(text)));
        }
        sources.cache.insert(plan);
        for piece in self.pieces.iter_mut().filter(|p| p.flight.is_none()) {
            if let Some(extent) = sources.cache.lookup(self.file, piece.at)
                && !Arc::ptr_eq(&extent, &piece.extent)
            {
                piece.extent = extent;
                piece.tried.clear();
            }
        }
        self.pump(cx, sources);
    }

    /// A chunkserver answered.
    pub(super) fn on_read_reply(
        &mut self,
        cx: &mut Context<'_>,
        sources: &mut Sources,
        (from, read): (&Peer, u64),
        result: Result<Payload, ChunkError>,
    ) {
        let flies = |p: &Piece| p.flight.as_ref().is_some_and(|f| f.read == read);
        let Some(index) = self.pieces.iter().position(flies) else { return };
        let piece = &self.pieces[index];
        match result {
            Ok(payload)
                if payload.offset == piece.chunk_offset() && payload.len() == u64::from(piece.length) =>
            {
                let piece = self.pieces.swap_remove(index);
                if let Some(flight) = &piece.flight {
                    if !cx.defects.has(Defect::ReadsKept) {
                        sources.landed(read, &flight.replica);
                    }
                    sources.trust(flight.replica.server);
                }
                self.progress = cx.now;
                self.attempt = 0;
                let mut bytes = payload.bytes;
                let at_boundary = piece.at == piece.extent.file_offset && piece.at > 0;
                if at_boundary && cx.defects.has(Defect::ReadOffByOne) {
                    bytes = bytes.slice(1..);
                }
                self.done.insert(piece.at, bytes);
            }
            Ok(payload) => {
                let text = format!("{from} sent {} bytes at {}", payload.len(), payload.offset);
                self.fail_over(cx, sources, index, text, true);
            }
            Err(error) => {
                let corrupt = matches!(error, ChunkError::DataCorrupt { .. });
                if corrupt {
                    self.report(cx, index);
                }
                let suspect = !matches!(error, ChunkError::Busy(_)) && !corrupt;
                self.fail_over(cx, sources, index, error.to_string(), suspect);
            }
        }
        self.pump(cx, sources);
    }

    /// The connection to a chunkserver broke.
    pub(super) fn on_peer_lost(&mut self, cx: &mut Context<'_>, sources: &mut Sources, peer: &Peer) {
        let Peer::Dial(address) = peer else { return };
        let mut lost = false;
        for index in 0..self.pieces.len() {
            if self.pieces[index].flight.as_ref().is_some_and(|f| f.replica.address == *address) {
                reached!("client.read_peer_lost");
                self.fail_over(cx, sources, index, format!("connection to {address} was lost"), true);
                lost = true;
            }
        }
        if lost {
            self.pump(cx, sources);
        }
    }

    pub(super) fn on_wake(&mut self, cx: &mut Context<'_>, sources: &mut Sources) {
        for index in 0..self.pieces.len() {
            let Some(flight) = &self.pieces[index].flight else { continue };
            if flight.expires <= cx.now {
                reached!("client.read_timed_out");
                let text =
                    format!("{} did not answer for {} ms", flight.replica.address, cx.config.read_timeout_ms);
                self.fail_over(cx, sources, index, text, true);
            }
        }
        self.pump(cx, sources);
    }

    /// When to call [`ReadCall::on_wake`].
    pub(super) fn next_wake(&self) -> Option<Time> {
        let flights = self.pieces.iter().filter_map(|p| p.flight.as_ref().map(|f| f.expires));
        flights.chain(self.retry_at).min()
    }

    /// The lowest byte for which a location is needed.
    fn wanted(&self) -> u64 {
        self.pieces.iter().filter(|p| p.flight.is_none()).map(|p| p.at).min().unwrap_or(self.cursor)
    }

    fn locate(&mut self, cx: &mut Context<'_>) {
        let offset = self.wanted();
        self.locating = Some(offset);
        let body = MasterRequest::Locate {
            path: String::from(&*self.path),
            offset,
            length: LOCATE_BYTES.max(self.end - offset),
        };
        let deadline = (self.progress + cx.patience()).max(cx.now + ms(cx.config.request_timeout_ms.max(1)));
        cx.ask(body, Origin::Locate { call: self.call }, deadline);
    }

    /// Cuts the next piece off `extent`, so that pieces of neighbouring reads begin at the same places.
    fn cut(&mut self, cx: &Context<'_>, extent: Arc<ExtentPlan>) {
        let most = u64::from(cx.config.read_bytes.clamp(1, MAX_PAYLOAD));
        let chunk_offset = extent.chunk_offset + (self.cursor - extent.file_offset);
        let aligned = most - chunk_offset % most;
        let end = (extent.file_offset + extent.length).min(self.end);
        let length = aligned.min(end - self.cursor);
        self.pieces.push(Piece {
            at: self.cursor,
            length: length as u32,
            extent,
            tried: Vec::new(),
            flight: None,
        });
        self.cursor += length;
    }

    /// Sends a piece to the next replica. False if none is left.
    fn dispatch(&mut self, cx: &mut Context<'_>, sources: &mut Sources, index: usize) -> bool {
        let piece = &mut self.pieces[index];
        let Some(replica) = sources.choose(cx, &piece.extent.replicas, &piece.tried) else {
            return false;
        };
        let read = sources.take_off(self.call, &replica);
        let request = ReadMessage::Request {
            read,
            chunk: piece.extent.chunk.chunk,
            version: piece.extent.chunk.version,
            offset: piece.chunk_offset(),
            length: piece.length,
        };
        cx.send(Peer::Dial(replica.address.clone()), request);
        let expires = cx.now + ms(cx.config.read_timeout_ms.max(1));
        piece.flight = Some(Flight { read, replica, expires });
        true
    }

    /// Notes that a piece's replica failed; [`ReadCall::pump`] then sends it to another one.
    fn fail_over(
        &mut self,
        cx: &mut Context<'_>,
        sources: &mut Sources,
        index: usize,
        why: String,
        suspect: bool,
    ) {
        let piece = &mut self.pieces[index];
        let Some(flight) = piece.flight.take() else { return };
        reached!("client.read_failed_over");
        sources.landed(flight.read, &flight.replica);
        sources.failovers += 1;
        if suspect {
            sources.suspect(flight.replica.server, cx.now + ms(2 * cx.config.read_timeout_ms));
        }
        piece.tried.push(flight.replica.server);
        let chunk = piece.extent.chunk.chunk;
        self.trouble = Some(ClientError::Unreadable { chunk, tried: piece.tried.len() as u32, last: why });
    }

    /// No replica is left to try for a piece: after a pause the master is asked again.
    fn start_over(&mut self, cx: &mut Context<'_>, sources: &mut Sources, index: usize) {
        reached!("client.read_located_anew");
        let piece = &self.pieces[index];
        sources.cache.forget(self.file, piece.extent.file_offset);
        if piece.extent.replicas.is_empty() {
            self.trouble = Some(ClientError::NoReplica(piece.extent.chunk.chunk));
        }
        if cx.now >= self.progress + cx.patience() {
            let error = self.trouble.take().unwrap_or(ClientError::NoReplica(piece.extent.chunk.chunk));
            return self.fail(cx, sources, error);
        }
        self.retry_at = Some(cx.now + pause(self.attempt, cx.config.retry_ms, cx.rng));
        self.attempt += 1;
    }

    fn report(&self, cx: &mut Context<'_>, index: usize) {
        reached!("client.bad_replica_reported");
        let piece = &self.pieces[index];
        let Some(flight) = &piece.flight else { return };
        let body = MasterRequest::ReportBadReplica {
            chunk: piece.extent.chunk.chunk,
            version: piece.extent.chunk.version,
            server: flight.replica.server,
        };
        cx.ask(body, Origin::Nobody, cx.now + cx.patience());
    }

    fn finish(&mut self, cx: &mut Context<'_>) {
        if self.cursor == self.end && self.pieces.is_empty() {
            let parts = core::mem::take(&mut self.done).into_values().collect();
            cx.reply(self.call, Ok(ClientResponse::Data(parts)));
            self.gone = true;
        }
    }

    fn fail_stale(&mut self, cx: &mut Context<'_>, sources: &mut Sources) {
        let path = String::from(&*self.path);
        self.fail(cx, sources, ClientError::Stale(path));
    }

    fn fail(&mut self, cx: &mut Context<'_>, sources: &mut Sources, error: ClientError) {
        for piece in core::mem::take(&mut self.pieces) {
            if let Some(flight) = piece.flight {
                sources.landed(flight.read, &flight.replica);
            }
        }
        self.done.clear();
        cx.reply(self.call, Err(error));
        self.gone = true;
    }
}
