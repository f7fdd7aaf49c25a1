//! What each event of a run is about: its chunk, its files, whom it concerns. Replies are told from their requests, disk
//! operations from their paths or from the input that led to them.

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::client::{ClientRequest, ClientResponse};
use cairn_core::disk::DiskRequest;
use cairn_core::id::{ChunkId, ChunkUuid, HandleId, RequestId, ServerId, UploadId};
use cairn_core::message::{FromServer, MasterReply, MasterRequest, Message, ReadMessage, ToServer};
use runtime_sim::record::{Happening, HappeningId, NodeNumber, Record, What};

/// A file's place in [`Subjects::files`].
pub type FileNumber = u32;

/// What one event is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The chunk.
    pub chunk: Option<ChunkId>,
    /// The file; of a rename also the other name.
    pub files: [Option<FileNumber>; 2],
}

/// What all events of a run are about.
#[derive(Clone, Debug, Default)]
pub struct Subjects {
    /// By event.
    pub about: Vec<About>,
    /// Arrival of each sending, end of each disk operation.
    pub outcome: Vec<Option<HappeningId>>,
    /// Paths, in order of being heard of.
    pub files: Vec<String>,
    /// Which node a chunkserver's id belongs to.
    pub servers: BTreeMap<ServerId, NodeNumber>,
    /// Files that were written to or read from each chunk.
    pub chunks: BTreeMap<ChunkId, BTreeSet<FileNumber>>,
    /// Which chunks a file consisted of when the master was asked: the event, the file, its chunks.
    pub located: Vec<(HappeningId, FileNumber, Vec<ChunkId>)>,
}

/// What the walk over the events remembers.
#[derive(Default)]
struct Walk {
    found: Subjects,
    numbers: BTreeMap<String, FileNumber>,
    uploads: BTreeMap<UploadId, FileNumber>,
    /// Each client's requests: their sendings and what they are about.
    requests: BTreeMap<(NodeNumber, RequestId), (Vec<HappeningId>, About)>,
    /// Asker, server, number of a read.
    reads: BTreeMap<(NodeNumber, NodeNumber, u64), About>,
    handles: BTreeMap<(NodeNumber, HandleId), About>,
}

impl Subjects {
    /// Walks over the run.
    pub fn of(record: &Record) -> Subjects {
        let mut walk = Walk::default();
        walk.found.outcome = vec![None; record.happenings.len()];
        for (id, happening) in record.happenings.iter().enumerate() {
            let id = id as HappeningId;
            let about = walk.about(id, happening);
            walk.found.about.push(about);
            if let (What::Received { .. } | What::DiskEnded { .. }, Some(cause)) =
                (&happening.what, happening.cause)
            {
                walk.found.outcome[cause as usize] = Some(id);
            }
        }
        walk.found
    }

    /// The number of a path, if the run knows it.
    pub fn file(&self, path: &str) -> Option<FileNumber> {
        self.files.iter().position(|known| known == path).map(|at| at as FileNumber)
    }

    /// The path of the run that a text speaks of first; a whole path before its beginning.
    pub fn file_in(&self, text: &str) -> Option<FileNumber> {
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '/' || c == '_');
        let first =
            |path: &str| text.match_indices(path).map(|(at, _)| at).find(|at| ends(&text[at + path.len()..]));
        let found = self.files.iter().enumerate().filter(|(_, path)| path.len() > 1);
        let found = found.filter_map(|(number, path)| Some((first(path)?, usize::MAX - path.len(), number)));
        found.min().map(|(_, _, number)| number as FileNumber)
    }

    /// The chunks of a file as the master told them last before `until`, or else all that were written for it.
    pub fn chunks_of(&self, file: FileNumber, until: HappeningId) -> Vec<ChunkId> {
        let told = self
            .located
            .iter()
            .rev()
            .find(|(id, of, chunks)| *id <= until && *of == file && !chunks.is_empty());
        match told {
            Some((_, _, chunks)) => chunks.clone(),
            None => self
                .chunks
                .iter()
                .filter(|(_, files)| files.contains(&file))
                .map(|(chunk, _)| *chunk)
                .collect(),
        }
    }
}

impl Walk {
    fn number(&mut self, path: &str) -> FileNumber {
        if let Some(number) = self.numbers.get(path) {
            return *number;
        }
        let number = self.found.files.len() as FileNumber;
        self.found.files.push(path.to_owned());
        self.numbers.insert(path.to_owned(), number);
        number
    }

    fn about_path(&mut self, path: &str) -> About {
        About { chunk: None, files: [Some(self.number(path)), None] }
    }

    fn of_cause(&self, happening: &Happening) -> About {
        happening.cause.map_or_else(About::default, |cause| self.found.about[cause as usize])
    }

    fn about(&mut self, id: HappeningId, happening: &Happening) -> About {
        match &happening.what {
            What::Woken { .. } | What::PeerLost { .. } => About::default(),
            What::Received { message: None, .. } | What::DiskEnded { .. } => self.of_cause(happening),
            What::Received { from, message: Some(message) } => {
                self.message(id, *from, happening.node, message)
            }
            What::Sent { to, message } => self.message(id, happening.node, *to, message),
            What::DiskBegun { request, .. } => match chunk_of_disk(request) {
                Some(chunk) => self.about_chunk(chunk),
                None => self.of_cause(happening),
            },
            What::Called { request, .. } => match (request, happening.node) {
                (Some(request), Some(node)) => self.call(node, request),
                _ => About::default(),
            },
            What::Replied { called, response, .. } => {
                let about = called.map_or_else(About::default, |call| self.found.about[call as usize]);
                let opened = match response.as_deref() {
                    Some(Ok(
                        ClientResponse::Created { handle, .. } | ClientResponse::Opened { handle, .. },
                    )) => Some(*handle),
                    _ => None,
                };
                if let (Some(handle), Some(node)) = (opened, happening.node) {
                    self.handles.insert((node, handle), about);
                }
                about
            }
            What::Noted { text } => match chunks_in(text).first() {
                Some(chunk) => self.about_chunk(*chunk),
                None => self.of_cause(happening),
            },
            What::World { text } => {
                chunks_in(text).first().map_or_else(About::default, |chunk| self.about_chunk(*chunk))
            }
            What::Broken { text, .. } => {
                let mut about = chunks_in(text).first().map_or_else(About::default, |c| self.about_chunk(*c));
                about.files[0] = self.found.file_in(text).or(about.files[0]);
                about
            }
        }
    }

    /// A chunk, with its file if it has only one.
    fn about_chunk(&self, chunk: ChunkId) -> About {
        let files = self.found.chunks.get(&chunk);
        let file = files.filter(|files| files.len() == 1).and_then(|files| files.first().copied());
        About { chunk: Some(chunk), files: [file, None] }
    }

    fn call(&mut self, node: NodeNumber, request: &ClientRequest) -> About {
        match request {
            ClientRequest::Master(request) => self.request(request),
            ClientRequest::Create { path, .. } | ClientRequest::Open { path } => self.about_path(path),
            ClientRequest::Write { handle, .. }
            | ClientRequest::Close { handle }
            | ClientRequest::Abort { handle }
            | ClientRequest::Read { handle, .. }
            | ClientRequest::Release { handle } => {
                self.handles.get(&(node, *handle)).copied().unwrap_or_default()
            }
        }
    }

    fn request(&mut self, request: &MasterRequest) -> About {
        match request {
            MasterRequest::Mkdir { path, .. }
            | MasterRequest::List { path, .. }
            | MasterRequest::Stat { path }
            | MasterRequest::Chmod { path, .. }
            | MasterRequest::Chown { path, .. }
            | MasterRequest::Delete { path, .. }
            | MasterRequest::BeginUpload { path, .. }
            | MasterRequest::Locate { path, .. } => self.about_path(path),
            MasterRequest::Restore { path, to, .. } => {
                let other = to.as_ref().map(|to| self.number(to));
                About { files: [Some(self.number(path)), other], chunk: None }
            }
            MasterRequest::Rename { from, to, .. } => {
                About { files: [Some(self.number(from)), Some(self.number(to))], chunk: None }
            }
            MasterRequest::OpenChunk { upload, .. }
            | MasterRequest::KeepUpload { upload }
            | MasterRequest::CompleteUpload { upload, .. }
            | MasterRequest::AbortUpload { upload } => {
                About { files: [self.uploads.get(upload).copied(), None], chunk: None }
            }
            MasterRequest::SealChunk { chunk, upload, .. } => {
                About { files: [self.uploads.get(upload).copied(), None], chunk: Some(*chunk) }
            }
            MasterRequest::ReportBadReplica { chunk, .. } => self.about_chunk(*chunk),
            _ => About::default(),
        }
    }

    /// A message on its way; a reply tells more of its request.
    fn message(
        &mut self,
        id: HappeningId,
        from: Option<NodeNumber>,
        to: Option<NodeNumber>,
        message: &Message,
    ) -> About {
        match message {
            Message::MasterRequest { request, body, .. } => {
                let about = self.request(body);
                if let Some(from) = from {
                    let known = self.requests.entry((from, *request)).or_insert((Vec::new(), about));
                    known.0.push(id);
                }
                about
            }
            Message::MasterReply { request, result } => {
                let Some((sendings, mut about)) =
                    to.and_then(|to| self.requests.get(&(to, *request)).cloned())
                else {
                    return About::default();
                };
                let chunk = match result {
                    Ok(MasterReply::Grant(grant)) => Some(grant.chunk),
                    Ok(MasterReply::Sealed(sealed)) => Some(sealed.chunk),
                    _ => None,
                };
                if let (Ok(MasterReply::Upload { upload, .. }), Some(file)) = (result, about.files[0]) {
                    self.uploads.insert(*upload, file);
                }
                if let (Ok(MasterReply::Located(plan)), Some(file)) = (result, about.files[0]) {
                    let chunks: Vec<_> = plan.extents.iter().map(|extent| extent.chunk.chunk).collect();
                    for chunk in &chunks {
                        self.found.chunks.entry(*chunk).or_default().insert(file);
                    }
                    self.found.located.push((id, file, chunks));
                }
                if let Some(chunk) = chunk {
                    about.chunk = Some(chunk);
                    if let Some(file) = about.files[0] {
                        self.found.chunks.entry(chunk).or_default().insert(file);
                    }
                    self.learn(&sendings, chunk);
                }
                about
            }
            Message::Read(ReadMessage::Request { read, chunk, .. }) => {
                let about = self.about_chunk(*chunk);
                if let (Some(from), Some(to)) = (from, to) {
                    self.reads.insert((from, to, *read), about);
                }
                about
            }
            Message::Read(ReadMessage::Reply { read, .. }) => {
                let key = to.zip(from).map(|(to, from)| (to, from, *read));
                key.and_then(|key| self.reads.get(&key).copied()).unwrap_or_default()
            }
            Message::FromServer(FromServer::Register { server, .. }) => {
                self.found.servers.extend(from.map(|from| (*server, from)));
                About::default()
            }
            _ => chunk_of_message(message).map_or_else(About::default, |chunk| self.about_chunk(chunk)),
        }
    }

    /// A request was about this chunk, as its answer shows.
    fn learn(&mut self, sendings: &[HappeningId], chunk: ChunkId) {
        for sending in sendings {
            let arrival = self.found.outcome[*sending as usize];
            for id in [Some(*sending), arrival].into_iter().flatten() {
                if let Some(about) = self.found.about.get_mut(id as usize) {
                    about.chunk.get_or_insert(chunk);
                }
            }
        }
    }
}

fn chunk_of_message(message: &Message) -> Option<ChunkId> {
    Some(match message {
        Message::Append(append) => append.chunk(),
        Message::FromServer(FromServer::ReplicaChanged(replica)) => replica.chunk,
        Message::FromServer(FromServer::Vote { chunk, .. } | FromServer::DropDone { chunk, .. }) => *chunk,
        Message::FromServer(FromServer::CopyDone { target, .. }) => target.chunk,
        Message::ToServer(
            ToServer::Fence { chunk, .. }
            | ToServer::Complete { chunk, .. }
            | ToServer::Verify { chunk, .. }
            | ToServer::Drop { chunk, .. },
        ) => *chunk,
        Message::ToServer(ToServer::Seal { sealed, .. } | ToServer::Copy { sealed, .. }) => sealed.chunk,
        _ => return None,
    })
}

fn chunk_of_disk(request: &DiskRequest) -> Option<ChunkId> {
    chunks_in(&request.path()?.name).first().copied()
}

/// Chunks that a text names, as `chunk-7`, `chunk=7`, `ChunkId(7)` or by a file's name.
pub fn chunks_in(text: &str) -> Vec<ChunkId> {
    let mut found = Vec::new();
    for mark in ["chunk-", "chunk=", "ChunkId("] {
        for (at, _) in text.match_indices(mark) {
            let rest = &text[at + mark.len()..];
            let uuid = rest.get(..36).and_then(ChunkUuid::parse).and_then(ChunkUuid::parts);
            let digits = &rest[..rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len()];
            let chunk = uuid.map(|(_, chunk)| chunk).or_else(|| digits.parse().ok().map(ChunkId));
            found.extend(chunk.filter(|chunk| !found.contains(chunk)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::id::ClusterId;

    #[test]
    fn a_text_names_chunks_in_three_ways() {
        let file = format!("chunks/07/chunk-{}.meta", ChunkUuid::new(ClusterId(5), ChunkId(7)));
        assert_eq!(chunks_in(&file), [ChunkId(7)]);
        assert_eq!(chunks_in("chunk-12 has, chunk=3 v=1, NoReplica(ChunkId(12))"), [ChunkId(12), ChunkId(3)]);
        assert_eq!(chunks_in("no chunk-s"), []);
    }

    #[test]
    fn a_path_in_a_text_is_a_whole_one() {
        let files = ["/", "/u/f", "/u/f1"].map(str::to_owned).to_vec();
        let subjects = Subjects { files, ..Subjects::default() };
        assert_eq!(subjects.file_in("/u/f1 must be"), Some(2));
        assert_eq!(subjects.file_in("\"/u/f\" must be"), Some(1));
        assert_eq!(subjects.file_in("/u/f12 must be"), None);
        assert_eq!(subjects.file_in("/u/f is not /u/f1"), Some(1));
    }
}
