//! Dispatch: each input goes to the mechanism that it is for.

use alloc::vec::Vec;

use super::out::Then;
use super::{Chunkserver, ChunkserverCall, ChunkserverCallReply, job};
use crate::disk::{DiskOk, DiskRequest, DiskResult};
use crate::id::{CallId, OpId, Peer};
use crate::machine::{Effect, Effects, Input, Level, Machine, WakeReason};
use crate::message::{AppendMessage, Message, ReadMessage};
use crate::time::{Span, Time};

/// How often things without a time of their own are looked at: expired reads of copies, the quarantine, idle journals.
const HOUSEKEEPING: Span = Span::from_ms(1_000);

impl Machine for Chunkserver {
    type Request = ChunkserverCall;
    type Response = ChunkserverCallReply;

    fn handle(
        &mut self,
        now: Time,
        input: Input<ChunkserverCall>,
        effects: &mut Effects<ChunkserverCallReply>,
    ) {
        self.now = self.now.max(now);
        if !self.started {
            self.started = true;
            self.next_housekeeping = self.now + HOUSEKEEPING;
            self.start_recovery();
        }
        match input {
            Input::Wake => self.on_wake(),
            Input::Message { from, message } => self.on_message(from, message),
            Input::DiskDone { op, result } => self.on_disk_done(op, result),
            Input::Call { call, request } => self.on_call(call, request),
            Input::PeerLost { peer } => self.on_peer_lost(&peer),
        }
        self.out.flush(effects);
    }

    fn next_wake(&self) -> Option<(Time, WakeReason)> {
        if !self.started {
            return Some((Time::ZERO, "recovery"));
        }
        let scrub = self.scrubbers.iter().filter_map(|s| s.next).min();
        let flush = self.volumes.iter().filter(|v| v.is_ready()).filter_map(|v| v.flusher.wake()).min();
        [
            (Some(self.next_housekeeping), "housekeeping"),
            (self.session_wake(), "master session"),
            (scrub, "scrub"),
            (flush, "lazy sync"),
        ]
        .into_iter()
        .filter_map(|(at, reason)| Some((at?, reason)))
        .min()
    }
}

impl Chunkserver {
    fn on_wake(&mut self) {
        self.session_due();
        self.scrub_due();
        self.flush_due();
        if self.next_housekeeping <= self.now {
            self.next_housekeeping = self.now + HOUSEKEEPING;
            self.expire_pulls();
            self.purge();
            self.start_losers();
            self.mark_journals();
        }
    }

    fn on_message(&mut self, from: Peer, message: Message) {
        match message {
            Message::Append(message) => self.on_append(from, message),
            Message::Read(ReadMessage::Request { read, chunk, version, offset, length }) => {
                self.on_read(from, read, chunk, version, offset, length);
            }
            Message::Read(ReadMessage::Reply { read, result }) => self.on_pull_reply(&from, read, result),
            Message::ToServer(message) => self.on_to_server(&from, message),
            Message::MasterRequest { .. } | Message::MasterReply { .. } | Message::FromServer(_) => {
                self.out.note(Level::Warn, alloc::format!("{from} sent what a chunkserver does not take"));
                self.out.push(Effect::Close { peer: from });
            }
        }
    }

    fn on_append(&mut self, from: Peer, message: AppendMessage) {
        match message {
            AppendMessage::Open { grant, position, writer } => self.on_open(from, grant, position, writer),
            AppendMessage::Data { chunk, version, writer, record, committed, payload } => {
                self.on_data(&from, chunk, version, writer, record, committed, payload);
            }
            AppendMessage::Ready { chunk, version, ends } => {
                self.on_ready_below(&from, chunk, version, &ends)
            }
            AppendMessage::Failed { chunk, version, server, error } => {
                self.on_failed_below(&from, chunk, version, server, error);
            }
            // Only writers are told of commits.
            AppendMessage::Committed { .. } => {}
        }
    }

    fn on_disk_done(&mut self, op: OpId, result: DiskResult) {
        let Some(then) = self.out.ended(op) else { return };
        match then {
            Then::Recovery { volume, tag } => self.on_recovery(volume, tag, result),
            Then::Adopt { volume } => self.adopt_step(volume, Some(result)),
            Then::JournalWritten { volume } => self.on_journal_written(volume, result),
            Then::JournalSynced { volume } => self.on_journal_synced(volume, result),
            Then::JournalSwitch { volume } => self.on_journal_switch(volume, result),
            Then::Nothing => {}
            Then::Created { chunk, generation, step } => self.on_created(chunk, generation, step, result),
            Then::Appended { chunk, generation, record } => {
                self.on_appended(chunk, generation, record, result)
            }
            Then::AppendSynced { chunk, generation, end } => {
                self.on_append_synced(chunk, generation, end, result);
            }
            Then::Job { chunk, job } => self.on_job_event(chunk, job, job::Event::Disk { result }),
            Then::LoserMoved => self.on_loser_moved(&result),
            Then::Purged(path) => self.on_purged(path, &result),
            Then::ReadTable { key } => self.on_read_table(key, result),
            Then::ReadPart { key, part } => self.on_read_part(key, part, result),
            Then::ScrubTable { chunk } => self.on_scrub_table(chunk, result),
            Then::ScrubData { chunk } => self.on_scrub_data(chunk, result),
            Then::Report { scan, volume, dir } => self.on_report_list(scan, volume, dir, result),
            Then::Space { volume } => self.on_space(volume, result),
            Then::ShutdownSynced => self.on_shutdown_synced(result),
        }
    }

    fn on_peer_lost(&mut self, peer: &Peer) {
        self.on_master_lost(peer);
        self.on_stream_peer_lost(peer);
        self.on_reader_lost(peer);
        self.on_pull_peer_lost(peer);
    }

    fn on_call(&mut self, call: CallId, request: ChunkserverCall) {
        match request {
            ChunkserverCall::Metrics => {
                let response =
                    ChunkserverCallReply::Metrics { metrics: self.metrics(), ready: self.readiness() };
                self.out.push(Effect::Reply { call, response });
            }
            ChunkserverCall::Shutdown => self.on_shutdown(),
        }
    }

    /// Accepts no more chunks and makes the journals durable; open replicas are fenced by the next start.
    fn on_shutdown(&mut self) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        let ready: Vec<u16> =
            (0..self.setup.volumes).filter(|index| self.volume(*index).is_ready()).collect();
        self.shutdown_syncs = ready.len();
        for index in ready {
            let path = super::names::journal(index, self.volume(index).journal.number);
            self.out.disk(DiskRequest::Sync(path), Then::ShutdownSynced);
        }
        if self.shutdown_syncs == 0 {
            self.on_shutdown_synced(Ok(DiskOk::Done));
        }
    }

    fn on_shutdown_synced(&mut self, result: DiskResult) {
        if let Err(error) = result {
            self.out.note(Level::Warn, alloc::format!("a journal was not synced at shutdown: {error}"));
        }
        self.shutdown_syncs = self.shutdown_syncs.saturating_sub(1);
        if self.shutdown_syncs == 0 {
            self.out.halt("shut down as asked", false);
        }
    }
}
