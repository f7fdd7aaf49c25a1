//! An event in one line of text, with nodes by name and chunks by number instead of their long identifiers.

use cairn_core::client::{ClientRequest, ClientResponse, ClientResult};
use cairn_core::disk::DiskOk;
use cairn_core::id::{ChunkUuid, ServerId};
use runtime_sim::record::{Happening, Record, What};

use super::subject::Subjects;

/// What an event says. A message's arrival says what its sending said.
pub fn words(record: &Record, subjects: &Subjects, happening: &Happening) -> String {
    let text = match &happening.what {
        What::Woken { reason } => format!("wakes: {reason}"),
        What::Received { message: Some(message), .. } => message.to_string(),
        What::Received { message: None, .. } => {
            match happening.cause.map(|c| &record.happenings[c as usize].what) {
                Some(What::Sent { message, .. }) => message.to_string(),
                _ => String::new(),
            }
        }
        What::DiskEnded { result, .. } => match result {
            Ok(DiskOk::Done) => "done".into(),
            Ok(DiskOk::Data(data)) => format!("at={} len={}", data.offset, data.len()),
            Ok(DiskOk::Entries(entries)) => format!("entries={}", entries.len()),
            Ok(DiskOk::Space { free, .. }) => format!("free={free}"),
            Err(error) => format!("error: {error}"),
        },
        What::Called { request: Some(request), .. } => call(request),
        What::Called { request: None, call } => format!("{call}"),
        What::PeerLost { .. } => "connection lost".into(),
        What::Sent { message, .. } => message.to_string(),
        What::DiskBegun { request, .. } => request.to_string(),
        What::Replied { response: Some(response), .. } => answer(response),
        What::Replied { response: None, call, .. } => format!("{call}"),
        What::Noted { text } | What::World { text } => text.clone(),
        What::Broken { checker, text } => format!("{checker}: {text}"),
    };
    shorten(&text, |server| {
        subjects.servers.get(&server).map(|node| record.nodes[usize::from(*node)].as_str())
    })
}

/// What a user asks for.
fn call(request: &ClientRequest) -> String {
    match request {
        ClientRequest::Master(request) => request.to_string(),
        ClientRequest::Create { path, replace, .. } => format!("Create path={path:?} replace={replace}"),
        ClientRequest::Write { handle, data } => format!("Write {handle} len={}", data.len()),
        ClientRequest::Close { handle } => format!("Close {handle}"),
        ClientRequest::Abort { handle } => format!("Abort {handle}"),
        ClientRequest::Open { path } => format!("Open path={path:?}"),
        ClientRequest::Read { handle, offset, length } => format!("Read {handle} at={offset} len={length}"),
        ClientRequest::Release { handle } => format!("Release {handle}"),
    }
}

/// What a user is told.
fn answer(response: &ClientResult) -> String {
    match response {
        Ok(ClientResponse::Done) => "Done".into(),
        Ok(ClientResponse::Master(reply)) => reply.to_string(),
        Ok(ClientResponse::Created { handle, .. }) => format!("Created {handle}"),
        Ok(ClientResponse::Status(status)) => format!("Status path={:?} len={}", status.path, status.length),
        Ok(ClientResponse::Opened { handle, length }) => format!("Opened {handle} len={length}"),
        Ok(ClientResponse::Data(pieces)) => {
            format!("Data len={}", pieces.iter().map(|piece| piece.len()).sum::<usize>())
        }
        Err(error) => format!("error: {error}"),
    }
}

/// Puts names for long identifiers: `chunk-7` for a chunk's file name, a node's name for its server's id.
pub fn shorten<'a>(text: &str, node: impl Fn(ServerId) -> Option<&'a str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, mark)) = ["chunk-", "server-", "ServerId("]
        .into_iter()
        .filter_map(|mark| rest.find(mark).map(|at| (at, mark)))
        .min()
    {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let body = &from[mark.len()..];
        let digits = body.len() - body.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if let Some((_, chunk)) = body.get(..36).and_then(ChunkUuid::parse).and_then(ChunkUuid::parts) {
            out.push_str(&chunk.to_string());
            rest = &body[36..];
        } else if mark != "chunk-"
            && let Some(name) = body[..digits].parse().ok().and_then(|id| node(ServerId(id)))
        {
            out.push_str(name);
            rest = body[digits..].strip_prefix(')').unwrap_or(&body[digits..]);
        } else {
            out.push_str(mark);
            rest = body;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::id::{ChunkId, ClusterId};

    #[test]
    fn long_identifiers_become_names() {
        let uuid = ChunkUuid::new(ClusterId(9), ChunkId(7));
        let name = |server: ServerId| (server.0 == 12).then_some("cs1");
        let text =
            format!("Write 0:chunks/07/chunk-{uuid}.meta on server-12, ServerId(12), server-13, chunk-4");
        assert_eq!(shorten(&text, name), "Write 0:chunks/07/chunk-7.meta on cs1, cs1, server-13, chunk-4");
    }
}
