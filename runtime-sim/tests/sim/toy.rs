//! A machine that does what it is told and keeps a log of what happens to it.

use bytes::Bytes;
use cairn_core::disk::{DiskOk, DiskPath, DiskRequest, DiskResult};
use cairn_core::id::{Address, CallId, ChunkId, ChunkVersion, ConnId, OpId, Peer};
use cairn_core::machine::{Effects, Input, Machine, WakeReason};
use cairn_core::message::{Message, ReadMessage};
use cairn_core::payload::Payload;
use cairn_core::time::{Span, Time};
use runtime_sim::{Options, TraceMode, World};
use std::collections::BTreeMap;

/// What a toy is told to do.
pub enum Order {
    Send(Peer, Message),
    Close(Peer),
    Disk(DiskRequest),
    /// Only start it.
    Begin(DiskRequest),
    WakeIn(Span),
    Halt,
    Panic,
}

/// What it answers.
pub enum Answer {
    Done,
    Disk(DiskResult),
}

#[derive(Default)]
pub struct Toy {
    /// Answers read requests.
    pub echoes: bool,
    pub log: Vec<String>,
    pub conns: Vec<ConnId>,
    next_op: u64,
    waiting: BTreeMap<OpId, Option<CallId>>,
    wake: Option<Time>,
    pub woken_early: bool,
}

impl Toy {
    fn order(&mut self, now: Time, call: CallId, order: Order, effects: &mut Effects<Answer>) {
        match order {
            Order::Send(to, message) => effects.send(to, message),
            Order::Close(peer) => effects.push(cairn_core::machine::Effect::Close { peer }),
            Order::Disk(request) => {
                self.next_op += 1;
                self.waiting.insert(OpId(self.next_op), Some(call));
                effects.disk(OpId(self.next_op), request);
                return;
            }
            Order::Begin(request) => {
                self.next_op += 1;
                self.waiting.insert(OpId(self.next_op), None);
                effects.disk(OpId(self.next_op), request);
            }
            Order::WakeIn(span) => self.wake = Some(now + span),
            Order::Halt => {
                effects.push(cairn_core::machine::Effect::Halt { reason: "told to".into(), failed: true });
            }
            Order::Panic => panic!("told to panic"),
        }
        effects.reply(call, Answer::Done);
    }
}

impl Machine for Toy {
    type Request = Order;
    type Response = Answer;

    fn handle(&mut self, now: Time, input: Input<Order>, effects: &mut Effects<Answer>) {
        match input {
            Input::Wake => {
                if let Some(at) = self.wake.take() {
                    self.woken_early |= now < at;
                    self.log.push("wake".into());
                }
            }
            Input::Message { from, message } => {
                if let Peer::Conn(conn) = from
                    && !self.conns.contains(&conn)
                {
                    self.conns.push(conn);
                }
                match &message {
                    Message::Read(ReadMessage::Request { read, length, .. }) => {
                        self.log.push(format!("asked {read}"));
                        if self.echoes {
                            effects.send(from, reply(*read, *length as usize));
                        }
                    }
                    Message::Read(ReadMessage::Reply { read, .. }) => self.log.push(format!("told {read}")),
                    Message::MasterReply { request, result } => {
                        self.log.push(format!("master {} {}", request.0, result.is_ok()));
                    }
                    other => self.log.push(other.to_string()),
                }
            }
            Input::DiskDone { op, result } => {
                if let Some(call) = self.waiting.remove(&op).expect("only what was asked for comes back") {
                    effects.reply(call, Answer::Disk(result));
                }
            }
            Input::Call { call, request } => self.order(now, call, request, effects),
            Input::PeerLost { peer } => self.log.push(match peer {
                Peer::Dial(address) => format!("lost {address}"),
                Peer::Conn(_) => "lost caller".into(),
            }),
        }
    }

    fn next_wake(&self) -> Option<(Time, WakeReason)> {
        self.wake.map(|at| (at, "toy"))
    }
}

pub fn options() -> Options {
    Options { trace: TraceMode::Full, ..Options::default() }
}

pub fn start(world: &World, name: &str, echoes: bool) {
    world.start_machine(name, 1, move |_| Toy { echoes, ..Toy::default() });
}

pub fn dial(name: &str) -> Peer {
    Peer::Dial(Address::new(name))
}

pub fn ask(read: u64) -> Message {
    let (chunk, version) = (ChunkId(1), ChunkVersion(1));
    Message::Read(ReadMessage::Request { read, chunk, version, offset: 0, length: 3_000 })
}

pub fn reply(read: u64, length: usize) -> Message {
    let bytes = Bytes::from(vec![read as u8; length]);
    Message::Read(ReadMessage::Reply { read, result: Ok(Payload::new(0, bytes)) })
}

pub async fn tell(world: &World, name: &str, order: Order) -> Option<Answer> {
    world.call(name, order).await
}

pub async fn send(world: &World, from: &str, to: Peer, message: Message) {
    tell(world, from, Order::Send(to, message)).await;
}

/// Log lines of a running toy.
pub fn log(world: &World, name: &str) -> Vec<String> {
    world.inspect(name, |toy: &Toy| toy.log.clone()).expect("the toy runs")
}

pub fn count(world: &World, name: &str, line: &str) -> usize {
    log(world, name).iter().filter(|have| *have == line).count()
}

pub async fn disk(world: &World, name: &str, request: DiskRequest) -> DiskResult {
    match tell(world, name, Order::Disk(request)).await {
        Some(Answer::Disk(result)) => result,
        _ => panic!("the toy died"),
    }
}

pub fn path(name: &str) -> DiskPath {
    DiskPath::new(0, name)
}

pub fn write(name: &str, offset: u64, bytes: &[u8]) -> DiskRequest {
    DiskRequest::Write { path: path(name), offset, data: vec![Bytes::copy_from_slice(bytes)], create: true }
}

pub async fn read(world: &World, node: &str, name: &str) -> Result<Vec<u8>, cairn_core::disk::DiskError> {
    match disk(world, node, DiskRequest::Read { path: path(name), offset: 0, length: 1 << 20 }).await? {
        DiskOk::Data(data) => Ok(data.bytes.to_vec()),
        other => panic!("a read yielded {other:?}"),
    }
}
