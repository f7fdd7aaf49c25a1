//! One file being written: a window of bytes, cut into frames, streamed into one chunk after the other.
//!
//! Chunks form the file in the order of their ordinals, so a chunk gets bytes only when the length of each one before it is
//! certain: sealed, or fully committed and being sealed. The grant of the next chunk is fetched while the current one drains.
//! On any trouble the chunk is sealed at whatever length its replicas agree on, and the bytes beyond go into the next one.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use bytes::Bytes;

use super::action::{Context, Origin};
use super::buffer::SendBuffer;
use super::retry::pause;
use super::stream::{Phase, Stream};
use super::{ClientResponse, ClientResult};
use crate::config::{ClientConfig, ms};
use crate::defect::Defect;
use crate::error::{ChunkError, ClientError, MasterError};
use crate::id::{CallId, ChunkId, ChunkVersion, HandleId, Peer, ServerId, UploadId, WriterId};
use crate::machine::Level;
use crate::message::{AppendMessage, Grant, MasterReply, MasterRequest, SealedChunk};
use crate::payload::{MAX_PAYLOAD, Payload};
use crate::reached;
use crate::time::Time;

/// Chunks under way at once: one draining into its seal, one being written, one being opened.
const STREAMS: usize = 3;

/// A file being written.
#[derive(Debug)]
pub(super) struct Writer {
    handle: HandleId,
    upload: UploadId,
    writer: WriterId,
    buffer: SendBuffer,
    /// Writes that don't fit into the window yet, in order.
    waiting: VecDeque<(CallId, Bytes)>,
    streams: VecDeque<Stream>,
    next_ordinal: u32,
    /// Sum of the sealed chunks' lengths.
    sealed_bytes: u64,
    closing: Option<CallId>,
    completing: bool,
    /// What ended it; every later call gets this.
    failed: Option<ClientError>,
    /// Nothing is left to do: the handle can be forgotten.
    pub(super) gone: bool,
    /// Servers that made trouble, and until when to avoid them.
    avoid: Vec<(ServerId, Time)>,
    /// When bytes last became safe, or work began.
    progress: Time,
    /// Chunks lost in a row without progress.
    strikes: u32,
    /// The latest trouble, for the error message.
    trouble: Option<String>,
    /// When a request last named the upload.
    named: Time,
    /// Chunks given up before they were full.
    pub(super) recoveries: u64,
}

impl Writer {
    pub(super) fn new(
        handle: HandleId,
        upload: UploadId,
        writer: WriterId,
        config: &ClientConfig,
        now: Time,
    ) -> Writer {
        Writer {
            handle,
            upload,
            writer,
            buffer: SendBuffer::new(config.frame_bytes.clamp(1, MAX_PAYLOAD) as usize),
            waiting: VecDeque::new(),
            streams: VecDeque::new(),
            next_ordinal: 0,
            sealed_bytes: 0,
            closing: None,
            completing: false,
            failed: None,
            gone: false,
            avoid: Vec::new(),
            progress: now,
            strikes: 0,
            trouble: None,
            named: now,
            recoveries: 0,
        }
    }

    pub(super) fn on_write(&mut self, cx: &mut Context<'_>, call: CallId, data: Bytes) {
        if let Some(error) = &self.failed {
            return cx.reply(call, Err(error.clone()));
        }
        if self.closing.is_some() {
            return cx.reply(call, Err(ClientError::BadHandle));
        }
        self.waiting.push_back((call, data));
        self.pump(cx);
    }

    pub(super) fn on_close(&mut self, cx: &mut Context<'_>, call: CallId) {
        if self.closing.is_some() {
            return cx.reply(call, Err(ClientError::BadHandle));
        }
        self.closing = Some(call);
        if let Some(error) = self.failed.clone() {
            return self.answer_close(cx, Err(error), true);
        }
        if self.buffer.held() == 0 {
            self.progress = cx.now;
        }
        self.pump(cx);
    }

    pub(super) fn on_abort(&mut self, cx: &mut Context<'_>, call: CallId) {
        self.fail(cx, ClientError::BadHandle);
        if !self.gone {
            self.abort_upload(cx);
            self.gone = true;
        }
        cx.reply(call, Ok(ClientResponse::Done));
    }

    /// The master answered about chunk `ordinal`.
    pub(super) fn on_chunk_reply(
        &mut self,
        cx: &mut Context<'_>,
        ordinal: u32,
        result: Result<MasterReply, ClientError>,
    ) {
        let Some(index) = self.streams.iter().position(|s| s.ordinal == ordinal && s.asked) else { return };
        match (result, self.streams[index].phase) {
            (Ok(MasterReply::Grant(grant)), Phase::Opening) => self.on_grant(cx, index, grant),
            (Ok(MasterReply::Sealed(sealed)), Phase::Opening | Phase::Sealing) => {
                self.on_sealed(cx, index, sealed);
            }
            (Err(ClientError::Master(error)), _) => self.on_refusal(cx, index, error),
            (Err(error), _) => {
                let error = match self.trouble.take() {
                    Some(trouble) => ClientError::WriteRefused(trouble),
                    None => error,
                };
                self.fail(cx, error);
            }
            (Ok(reply), phase) => {
                let text = format!("unexpected answer while {phase:?} chunk {ordinal}: {reply:?}");
                self.fail(cx, ClientError::Master(MasterError::Protocol(text)));
            }
        }
        self.pump(cx);
    }

    fn on_grant(&mut self, cx: &mut Context<'_>, index: usize, grant: Grant) {
        let stream = &mut self.streams[index];
        let valid =
            !grant.addresses.is_empty() && grant.members.len() == grant.addresses.len() && grant.capacity > 0;
        if !valid {
            let error = MasterError::Protocol(format!("the grant of {} is not usable", grant.chunk));
            return self.fail(cx, ClientError::Master(error));
        }
        let primary = Peer::Dial(grant.addresses[0].clone());
        let open = AppendMessage::Open { grant: grant.clone(), position: 0, writer: self.writer };
        stream.grant = Some(grant);
        stream.phase = Phase::Writing;
        stream.asked = false;
        stream.waiting_since = cx.now;
        cx.send(primary, open);
    }

    fn on_sealed(&mut self, cx: &mut Context<'_>, index: usize, sealed: SealedChunk) {
        let Some(stream) = self.streams.remove(index) else { return };
        let named = stream.grant.as_ref().is_none_or(|grant| grant.chunk == sealed.chunk);
        if !named || sealed.length < stream.committed || sealed.length > stream.sent {
            let text = format!(
                "{} was sealed at {} bytes, but {} were committed of {} sent to {:?}",
                sealed.chunk,
                sealed.length,
                stream.committed,
                stream.sent,
                stream.grant.map(|g| g.chunk),
            );
            cx.note(Level::Alarm, text.clone());
            return self.fail(cx, ClientError::WriteRefused(text));
        }
        self.sealed_bytes += sealed.length;
        let base = stream.base.unwrap_or(self.buffer.sent());
        if sealed.length < stream.sent {
            reached!("client.resumed_below_sent");
            if sealed.length > stream.committed {
                reached!("client.resumed_above_committed");
            }
        }
        if sealed.length > stream.committed || stream.is_settled() && stream.sent > 0 {
            self.note_progress(cx.now);
        }
        if stream.committed < stream.sent {
            let mut resume = base + sealed.length;
            if cx.defects.has(Defect::ResumeAtAcked) {
                resume = base + stream.committed;
            }
            if cx.defects.has(Defect::ResumeAtSent) {
                resume = base + stream.sent;
            }
            self.buffer.release(resume);
            self.buffer.rewind(resume);
        }
    }

    fn on_refusal(&mut self, cx: &mut Context<'_>, index: usize, error: MasterError) {
        let passing = matches!(error, MasterError::NotEnoughServers { .. } | MasterError::QuorumLost { .. });
        if !passing {
            return self.fail(cx, ClientError::Master(error));
        }
        reached!("client.write_refused_for_now");
        if cx.now >= self.progress + cx.patience() {
            reached!("client.write_refused");
            return self.fail(cx, ClientError::WriteRefused(error.to_string()));
        }
        self.trouble = Some(error.to_string());
        let stream = &mut self.streams[index];
        stream.asked = false;
        stream.due = cx.now + pause(stream.attempt, cx.config.retry_ms, cx.rng);
        stream.attempt += 1;
    }

    /// The master answered [`MasterRequest::KeepUpload`].
    pub(super) fn on_keep_reply(&mut self, cx: &mut Context<'_>, result: Result<MasterReply, ClientError>) {
        if let Err(error @ ClientError::Master(MasterError::UploadGone(_))) = result
            && !self.completing
        {
            self.fail(cx, error);
        }
    }

    /// The master answered [`MasterRequest::CompleteUpload`].
    pub(super) fn on_complete_reply(
        &mut self,
        cx: &mut Context<'_>,
        result: Result<MasterReply, ClientError>,
    ) {
        match result {
            Ok(MasterReply::Status(status)) => {
                self.answer_close(cx, Ok(ClientResponse::Status(status)), false);
            }
            Ok(reply) => {
                let text = format!("unexpected answer to the completion: {reply:?}");
                self.answer_close(cx, Err(ClientError::Master(MasterError::Protocol(text))), false);
            }
            Err(ClientError::Master(MasterError::UploadGone(_))) if cx.defects.has(Defect::GoneIsDone) => {
                self.answer_close(cx, Ok(ClientResponse::Done), false);
            }
            Err(error) => {
                // After a timeout the file may be there already; a refusal means that it is not.
                let refused = matches!(error, ClientError::Master(_));
                self.answer_close(cx, Err(error), refused);
            }
        }
    }

    /// A chunk's primary reports a commit.
    pub(super) fn on_committed(
        &mut self,
        cx: &mut Context<'_>,
        from: &Peer,
        (chunk, version): (ChunkId, ChunkVersion),
        end: u64,
        everywhere: u64,
    ) {
        let Some(index) = self.find(chunk, version) else { return };
        let stream = &mut self.streams[index];
        if !stream.is_primary(from) || end > stream.sent {
            return;
        }
        stream.everywhere = stream.everywhere.max(everywhere.min(end));
        if stream.everywhere == stream.sent {
            stream.hasten(cx.now);
        }
        if stream.phase != Phase::Writing {
            return self.pump(cx);
        }
        if end > stream.committed {
            stream.committed = end;
            stream.waiting_since = cx.now;
            let base = stream.base.unwrap_or(0);
            self.buffer.release(base + end);
            self.note_progress(cx.now);
        }
        self.pump(cx);
    }

    /// A chunk's primary reports trouble.
    pub(super) fn on_failed(
        &mut self,
        cx: &mut Context<'_>,
        from: &Peer,
        (chunk, version): (ChunkId, ChunkVersion),
        server: ServerId,
        error: &ChunkError,
    ) {
        let Some(index) = self.find(chunk, version) else { return };
        if !self.streams[index].is_primary(from) {
            return;
        }
        if self.streams[index].phase != Phase::Writing {
            self.streams[index].hasten(cx.now);
            return self.pump(cx);
        }
        reached!("client.append_failed");
        let culprit = match error {
            ChunkError::ReplicaLost { server, .. } => *server,
            _ => server,
        };
        self.give_up_chunk(cx, index, Some(culprit), error.to_string());
        self.pump(cx);
    }

    /// The connection to a chunkserver broke.
    pub(super) fn on_peer_lost(&mut self, cx: &mut Context<'_>, peer: &Peer) {
        let mut lost = false;
        for index in 0..self.streams.len() {
            // Giving up may fail the writer, which then has no streams.
            let Some(stream) = self.streams.get(index) else { break };
            if stream.phase == Phase::Sealing && stream.is_primary(peer) {
                if let Some(stream) = self.streams.get_mut(index) {
                    stream.hasten(cx.now);
                }
                lost = true;
            } else if stream.phase == Phase::Writing && stream.is_primary(peer) {
                reached!("client.primary_lost");
                self.give_up_chunk(cx, index, None, format!("connection to {peer} was lost"));
                lost = true;
            }
        }
        if lost {
            self.pump(cx);
        }
    }

    pub(super) fn on_wake(&mut self, cx: &mut Context<'_>) {
        let limit = ms(cx.config.append_timeout_ms.max(1));
        for index in 0..self.streams.len() {
            let Some(stream) = self.streams.get(index) else { break };
            let stuck = stream.phase == Phase::Writing
                && stream.sent > stream.committed
                && cx.now >= stream.waiting_since + limit;
            if stuck {
                reached!("client.append_timed_out");
                let text = format!("no append was acknowledged for {} ms", cx.config.append_timeout_ms);
                self.give_up_chunk(cx, index, None, text);
            }
        }
        self.pump(cx);
        if self.failed.is_none() && !self.completing && cx.now >= self.keep_at(cx.config) {
            self.named = cx.now;
            let deadline = cx.now + ms(cx.config.keep_upload_ms);
            cx.ask(MasterRequest::KeepUpload { upload: self.upload }, Origin::Keep(self.handle), deadline);
        }
    }

    /// When to call [`Writer::on_wake`].
    pub(super) fn next_wake(&self, config: &ClientConfig) -> Option<Time> {
        if self.failed.is_some() || self.completing {
            return None;
        }
        let streams = self.streams.iter().filter_map(|stream| match stream.phase {
            Phase::Opening | Phase::Sealing => (!stream.asked).then_some(stream.due),
            Phase::Writing => (stream.sent > stream.committed)
                .then(|| stream.waiting_since + ms(config.append_timeout_ms.max(1))),
        });
        streams.chain([self.keep_at(config)]).min()
    }

    fn keep_at(&self, config: &ClientConfig) -> Time {
        self.named + ms(config.keep_upload_ms.max(1))
    }

    /// The place of a chunk among those under way.
    pub(super) fn find(&self, chunk: ChunkId, version: ChunkVersion) -> Option<usize> {
        let matches = |grant: &Grant| grant.chunk == chunk && grant.version == version;
        self.streams.iter().position(|s| s.grant.as_ref().is_some_and(matches))
    }

    fn note_progress(&mut self, now: Time) {
        self.progress = now;
        self.strikes = 0;
        self.trouble = None;
    }

    /// Seals a chunk before it is full. The culprit, by default the primary, is avoided for a while.
    fn give_up_chunk(&mut self, cx: &mut Context<'_>, index: usize, culprit: Option<ServerId>, why: String) {
        let stream = &mut self.streams[index];
        let Some(grant) = &stream.grant else { return };
        let culprit = culprit.or(grant.members.first().map(|m| m.server));
        cx.note(Level::Warn, format!("{} is sealed early: {why}", grant.chunk));
        if let Some(server) = culprit {
            self.avoid.retain(|(s, until)| *s != server && *until > cx.now);
            self.avoid.push((server, cx.now + cx.patience()));
        }
        stream.seal(cx.now);
        self.strikes += 1;
        self.recoveries += 1;
        if self.streams[index].committed == self.buffer.end() && self.buffer.held() == 0 {
            // Trouble after everything was safe is not a failure to make progress.
            self.progress = cx.now;
        }
        if cx.now >= self.progress + cx.patience() {
            reached!("client.write_refused");
            return self.fail(cx, ClientError::WriteRefused(why));
        }
        self.trouble = Some(why);
    }

    /// Does everything that can be done now.
    fn pump(&mut self, cx: &mut Context<'_>) {
        if self.failed.is_some() || self.completing {
            return;
        }
        self.accept(cx);
        self.send_records(cx);
        self.retire(cx);
        self.extend(cx);
        self.ask(cx);
        self.complete(cx);
    }

    /// Takes writes into the window while there is room.
    fn accept(&mut self, cx: &mut Context<'_>) {
        while let Some((_, data)) = self.waiting.front() {
            let held = self.buffer.held();
            if held > 0 && held + data.len() as u64 > cx.config.write_window_bytes {
                break;
            }
            if held == 0 {
                self.progress = cx.now;
            }
            let Some((call, data)) = self.waiting.pop_front() else { break };
            self.buffer.push(data);
            cx.reply(call, Ok(ClientResponse::Done));
        }
    }

    /// Sends what the first unfinished chunk takes.
    fn send_records(&mut self, cx: &mut Context<'_>) {
        let Some(index) = self.streams.iter().position(|s| s.phase == Phase::Writing) else { return };
        if !self.streams.iter().take(index).all(Stream::is_settled) {
            return;
        }
        let stream = &mut self.streams[index];
        let Some((chunk, version)) = stream.grant.as_ref().map(|g| (g.chunk, g.version)) else { return };
        let Some(primary) = stream.primary().cloned() else { return };
        let window = cx.config.write_window_bytes.max(1);
        while stream.room() > 0 && self.buffer.sent() - self.buffer.acked() < window {
            // A blocked writer will send no more until this is acknowledged, so nothing is worth waiting for.
            let flush = self.closing.is_some()
                || self.buffer.sent() == self.buffer.acked()
                || !self.waiting.is_empty();
            let base = *stream.base.get_or_insert(self.buffer.sent());
            let Some(bytes) = self.buffer.take(stream.room(), flush) else { break };
            if stream.sent == stream.committed {
                stream.waiting_since = cx.now;
            }
            let payload = Payload::new(stream.sent, bytes);
            stream.records += 1;
            stream.sent += payload.len();
            debug_assert_eq!(base + stream.sent, self.buffer.sent());
            let record = AppendMessage::Data {
                chunk,
                version,
                writer: self.writer,
                record: stream.records,
                committed: stream.committed,
                payload,
            };
            cx.send(Peer::Dial(primary.clone()), record);
        }
    }

    /// Has chunks sealed that are full, or all of them when the file ends: when the slowest member has them, too, or
    /// after a while without it. A seal cuts off what is still on its way, and a member cut short is copied anew.
    fn retire(&mut self, cx: &mut Context<'_>) {
        let ends = self.closing.is_some() && self.buffer.held() == 0 && self.waiting.is_empty();
        for stream in &mut self.streams {
            if stream.is_full() || ends && stream.phase == Phase::Writing {
                let behind = stream.everywhere < stream.sent;
                stream.seal(if behind { cx.now + ms(cx.config.settle_ms) } else { cx.now });
            }
        }
    }

    /// Wants another chunk if there are bytes that none has room for.
    fn extend(&mut self, cx: &mut Context<'_>) {
        let certain = self.streams.iter().all(|s| s.phase == Phase::Writing || s.is_settled());
        let room: u64 = self.streams.iter().map(Stream::room).sum();
        if !certain || self.streams.len() >= STREAMS || self.buffer.unsent() <= room {
            return;
        }
        let mut due = cx.now;
        if self.strikes > 1 {
            due = due + pause(self.strikes - 2, cx.config.retry_ms, cx.rng);
        }
        self.streams.push_back(Stream::new(self.next_ordinal, due));
        self.next_ordinal += 1;
    }

    /// Asks the master for what is due.
    fn ask(&mut self, cx: &mut Context<'_>) {
        // Also at the deadline itself there is one attempt, so that the master can say why not.
        let deadline = (self.progress + cx.patience()).max(cx.now + ms(cx.config.request_timeout_ms.max(1)));
        for stream in &mut self.streams {
            if stream.asked || stream.due > cx.now {
                continue;
            }
            let body = match (stream.phase, &stream.grant) {
                (Phase::Opening, _) => {
                    self.avoid.retain(|(_, until)| *until > cx.now);
                    let avoid = self.avoid.iter().map(|(server, _)| *server).collect();
                    MasterRequest::OpenChunk { upload: self.upload, ordinal: stream.ordinal, avoid }
                }
                (Phase::Sealing, Some(grant)) => MasterRequest::SealChunk {
                    upload: self.upload,
                    chunk: grant.chunk,
                    version: grant.version,
                },
                _ => continue,
            };
            stream.asked = true;
            self.named = cx.now;
            cx.ask(body, Origin::Chunk { handle: self.handle, ordinal: stream.ordinal }, deadline);
        }
    }

    /// Makes the file visible once all its bytes are sealed.
    fn complete(&mut self, cx: &mut Context<'_>) {
        let ends = self.buffer.held() == 0 && self.waiting.is_empty() && self.streams.is_empty();
        if self.closing.is_none() || !ends {
            return;
        }
        self.completing = true;
        let body = MasterRequest::CompleteUpload { upload: self.upload, length: self.sealed_bytes };
        cx.ask(body, Origin::Complete(self.handle), cx.now + cx.patience());
    }

    /// Ends it: waiting calls and all later ones get `error`.
    fn fail(&mut self, cx: &mut Context<'_>, error: ClientError) {
        if self.failed.is_some() {
            return;
        }
        for (call, _) in core::mem::take(&mut self.waiting) {
            cx.reply(call, Err(error.clone()));
        }
        self.streams.clear();
        self.buffer.clear();
        self.failed = Some(error.clone());
        self.answer_close(cx, Err(error), true);
    }

    fn answer_close(&mut self, cx: &mut Context<'_>, result: ClientResult, abort: bool) {
        if let Some(call) = self.closing.take() {
            cx.reply(call, result);
            self.gone = true;
            if abort {
                self.abort_upload(cx);
            }
        }
    }

    fn abort_upload(&self, cx: &mut Context<'_>) {
        let deadline = cx.now + cx.patience();
        cx.ask(MasterRequest::AbortUpload { upload: self.upload }, Origin::Nobody, deadline);
    }
}
