//! A node's hands: its clock, its mailbox, and the way of each effect to disk, connections and callers.

use std::collections::HashMap;
use std::time::Instant;

use cairn_core::disk::{DiskError, DiskRequest};
use cairn_core::driver::{Environment, Next, drive};
use cairn_core::id::{Address, CallId, ConnId, OpId, Peer};
use cairn_core::machine::{Effect, Input, Level, Machine};
use cairn_core::message::Message;
use cairn_core::time::{Time, UnixMs, WallClock};
use tokio::sync::{mpsc, oneshot};

use crate::mailbox::{Event, Mailbox, Sink};
use crate::repeats::Repeats;

/// After so many inputs in a row, a due wake and the other tasks of the runtime get their turn.
const INPUTS_IN_A_ROW: u32 = 64;

/// The node's monotonic clock, starting at zero with the node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time(self.0.elapsed().as_nanos() as u64)
    }

    fn instant(self, at: Time) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.0 + std::time::Duration::from_nanos(at.0))
    }

    /// What turns this clock's times into those that users see.
    pub(crate) fn wall(self) -> WallClock {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let now = self.now().0 / 1_000_000;
        WallClock { at_zero: UnixMs((unix.as_millis() as u64).saturating_sub(now)) }
    }
}

/// Carries out disk operations; each is answered in the node's mailbox.
pub(crate) trait Disk: Send {
    fn submit(&mut self, batch: &mut Vec<(OpId, DiskRequest)>);
}

/// Opens outgoing data connections. What it returns takes messages for `address`; its end is told with
/// [`Mailbox::link_lost`].
pub(crate) type Dialer = Box<dyn FnMut(Address, u64) -> Sink + Send>;

/// Takes control messages to nodes that are dialled, and ends conversations with them.
pub(crate) trait Control: Send {
    fn send(&mut self, address: Address, message: Message);
    fn close(&mut self, address: &Address);
}

struct Link {
    number: u64,
    sink: Sink,
}

/// The environment of one machine. See [`run`].
pub(crate) struct Node<M: Machine> {
    name: String,
    clock: Clock,
    mailbox: Mailbox<M>,
    events: mpsc::UnboundedReceiver<Event<M>>,
    in_a_row: u32,
    conns: HashMap<ConnId, Sink>,
    links: HashMap<Address, Link>,
    next_link: u64,
    calls: HashMap<CallId, oneshot::Sender<M::Response>>,
    next_call: u64,
    disk: Option<Box<dyn Disk>>,
    batch: Vec<(OpId, DiskRequest)>,
    dialer: Dialer,
    control: Box<dyn Control>,
    warned: Repeats,
}

impl<M: Machine> Node<M> {
    pub(crate) fn new(
        name: String,
        clock: Clock,
        mailbox: (Mailbox<M>, mpsc::UnboundedReceiver<Event<M>>),
        disk: Option<Box<dyn Disk>>,
        dialer: Dialer,
        control: Box<dyn Control>,
    ) -> Node<M> {
        let (mailbox, events) = mailbox;
        Node {
            name,
            clock,
            mailbox,
            events,
            in_a_row: 0,
            conns: HashMap::new(),
            links: HashMap::new(),
            next_link: 1,
            calls: HashMap::new(),
            next_call: 1,
            disk,
            batch: Vec::new(),
            dialer,
            control,
            warned: Repeats::default(),
        }
    }

    /// The machine's view of an event; `None` if it concerns the environment alone.
    fn admit(&mut self, event: Event<M>) -> Option<Next<M::Request>> {
        let input = match event {
            Event::Input(Input::Message { from, message }) => {
                if let Peer::Conn(conn) = &from
                    && !self.conns.contains_key(conn)
                {
                    return None; // closed by the machine
                }
                Input::Message { from, message }
            }
            Event::Input(Input::PeerLost { peer }) => {
                if let Peer::Conn(conn) = &peer
                    && self.conns.remove(conn).is_none()
                {
                    return None;
                }
                Input::PeerLost { peer }
            }
            Event::Input(input) => input,
            Event::Call { request, reply } => {
                let call = CallId(self.next_call);
                self.next_call += 1;
                self.calls.insert(call, reply);
                Input::Call { call, request }
            }
            Event::Opened { conn, sink } => {
                self.conns.insert(conn, sink);
                return None;
            }
            Event::LinkLost { address, link } => {
                if self.links.get(&address).is_none_or(|known| known.number != link) {
                    return None;
                }
                self.links.remove(&address);
                Input::PeerLost { peer: Peer::Dial(address) }
            }
            Event::Stop => return Some(Next::Stop),
        };
        Some(Next::Input(input))
    }

    fn send(&mut self, to: Peer, message: Message) {
        match to {
            Peer::Conn(conn) => {
                if let Some(sink) = self.conns.get_mut(&conn) {
                    sink(message);
                }
            }
            Peer::Dial(address) => match message {
                Message::Append(_) | Message::Read(_) => {
                    let link = self.links.entry(address).or_insert_with_key(|address| {
                        let number = self.next_link;
                        self.next_link += 1;
                        Link { number, sink: (self.dialer)(address.clone(), number) }
                    });
                    (link.sink)(message);
                }
                message => self.control.send(address, message),
            },
        }
    }

    fn note(&mut self, level: Level, text: &str) {
        // What a machine tries again and again it also tells again and again.
        let again = level == Level::Warn && self.warned.has(text, self.clock.now());
        let level = if again { Level::Debug } else { level };
        let node = self.name.as_str();
        match level {
            Level::Debug => tracing::debug!(node, "{text}"),
            Level::Info => tracing::info!(node, "{text}"),
            Level::Warn => tracing::warn!(node, "{text}"),
            Level::Alarm => tracing::error!(node, alarm = true, "{text}"),
        }
    }
}

impl<M> Environment<M> for Node<M>
where
    M: Machine,
    M::Request: Send + std::fmt::Debug,
    M::Response: Send,
{
    fn now(&self) -> Time {
        self.clock.now()
    }

    async fn next(&mut self, wake: Option<Time>) -> Next<M::Request> {
        loop {
            if self.in_a_row < INPUTS_IN_A_ROW {
                match self.events.try_recv() {
                    Ok(event) => {
                        self.in_a_row += 1;
                        match self.admit(event) {
                            Some(next) => return next,
                            None => continue,
                        }
                    }
                    Err(mpsc::error::TryRecvError::Empty) => {}
                    Err(mpsc::error::TryRecvError::Disconnected) => return Next::Stop,
                }
            } else {
                tokio::task::yield_now().await;
            }
            self.in_a_row = 0;
            if wake.is_some_and(|at| at <= self.clock.now()) {
                return Next::Due;
            }
            let event = match wake {
                Some(at) => match tokio::time::timeout_at(self.clock.instant(at), self.events.recv()).await {
                    Ok(event) => event,
                    Err(_) => return Next::Due,
                },
                None => self.events.recv().await,
            };
            match event.map(|event| self.admit(event)) {
                Some(Some(next)) => return next,
                Some(None) => {}
                None => return Next::Stop,
            }
        }
    }

    fn observe(&mut self, now: Time, input: &Input<M::Request>) {
        if tracing::enabled!(tracing::Level::TRACE) {
            match input {
                Input::Wake => tracing::trace!(node = self.name, "{now} wake"),
                Input::Message { from, message } => {
                    tracing::trace!(node = self.name, "{now} <- {from} {message}");
                }
                Input::DiskDone { op, .. } => tracing::trace!(node = self.name, "{now} disk done {op}"),
                Input::Call { call, .. } => tracing::trace!(node = self.name, "{now} {call}"),
                Input::PeerLost { peer } => tracing::trace!(node = self.name, "{now} lost {peer}"),
            }
        }
    }

    fn perform(&mut self, effect: Effect<M::Response>) {
        match effect {
            Effect::Send { to, message } => self.send(to, message),
            Effect::Close { peer: Peer::Conn(conn) } => drop(self.conns.remove(&conn)),
            Effect::Close { peer: Peer::Dial(address) } => {
                self.links.remove(&address);
                self.control.close(&address);
            }
            Effect::Disk { op, request } => {
                if self.disk.is_some() {
                    self.batch.push((op, request));
                } else {
                    self.mailbox.disk_done(op, Err(DiskError::Io("this node has no disk".into())));
                }
            }
            Effect::Reply { call, response } => {
                if let Some(reply) = self.calls.remove(&call) {
                    // The caller may have gone away; nobody else waits for the answer.
                    let _ = reply.send(response);
                }
            }
            Effect::Note { level, text } => self.note(level, &text),
            Effect::Halt { .. } => unreachable!("the driver keeps halts for itself"),
        }
    }

    fn settle(&mut self, _machine: &M) {
        if !self.batch.is_empty()
            && let Some(disk) = &mut self.disk
        {
            disk.submit(&mut self.batch);
        }
    }
}

/// How a node ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was stopped from outside.
    Stopped,
    /// Its machine halted by itself.
    Halted { reason: String, failed: bool },
}

/// Runs `machine` to its end on a task of its own.
pub(crate) fn run<M>(mut machine: M, mut node: Node<M>) -> tokio::task::JoinHandle<End>
where
    M: Machine + Send + Sync + 'static,
    M::Request: Send + Sync + std::fmt::Debug + 'static,
    M::Response: Send + 'static,
{
    tokio::spawn(async move {
        let end = drive(&mut machine, &mut node).await;
        // Ends connections and disk threads before anybody hears of the end.
        drop(node);
        match end {
            None => End::Stopped,
            Some((reason, failed)) => End::Halted { reason, failed },
        }
    })
}
