//! The trace: one aligned line for each transition, kept, hashed, or neither.

use std::any::Any;
use std::fmt::{self, Write};

use cairn_core::client::{ClientRequest, ClientResponse, ClientResult};
use cairn_core::disk::DiskOk;
use cairn_core::id::CallId;
use cairn_core::machine::Input;
use cairn_core::time::Time;

use crate::options::TraceMode;

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Trace {
    mode: TraceMode,
    sink: Sink,
}

/// Hashes what is written, and keeps it if asked to.
#[derive(Debug, Default)]
struct Sink {
    hash: u64,
    text: Option<String>,
}

impl Write for Sink {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for word in text.as_bytes().chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            let word = u64::from_le_bytes(bytes);
            self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        if let Some(kept) = &mut self.text {
            kept.push_str(text);
        }
        Ok(())
    }
}

impl Trace {
    pub(crate) fn new(mode: TraceMode) -> Trace {
        let text = (mode == TraceMode::Full).then(String::new);
        Trace { mode, sink: Sink { hash: 0, text } }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.mode != TraceMode::Off
    }

    pub(crate) fn hash(&self) -> u64 {
        self.sink.hash
    }

    /// Takes the kept lines out.
    pub(crate) fn take(&mut self) -> String {
        self.sink.text.take().unwrap_or_default()
    }

    /// Writes a line about `who`.
    pub(crate) fn line(&mut self, now: Time, who: &str, what: fmt::Arguments<'_>) {
        if self.is_on() {
            let (seconds, micros) = (now.0 / 1_000_000_000, now.0 / 1_000 % 1_000_000);
            // The sink takes everything.
            let _ = writeln!(self.sink, "{seconds:>5}.{micros:06}s {who:<8} {what}");
        }
    }
}

/// A machine is given an input.
pub(crate) fn input<Q: 'static>(
    trace: &mut Trace,
    now: Time,
    own: &str,
    other: Option<&str>,
    input: &Input<Q>,
) {
    match input {
        Input::Wake => trace.line(now, own, format_args!("<- wake")),
        Input::Message { from, message } => {
            trace.line(now, own, format_args!("<- {:<8} {from} {message}", other.unwrap_or("?")));
        }
        Input::DiskDone { op, result } => match result {
            Ok(DiskOk::Data(data)) => {
                trace.line(now, own, format_args!("<- disk     {op} at={} len={}", data.offset, data.len()));
            }
            Ok(DiskOk::Entries(entries)) => {
                trace.line(now, own, format_args!("<- disk     {op} entries={}", entries.len()));
            }
            Ok(DiskOk::Space { free, .. }) => {
                trace.line(now, own, format_args!("<- disk     {op} free={free}"))
            }
            Ok(DiskOk::Done) => trace.line(now, own, format_args!("<- disk     {op} done")),
            Err(error) => trace.line(now, own, format_args!("<- disk     {op} error: {error}")),
        },
        Input::Call { call, request } => match (request as &dyn Any).downcast_ref::<ClientRequest>() {
            Some(ClientRequest::Write { handle, data }) => {
                trace.line(now, own, format_args!("<- user     {call} Write {handle} len={}", data.len()));
            }
            Some(request) => trace.line(now, own, format_args!("<- user     {call} {request:?}")),
            None => trace.line(now, own, format_args!("<- host     {call}")),
        },
        Input::PeerLost { peer } => {
            trace.line(now, own, format_args!("<- {:<8} {peer} lost", other.unwrap_or("?")));
        }
    }
}

/// A machine answers a call.
pub(crate) fn reply(trace: &mut Trace, now: Time, own: &str, call: CallId, response: &dyn Any) {
    match response.downcast_ref::<ClientResult>() {
        Some(Ok(ClientResponse::Data(pieces))) => {
            let length: usize = pieces.iter().map(|piece| piece.len()).sum();
            trace.line(now, own, format_args!("-> user     {call} Data len={length}"));
        }
        Some(Ok(response)) => trace.line(now, own, format_args!("-> user     {call} {response:?}")),
        Some(Err(error)) => trace.line(now, own, format_args!("-> user     {call} error: {error}")),
        None => trace.line(now, own, format_args!("-> host     {call}")),
    }
}
