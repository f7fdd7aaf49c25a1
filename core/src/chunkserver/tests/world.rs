//! Three chunkservers wired together, with a scripted master and writer.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;

use super::disk::MemoryDisk;
use crate::chunkserver::{Chunkserver, ChunkserverCall, ChunkserverCallReply, ChunkserverSetup, ReplicaView};
use crate::config::ChunkserverConfig;
use crate::defect::Defects;
use crate::disk::{DiskError, DiskPath, DiskRequest};
use crate::id::*;
use crate::machine::{Effect, Effects, Input, Level, Machine};
use crate::message::*;
use crate::payload::Payload;
use crate::time::{Span, Time};

pub(super) const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab);
pub(super) const V1: ChunkVersion = ChunkVersion(1);
pub(super) const V2: ChunkVersion = ChunkVersion(2);

/// One server and all that a restart keeps.
pub(super) struct Node {
    pub(super) machine: Chunkserver,
    pub(super) disk: MemoryDisk,
    pub(super) session: SessionId,
    pub(super) server: ServerId,
    pub(super) volumes: Vec<VolumeId>,
    boot: u64,
    process: u64,
    pub(super) alarms: Vec<String>,
    pub(super) halted: Option<String>,
    /// Syncs of paths that contain this are never answered.
    pub(super) stuck: Option<&'static str>,
    /// Operations that contain one of these are carried out at once and answered late.
    pub(super) late: &'static [&'static str],
    answers: VecDeque<Input<ChunkserverCall>>,
}

pub(super) struct World {
    pub(super) nodes: Vec<Node>,
    now: Time,
    queue: VecDeque<(usize, Input<ChunkserverCall>)>,
    conns: BTreeMap<(usize, usize), ConnId>,
    next_conn: u64,
    next_session: u64,
    config: ChunkserverConfig,
    defects: Defects,
    /// Data directories of each server from its next start on.
    pub(super) volumes: u16,
    pub(super) to_master: Vec<(usize, FromServer)>,
    pub(super) to_client: Vec<Message>,
    /// Whether heartbeats are answered.
    pub(super) lease: bool,
}

/// The client's connection to each server; the others' are numbered from 100.
fn client_conn(node: usize) -> ConnId {
    ConnId(node as u64 + 1)
}

fn name(node: usize) -> Address {
    Address::new(&alloc::format!("cs{node}"))
}

pub(super) fn setup(node: usize, boot: u64, process: u64, config: &ChunkserverConfig) -> ChunkserverSetup {
    ChunkserverSetup {
        config: config.clone(),
        seed: 40 + node as u64,
        boot: BootId(boot),
        process: ProcessId(process),
        address: name(node),
        rack: String::new(),
        masters: alloc::vec![Address::new("master")],
        volumes: 1,
        defects: Defects::none(),
    }
}

impl World {
    /// Three blank servers, registered.
    pub(super) fn new() -> World {
        World::with(ChunkserverConfig::default())
    }

    pub(super) fn with(config: ChunkserverConfig) -> World {
        let nodes = (0..3)
            .map(|i| Node {
                machine: Chunkserver::new(setup(i, 1, 1, &config)),
                disk: MemoryDisk::new(),
                session: SessionId(0),
                server: ServerId(0),
                volumes: Vec::new(),
                boot: 1,
                process: 1,
                alarms: Vec::new(),
                halted: None,
                stuck: None,
                late: &[],
                answers: VecDeque::new(),
            })
            .collect();
        let mut world = World {
            nodes,
            now: Time(1_000_000_000),
            queue: VecDeque::new(),
            conns: BTreeMap::new(),
            next_conn: 100,
            next_session: 1,
            config,
            defects: Defects::none(),
            volumes: 1,
            to_master: Vec::new(),
            to_client: Vec::new(),
            lease: true,
        };
        for node in 0..3 {
            world.queue.push_back((node, Input::Wake));
        }
        world.run();
        world
    }

    /// Handles everything that is under way.
    pub(super) fn run(&mut self) {
        let mut steps = 0;
        while let Some((node, input)) = self.queue.pop_front() {
            steps += 1;
            assert!(steps < 100_000, "no end in sight");
            let mut effects = Effects::default();
            self.nodes[node].machine.handle(self.now, input, &mut effects);
            for effect in effects.drain() {
                self.perform(node, effect);
            }
        }
    }

    /// Lets time pass in small steps.
    pub(super) fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(50) {
            self.now = self.now + Span::from_ms(50);
            for node in 0..self.nodes.len() {
                if self.nodes[node].machine.next_wake().is_some_and(|(at, _)| at <= self.now) {
                    self.queue.push_back((node, Input::Wake));
                }
            }
            self.run();
        }
    }

    fn perform(&mut self, node: usize, effect: Effect<ChunkserverCallReply>) {
        match effect {
            Effect::Disk { op, request } => {
                let Node { stuck, late, .. } = self.nodes[node];
                let is = |part: &&str| alloc::format!("{request:?}").contains(*part);
                if stuck.iter().any(is) {
                    return;
                }
                let result = self.nodes[node].disk.perform(&request);
                let answer = Input::DiskDone { op, result };
                if late.iter().any(is) {
                    self.nodes[node].answers.push_back(answer);
                } else {
                    self.queue.push_back((node, answer));
                }
            }
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Note { level: Level::Alarm, text } => self.nodes[node].alarms.push(text),
            Effect::Halt { reason, .. } => self.nodes[node].halted = Some(reason),
            Effect::Note { .. } | Effect::Close { .. } | Effect::Reply { .. } => {}
        }
    }

    fn send(&mut self, node: usize, to: Peer, message: Message) {
        match (to, message) {
            (Peer::Dial(_), Message::FromServer(message)) => self.on_master(node, message),
            (Peer::Dial(address), message) => {
                let Some(other) = (0..self.nodes.len()).find(|i| name(*i) == address) else { return };
                let conn = *self.conns.entry((node, other)).or_insert_with(|| {
                    self.next_conn += 1;
                    ConnId(self.next_conn)
                });
                self.queue.push_back((other, Input::Message { from: Peer::Conn(conn), message }));
            }
            (Peer::Conn(conn), message) => {
                let from = self.conns.iter().find(|(_, c)| **c == conn).map(|((from, _), _)| *from);
                match from {
                    Some(from) => {
                        let input = Input::Message { from: Peer::Dial(name(node)), message };
                        self.queue.push_back((from, input));
                    }
                    None => self.to_client.push(message),
                }
            }
        }
    }

    fn on_master(&mut self, node: usize, message: FromServer) {
        match &message {
            FromServer::Register { server, volumes, .. } => {
                let session = SessionId(self.next_session);
                self.next_session += 1;
                self.nodes[node].session = session;
                self.nodes[node].server = *server;
                self.nodes[node].volumes = volumes.iter().map(|v| v.volume).collect();
                let (heartbeat_ms, block_report_ms) = (1_000, 5_000);
                self.order(
                    node,
                    ToServer::Registered { cluster: CLUSTER, session, heartbeat_ms, block_report_ms },
                );
            }
            FromServer::Heartbeat { sequence, .. } if self.lease => {
                let sequence = *sequence;
                self.order(node, ToServer::HeartbeatAck { sequence, lease_ms: 5_000 });
            }
            _ => {}
        }
        self.to_master.push((node, message));
    }

    /// The master says something.
    pub(super) fn order(&mut self, node: usize, message: ToServer) {
        let from = Peer::Dial(Address::new("master"));
        self.queue.push_back((node, Input::Message { from, message: message.into() }));
    }

    /// The client says something to a server.
    pub(super) fn client(&mut self, node: usize, message: impl Into<Message>) {
        let from = Peer::Conn(client_conn(node));
        self.queue.push_back((node, Input::Message { from, message: message.into() }));
    }

    pub(super) fn has_late_answers(&self, node: usize) -> bool {
        !self.nodes[node].answers.is_empty()
    }

    /// The first of what was to be answered late is answered now.
    pub(super) fn answer_late(&mut self, node: usize) {
        let answer = self.nodes[node].answers.pop_front().expect("an operation was to be answered late");
        self.queue.push_back((node, answer));
        self.run();
    }

    /// All that was to be answered late is answered, and what comes of that.
    pub(super) fn answer_all(&mut self, node: usize) {
        while self.has_late_answers(node) {
            self.answer_late(node);
        }
    }

    /// The process starts again and gets on by so many disk operations, each of them answered late; false if there are not so many.
    pub(super) fn restart_by_steps(&mut self, node: usize, power: bool, steps: usize) -> bool {
        self.restart_late(node, power, &[""]);
        (0..steps).all(|_| {
            let is_under_way = self.has_late_answers(node);
            if is_under_way {
                self.answer_late(node);
            }
            is_under_way
        })
    }

    /// All servers are rebuilt with a planted defect.
    pub(super) fn plant(&mut self, defects: Defects) {
        self.defects = defects;
        for node in 0..3 {
            self.restart(node, false);
        }
    }

    pub(super) fn lose(&mut self, node: usize, peer: Peer) {
        self.queue.push_back((node, Input::PeerLost { peer }));
        self.run();
    }

    /// The connection that `from` dialled, as `to` knows it.
    pub(super) fn conn(&self, from: usize, to: usize) -> Peer {
        Peer::Conn(self.conns[&(from, to)])
    }

    pub(super) fn dial(node: usize) -> Peer {
        Peer::Dial(name(node))
    }

    pub(super) fn member(&self, node: usize) -> Member {
        let n = &self.nodes[node];
        Member {
            server: n.server,
            session: n.session,
            volume: n.volumes[0],
            boot: BootId(n.boot),
            process: ProcessId(n.process),
        }
    }

    /// A grant of version 1 to all three, W = 2.
    pub(super) fn grant(&self, chunk: u64, durability: Durability) -> Grant {
        Grant {
            cluster: CLUSTER,
            chunk: ChunkId(chunk),
            version: V1,
            members: (0..3).map(|node| self.member(node)).collect(),
            addresses: (0..3).map(name).collect(),
            replication: 3,
            quorum: 2,
            durability,
            capacity: 1 << 20,
        }
    }

    pub(super) fn open(&mut self, grant: &Grant) {
        self.client(0, AppendMessage::Open { grant: grant.clone(), position: 0, writer: WriterId(7) });
        self.run();
    }

    pub(super) fn append(&mut self, chunk: u64, record: u64, offset: u64, bytes: &[u8]) {
        self.client(0, data(chunk, record, offset, bytes));
        self.run();
    }

    /// Opens a chunk and appends `bytes` as one record.
    pub(super) fn write(&mut self, chunk: u64, bytes: &[u8]) -> Grant {
        let grant = self.grant(chunk, Durability::Sync);
        self.open(&grant);
        self.append(chunk, 1, 0, bytes);
        grant
    }

    pub(super) fn fence(&mut self, node: usize, grant: &Grant) -> Vote {
        self.fence_as(node, grant, grant.members[node].incarnation())
    }

    pub(super) fn fence_as(&mut self, node: usize, grant: &Grant, incarnation: Incarnation) -> Vote {
        let (chunk, version, durability) = (grant.chunk, grant.version, grant.durability);
        self.order(node, ToServer::Fence { chunk, version, incarnation, durability });
        self.run();
        self.last_vote(node).expect("a vote")
    }

    pub(super) fn last_vote(&self, node: usize) -> Option<Vote> {
        self.to_master.iter().rev().find_map(|(from, message)| match message {
            FromServer::Vote { vote, .. } if *from == node => Some(*vote),
            _ => None,
        })
    }

    /// Seals at `bytes` on the given servers.
    pub(super) fn seal(&mut self, nodes: &[usize], chunk: u64, bytes: &[u8]) -> SealedChunk {
        let sealed = sealed(chunk, bytes);
        for node in nodes {
            self.order(*node, ToServer::Seal { base: V1, sealed });
        }
        self.run();
        sealed
    }

    /// Puts what a server has of a chunk on a volume of server 0, durably.
    pub(super) fn put_files_of(&mut self, node: usize, chunk: u64, volume: u16) {
        let directory = DiskPath::new(volume, &alloc::format!("chunks/{chunk:02x}"));
        let there = &mut self.nodes[node].disk;
        let paths = there.find(&alloc::format!("{}/chunk-", directory.name));
        let files: Vec<_> = paths.into_iter().map(|path| (there.contents(&path), path.name)).collect();
        assert_eq!(files.len(), 2, "bytes and a sidecar");
        let disk = &mut self.nodes[0].disk;
        let mut perform = |request| disk.perform(&request).unwrap();
        perform(DiskRequest::MakeDir(directory.clone()));
        perform(DiskRequest::SyncDir(DiskPath::new(volume, "chunks")));
        for (bytes, name) in files {
            let path = DiskPath { volume, name };
            let data = alloc::vec![bytes.into()];
            perform(DiskRequest::Write { path: path.clone(), offset: 0, data, create: true });
            perform(DiskRequest::Sync(path));
        }
        perform(DiskRequest::SyncDir(directory));
    }

    pub(super) fn view(&self, node: usize, chunk: u64) -> Option<ReplicaView> {
        self.nodes[node].machine.replicas().find(|r| r.chunk == ChunkId(chunk))
    }

    pub(super) fn state(&self, node: usize, chunk: u64) -> Option<ReplicaState> {
        self.view(node, chunk).map(|r| r.state)
    }

    /// The end that the writer was told is committed.
    pub(super) fn committed(&self) -> u64 {
        let ends = self.to_client.iter().filter_map(|m| match m {
            Message::Append(AppendMessage::Committed { end, .. }) => Some(*end),
            _ => None,
        });
        ends.max().unwrap_or(0)
    }

    pub(super) fn failure(&self) -> Option<crate::error::ChunkError> {
        self.to_client.iter().rev().find_map(|m| match m {
            Message::Append(AppendMessage::Failed { error, .. }) => Some(error.clone()),
            _ => None,
        })
    }

    pub(super) fn read(
        &mut self,
        node: usize,
        chunk: u64,
        version: ChunkVersion,
        offset: u64,
        length: u32,
    ) -> Result<Payload, crate::error::ChunkError> {
        self.to_client.clear();
        let chunk = ChunkId(chunk);
        self.client(node, ReadMessage::Request { read: 1, chunk, version, offset, length });
        self.run();
        match self.to_client.pop() {
            Some(Message::Read(ReadMessage::Reply { result, .. })) => result,
            other => panic!("no answer to a read: {other:?}"),
        }
    }

    /// The process dies and comes back; with `power`, so does the machine.
    pub(super) fn restart(&mut self, node: usize, power: bool) {
        self.restart_late(node, power, &[]);
    }

    /// The same; operations that contain one of `late` are answered late from the start.
    pub(super) fn restart_late(&mut self, node: usize, power: bool, late: &'static [&'static str]) {
        self.queue.retain(|(to, _)| *to != node);
        self.conns.retain(|(from, to), _| *from != node && *to != node);
        let n = &mut self.nodes[node];
        n.process += 1;
        n.stuck = None;
        n.late = late;
        n.answers.clear();
        if power {
            n.boot += 1;
            n.disk.crash();
        }
        let (defects, volumes) = (self.defects, self.volumes);
        let setup = ChunkserverSetup { defects, volumes, ..setup(node, n.boot, n.process, &self.config) };
        n.machine = Chunkserver::new(setup);
        self.queue.push_back((node, Input::Wake));
        self.run();
        self.pass(200);
    }
}

pub(super) fn data(chunk: u64, record: u64, offset: u64, bytes: &[u8]) -> AppendMessage {
    AppendMessage::Data {
        chunk: ChunkId(chunk),
        version: V1,
        writer: WriterId(7),
        record,
        committed: 0,
        payload: Payload::new(offset, Bytes::copy_from_slice(bytes)),
    }
}

pub(super) fn sealed(chunk: u64, bytes: &[u8]) -> SealedChunk {
    let (length, crc) = (bytes.len() as u64, crc32fast::hash(bytes));
    SealedChunk { chunk: ChunkId(chunk), version: V2, length, crc }
}

/// Bytes that differ from place to place.
pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

/// An order to copy a chunk to a server.
pub(super) fn copy(world: &World, node: usize, sealed: SealedChunk, sources: &[&str]) -> ToServer {
    let sources = sources.iter().map(|s| Address::new(s)).collect();
    ToServer::Copy { sealed, sources, volume: world.nodes[node].volumes[0] }
}

/// Reads on a volume of what lies where chunk 5 is, for `MemoryDisk::failing`.
pub(super) fn reads_of_5(volume: u16) -> &'static str {
    match volume {
        0 => "Read { path: DiskPath { volume: 0, name: \"chunks/05/",
        _ => "Read { path: DiskPath { volume: 1, name: \"chunks/05/",
    }
}

/// A disk error that passes.
pub(super) fn io() -> DiskError {
    DiskError::Io("for a while".into())
}
