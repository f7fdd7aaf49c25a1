//! One node: a production machine (or a scripted writer), its disk, and its disk operations under way.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use cairn_core::chunkserver::{Chunkserver, ChunkserverSetup};
use cairn_core::config::{ChunkserverConfig, MasterConfig};
use cairn_core::defect::Defects;
use cairn_core::disk::DiskRequest;
use cairn_core::id::{Address, BootId, OpId, Peer, ProcessId};
use cairn_core::machine::{Effect, Effects, Input, Machine as _};
use cairn_core::master::{Master, MasterSetup};
use cairn_core::message::Message;
use cairn_core::time::{Span, Time, UnixMs, WallClock};

use super::disk::{Disk, Snapshot};
use super::writer::{Act, Writer};

/// Time stands still here, but for the master's ticks.
const NOW: Time = Time(1_000_000_000);
/// Longer than any repetition or grace of the master's.
const TICK: Span = Span::from_ms(2_500);
/// What must never come due.
const NEVER_MS: u64 = 1 << 40;

/// How machines are built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maker {
    pub(super) defects: Defects,
    /// Whether the master waits for votes beyond the needed ones.
    pub(super) patient: bool,
}

impl Maker {
    /// The master. Everything periodic is so far away that it never happens.
    pub(super) fn master(self) -> Master {
        let config = MasterConfig {
            heartbeat_ms: NEVER_MS,
            dead_after_ms: NEVER_MS,
            block_report_ms: NEVER_MS,
            lease_ms: NEVER_MS,
            seal_grace_ms: if self.patient { 500 } else { 0 },
            seal_timeout_ms: NEVER_MS,
            upload_expiry_ms: NEVER_MS,
            startup_grace_ms: NEVER_MS,
            min_free_bytes: 0,
            ..MasterConfig::default()
        };
        let wall = WallClock { at_zero: UnixMs(0) };
        Master::new(MasterSetup { config, seed: 1, wall, defects: self.defects })
    }

    /// A chunkserver's process.
    pub(super) fn server(self, name: &str, boot: u64, process: u64) -> Chunkserver {
        let config = ChunkserverConfig {
            reserve_bytes: 0,
            scrub_bytes_per_second: 0,
            reconnect_ms: 0,
            quarantine_ms: NEVER_MS,
            copy_timeout_ms: NEVER_MS,
            ..ChunkserverConfig::default()
        };
        let seed = name.bytes().fold(7, |seed: u64, byte| seed * 31 + u64::from(byte));
        Chunkserver::new(ChunkserverSetup {
            config,
            seed,
            boot: BootId(boot),
            process: ProcessId(process),
            address: Address::new(name),
            rack: String::new(),
            masters: vec![Address::new("master")],
            volumes: 1,
            defects: self.defects,
        })
    }
}

/// What runs on a node.
#[derive(Clone, Debug, Hash)]
pub(super) enum Machine {
    Master(Box<Master>),
    Server(Box<Chunkserver>),
    Writer(Writer),
    /// The process died.
    Down,
}

/// A disk operation under way.
#[derive(Clone, Debug)]
struct Pending {
    op: OpId,
    request: DiskRequest,
    snapshot: Snapshot,
}

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) machine: Machine,
    pub(super) disk: Disk,
    pending: Vec<Pending>,
    /// How many processes and boots there were.
    process: u64,
    boot: u64,
    ticks: u64,
}

/// What happens to a node.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Message(Peer, Message),
    Lost(Peer),
    /// The operation under way at this place ends.
    Completed(usize),
    /// A chunkserver's time to talk to the master again has come.
    Wake,
    /// Time passes at the master.
    Tick,
    Act(Act),
}

/// What a node did thereupon.
#[derive(Debug, Default)]
pub(super) struct Reaction {
    pub(super) sends: Vec<(Peer, Message)>,
    pub(super) closes: Vec<Peer>,
    /// It panicked or gave up.
    pub(super) fault: Option<String>,
}

/// Names of operations differ between equal nodes: their order counts.
impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Node { machine, disk, pending, process, boot, ticks } = self;
        (machine, disk, process, boot, ticks, pending.len()).hash(state);
        for Pending { op: _, request, snapshot } in pending {
            (request, snapshot).hash(state);
        }
    }
}

/// Operations of which each only starts the next one, so that to the rest of the machine it makes no difference how far they
/// are: they are completed in one step. A death in between is explored all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    /// A group of a journal or of the master's log, and its sync.
    Group,
    /// A sidecar: from its write in staging to the cut of surplus bytes.
    Sidecar,
}

impl Chain {
    /// The chain that begins with this operation.
    fn of(request: &DiskRequest) -> Option<Chain> {
        match request {
            DiskRequest::Write { path, .. } if is_log(&path.name) => Some(Chain::Group),
            DiskRequest::Write { path, .. } if path.name.starts_with("staging/") => Some(Chain::Sidecar),
            _ => None,
        }
    }

    fn goes_on_with(self, request: &DiskRequest) -> bool {
        match (self, request) {
            (Chain::Group, DiskRequest::Sync(path)) => is_log(&path.name),
            (Chain::Group, _) => false,
            (Chain::Sidecar, request) => !matches!(request, DiskRequest::Write { .. }),
        }
    }
}

fn is_log(name: &str) -> bool {
    name.starts_with("journal-") || name.starts_with("master-")
}

enum Effected {
    Send(Peer, Message),
    Close(Peer),
    Disk(OpId, DiskRequest),
    Halt(String),
}

fn handled<M: cairn_core::machine::Machine>(
    machine: &mut M,
    now: Time,
    input: Input<M::Request>,
) -> Vec<Effected> {
    let mut effects = Effects::default();
    machine.handle(now, input, &mut effects);
    let kept = |effect| match effect {
        Effect::Send { to, message } => Some(Effected::Send(to, message)),
        Effect::Close { peer } => Some(Effected::Close(peer)),
        Effect::Disk { op, request } => Some(Effected::Disk(op, request)),
        Effect::Halt { reason, .. } => Some(Effected::Halt(reason)),
        Effect::Reply { .. } | Effect::Note { .. } => None,
    };
    effects.drain().filter_map(kept).collect()
}

/// An input of either machine.
enum Given {
    Message(Peer, Message),
    Lost(Peer),
    Disk(OpId, cairn_core::disk::DiskResult),
    Wake,
}

impl Given {
    fn input<Q>(self) -> Input<Q> {
        match self {
            Given::Message(from, message) => Input::Message { from, message },
            Given::Lost(peer) => Input::PeerLost { peer },
            Given::Disk(op, result) => Input::DiskDone { op, result },
            Given::Wake => Input::Wake,
        }
    }
}

impl Node {
    pub(super) fn new(machine: Machine) -> Node {
        Node { machine, disk: Disk::default(), pending: Vec::new(), process: 1, boot: 1, ticks: 0 }
    }

    /// What is under way on the disk.
    pub(super) fn under_way(&self) -> impl ExactSizeIterator<Item = &DiskRequest> {
        self.pending.iter().map(|pending| &pending.request)
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.machine, Machine::Down)
    }

    /// Which of its processes this is.
    pub(super) fn process(&self) -> ProcessId {
        ProcessId(self.process)
    }

    /// The server, if that is what it is and it is up.
    pub(super) fn server(&self) -> Option<&Chunkserver> {
        match &self.machine {
            Machine::Server(server) => Some(server),
            _ => None,
        }
    }

    pub(super) fn master(&self) -> Option<&Master> {
        match &self.machine {
            Machine::Master(master) => Some(master),
            _ => None,
        }
    }

    pub(super) fn writer(&self) -> Option<&Writer> {
        match &self.machine {
            Machine::Writer(writer) => Some(writer),
            _ => None,
        }
    }

    /// Whether a chunkserver has something to say to the master.
    pub(super) fn wants_master(&self) -> bool {
        match &self.machine {
            Machine::Server(server) => server.next_wake().is_some_and(|(at, _)| at <= NOW),
            Machine::Writer(writer) => writer.is_sealing(),
            _ => false,
        }
    }

    /// Lets something happen. A panic of the machine is a fault of it. A chain of operations runs on to its end.
    pub(super) fn happen(&mut self, happening: Happening) -> Reaction {
        let chain = match &happening {
            Happening::Completed(at) => Chain::of(&self.pending[*at].request),
            _ => None,
        };
        let count = self.pending.len();
        let mut reaction = self.happen_once(happening);
        while self.chain_goes_on(chain, count, &reaction) {
            reaction = self.happen_once(Happening::Completed(count - 1));
        }
        reaction
    }

    fn chain_goes_on(&self, chain: Option<Chain>, count: usize, reaction: &Reaction) -> bool {
        let silent = reaction.sends.is_empty() && reaction.closes.is_empty() && reaction.fault.is_none();
        let next = self.pending.last().filter(|_| silent && self.pending.len() == count);
        next.is_some_and(|next| chain.is_some_and(|chain| chain.goes_on_with(&next.request)))
    }

    /// The node as it is, and at each place within a chain that has begun: it may die there.
    fn places_to_die(&self) -> Vec<Node> {
        let mut places = vec![self.clone()];
        let count = self.pending.len();
        for at in 0..count {
            let chain = Chain::of(&self.pending[at].request);
            let mut node = self.clone();
            let mut reaction = node.happen_once(Happening::Completed(at));
            while node.chain_goes_on(chain, count, &reaction) {
                places.push(node.clone());
                reaction = node.happen_once(Happening::Completed(count - 1));
            }
        }
        places
    }

    fn happen_once(&mut self, happening: Happening) -> Reaction {
        caught(self, |node| node.step(happening, false))
    }

    fn step(&mut self, happening: Happening, all: bool) -> Reaction {
        let mut reaction = Reaction::default();
        if let Machine::Writer(writer) = &mut self.machine {
            reaction.sends = match happening {
                Happening::Message(_, message) => writer.on_message(&message),
                Happening::Act(act) => writer.act(act),
                _ => Vec::new(),
            };
            return reaction;
        }
        let first = match happening {
            Happening::Message(from, message) => Given::Message(from, message),
            Happening::Lost(peer) => Given::Lost(peer),
            Happening::Completed(at) => {
                let Pending { op, request, snapshot } = self.pending.remove(at);
                Given::Disk(op, self.disk.perform(&request, &snapshot))
            }
            Happening::Wake | Happening::Act(_) => Given::Wake,
            Happening::Tick => {
                self.ticks += 1;
                Given::Wake
            }
        };
        let mut given = VecDeque::from([first]);
        while let Some(input) = given.pop_front() {
            for effect in self.handle(input) {
                match effect {
                    Effected::Send(to, message) => reaction.sends.push((to, message)),
                    Effected::Close(peer) => reaction.closes.push(peer),
                    Effected::Disk(op, request) if all || self.disk.is_plain(&request) => {
                        let snapshot = self.disk.snapshot(&request);
                        given.push_back(Given::Disk(op, self.disk.perform(&request, &snapshot)));
                    }
                    Effected::Disk(op, request) => {
                        let snapshot = self.disk.snapshot(&request);
                        self.pending.push(Pending { op, request, snapshot });
                    }
                    Effected::Halt(reason) => reaction.fault = Some(format!("halted: {reason}")),
                }
            }
        }
        reaction
    }

    fn handle(&mut self, input: Given) -> Vec<Effected> {
        let now = Time(NOW.0 + TICK.0 * self.ticks);
        match &mut self.machine {
            Machine::Master(master) => handled(&mut **master, now, input.input()),
            Machine::Server(server) => handled(&mut **server, now, input.input()),
            Machine::Writer(_) | Machine::Down => Vec::new(),
        }
    }

    /// The disks that the process's death may leave, operations under way done or not; with `power` also what of the unsynced
    /// is left. Each comes with a name.
    pub(super) fn deaths(&self, power: bool) -> Vec<(String, Node)> {
        self.places_to_die().iter().flat_map(|place| place.deaths_here(power)).collect()
    }

    fn deaths_here(&self, power: bool) -> Vec<(String, Node)> {
        // A sync under way makes nothing visible; a power cut that keeps everything is as if it had been carried out.
        let writes: Vec<&Pending> =
            self.pending.iter().filter(|p| matches!(p.snapshot, Snapshot::Nothing)).collect();
        let mut deaths = Vec::new();
        for done in 0..1_u32 << writes.len().min(4) {
            let mut disk = self.disk.clone();
            let mut names = Vec::new();
            for (i, pending) in writes.iter().enumerate() {
                if done & 1 << i.min(3) != 0 && disk.perform(&pending.request, &pending.snapshot).is_ok() {
                    names.push(format!("{} was done", pending.request));
                }
            }
            if !power {
                deaths.push((names.join(", "), self.dead(disk, false)));
                continue;
            }
            let units = disk.unsynced();
            for kept in 0..1_u32 << units.len().min(4) {
                let mut cut = disk.clone();
                let left = units.iter().enumerate().filter(|(i, _)| kept & 1 << (*i).min(3) != 0);
                let left: Vec<_> = left.map(|(_, unit)| unit.clone()).collect();
                cut.cut(&left);
                let kept = format!("{} of {} unsynced files and names kept", left.len(), units.len());
                let name = names.iter().cloned().chain([kept]).collect::<Vec<_>>().join(", ");
                deaths.push((name, self.dead(cut, true)));
            }
        }
        deaths
    }

    /// The node after its death with this disk.
    fn dead(&self, disk: Disk, power: bool) -> Node {
        let (process, boot) = (self.process + 1, self.boot + u64::from(power));
        Node { machine: Machine::Down, disk, pending: Vec::new(), process, boot, ticks: self.ticks }
    }

    /// The node after a power cut that kept nothing unsynced, or after a kill that carried nothing more out.
    pub(super) fn bare(&self, power: bool) -> Node {
        let mut disk = self.disk.clone();
        if power {
            disk.cut(&[]);
        }
        self.dead(disk, power)
    }

    /// The same, with another disk in its place.
    pub(super) fn with_blank_disk(&self) -> Node {
        Node { disk: Disk::default(), ..self.clone() }
    }

    /// A new process. Recovery runs to its end.
    pub(super) fn restarted(&self, maker: Maker, name: &str) -> (Node, Reaction) {
        let mut node = self.clone();
        node.machine = node.fresh(maker, name);
        let reaction = caught(&mut node, |node| node.step(Happening::Wake, true));
        (node, reaction)
    }

    fn fresh(&self, maker: Maker, name: &str) -> Machine {
        match name {
            "master" => Machine::Master(Box::new(maker.master())),
            _ => Machine::Server(Box::new(maker.server(name, self.boot, self.process))),
        }
    }

    /// What is left of the disk when a new process dies after each number of its operations, none of them synced or all.
    pub(super) fn restarts_cut_short(&self, maker: Maker, name: &str, power: bool) -> Vec<(usize, Node)> {
        let mut left = Vec::new();
        let mut node = self.clone();
        node.machine = node.fresh(maker, name);
        let mut steps = 0;
        let reaction = caught(&mut node, |node| node.step(Happening::Wake, false));
        let mut over = reaction.fault.is_some();
        while !over && !node.pending.is_empty() {
            left.push((steps, node.bare(power)));
            steps += 1;
            over = caught(&mut node, |node| node.step(Happening::Completed(0), false)).fault.is_some();
        }
        left
    }
}

fn caught(node: &mut Node, work: impl FnOnce(&mut Node) -> Reaction) -> Reaction {
    match catch_unwind(AssertUnwindSafe(|| work(node))) {
        Ok(reaction) => reaction,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            let fault = Some(format!("panicked: {}", text.unwrap_or_default()));
            Reaction { fault, ..Reaction::default() }
        }
    }
}
