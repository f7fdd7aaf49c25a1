//! Carries one operation out against any client and says what came of it. The only place that knows the client's calls.

use bytes::Bytes;
pub use cairn_core::client::Caller;
use cairn_core::client::{ClientRequest, ClientResponse};
use cairn_core::error::{ClientError, MasterError};
use cairn_core::id::HandleId;
use cairn_core::message::{MasterReply, MasterRequest, TrashEntry};

use crate::content::Content;
use crate::operation::{Operation, Outcome, Storage, is_definite};

/// Bytes of one read call.
const READ_BYTES: u32 = 256 * 1024;

/// Entries of one page of a listing.
const PAGE: u32 = 100;

/// Entries of one page of the trash.
const TRASH_PAGE: u32 = 1_000;

/// Carries `operation` out.
pub async fn perform<C: Caller>(client: &C, operation: &Operation) -> Outcome {
    match operation {
        Operation::Put { path, content, replace, piece, storage } => {
            put(client, path, *content, *replace, *piece, *storage).await
        }
        Operation::Abandon { path, content, piece, storage, politely } => {
            abandon(client, path, *content, *piece, *storage, *politely).await
        }
        Operation::Get { path } | Operation::Peek { path } => match read_whole(client, path).await {
            Ok(outcome) => outcome,
            Err(error) => without_change(error),
        },
        Operation::GetRange { path, offset, length } => {
            match read_range(client, path, *offset, *length).await {
                Ok(outcome) => outcome,
                Err(error) => without_change(error),
            }
        }
        Operation::Stat { path } => match master(client, MasterRequest::Stat { path: path.clone() }).await {
            Ok(MasterReply::Status(s)) => {
                Outcome::Attributes { directory: s.directory, length: s.length, crc: s.crc }
            }
            Ok(other) => Outcome::Broken(format!("Stat {path} was answered {other:?}")),
            Err(error) => without_change(error),
        },
        Operation::List { path } => match list(client, path).await {
            Ok(names) => Outcome::Names(names),
            Err(error) => without_change(error),
        },
        Operation::Mkdir { path, parents } => {
            let request = MasterRequest::Mkdir { path: path.clone(), parents: *parents, mode: 0o755 };
            change(master(client, request).await)
        }
        Operation::Rename { from, to, replace } => {
            let request = MasterRequest::Rename { from: from.clone(), to: to.clone(), replace: *replace };
            change(master(client, request).await)
        }
        Operation::Delete { path, recursive } => {
            let request = MasterRequest::Delete { path: path.clone(), recursive: *recursive };
            change(master(client, request).await)
        }
        Operation::Restore { path } => {
            let request = MasterRequest::Restore { entry: None, path: path.clone(), to: None };
            change(master(client, request).await)
        }
    }
}

/// A whole directory, page by page.
pub async fn list<C: Caller>(client: &C, path: &str) -> Result<Vec<(String, bool, u64)>, ClientError> {
    let mut names: Vec<(String, bool, u64)> = Vec::new();
    loop {
        let after = names.last().map(|(name, _, _)| name.clone());
        let request = MasterRequest::List { path: path.to_owned(), after, limit: PAGE };
        match master(client, request).await? {
            MasterReply::Entries { entries, more } => {
                let got = entries.len();
                names.extend(entries.into_iter().map(|e| (e.path, e.directory, e.length)));
                if !more || got == 0 {
                    return Ok(names);
                }
            }
            other => return Err(unexpected("List", &other)),
        }
    }
}

/// Everything in the trash that the client may see, page by page.
pub async fn trash<C: Caller>(client: &C) -> Result<Vec<TrashEntry>, ClientError> {
    let mut all: Vec<TrashEntry> = Vec::new();
    loop {
        let after = all.last().map(|entry| entry.id);
        match master(client, MasterRequest::ListTrash { after, limit: TRASH_PAGE }).await? {
            MasterReply::Trash { entries, more } => {
                let got = entries.len();
                all.extend(entries);
                if !more || got == 0 {
                    return Ok(all);
                }
            }
            other => return Err(unexpected("ListTrash", &other)),
        }
    }
}

/// A request to the master through the client.
pub async fn master<C: Caller>(client: &C, request: MasterRequest) -> Result<MasterReply, ClientError> {
    match client.call(ClientRequest::Master(request)).await? {
        ClientResponse::Master(reply) => Ok(reply),
        other => Err(unexpected("a master request", &other)),
    }
}

pub(crate) fn unexpected(what: &str, answer: &impl std::fmt::Debug) -> ClientError {
    ClientError::WriteRefused(format!("{what} was answered {answer:?}"))
}

fn change(result: Result<MasterReply, ClientError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(error) => changing(error),
    }
}

/// What a client asks again for as long as it may: an earlier sending may have been carried out.
fn is_passing(refusal: &MasterError) -> bool {
    matches!(refusal, MasterError::Unavailable(_) | MasterError::Busy(_))
}

/// What an error comes to; `otherwise` if it is no refusal.
fn refused(error: ClientError, otherwise: fn(ClientError) -> Outcome) -> Outcome {
    match error {
        ClientError::Master(refusal) if is_passing(&refusal) => {
            Outcome::Broken(format!("the client took a refusal that passes for an answer: {refusal}"))
        }
        ClientError::Master(refusal) if is_definite(&refusal) => Outcome::Refused(refusal),
        error => otherwise(error),
    }
}

/// The outcome of a failed change.
fn changing(error: ClientError) -> Outcome {
    refused(error, Outcome::Unknown)
}

/// The outcome of a failed operation that can't have changed anything.
fn without_change(error: ClientError) -> Outcome {
    refused(error, Outcome::Failed)
}

async fn create<C: Caller>(
    client: &C,
    path: &str,
    replace: bool,
    storage: Storage,
) -> Result<HandleId, ClientError> {
    let request =
        ClientRequest::Create { path: path.to_owned(), replace, mode: 0o644, options: storage.options() };
    match client.call(request).await? {
        ClientResponse::Created { handle, .. } => Ok(handle),
        other => Err(unexpected("Create", &other)),
    }
}

async fn write<C: Caller>(
    client: &C,
    handle: HandleId,
    content: Content,
    end: u64,
    piece: u32,
) -> Result<(), ClientError> {
    let mut at = 0;
    while at < end {
        let data = content.bytes(at, u64::from(piece.max(1)).min(end - at));
        at += data.len() as u64;
        client.call(ClientRequest::Write { handle, data }).await?;
    }
    Ok(())
}

async fn put<C: Caller>(
    client: &C,
    path: &str,
    content: Content,
    replace: bool,
    piece: u32,
    storage: Storage,
) -> Outcome {
    // Until `Close` is called nothing can become visible, so every failure before it is definite.
    let handle = match create(client, path, replace, storage).await {
        Ok(handle) => handle,
        Err(error) => return without_change(error),
    };
    if let Err(error) = write(client, handle, content, u64::from(content.length), piece).await {
        // The writing failed already: how the abort ends changes nothing for the user.
        let _ = client.call(ClientRequest::Abort { handle }).await;
        return Outcome::Failed(error);
    }
    match client.call(ClientRequest::Close { handle }).await {
        Ok(ClientResponse::Status(status)) => Outcome::Stored { length: status.length, crc: status.crc },
        Ok(other) => Outcome::Broken(format!("Close of {path} was answered {other:?}")),
        Err(error) => changing(error),
    }
}

async fn abandon<C: Caller>(
    client: &C,
    path: &str,
    content: Content,
    piece: u32,
    storage: Storage,
    politely: bool,
) -> Outcome {
    let handle = match create(client, path, true, storage).await {
        Ok(handle) => handle,
        Err(error) => return without_change(error),
    };
    let written = write(client, handle, content, u64::from(content.length) / 2, piece).await;
    if politely && let Err(error) = client.call(ClientRequest::Abort { handle }).await {
        return Outcome::Failed(error);
    }
    match written {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(error),
    }
}

async fn open<C: Caller>(client: &C, path: &str) -> Result<(HandleId, u64), ClientError> {
    match client.call(ClientRequest::Open { path: path.to_owned() }).await? {
        ClientResponse::Opened { handle, length } => Ok((handle, length)),
        other => Err(unexpected("Open", &other)),
    }
}

async fn read<C: Caller>(
    client: &C,
    handle: HandleId,
    offset: u64,
    length: u32,
) -> Result<Vec<Bytes>, ClientError> {
    match client.call(ClientRequest::Read { handle, offset, length }).await? {
        ClientResponse::Data(data) => Ok(data),
        other => Err(unexpected("Read", &other)),
    }
}

async fn read_whole<C: Caller>(client: &C, path: &str) -> Result<Outcome, ClientError> {
    let (handle, length) = open(client, path).await?;
    let outcome = read_opened(client, handle, path, length).await;
    // A handle that can't be released costs the client memory, and tells nothing about the bytes.
    let _ = client.call(ClientRequest::Release { handle }).await;
    outcome
}

async fn read_opened<C: Caller>(
    client: &C,
    handle: HandleId,
    path: &str,
    length: u64,
) -> Result<Outcome, ClientError> {
    let mut content = None;
    let mut hasher = crc32fast::Hasher::new();
    let mut at = 0;
    while at < length {
        let wanted = u64::from(READ_BYTES).min(length - at);
        let data = read(client, handle, at, wanted as u32).await?;
        let got: u64 = data.iter().map(|b| b.len() as u64).sum();
        if got != wanted {
            return Ok(Outcome::Broken(format!("{path}: {got} of {wanted} bytes at {at}, length {length}")));
        }
        for piece in data {
            if at == 0 && length >= 8 && content.is_none() {
                content = if piece.len() >= 8 { Content::announced(&piece) } else { None };
                let Some(content) = content else {
                    return Ok(Outcome::Broken(format!("{path}: first piece of {} bytes", piece.len())));
                };
                if u64::from(content.length) != length {
                    return Ok(Outcome::Broken(format!(
                        "{path} has {length} bytes and begins like {content:?}"
                    )));
                }
            }
            if let Some(content) = content
                && let Some(bad) = content.first_difference(at, &piece)
            {
                return Ok(Outcome::Broken(format!("{path} differs from {content:?} at byte {bad}")));
            }
            hasher.update(&piece);
            at += piece.len() as u64;
        }
    }
    Ok(Outcome::Read { length, content, crc: hasher.finalize() })
}

async fn read_range<C: Caller>(
    client: &C,
    path: &str,
    offset: u64,
    wanted: u32,
) -> Result<Outcome, ClientError> {
    let (handle, length) = open(client, path).await?;
    let result = read(client, handle, offset, wanted).await;
    // As above.
    let _ = client.call(ClientRequest::Release { handle }).await;
    Ok(Outcome::Range { length, bytes: result?.concat() })
}
