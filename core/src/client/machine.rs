//! The root of the client: hands every input to the part that it concerns, and turns what the parts want into effects.

use alloc::collections::BTreeMap;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::action::{Action, Context, Origin};
use super::reader::{LOCATE_BYTES, ReadCall};
use super::requests::{Outcome, Requests};
use super::sources::Sources;
use super::timers::{Sleeper, Timers};
use super::writer::Writer;
use super::{ClientRequest, ClientResponse, ClientResult, ClientSetup};
use crate::config::ClientConfig;
use crate::defect::{Defect, Defects};
use crate::error::{ClientError, MasterError};
use crate::id::{CallId, ClientId, FileId, HandleId, Peer, WriterId};
use crate::machine::{Effects, Input, Machine, WakeReason};
use crate::message::{AppendMessage, MasterReply, MasterRequest, Message, ReadMessage, StorageOptions};
use crate::rng::Rng;
use crate::stats::{MetricKind, Metrics, put};
use crate::time::Time;

/// The machine.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    defects: Defects,
    rng: Rng,
    requests: Requests,
    writers: BTreeMap<HandleId, Writer>,
    readers: BTreeMap<HandleId, Reader>,
    reads: BTreeMap<CallId, ReadCall>,
    sources: Sources,
    timers: Timers,
    last_handle: HandleId,
    recoveries: u64,
}

/// A file open for reading: the identity is fixed, so that all reads see the same contents.
#[derive(Debug)]
struct Reader {
    path: Arc<str>,
    file: FileId,
    length: u64,
}

impl Client {
    /// A client.
    pub fn new(setup: ClientSetup) -> Client {
        let mut rng = Rng::stream(setup.seed, "client");
        let mut client = ClientId(rng.u64());
        if setup.defects.has(Defect::ClientIdReused) {
            client = ClientId(1);
        }
        Client {
            requests: Requests::new(client, setup.identity, setup.masters),
            sources: Sources::new(setup.config.cache_entries),
            config: setup.config,
            defects: setup.defects,
            rng,
            writers: BTreeMap::new(),
            readers: BTreeMap::new(),
            reads: BTreeMap::new(),
            timers: Timers::default(),
            last_handle: HandleId(0),
            recoveries: 0,
        }
    }

    /// Figures for metrics and for the simulator's bounds.
    pub fn metrics(&self) -> Metrics {
        use MetricKind::{Counter, Gauge};
        let mut into = Metrics::new();
        let recoveries = self.recoveries + self.writers.values().map(|w| w.recoveries).sum::<u64>();
        let all = [
            (Gauge, "cairn_client_requests", "Requests to the master under way.", self.requests.len() as u64),
            (Gauge, "cairn_client_writers", "Files being written.", self.writers.len() as u64),
            (Gauge, "cairn_client_reads", "Reads under way.", self.reads.len() as u64),
            (Gauge, "cairn_client_locations", "Locations kept.", self.sources.cache.len() as u64),
            (Counter, "cairn_client_requests_resent", "Requests sent again.", self.requests.resent),
            (Counter, "cairn_client_chunks_given_up", "Chunks sealed before they were full.", recoveries),
            (
                Counter,
                "cairn_client_read_failovers",
                "Reads sent to another replica.",
                self.sources.failovers,
            ),
        ];
        for (kind, name, help, value) in all {
            put(&mut into, kind, name, help, value);
        }
        into
    }

    /// Entries of its tables: what must be bounded by what is under way and by the settings.
    pub fn table_sizes(&self) -> Vec<(&'static str, usize)> {
        let (flights, busy) = self.sources.under_way();
        Vec::from([
            ("requests", self.requests.len()),
            ("writers", self.writers.len()),
            ("readers", self.readers.len()),
            ("reads", self.reads.len()),
            ("reads of chunkservers", flights),
            ("busy servers", busy),
            ("suspect servers", self.sources.suspects()),
            ("alarms", self.timers.len()),
            ("locations", self.sources.cache.len()),
        ])
    }

    /// Runs one step of a part, with what it may use; returns what it wants done.
    fn step<T>(
        &mut self,
        now: Time,
        run: impl FnOnce(&mut Parts<'_>, &mut Context<'_>) -> T,
    ) -> (T, Vec<Action>) {
        let mut cx =
            Context { now, config: &self.config, rng: &mut self.rng, defects: self.defects, out: Vec::new() };
        let mut parts = Parts {
            requests: &mut self.requests,
            writers: &mut self.writers,
            reads: &mut self.reads,
            sources: &mut self.sources,
        };
        let result = run(&mut parts, &mut cx);
        (result, cx.out)
    }

    /// Carries out what parts want. Requests are started here, which makes them want sends.
    fn perform(&mut self, now: Time, actions: Vec<Action>, effects: &mut Effects<ClientResult>) {
        let mut queue = VecDeque::from(actions);
        while let Some(action) = queue.pop_front() {
            match action {
                Action::Send { to, message } => effects.send(to, message),
                Action::Reply { call, result } => effects.reply(call, result),
                Action::Note { level, text } => effects.note(level, text),
                Action::Ask { body, then, deadline } => {
                    let ((), wanted) =
                        self.step(now, |parts, cx| parts.requests.start(cx, body, then, deadline));
                    queue.extend(wanted);
                }
            }
        }
    }

    fn with_writer(
        &mut self,
        now: Time,
        handle: HandleId,
        effects: &mut Effects<ClientResult>,
        run: impl FnOnce(&mut Writer, &mut Context<'_>),
    ) -> bool {
        let (found, wanted) = self
            .step(now, |parts, cx| parts.writers.get_mut(&handle).map(|writer| run(writer, cx)).is_some());
        self.perform(now, wanted, effects);
        if let Some(writer) = self.writers.get(&handle) {
            if writer.gone {
                self.recoveries += writer.recoveries;
                self.writers.remove(&handle);
                self.timers.set(Sleeper::Writer(handle), None);
            } else {
                self.timers.set(Sleeper::Writer(handle), writer.next_wake(&self.config));
            }
        }
        found
    }

    fn with_read(
        &mut self,
        now: Time,
        call: CallId,
        effects: &mut Effects<ClientResult>,
        run: impl FnOnce(&mut ReadCall, &mut Context<'_>, &mut Sources),
    ) {
        let ((), wanted) = self.step(now, |parts, cx| {
            if let Some(read) = parts.reads.get_mut(&call) {
                run(read, cx, parts.sources);
            }
        });
        self.perform(now, wanted, effects);
        if let Some(read) = self.reads.get(&call) {
            if read.gone {
                self.reads.remove(&call);
                self.timers.set(Sleeper::Read(call), None);
            } else {
                self.timers.set(Sleeper::Read(call), read.next_wake());
            }
        }
    }

    fn ask(&mut self, now: Time, body: MasterRequest, then: Origin, effects: &mut Effects<ClientResult>) {
        let deadline = now + crate::config::ms(self.config.operation_deadline_ms);
        self.perform(now, Vec::from([Action::Ask { body, then, deadline }]), effects);
    }

    fn on_call(
        &mut self,
        now: Time,
        call: CallId,
        request: ClientRequest,
        effects: &mut Effects<ClientResult>,
    ) {
        let found = match request {
            ClientRequest::Master(body) => {
                self.ask(now, body, Origin::Call(call), effects);
                true
            }
            ClientRequest::Create { path, replace, mode, options } => {
                let options = self.options(options);
                let body = MasterRequest::BeginUpload { path, replace, mode, options };
                self.ask(now, body, Origin::Begin { call }, effects);
                true
            }
            ClientRequest::Write { handle, data } => {
                self.with_writer(now, handle, effects, |writer, cx| writer.on_write(cx, call, data))
            }
            ClientRequest::Close { handle } => {
                self.with_writer(now, handle, effects, |writer, cx| writer.on_close(cx, call))
            }
            ClientRequest::Abort { handle } => {
                self.with_writer(now, handle, effects, |writer, cx| writer.on_abort(cx, call))
            }
            ClientRequest::Open { path } => {
                let body = MasterRequest::Locate { path: path.clone(), offset: 0, length: LOCATE_BYTES };
                self.ask(now, body, Origin::Open { call, path: Arc::from(path) }, effects);
                true
            }
            ClientRequest::Read { handle, offset, length } => {
                self.on_read(now, call, handle, (offset, length), effects)
            }
            ClientRequest::Release { handle } => {
                let found = self.readers.remove(&handle).is_some();
                if found {
                    effects.reply(call, Ok(ClientResponse::Done));
                }
                found
            }
        };
        if !found {
            effects.reply(call, Err(ClientError::BadHandle));
        }
    }

    fn on_read(
        &mut self,
        now: Time,
        call: CallId,
        handle: HandleId,
        (offset, length): (u64, u32),
        effects: &mut Effects<ClientResult>,
    ) -> bool {
        let Some(reader) = self.readers.get(&handle) else { return false };
        let end = offset.saturating_add(u64::from(length)).min(reader.length);
        if offset >= end {
            effects.reply(call, Ok(ClientResponse::Data(Vec::new())));
            return true;
        }
        let read = ReadCall::new(call, reader.path.clone(), reader.file, offset..end, now);
        self.reads.insert(call, read);
        self.with_read(now, call, effects, |read, cx, sources| read.pump(cx, sources));
        true
    }

    /// Fills in the client's settings where the caller has none. Durability has no "unset": what the caller says holds.
    fn options(&self, mut options: StorageOptions) -> StorageOptions {
        let or = |value: u8, default: u8| if value == 0 { default } else { value };
        if options.chunk_bytes == 0 {
            options.chunk_bytes = self.config.chunk_bytes;
        }
        options.replication = or(options.replication, self.config.replication);
        options.quorum = or(options.quorum, self.config.quorum);
        options
    }

    fn on_message(&mut self, now: Time, from: &Peer, message: Message, effects: &mut Effects<ClientResult>) {
        match message {
            Message::MasterReply { request, result } => {
                let (outcome, wanted) =
                    self.step(now, |parts, cx| parts.requests.on_master_reply(cx, request, result));
                self.perform(now, wanted, effects);
                if let Some(outcome) = outcome {
                    self.on_outcome(now, outcome, effects);
                }
            }
            Message::Append(message) => self.on_append(now, from, message, effects),
            Message::Read(ReadMessage::Reply { read, result }) => {
                if let Some(call) = self.sources.owner(read) {
                    self.with_read(now, call, effects, |waiting, cx, sources| {
                        waiting.on_read_reply(cx, sources, (from, read), result);
                    });
                }
            }
            // Nobody sends these to a client.
            Message::MasterRequest { .. }
            | Message::FromServer(_)
            | Message::ToServer(_)
            | Message::Read(ReadMessage::Request { .. }) => {}
        }
    }

    fn on_append(
        &mut self,
        now: Time,
        from: &Peer,
        message: AppendMessage,
        effects: &mut Effects<ClientResult>,
    ) {
        let chunk = message.chunk();
        let (AppendMessage::Committed { version, .. } | AppendMessage::Failed { version, .. }) = message
        else {
            return;
        };
        let Some(handle) =
            self.writers.iter().find(|(_, w)| w.find(chunk, version).is_some()).map(|(handle, _)| *handle)
        else {
            return;
        };
        self.with_writer(now, handle, effects, |writer, cx| match message {
            AppendMessage::Committed { end, everywhere, .. } => {
                writer.on_committed(cx, from, (chunk, version), end, everywhere);
            }
            AppendMessage::Failed { server, error, .. } => {
                writer.on_failed(cx, from, (chunk, version), server, &error);
            }
            _ => {}
        });
    }

    fn on_outcome(&mut self, now: Time, (origin, result): Outcome, effects: &mut Effects<ClientResult>) {
        match origin {
            Origin::Call(call) => effects.reply(call, result.map(ClientResponse::Master)),
            Origin::Begin { call } => self.on_begun(now, call, result, effects),
            Origin::Chunk { handle, ordinal } => {
                self.with_writer(now, handle, effects, |w, cx| w.on_chunk_reply(cx, ordinal, result));
            }
            Origin::Keep(handle) => {
                self.with_writer(now, handle, effects, |w, cx| w.on_keep_reply(cx, result));
            }
            Origin::Complete(handle) => {
                self.with_writer(now, handle, effects, |w, cx| w.on_complete_reply(cx, result));
            }
            Origin::Open { call, path } => self.on_opened(call, path, result, effects),
            Origin::Locate { call } => {
                self.with_read(now, call, effects, |read, cx, sources| read.on_located(cx, sources, result));
            }
            Origin::Nobody => {}
        }
    }

    fn on_begun(
        &mut self,
        now: Time,
        call: CallId,
        result: Result<MasterReply, ClientError>,
        effects: &mut Effects<ClientResult>,
    ) {
        let response = match result {
            Ok(MasterReply::Upload { upload, options }) => {
                let handle = self.next_handle();
                let id = WriterId(self.rng.u64());
                let writer = Writer::new(handle, upload, id, &self.config, now);
                self.timers.set(Sleeper::Writer(handle), writer.next_wake(&self.config));
                self.writers.insert(handle, writer);
                Ok(ClientResponse::Created { handle, chunk_bytes: options.chunk_bytes, upload })
            }
            Ok(reply) => Err(unexpected("the creation", &reply)),
            Err(error) => Err(error),
        };
        effects.reply(call, response);
    }

    fn on_opened(
        &mut self,
        call: CallId,
        path: Arc<str>,
        result: Result<MasterReply, ClientError>,
        effects: &mut Effects<ClientResult>,
    ) {
        let response = match result {
            Ok(MasterReply::Located(plan)) => {
                let handle = self.next_handle();
                let length = plan.length;
                self.readers.insert(handle, Reader { path, file: plan.file, length });
                self.sources.cache.insert(plan);
                Ok(ClientResponse::Opened { handle, length })
            }
            Ok(reply) => Err(unexpected("a question for locations", &reply)),
            Err(error) => Err(error),
        };
        effects.reply(call, response);
    }

    fn next_handle(&mut self) -> HandleId {
        self.last_handle.0 += 1;
        self.last_handle
    }

    fn on_wake(&mut self, now: Time, effects: &mut Effects<ClientResult>) {
        let (given_up, wanted) = self.step(now, |parts, cx| parts.requests.on_wake(cx));
        self.perform(now, wanted, effects);
        for outcome in given_up {
            self.on_outcome(now, outcome, effects);
        }
        // Once for each sleeper that is due: one whose next alarm lies in the past again gets the next wake.
        let mut due = Vec::new();
        while let Some(sleeper) = self.timers.pop_due(now) {
            due.push(sleeper);
        }
        for sleeper in due {
            match sleeper {
                Sleeper::Writer(handle) => {
                    self.with_writer(now, handle, effects, |writer, cx| writer.on_wake(cx));
                }
                Sleeper::Read(call) => {
                    self.with_read(now, call, effects, |read, cx, sources| read.on_wake(cx, sources));
                }
            }
        }
    }

    fn on_peer_lost(&mut self, now: Time, peer: &Peer, effects: &mut Effects<ClientResult>) {
        let ((), wanted) = self.step(now, |parts, cx| parts.requests.on_peer_lost(cx, peer));
        self.perform(now, wanted, effects);
        let handles: Vec<HandleId> = self.writers.keys().copied().collect();
        for handle in handles {
            self.with_writer(now, handle, effects, |writer, cx| writer.on_peer_lost(cx, peer));
        }
        let calls: Vec<CallId> = self.reads.keys().copied().collect();
        for call in calls {
            self.with_read(now, call, effects, |read, cx, sources| read.on_peer_lost(cx, sources, peer));
        }
    }
}

/// The parts, borrowed for one step.
struct Parts<'a> {
    requests: &'a mut Requests,
    writers: &'a mut BTreeMap<HandleId, Writer>,
    reads: &'a mut BTreeMap<CallId, ReadCall>,
    sources: &'a mut Sources,
}

fn unexpected(to: &str, reply: &MasterReply) -> ClientError {
    ClientError::Master(MasterError::Protocol(format!("unexpected answer to {to}: {reply:?}")))
}

impl Machine for Client {
    type Request = ClientRequest;
    type Response = ClientResult;

    fn handle(&mut self, now: Time, input: Input<ClientRequest>, effects: &mut Effects<ClientResult>) {
        match input {
            Input::Wake => self.on_wake(now, effects),
            Input::Message { from, message } => self.on_message(now, &from, message, effects),
            Input::Call { call, request } => self.on_call(now, call, request, effects),
            Input::PeerLost { peer } => self.on_peer_lost(now, &peer, effects),
            // A client has no disk.
            Input::DiskDone { .. } => {}
        }
    }

    fn next_wake(&self) -> Option<(Time, WakeReason)> {
        let request = self.requests.next_wake().map(|at| (at, "a request is due"));
        let sleeper = self.timers.first().map(|(at, sleeper)| match sleeper {
            Sleeper::Writer(_) => (at, "a writer is due"),
            Sleeper::Read(_) => (at, "a read is due"),
        });
        request.into_iter().chain(sleeper).min()
    }
}
