//! The root: inputs to handlers, log steps to effects, and when to be woken.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::catalog::Event;
use super::command::{Change, Command};
use super::oplog::{Outcome, Record};
use super::requests::NO_SPACE;
use super::{Master, MasterCall, MasterCallReply, expected};
use crate::config::ms;
use crate::defect::Defect;
use crate::error::MasterError;
use crate::id::{ClientId, Peer, RequestId};
use crate::machine::{Effect, Effects, Input, Level, Machine, WakeReason};
use crate::message::{MasterReply, Message};
use crate::time::{Span, Time};

pub(super) type Fx = Effects<MasterCallReply>;

/// Where a master is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Reading the log, then logging the start.
    Starting,
    /// Serving.
    Ready {
        /// Since when.
        since: Time,
    },
    /// Making the log durable before the end.
    Closing,
    /// Ended; every input is ignored.
    Halted,
}

/// A command on its way through the log.
#[derive(Clone, Debug, Hash)]
pub(super) struct Proposal {
    pub(super) command: Command,
    /// The request that waits for it, if one does.
    pub(super) asked: Option<(ClientId, RequestId)>,
}

impl Machine for Master {
    type Request = MasterCall;
    type Response = MasterCallReply;

    fn handle(&mut self, now: Time, input: Input<MasterCall>, fx: &mut Fx) {
        if self.phase == Phase::Halted {
            return;
        }
        self.started.get_or_insert(now);
        match input {
            Input::Wake => self.on_wake(now, fx),
            Input::Message { from, message } => self.on_message(now, from, message, fx),
            Input::DiskDone { op, result } => {
                let outcome = self.log.on_disk(now, op, result);
                self.take_log_outcome(now, outcome, fx);
            }
            Input::Call { call, request: MasterCall::Metrics } => {
                let ready = self.readiness().map_err(|error| error.to_string());
                fx.reply(call, MasterCallReply::Metrics { metrics: self.metrics(now), ready });
            }
            Input::Call { request: MasterCall::Shutdown, .. } => self.on_shutdown(fx),
            Input::PeerLost { peer } => self.on_peer_lost(now, &peer, fx),
        }
        if self.phase != Phase::Halted {
            let outcome = self.log.advance(now);
            self.take_log_outcome(now, outcome, fx);
        }
    }

    fn next_wake(&self) -> Option<(Time, WakeReason)> {
        if self.phase == Phase::Halted {
            return None;
        }
        if self.started.is_none() {
            return Some((Time::ZERO, "start"));
        }
        let ready = self.is_ready();
        let dead_after = ms(self.config.dead_after_ms);
        [
            self.log.next_wake().map(|at| (at, "the log")),
            self.seals.values().map(|task| task.wake).min().map(|at| (at, "seal")),
            self.servers.next_death(dead_after).map(|at| (at, "server silent")),
            ready.then_some((self.next_tick, "background")),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }
}

impl Master {
    fn on_message(&mut self, now: Time, from: Peer, message: Message, fx: &mut Fx) {
        match message {
            Message::MasterRequest { client, request, identity, body } => {
                self.on_request(now, from, (client, request), &identity, body, fx);
            }
            Message::FromServer(message) => self.on_server_message(now, from, message, fx),
            _ => {
                fx.note(Level::Warn, format!("{from} sent a message that is not for a master; closed"));
                fx.push(Effect::Close { peer: from });
            }
        }
    }

    fn on_wake(&mut self, now: Time, fx: &mut Fx) {
        self.bury_silent_servers(now, fx);
        self.advance_due_seals(now, fx);
        if self.is_ready() && now >= self.next_tick {
            self.next_tick = now + self.tick();
            self.admit_contenders(now, fx);
            // Only what has to be logged waits for a full disk: copies do not.
            if !self.log.is_full() {
                self.expire_uploads(now);
            }
            if self.grace_is_over(now) {
                self.step_repairs(now, fx);
                self.step_collection(now, fx);
            }
        }
    }

    /// The pause between background steps.
    fn tick(&self) -> Span {
        ms((self.config.heartbeat_ms / 4).clamp(20, 1_000))
    }

    /// Whether servers had the time to report since the start: before, absence means nothing.
    pub(super) fn grace_is_over(&self, now: Time) -> bool {
        matches!(self.phase, Phase::Ready { since } if now >= since + ms(self.config.startup_grace_ms))
    }

    /// Whether requests are served, else the error for those that come.
    pub(super) fn readiness(&self) -> Result<(), MasterError> {
        match self.phase {
            Phase::Ready { .. } => Ok(()),
            Phase::Starting if self.log.is_full() => {
                Err(MasterError::Unavailable(format!("starting: {NO_SPACE}")))
            }
            Phase::Starting => {
                Err(MasterError::Unavailable("starting: reading the operation log".to_string()))
            }
            Phase::Closing | Phase::Halted => Err(MasterError::Unavailable("shutting down".to_string())),
        }
    }

    fn on_shutdown(&mut self, fx: &mut Fx) {
        if self.log.is_recovering() {
            return self.halt("stopped while starting".to_string(), false, fx);
        }
        self.phase = Phase::Closing;
        self.log.close();
    }

    fn halt(&mut self, reason: String, failed: bool, fx: &mut Fx) {
        self.phase = Phase::Halted;
        fx.push(Effect::Halt { reason, failed });
    }

    /// Puts a command into the log.
    pub(super) fn propose(&mut self, now: Time, change: Change) {
        self.propose_for(now, change, None, None);
    }

    /// Puts a command into the log for a request. `origin` makes its outcome remembered for retries.
    pub(super) fn propose_for(
        &mut self,
        now: Time,
        change: Change,
        asked: Option<(ClientId, RequestId)>,
        origin: Option<(ClientId, RequestId)>,
    ) {
        let command = Command { origin, at: self.wall.at(now), change };
        let (op, payload) = command.encode();
        self.log.propose(Record { op, payload, token: Proposal { command, asked } });
    }

    fn take_log_outcome(&mut self, now: Time, outcome: Outcome<Proposal>, fx: &mut Fx) {
        if let Some((op, request)) = outcome.disk {
            fx.disk(op, request);
        }
        if outcome.blocked {
            let waits = match self.phase {
                Phase::Starting => "the start waits until there is some",
                _ => "changes wait until there is some, reads go on",
            };
            fx.note(Level::Alarm, format!("{NO_SPACE}: {waits}"));
        }
        if let Some(reason) = outcome.failed {
            return self.halt(reason, true, fx);
        }
        for (index, op, payload) in outcome.recovered {
            if let Err(reason) = self.recover_record(index, op, &payload) {
                return self.halt(reason, true, fx);
            }
        }
        if outcome.opened {
            self.on_log_opened(now);
        }
        for (_, proposal) in outcome.committed {
            self.apply(now, proposal, fx);
        }
        if outcome.closed {
            self.halt("stopped; the operation log is complete on disk".to_string(), false, fx);
        }
    }

    fn recover_record(&mut self, index: u64, op: u8, payload: &[u8]) -> Result<(), String> {
        let command = Command::decode(op, payload).map_err(|error| {
            format!(
                "operation log, record {index}: {error}. Run the release that wrote it; nothing was changed"
            )
        })?;
        if self.defects.has(Defect::OutcomesLostAtReplay) {
            self.catalog.apply(&Command { origin: None, ..command });
            return Ok(());
        }
        self.catalog.apply(&command);
        if self.defects.has(Defect::ApplyTwice) {
            self.last_recovered = Some(command);
        }
        Ok(())
    }

    fn on_log_opened(&mut self, now: Time) {
        if let Some(command) = self.last_recovered.take() {
            self.catalog.apply(&Command { origin: None, ..command });
        }
        self.propose(now, Change::Start {});
    }

    /// Applies a durable command, tells the volatile side, and answers.
    fn apply(&mut self, now: Time, proposal: Proposal, fx: &mut Fx) {
        let Proposal { command, asked } = proposal;
        let applied = self.catalog.apply(&command);
        for event in applied.events {
            self.on_event(now, event, fx);
        }
        match command.change {
            Change::Start {} => self.on_started(now, fx),
            Change::DropReplicas { drops } => self.send_drops(&drops, fx),
            Change::SealChunk { chunk, .. } => {
                if let Err(error) = &applied.reply {
                    self.fail_seal(chunk, error, fx);
                }
            }
            Change::ReclaimTrash { .. } => self.on_trash_reclaimed(now),
            _ => {}
        }
        if let Some(asked) = asked {
            self.answer(asked, applied.reply, fx);
        }
    }

    fn on_event(&mut self, now: Time, event: Event, fx: &mut Fx) {
        match event {
            Event::ChunkGranted(_) => {}
            Event::ChunkSealed(sealed) => self.on_chunk_sealed(now, sealed, fx),
            Event::ChunksRemoved(chunks) => self.on_chunks_removed(&chunks, fx),
            Event::UploadBegun(upload) => drop(self.uploads.insert(upload, now)),
            Event::UploadGone(upload) => drop(self.uploads.remove(&upload)),
        }
    }

    fn on_started(&mut self, now: Time, fx: &mut Fx) {
        if self.phase == Phase::Starting {
            self.phase = Phase::Ready { since: now };
        }
        self.next_tick = now;
        self.servers.begin(self.catalog.epoch());
        self.uploads = self.catalog.uploads().map(|(upload, _)| (upload, now)).collect();
        let sealed: Vec<_> = self
            .catalog
            .chunks_after(None)
            .filter(|(_, chunk)| chunk.open().is_none())
            .map(|(id, _)| id)
            .collect();
        for chunk in sealed {
            self.locations.refresh(chunk, expected(&self.catalog, chunk));
        }
        fx.note(
            Level::Info,
            format!("serving {} from log record {} on", self.catalog.cluster(), self.catalog.applied()),
        );
        for registration in core::mem::take(&mut self.early) {
            self.on_register(now, registration, fx);
        }
    }

    /// Answers everyone who waits for the outcome of a request.
    pub(super) fn answer(
        &mut self,
        asked: (ClientId, RequestId),
        result: Result<MasterReply, MasterError>,
        fx: &mut Fx,
    ) {
        for peer in self.waiters.remove(&asked).unwrap_or_default() {
            self.reply(peer, asked.1, result.clone(), fx);
        }
    }

    /// Answers a request, with the addresses that only the volatile side knows.
    pub(super) fn reply(
        &self,
        to: Peer,
        request: RequestId,
        mut result: Result<MasterReply, MasterError>,
        fx: &mut Fx,
    ) {
        if let Ok(MasterReply::Grant(grant)) = &mut result {
            self.fill_addresses(grant);
        }
        fx.send(to, Message::MasterReply { request, result });
    }
}
