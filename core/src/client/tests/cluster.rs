//! A cluster that answers as a test's script says, with one client. Time moves only when nothing else is left to do.
//!
//! Chunks are kept once, as their staged bytes; what is committed is a prefix. A seal settles on any length between the two.

use std::boxed::Box;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::string::{String, ToString};
use std::vec::Vec;

use bytes::Bytes;

use crate::client::{Client, ClientRequest, ClientResponse, ClientResult, ClientSetup};
use crate::config::ClientConfig;
use crate::defect::Defects;
use crate::error::{ChunkError, MasterError};
use crate::id::{
    Address, BootId, CallId, ChunkId, ChunkVersion, ClusterId, Durability, FileId, HandleId, Peer, ProcessId,
    RequestId, ServerId, SessionId, UploadId, VolumeId,
};
use crate::machine::{Effect, Effects, Input, Machine};
use crate::message::{
    AppendMessage, ExtentPlan, FilePlan, FileStatus, Grant, Identity, MasterReply, MasterRequest, Member,
    Message, ReadMessage, ReplicaPlace, SealedChunk, StorageOptions,
};
use crate::payload::Payload;
use crate::time::{Time, UnixMs};

pub(super) const CAPACITY: u64 = 100;
const SERVERS: u64 = 3;

/// What happens to one message of the client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    /// It is done and answered.
    Fine,
    /// It is lost without a sign.
    Lost,
    /// It is done, the answer is lost without a sign.
    Unanswered,
    /// The connection breaks before it arrives.
    Broken,
    /// It is done, then the connection breaks.
    BrokenAfter,
    /// It is done and answered twice.
    Twice,
    /// The master refuses.
    Refused(MasterError),
    /// It is done, but the master's answer is this.
    Misreported(MasterError),
    /// The chunkserver refuses.
    Failed(ChunkError),
}

type Script = Box<dyn FnMut(&Address, &Message) -> Fate>;

#[derive(Debug, Default)]
struct FakeChunk {
    staged: Vec<u8>,
    committed: usize,
    records: u64,
    dead: bool,
    sealed: Option<SealedChunk>,
}

#[derive(Debug, Default)]
struct FakeUpload {
    path: String,
    chunks: Vec<u64>,
}

pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) now: Time,
    pub(super) script: Script,
    /// Of the staged and uncommitted bytes, how many percent a seal keeps.
    pub(super) seal_keeps: usize,
    /// All that the client sent, for assertions.
    pub(super) sent: Vec<(Address, Message)>,
    pub(super) answers: BTreeMap<CallId, ClientResult>,
    pub(super) files: BTreeMap<String, (FileId, Vec<u64>)>,
    wire: VecDeque<(Peer, Message)>,
    chunks: BTreeMap<u64, FakeChunk>,
    uploads: BTreeMap<u64, FakeUpload>,
    remembered: BTreeMap<RequestId, Result<MasterReply, MasterError>>,
    aborted: BTreeSet<u64>,
    calls: u64,
    ids: u64,
}

impl Cluster {
    pub(super) fn new(
        config: ClientConfig,
        script: impl FnMut(&Address, &Message) -> Fate + 'static,
    ) -> Cluster {
        let setup = ClientSetup {
            config,
            seed: 1,
            identity: Identity::default(),
            masters: [Address::new("m1"), Address::new("m2")].into(),
            defects: Defects::none(),
        };
        Cluster {
            client: Client::new(setup),
            now: Time::ZERO,
            script: Box::new(script),
            seal_keeps: 50,
            sent: Vec::new(),
            answers: BTreeMap::new(),
            files: BTreeMap::new(),
            wire: VecDeque::new(),
            chunks: BTreeMap::new(),
            uploads: BTreeMap::new(),
            remembered: BTreeMap::new(),
            aborted: BTreeSet::new(),
            calls: 0,
            ids: 1,
        }
    }

    pub(super) fn config() -> ClientConfig {
        ClientConfig {
            frame_bytes: 16,
            read_bytes: 16,
            write_window_bytes: 64,
            parallel_reads: 3,
            cache_entries: 4,
            ..ClientConfig::default()
        }
    }

    /// Hands a call in, without waiting for its answer.
    pub(super) fn call(&mut self, request: ClientRequest) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.feed(Input::Call { call, request });
        call
    }

    /// Hands a call in and lets the world go on until it is answered.
    pub(super) fn ask(&mut self, request: ClientRequest) -> ClientResult {
        let call = self.call(request);
        self.settle(call)
    }

    pub(super) fn settle(&mut self, call: CallId) -> ClientResult {
        for _ in 0..100_000 {
            if let Some(answer) = self.answers.get(&call) {
                return answer.clone();
            }
            self.turn();
        }
        panic!("{call} was never answered");
    }

    /// One message, or if there is none the next wake.
    pub(super) fn turn(&mut self) {
        if let Some((to, message)) = self.wire.pop_front() {
            return self.deliver(to, message);
        }
        let (at, _) = self.client.next_wake().expect("the client waits for nothing");
        self.now = self.now.max(at);
        self.feed(Input::Wake);
    }

    /// Delivers everything that is under way, time standing still.
    pub(super) fn drain(&mut self) {
        while !self.wire.is_empty() {
            self.turn();
        }
    }

    pub(super) fn create(&mut self, path: &str) -> HandleId {
        let request = ClientRequest::Create {
            path: path.into(),
            replace: false,
            mode: 0o644,
            options: StorageOptions::default(),
        };
        match self.ask(request) {
            Ok(ClientResponse::Created { handle, .. }) => handle,
            other => panic!("create: {other:?}"),
        }
    }

    pub(super) fn write(&mut self, handle: HandleId, data: &[u8]) -> ClientResult {
        self.ask(ClientRequest::Write { handle, data: Bytes::copy_from_slice(data) })
    }

    /// Writes a file in calls of `step` bytes and closes it.
    pub(super) fn put(&mut self, path: &str, data: &[u8], step: usize) -> ClientResult {
        let handle = self.create(path);
        for part in data.chunks(step) {
            let _ = self.write(handle, part);
        }
        self.ask(ClientRequest::Close { handle })
    }

    pub(super) fn open(&mut self, path: &str) -> (HandleId, u64) {
        match self.ask(ClientRequest::Open { path: path.into() }) {
            Ok(ClientResponse::Opened { handle, length }) => (handle, length),
            other => panic!("open: {other:?}"),
        }
    }

    pub(super) fn read(&mut self, handle: HandleId, offset: u64, length: u32) -> Result<Vec<u8>, String> {
        match self.ask(ClientRequest::Read { handle, offset, length }) {
            Ok(ClientResponse::Data(parts)) => Ok(parts.concat()),
            Err(error) => Err(error.to_string()),
            other => panic!("read: {other:?}"),
        }
    }

    pub(super) fn get(&mut self, path: &str) -> Result<Vec<u8>, String> {
        let (handle, length) = self.open(path);
        self.read(handle, 0, length as u32)
    }

    /// The file's bytes as the cluster has them.
    pub(super) fn stored(&self, path: &str) -> Vec<u8> {
        let (_, chunks) = &self.files[path];
        chunks.iter().flat_map(|id| self.chunks[id].staged.clone()).collect()
    }

    pub(super) fn count(&self, which: impl Fn(&Message) -> bool) -> usize {
        self.sent.iter().filter(|(_, m)| which(m)).count()
    }

    pub(super) fn feed(&mut self, input: Input<ClientRequest>) {
        let mut effects = Effects::default();
        self.client.handle(self.now, input, &mut effects);
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => self.wire.push_back((to, message)),
                Effect::Reply { call, response } => {
                    let again = self.answers.insert(call, response);
                    assert!(again.is_none(), "{call} was answered twice");
                }
                Effect::Note { level, text } => {
                    assert_ne!(level, crate::machine::Level::Alarm, "{text}");
                }
                other => panic!("a client does not want {other:?}"),
            }
        }
    }

    fn deliver(&mut self, to: Peer, message: Message) {
        let Peer::Dial(address) = &to else { panic!("a client dials") };
        let fate = (self.script)(address, &message);
        self.sent.push((address.clone(), message.clone()));
        if matches!(fate, Fate::Broken | Fate::BrokenAfter) {
            if fate == Fate::BrokenAfter {
                self.answer(address, &message, &fate);
            }
            for chunk in self.chunks.values_mut().filter(|_| address.0.starts_with('s')) {
                chunk.dead = true;
            }
            return self.feed(Input::PeerLost { peer: to });
        }
        if fate == Fate::Lost {
            return;
        }
        let Some(answer) = self.answer(address, &message, &fate) else { return };
        if fate == Fate::Twice {
            self.feed(Input::Message { from: to.clone(), message: answer.clone() });
        }
        if fate != Fate::Unanswered {
            self.feed(Input::Message { from: to, message: answer });
        }
    }

    fn answer(&mut self, address: &Address, message: &Message, fate: &Fate) -> Option<Message> {
        match message {
            Message::MasterRequest { request, body, .. } => {
                let result = match fate {
                    Fate::Refused(error) => Err(error.clone()),
                    Fate::Misreported(error) => {
                        self.master_once(*request, body).map_or_else(Err, |_| Err(error.clone()))
                    }
                    _ => self.master_once(*request, body),
                };
                Some(Message::MasterReply { request: *request, result })
            }
            Message::Append(append) => self.append(address, append, fate).map(Message::Append),
            Message::Read(ReadMessage::Request { read, chunk, offset, length, .. }) => {
                let data = &self.chunks[&chunk.0].staged;
                let range = *offset as usize..*offset as usize + *length as usize;
                let result = match (fate, data.get(range)) {
                    (Fate::Failed(error), _) => Err(error.clone()),
                    (_, Some(bytes)) => Ok(Payload::new(*offset, Bytes::copy_from_slice(bytes))),
                    (_, None) => Err(ChunkError::BeyondEnd { chunk: *chunk, length: data.len() as u64 }),
                };
                Some(Message::Read(ReadMessage::Reply { read: *read, result }))
            }
            other => panic!("a client does not send {other:?}"),
        }
    }

    fn append(&mut self, address: &Address, message: &AppendMessage, fate: &Fate) -> Option<AppendMessage> {
        match message {
            AppendMessage::Open { grant, position, .. } => {
                assert_eq!((*position, address), (0, &grant.addresses[0]));
                let (chunk, version) = (grant.chunk, grant.version);
                let Fate::Failed(error) = fate else { return None };
                self.chunks.get_mut(&chunk.0)?.dead = true;
                let server = grant.members[0].server;
                Some(AppendMessage::Failed { chunk, version, server, error: error.clone() })
            }
            AppendMessage::Data { chunk, version, record, payload, .. } => {
                let (chunk, version, record) = (*chunk, *version, *record);
                let state = self.chunks.get_mut(&chunk.0)?;
                if state.dead || state.sealed.is_some() {
                    return None;
                }
                assert!(payload.is_intact() && payload.end() <= CAPACITY);
                if record != state.records + 1 {
                    state.dead = true;
                    let error = ChunkError::Gap { chunk, expected: state.records + 1 };
                    return Some(AppendMessage::Failed { chunk, version, server: ServerId(1), error });
                }
                assert_eq!(payload.offset, state.staged.len() as u64);
                state.records = record;
                state.staged.extend_from_slice(&payload.bytes);
                if let Fate::Failed(error) = fate {
                    state.dead = true;
                    let server = ServerId(2);
                    return Some(AppendMessage::Failed { chunk, version, server, error: error.clone() });
                }
                if !matches!(fate, Fate::Unanswered | Fate::BrokenAfter) {
                    state.committed = state.staged.len();
                }
                Some(AppendMessage::Committed {
                    chunk,
                    version,
                    end: state.committed as u64,
                    record,
                    everywhere: state.committed as u64,
                })
            }
            other => panic!("a client does not send {other:?}"),
        }
    }

    fn master_once(&mut self, request: RequestId, body: &MasterRequest) -> Result<MasterReply, MasterError> {
        if let Some(result) = self.remembered.get(&request) {
            return result.clone();
        }
        let result = self.master(body);
        if body.is_change() {
            self.remembered.insert(request, result.clone());
        }
        result
    }

    fn master(&mut self, body: &MasterRequest) -> Result<MasterReply, MasterError> {
        match body {
            MasterRequest::BeginUpload { path, .. } => {
                self.ids += 1;
                self.uploads.insert(self.ids, FakeUpload { path: path.clone(), chunks: Vec::new() });
                let options = StorageOptions { chunk_bytes: CAPACITY, ..StorageOptions::default() };
                Ok(MasterReply::Upload { upload: UploadId(self.ids), options })
            }
            MasterRequest::OpenChunk { upload, ordinal, avoid } => self.open_chunk(*upload, *ordinal, avoid),
            MasterRequest::SealChunk { upload, chunk, version } => {
                self.upload(*upload)?;
                assert_eq!(*version, ChunkVersion(1));
                Ok(MasterReply::Sealed(self.seal(*chunk)))
            }
            MasterRequest::CompleteUpload { upload, length } => self.complete(*upload, *length),
            MasterRequest::AbortUpload { upload } => {
                self.uploads.remove(&upload.0).ok_or(MasterError::UploadGone(*upload))?;
                self.aborted.insert(upload.0);
                Ok(MasterReply::Done)
            }
            MasterRequest::KeepUpload { upload } => self.upload(*upload).map(|_| MasterReply::Done),
            MasterRequest::Locate { path, offset, length } => self.locate(path, *offset, *length),
            _ => Ok(MasterReply::Done),
        }
    }

    fn upload(&mut self, upload: UploadId) -> Result<&mut FakeUpload, MasterError> {
        self.uploads.get_mut(&upload.0).ok_or(MasterError::UploadGone(upload))
    }

    fn open_chunk(
        &mut self,
        upload: UploadId,
        ordinal: u32,
        avoid: &[ServerId],
    ) -> Result<MasterReply, MasterError> {
        let count = self.upload(upload)?.chunks.len();
        assert!(ordinal as usize <= count, "chunk {ordinal} of {count}: a gap");
        if ordinal as usize == count {
            self.ids += 1;
            let id = self.ids;
            self.upload(upload)?.chunks.push(id);
            self.chunks.insert(id, FakeChunk::default());
        }
        let id = self.upload(upload)?.chunks[ordinal as usize];
        if let Some(sealed) = self.chunks[&id].sealed {
            return Ok(MasterReply::Sealed(sealed));
        }
        let mut servers: Vec<u64> = (1..=SERVERS).collect();
        servers.sort_by_key(|s| avoid.contains(&ServerId(*s)));
        let member = |s: &u64| Member {
            server: ServerId(*s),
            session: SessionId(1),
            volume: VolumeId(*s),
            boot: BootId(1),
            process: ProcessId(1),
        };
        Ok(MasterReply::Grant(Grant {
            cluster: ClusterId(1),
            chunk: ChunkId(id),
            version: ChunkVersion(1),
            members: servers.iter().map(member).collect(),
            addresses: servers.iter().map(|s| place(*s).address).collect(),
            replication: 3,
            quorum: 2,
            durability: Durability::Sync,
            capacity: CAPACITY,
        }))
    }

    fn seal(&mut self, id: ChunkId) -> SealedChunk {
        let keeps = self.seal_keeps;
        let chunk = self.chunks.get_mut(&id.0).expect("a granted chunk");
        if let Some(sealed) = chunk.sealed {
            return sealed;
        }
        let length = chunk.committed + (chunk.staged.len() - chunk.committed) * keeps / 100;
        chunk.staged.truncate(length);
        let crc = crc32fast::hash(&chunk.staged);
        let sealed = SealedChunk { chunk: id, version: ChunkVersion(2), length: length as u64, crc };
        chunk.sealed = Some(sealed);
        sealed
    }

    fn complete(&mut self, upload: UploadId, length: u64) -> Result<MasterReply, MasterError> {
        let FakeUpload { path, chunks } = self.upload(upload)?;
        let (path, chunks) = (path.clone(), chunks.clone());
        let sealed = chunks.iter().map(|id| self.chunks[id].sealed.expect("all chunks sealed").length);
        assert_eq!(sealed.sum::<u64>(), length);
        self.uploads.remove(&upload.0);
        self.ids += 1;
        let id = FileId(self.ids);
        self.files.insert(path.clone(), (id, chunks.clone()));
        Ok(MasterReply::Status(FileStatus {
            path,
            id,
            directory: false,
            length,
            mode: 0o644,
            owner: String::new(),
            group: String::new(),
            modified: UnixMs(0),
            replication: 3,
            chunk_bytes: CAPACITY,
            extents: chunks.len() as u32,
            crc: 0,
        }))
    }

    fn locate(&self, path: &str, offset: u64, length: u64) -> Result<MasterReply, MasterError> {
        let (file, chunks) = self.files.get(path).ok_or_else(|| MasterError::NotFound(path.into()))?;
        let mut extents = Vec::new();
        let mut at = 0;
        for sealed in chunks.iter().filter_map(|id| self.chunks[id].sealed).filter(|s| s.length > 0) {
            if at + sealed.length > offset && at < offset.saturating_add(length) {
                extents.push(ExtentPlan {
                    index: extents.len() as u32,
                    file_offset: at,
                    chunk_offset: 0,
                    length: sealed.length,
                    chunk: sealed,
                    replicas: (1..=SERVERS).map(place).collect(),
                });
            }
            at += sealed.length;
        }
        Ok(MasterReply::Located(FilePlan { file: *file, length: at, extents }))
    }

    /// Whether an upload was given up.
    pub(super) fn was_aborted(&self) -> bool {
        !self.aborted.is_empty()
    }
}

fn place(server: u64) -> ReplicaPlace {
    let address = Address::new(&std::format!("s{server}"));
    ReplicaPlace { server: ServerId(server), address, rack: String::new() }
}
