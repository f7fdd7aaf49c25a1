//! Scripted writers: what a client's stream does to one chunk, reduced to its choices.
//!
//! A writer opens the chunk that it was granted and sends its records at once. Sending them again, opening again and asking for
//! the seal happen at any time, each as often as the scope allows. What it was told is committed is what must never be lost.

use std::sync::Arc;

use bytes::Bytes;
use cairn_core::id::{Address, ClientId, Durability, Peer, RequestId, UploadId, WriterId};
use cairn_core::message::{
    AppendMessage, Grant, Identity, MasterReply, MasterRequest, Message, SealedChunk, StorageOptions,
};
use cairn_core::payload::Payload;

/// Bytes of one record.
pub(super) const RECORD: u64 = 8;

/// What a writer can do of its own accord.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// Open the chunk and send all records.
    Start,
    /// Send what is not acknowledged again, on the same connection.
    Resend,
    /// Open again, on whatever connection there is, and send everything again.
    Reopen,
    /// Ask the master to seal the chunk; also again, after the connection broke.
    Seal,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Before the scope begins: asks for the upload, then for the chunk.
    Asking,
    /// Has the grant.
    Ready,
    /// Asked for the seal.
    Sealing,
    Sealed(SealedChunk),
}

/// One writer.
#[derive(Clone, Debug, Hash)]
pub(super) struct Writer {
    /// 0 is the upload's client, others have the same grant.
    pub(super) number: u8,
    records: u8,
    stage: Stage,
    started: bool,
    upload: UploadId,
    pub(super) grant: Option<Arc<Grant>>,
    /// Bytes that it was told are committed.
    pub(super) acked: u64,
    resends: u8,
    reopens: u8,
    seals: bool,
    backwards: bool,
}

/// The byte that a writer's record consists of.
pub(super) fn byte(writer: u8, record: u64) -> u8 {
    b'a' + writer * 8 + record as u8 - 1
}

/// The first `length` bytes of a writer's stream.
pub(super) fn content(writer: u8, length: u64) -> Vec<u8> {
    (0..length).map(|at| byte(writer, at / RECORD + 1)).collect()
}

/// How a writer is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) records: u8,
    pub(super) resends: u8,
    pub(super) reopens: u8,
    pub(super) seals: bool,
    /// Sends its last record first, as if the others had been lost on the way.
    pub(super) backwards: bool,
}

impl Writer {
    pub(super) fn new(number: u8, script: Script) -> Writer {
        let Script { records, resends, reopens, seals, backwards } = script;
        let (stage, upload, grant) = (Stage::Asking, UploadId(0), None);
        Writer {
            number,
            records,
            stage,
            started: false,
            upload,
            grant,
            acked: 0,
            resends,
            reopens,
            seals,
            backwards,
        }
    }

    fn ask(&self, request: u64, body: MasterRequest) -> (Peer, Message) {
        let message = Message::MasterRequest {
            client: ClientId(u64::from(self.number) + 1),
            request: RequestId(request),
            identity: Identity { user: "root".into(), groups: vec!["root".into()] },
            body,
        };
        (Peer::Dial(Address::new("master")), message)
    }

    /// The first request: an upload with these options.
    pub(super) fn begin(&self, replication: u8, quorum: u8, durability: Durability) -> (Peer, Message) {
        let options = StorageOptions { replication, quorum, chunk_bytes: 4096, durability };
        self.ask(1, MasterRequest::BeginUpload { path: "/f".into(), replace: false, mode: 0o644, options })
    }

    /// Takes over another writer's grant.
    pub(super) fn adopt(&mut self, other: &Writer) {
        self.upload = other.upload;
        self.grant.clone_from(&other.grant);
        self.stage = Stage::Ready;
    }

    /// What it could do now, apart from asking for the seal again. It may stream after it asked for the seal and was answered:
    /// what it sends arrives at once, and stands for what it sent before and what travelled for long.
    pub(super) fn acts(&self) -> impl Iterator<Item = Act> {
        let granted = self.stage != Stage::Asking;
        [
            (granted && !self.started, Act::Start),
            (self.started && self.resends > 0, Act::Resend),
            (self.started && self.reopens > 0, Act::Reopen),
            (self.stage == Stage::Ready && self.seals, Act::Seal),
        ]
        .into_iter()
        .filter_map(|(can, act)| can.then_some(act))
    }

    /// Whether it waits for an answer of the master.
    pub(super) fn is_sealing(&self) -> bool {
        self.stage == Stage::Sealing
    }

    /// What it was told the chunk was sealed as.
    pub(super) fn sealed(&self) -> Option<SealedChunk> {
        match self.stage {
            Stage::Sealed(sealed) => Some(sealed),
            _ => None,
        }
    }

    /// Does it.
    pub(super) fn act(&mut self, act: Act) -> Vec<(Peer, Message)> {
        let Some(grant) = self.grant.clone() else { return Vec::new() };
        match act {
            Act::Start => {
                self.started = true;
                self.stream(&grant, true)
            }
            Act::Resend => {
                self.resends -= 1;
                self.stream(&grant, false)
            }
            Act::Reopen => {
                self.reopens -= 1;
                self.stream(&grant, true)
            }
            Act::Seal => {
                self.stage = Stage::Sealing;
                let (upload, chunk, version) = (self.upload, grant.chunk, grant.version);
                vec![self.ask(3, MasterRequest::SealChunk { upload, chunk, version })]
            }
        }
    }

    /// It is told at once what is committed, but acts as if it had not heard: its answers may be on the way.
    fn stream(&self, grant: &Grant, open: bool) -> Vec<(Peer, Message)> {
        let to = Peer::Dial(grant.addresses[0].clone());
        let writer = WriterId(u64::from(self.number) + 1);
        let mut sends = Vec::new();
        if open {
            sends
                .push((to.clone(), AppendMessage::Open { grant: grant.clone(), position: 0, writer }.into()));
        }
        let mut records: Vec<u64> = (1..=u64::from(self.records)).collect();
        if self.backwards {
            records.reverse();
        }
        for record in records {
            let bytes = Bytes::from(vec![byte(self.number, record); RECORD as usize]);
            let message = AppendMessage::Data {
                chunk: grant.chunk,
                version: grant.version,
                writer,
                record,
                committed: 0,
                payload: Payload::new((record - 1) * RECORD, bytes),
            };
            sends.push((to.clone(), message.into()));
        }
        sends
    }

    /// Takes a message.
    pub(super) fn on_message(&mut self, message: &Message) -> Vec<(Peer, Message)> {
        match message {
            Message::Append(AppendMessage::Committed { end, .. }) => self.acked = self.acked.max(*end),
            Message::MasterReply { result: Ok(MasterReply::Upload { upload, .. }), .. } => {
                self.upload = *upload;
                let body = MasterRequest::OpenChunk { upload: *upload, ordinal: 0, avoid: Vec::new() };
                return vec![self.ask(2, body)];
            }
            Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. } => {
                self.grant = Some(Arc::new(grant.clone()));
                self.stage = Stage::Ready;
            }
            Message::MasterReply { result: Ok(MasterReply::Sealed(sealed)), .. } => {
                self.stage = Stage::Sealed(*sealed);
            }
            _ => {}
        }
        Vec::new()
    }
}
