//! One trace line for each input, effect and disk operation. Calls and their answers are shown by their type's `Debug`.

use core::fmt::{self, Debug, Display, Formatter};

use crate::disk::{DiskOk, DiskRequest};
use crate::machine::{Effect, Input};

/// A disk result as part of a line.
#[derive(Clone, Copy, Debug)]
pub struct DiskLine<'a>(pub &'a crate::disk::DiskResult);

impl<Q: Debug> Display for Input<Q> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Input::Wake => f.write_str("Wake"),
            Input::Message { from, message } => write!(f, "<- {from} {message}"),
            Input::DiskDone { op, result } => write!(f, "disk {op} {}", DiskLine(result)),
            Input::Call { call, request } => write!(f, "{call} {request:?}"),
            Input::PeerLost { peer } => write!(f, "PeerLost {peer}"),
        }
    }
}

impl<R: Debug> Display for Effect<R> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Send { to, message } => write!(f, "-> {to} {message}"),
            Effect::Close { peer } => write!(f, "Close {peer}"),
            Effect::Disk { op, request } => write!(f, "disk {op} {request}"),
            Effect::Reply { call, response } => write!(f, "{call} -> {response:?}"),
            Effect::Note { level, text } => write!(f, "{level:?}: {text}"),
            Effect::Halt { reason, failed } => write!(f, "Halt failed={failed}: {reason}"),
        }
    }
}

impl Display for DiskRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DiskRequest::MakeDir(path) => write!(f, "MakeDir {path}"),
            DiskRequest::List(path) => write!(f, "List {path}"),
            DiskRequest::Read { path, offset, length } => write!(f, "Read {path} at={offset} len={length}"),
            DiskRequest::Write { path, offset, data, create } => {
                let length: usize = data.iter().map(|bytes| bytes.len()).sum();
                write!(f, "Write {path} at={offset} len={length} create={create}")
            }
            DiskRequest::Sync(path) => write!(f, "Sync {path}"),
            DiskRequest::Truncate { path, length } => write!(f, "Truncate {path} len={length}"),
            DiskRequest::Rename { from, to } => write!(f, "Rename {from} to={to}"),
            DiskRequest::Remove(path) => write!(f, "Remove {path}"),
            DiskRequest::SyncDir(path) => write!(f, "SyncDir {path}"),
            DiskRequest::Space { volume } => write!(f, "Space {volume}"),
        }
    }
}

impl Display for DiskLine<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(DiskOk::Done) => f.write_str("ok"),
            Ok(DiskOk::Entries(entries)) => write!(f, "ok entries={}", entries.len()),
            Ok(DiskOk::Data(payload)) => write!(f, "ok at={} len={}", payload.offset, payload.len()),
            Ok(DiskOk::Space { total, free }) => write!(f, "ok total={total} free={free}"),
            Err(error) => write!(f, "error={error:?}"),
        }
    }
}
