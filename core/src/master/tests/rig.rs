//! One master, its disk, a clock, and peers whose mail is collected.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::disk::Disk;
use crate::config::MasterConfig;
use crate::defect::Defects;
use crate::disk::DiskRequest;
use crate::error::MasterError;
use crate::id::*;
use crate::machine::{Effect, Effects, Input, Machine};
use crate::master::{Master, MasterCall, MasterSetup};
use crate::message::*;
use crate::time::{Span, Time, UnixMs, WallClock};

pub(super) struct Rig {
    pub(super) master: Master,
    pub(super) disk: Disk,
    pub(super) now: Time,
    pub(super) config: MasterConfig,
    pub(super) halted: Option<(String, bool)>,
    /// Completions are held back while set.
    pub(super) disk_held: bool,
    pub(super) held: VecDeque<(OpId, DiskRequest)>,
    mail: BTreeMap<Peer, VecDeque<Message>>,
    /// Connections that the master closed.
    pub(super) closed: Vec<Peer>,
    /// The last request number of the client.
    pub(super) requests: u64,
    heartbeats: u64,
}

pub(super) fn conn(n: u64) -> Peer {
    Peer::Conn(ConnId(n))
}

/// Where client requests come from.
pub(super) const CLIENT: u64 = 100;

pub(super) fn root() -> Identity {
    Identity { user: "root".into(), groups: alloc::vec!["root".into()] }
}

impl Rig {
    pub(super) fn new() -> Rig {
        let config = MasterConfig { startup_grace_ms: 2_000, ..MasterConfig::default() };
        let mut rig = Rig::on(Disk::default(), config);
        rig.settle();
        rig
    }

    pub(super) fn on(disk: Disk, config: MasterConfig) -> Rig {
        Rig::planted(disk, config, Defects::none())
    }

    pub(super) fn planted(disk: Disk, config: MasterConfig, defects: Defects) -> Rig {
        let wall = WallClock { at_zero: UnixMs(1_000_000) };
        let setup = MasterSetup { config: config.clone(), seed: 7, wall, defects };
        Rig {
            master: Master::new(setup),
            disk,
            now: Time::ZERO,
            config,
            halted: None,
            disk_held: false,
            held: VecDeque::new(),
            mail: BTreeMap::new(),
            closed: Vec::new(),
            requests: 0,
            heartbeats: 0,
        }
    }

    /// A new process on the same disk.
    pub(super) fn restart(&mut self) {
        let (disk, config, requests) = (self.disk.clone(), self.config.clone(), self.requests);
        *self = Rig { requests, ..Rig::on(disk, config) };
        self.settle();
    }

    fn input(&mut self, input: Input<MasterCall>) {
        let mut fx = Effects::default();
        self.master.handle(self.now, input, &mut fx);
        for effect in fx.drain() {
            match effect {
                Effect::Send { to, message } => self.mail.entry(to).or_default().push_back(message),
                Effect::Disk { op, request } => self.held.push_back((op, request)),
                Effect::Halt { reason, failed } => self.halted = Some((reason, failed)),
                Effect::Close { peer } => self.closed.push(peer),
                Effect::Reply { .. } | Effect::Note { .. } => {}
            }
        }
    }

    /// Completes disk operations until there are none.
    pub(super) fn settle(&mut self) {
        if self.master.next_wake().is_some_and(|(at, _)| at <= self.now) {
            self.input(Input::Wake);
        }
        while !self.disk_held {
            let Some((op, request)) = self.held.pop_front() else { break };
            let result = self.disk.perform(&request);
            self.input(Input::DiskDone { op, result });
        }
    }

    /// Completes one operation while the others are held back.
    pub(super) fn step_disk(&mut self) {
        if let Some((op, request)) = self.held.pop_front() {
            let result = self.disk.perform(&request);
            self.input(Input::DiskDone { op, result });
        }
    }

    /// Fails the operation that is under way.
    pub(super) fn fail_disk(&mut self, error: crate::disk::DiskError) {
        let (op, _) = self.held.pop_front().expect("an operation under way");
        self.input(Input::DiskDone { op, result: Err(error) });
    }

    /// Kills the process while operations are under way: the first `completed` of them took effect.
    pub(super) fn crash(&mut self, completed: usize) {
        for (_, request) in self.held.drain(..).take(completed) {
            let _ = self.disk.perform(&request);
        }
        self.restart();
    }

    /// Cuts the power: operations under way are lost, and what was written but not synced is torn after `kept` bytes.
    pub(super) fn power_loss(&mut self, kept: usize) {
        self.held.clear();
        self.disk.lose_power(kept);
        self.restart();
    }

    pub(super) fn message(&mut self, from: Peer, message: impl Into<Message>) {
        self.input(Input::Message { from, message: message.into() });
        self.settle();
    }

    pub(super) fn lose(&mut self, peer: u64) {
        self.input(Input::PeerLost { peer: conn(peer) });
        self.settle();
    }

    pub(super) fn shutdown(&mut self) {
        self.input(Input::Call { call: CallId(1), request: MasterCall::Shutdown });
        self.settle();
    }

    /// Lets time pass in steps, wakes the master, and has `alive` servers send heartbeats.
    pub(super) fn pass(&mut self, ms: u64, alive: &[u64]) {
        let end = self.now + Span::from_ms(ms);
        let mut beat = self.now;
        while self.now < end {
            self.now = (self.now + Span::from_ms(100)).min(end);
            if self.now >= beat {
                beat = self.now + Span::from_ms(1_000);
                for &server in alive {
                    self.heartbeats += 1;
                    let heartbeat = FromServer::Heartbeat {
                        sequence: self.heartbeats,
                        acked: self.heartbeats - 1,
                        volumes: volumes(server),
                        load: 0,
                    };
                    self.message(conn(server), heartbeat);
                }
            }
            self.settle();
        }
    }

    /// Sends a request without waiting for its answer.
    pub(super) fn ask_as(&mut self, request: u64, body: MasterRequest) {
        let message = Message::MasterRequest {
            client: ClientId(1),
            request: RequestId(request),
            identity: root(),
            body,
        };
        self.message(conn(CLIENT), message);
    }

    /// Sends the next request.
    pub(super) fn ask(&mut self, body: MasterRequest) -> u64 {
        self.requests += 1;
        self.ask_as(self.requests, body);
        self.requests
    }

    /// The answer to a request, if it has come.
    pub(super) fn answer(&mut self, request: u64) -> Option<Result<MasterReply, MasterError>> {
        let mail = self.mail.entry(conn(CLIENT)).or_default();
        let wanted =
            |m: &Message| matches!(m, Message::MasterReply { request: r, .. } if *r == RequestId(request));
        let at = mail.iter().position(wanted)?;
        match mail.remove(at) {
            Some(Message::MasterReply { result, .. }) => Some(result),
            _ => None,
        }
    }

    pub(super) fn call(&mut self, body: MasterRequest) -> Result<MasterReply, MasterError> {
        let request = self.ask(body);
        self.answer(request).expect("an answer at once")
    }

    pub(super) fn mkdir(&mut self, path: &str) -> Result<MasterReply, MasterError> {
        self.call(MasterRequest::Mkdir { path: path.into(), parents: false, mode: 0o755 })
    }

    /// The attributes of a path exist.
    pub(super) fn exists(&mut self, path: &str) -> bool {
        self.call(MasterRequest::Stat { path: path.into() }).is_ok()
    }

    /// What the master told a server since the last look, heartbeat answers left out.
    pub(super) fn orders(&mut self, server: u64) -> Vec<ToServer> {
        let mail = core::mem::take(self.mail.entry(conn(server)).or_default());
        mail.into_iter()
            .filter_map(|message| match message {
                Message::ToServer(ToServer::HeartbeatAck { .. }) => None,
                Message::ToServer(order) => Some(order),
                _ => None,
            })
            .collect()
    }

    /// Server `n` registers on connection `n`, in its process number `process`.
    pub(super) fn register(&mut self, n: u64, process: u64) {
        self.register_on(n, n, process, None);
    }

    pub(super) fn register_on(&mut self, peer: u64, n: u64, process: u64, cluster: Option<ClusterId>) {
        self.register_in("r", peer, n, process, cluster);
    }

    pub(super) fn register_in(
        &mut self,
        rack: &str,
        peer: u64,
        n: u64,
        process: u64,
        cluster: Option<ClusterId>,
    ) {
        let register = FromServer::Register {
            server: ServerId(n),
            cluster,
            boot: BootId(n),
            process: ProcessId(process),
            address: Address::new(&alloc::format!("cs{n}")),
            rack: rack.to_string(),
            volumes: volumes(n),
        };
        self.message(conn(peer), register);
    }

    /// Registers `count` servers.
    pub(super) fn with_servers(count: u64) -> Rig {
        let mut rig = Rig::new();
        for n in 1..=count {
            rig.register(n, n);
            rig.orders(n);
        }
        rig
    }

    /// Begins an upload of `path` with N = 3 and W = `quorum`, and opens its first chunk.
    pub(super) fn open_chunk(&mut self, path: &str, quorum: u8) -> (UploadId, Grant) {
        let options = StorageOptions { replication: 3, quorum, ..StorageOptions::default() };
        let begin = MasterRequest::BeginUpload { path: path.into(), replace: false, mode: 0o644, options };
        let Ok(MasterReply::Upload { upload, .. }) = self.call(begin) else { panic!("an upload") };
        match self.call(MasterRequest::OpenChunk { upload, ordinal: 0, avoid: Vec::new() }) {
            Ok(MasterReply::Grant(grant)) => (upload, grant),
            other => panic!("a grant, not {other:?}"),
        }
    }

    pub(super) fn vote(&mut self, grant: &Grant, server: u64, vote: Vote) {
        let member = grant.members.iter().find(|m| m.server == ServerId(server)).expect("a member");
        let incarnation = member.incarnation();
        self.message(
            conn(server),
            FromServer::Vote { chunk: grant.chunk, version: grant.version, incarnation, vote },
        );
    }

    /// A server tells that it has a sealed replica.
    pub(super) fn sealed_on(&mut self, server: u64, sealed: SealedChunk) {
        self.message(conn(server), FromServer::ReplicaChanged(replica(server, sealed, ReplicaState::Sealed)));
    }
}

pub(super) fn replica(server: u64, sealed: SealedChunk, state: ReplicaState) -> ReplicaReport {
    ReplicaReport {
        chunk: sealed.chunk,
        volume: VolumeId(server * 10),
        version: sealed.version,
        length: sealed.length,
        crc: sealed.crc,
        state,
    }
}

pub(super) fn volumes(server: u64) -> Vec<VolumeStatus> {
    alloc::vec![VolumeStatus {
        volume: VolumeId(server * 10),
        total_bytes: 1 << 40,
        free_bytes: 1 << 39,
        writable: true,
    }]
}

/// A vote of `length` bytes, whose checksum goes with the length.
pub(super) fn prefix(length: u64) -> Vote {
    Vote::Prefix { length, crc: length as u32 + 1 }
}
