//! The trace: one aligned line for each transition, kept, hashed, or neither; and the same as linked events if asked for.

use std::any::Any;
use std::fmt::{self, Write};
use std::hash::{Hash, Hasher};
use std::ops::Range;

use cairn_core::client::{ClientRequest, ClientResponse, ClientResult};
use cairn_core::disk::DiskOk;
use cairn_core::id::CallId;
use cairn_core::machine::Input;
use cairn_core::time::Time;

use crate::options::TraceMode;
use crate::record::{HappeningId, NodeNumber, Record, Recorder, What};

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Trace {
    mode: TraceMode,
    sink: Sink,
    /// The events, if they are kept.
    pub(crate) recorder: Option<Box<Recorder>>,
}

/// Where an input came from.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin {
    /// Who sent it, or whose connection it is about.
    pub(crate) node: Option<NodeNumber>,
    /// Its sending or its request, if events are kept.
    pub(crate) cause: Option<HappeningId>,
}

/// Hashes what is written, and keeps it if asked to.
#[derive(Debug, Default)]
struct Sink {
    hash: u64,
    text: Option<String>,
}

impl Hasher for Sink {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.write_u64(u64::from_le_bytes(padded));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    // Numbers by their values, not by a machine's order of bytes.
    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        Hasher::write(self, text.as_bytes());
        if let Some(kept) = &mut self.text {
            kept.push_str(text);
        }
        Ok(())
    }
}

impl Trace {
    pub(crate) fn new(mode: TraceMode) -> Trace {
        let text = matches!(mode, TraceMode::Full | TraceMode::Events).then(String::new);
        let recorder = (mode == TraceMode::Events).then(Box::default);
        Trace { mode, sink: Sink { hash: 0, text }, recorder }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.mode != TraceMode::Off
    }

    pub(crate) fn hash(&self) -> u64 {
        self.sink.hash
    }

    /// Takes something into the hash of which the lines show the outline only.
    pub(crate) fn absorb(&mut self, what: &impl Hash) {
        if self.is_on() {
            what.hash(&mut self.sink);
        }
    }

    /// Takes the kept lines out.
    pub(crate) fn take(&mut self) -> String {
        self.sink.text.take().unwrap_or_default()
    }

    /// Takes the events out, if they were kept.
    pub(crate) fn take_record(&mut self, end: Time) -> Option<Record> {
        self.recorder.take().map(|recorder| recorder.finish(end))
    }

    /// Writes a line about `who`: the world, or a node's own words.
    pub(crate) fn line(&mut self, now: Time, who: &str, what: fmt::Arguments<'_>) {
        let line = self.write(now, who, what);
        if let Some(recorder) = &mut self.recorder {
            let text = what.to_string();
            recorder.line(now, who, text.strip_prefix("! ").unwrap_or(&text).to_owned(), line);
        }
    }

    /// A promise is broken.
    pub(crate) fn broken(&mut self, now: Time, checker: &str, text: &str) {
        let line = self.write(now, "world", format_args!("! broken promise: {checker}: {text}"));
        if let Some(recorder) = &mut self.recorder {
            recorder.broken(now, checker, text, line);
        }
    }

    /// Writes a line and tells where it is.
    fn write(&mut self, now: Time, who: &str, what: fmt::Arguments<'_>) -> Range<usize> {
        let start = self.length();
        if self.is_on() {
            let (seconds, micros) = (now.0 / 1_000_000_000, now.0 / 1_000 % 1_000_000);
            // The sink takes everything.
            let _ = writeln!(self.sink, "{seconds:>5}.{micros:06}s {who:<8} {what}");
        }
        start..self.length()
    }

    /// Bytes of the kept lines.
    pub(crate) fn length(&self) -> usize {
        self.sink.text.as_ref().map_or(0, String::len)
    }
}

/// A machine is given an input.
pub(crate) fn input<Q: 'static>(
    trace: &mut Trace,
    now: Time,
    own: &str,
    other: Option<&str>,
    input: &Input<Q>,
) -> Range<usize> {
    match input {
        Input::Message { message, .. } => trace.absorb(message),
        Input::DiskDone { result, .. } => trace.absorb(result),
        // Lines tell all of the others: the bytes that users write follow from their plan.
        Input::Wake | Input::Call { .. } | Input::PeerLost { .. } => {}
    }
    match input {
        Input::Wake => trace.write(now, own, format_args!("<- wake")),
        Input::Message { from, message } => {
            trace.write(now, own, format_args!("<- {:<8} {from} {message}", other.unwrap_or("?")))
        }
        Input::DiskDone { op, result } => match result {
            Ok(DiskOk::Data(data)) => {
                trace.write(now, own, format_args!("<- disk     {op} at={} len={}", data.offset, data.len()))
            }
            Ok(DiskOk::Entries(entries)) => {
                trace.write(now, own, format_args!("<- disk     {op} entries={}", entries.len()))
            }
            Ok(DiskOk::Space { free, .. }) => {
                trace.write(now, own, format_args!("<- disk     {op} free={free}"))
            }
            Ok(DiskOk::Done) => trace.write(now, own, format_args!("<- disk     {op} done")),
            Err(error) => trace.write(now, own, format_args!("<- disk     {op} error: {error}")),
        },
        Input::Call { call, request } => match (request as &dyn Any).downcast_ref::<ClientRequest>() {
            Some(ClientRequest::Write { handle, data }) => {
                trace.write(now, own, format_args!("<- user     {call} Write {handle} len={}", data.len()))
            }
            Some(request) => trace.write(now, own, format_args!("<- user     {call} {request:?}")),
            None => trace.write(now, own, format_args!("<- host     {call}")),
        },
        Input::PeerLost { peer } => {
            trace.write(now, own, format_args!("<- {:<8} {peer} lost", other.unwrap_or("?")))
        }
    }
}

/// A machine's input as an event; `why`: why it is woken, if it is.
pub(crate) fn event<Q: 'static>(
    origin: Origin,
    why: impl FnOnce() -> &'static str,
    input: &Input<Q>,
) -> What {
    match input {
        Input::Wake => What::Woken { reason: why() },
        Input::Message { message, .. } => {
            // What was sent is kept with its sending.
            let message = origin.cause.is_none().then(|| Box::new(message.clone()));
            What::Received { from: origin.node, message }
        }
        Input::DiskDone { op, result } => What::DiskEnded { op: *op, result: result.clone() },
        Input::Call { call, request } => {
            let request = (request as &dyn Any).downcast_ref::<ClientRequest>().cloned().map(Box::new);
            What::Called { call: *call, request }
        }
        Input::PeerLost { .. } => What::PeerLost { other: origin.node },
    }
}

/// A machine answers a call.
pub(crate) fn reply(
    trace: &mut Trace,
    now: Time,
    node: NodeNumber,
    own: &str,
    call: CallId,
    response: &dyn Any,
) {
    let result = response.downcast_ref::<ClientResult>();
    let line = match result {
        Some(Ok(ClientResponse::Data(pieces))) => {
            trace.absorb(pieces);
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            trace.write(now, own, format_args!("-> user     {call} Data len={length}"))
        }
        Some(Ok(response)) => trace.write(now, own, format_args!("-> user     {call} {response:?}")),
        Some(Err(error)) => trace.write(now, own, format_args!("-> user     {call} error: {error}")),
        None => trace.write(now, own, format_args!("-> host     {call}")),
    };
    if let Some(recorder) = &mut trace.recorder {
        recorder.reply(now, node, call, result.cloned().map(Box::new), line);
    }
}
