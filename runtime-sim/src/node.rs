//! A node: its process, mailbox, clock and volumes.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use cairn_core::chunkserver::ChunkserverSetup;
use cairn_core::config::ChunkserverConfig;
use cairn_core::defect::Defects;
use cairn_core::disk::{DiskRequest, DiskResult};
use cairn_core::id::{Address, BootId, CallId, OpId, Peer, ProcessId};
use cairn_core::message::Message;
use cairn_core::rng::Rng;
use cairn_core::time::{Span, Time, UnixMs, WallClock};

use crate::clock::Clock;
use crate::disk::Volume;
use crate::event::LinkId;
use crate::record::HappeningId;
use crate::world::{World, volume_of};

/// The wall clock at the start of every run.
const WALL_START: u64 = 1_790_000_000_000;

/// A node's number, in order of starting.
pub(crate) type NodeIx = u16;

/// Whether a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It runs.
    Up,
    /// Its process is frozen.
    Paused,
    /// Its process was killed, or its machine has no power.
    Down,
    /// Its machine halted.
    Halted {
        /// What it said.
        reason: String,
        /// Whether an operator has to act.
        failed: bool,
    },
}

/// What a new process is told about itself.
#[derive(Clone, Debug)]
pub struct Birth {
    /// For everything random in the machine; another one for each process.
    pub seed: u64,
    /// This boot.
    pub boot: BootId,
    /// This process.
    pub process: ProcessId,
    /// Turns the node's time into wall-clock time.
    pub wall: WallClock,
    /// Where it can be dialled.
    pub address: Address,
}

impl Birth {
    /// The set-up of a chunkserver's process that is born so.
    pub fn chunkserver(
        &self,
        rack: &str,
        volumes: u16,
        config: ChunkserverConfig,
        masters: Vec<Address>,
        defects: Defects,
    ) -> ChunkserverSetup {
        ChunkserverSetup {
            config,
            seed: self.seed,
            boot: self.boot,
            process: self.process,
            address: self.address.clone(),
            rack: rack.to_owned(),
            masters,
            volumes,
            defects,
        }
    }
}

/// What waits for a machine.
#[derive(Debug)]
pub(crate) enum Item {
    Message {
        peer: Peer,
        sender: NodeIx,
        message: Message,
        /// Its sending, if events are kept.
        sent: Option<HappeningId>,
    },
    Disk {
        op: OpId,
        result: DiskResult,
        /// Its beginning, if events are kept.
        begun: Option<HappeningId>,
    },
    /// The connection is forgotten once the machine is told.
    Lost {
        peer: Peer,
        other: NodeIx,
        link: LinkId,
    },
    Call {
        call: CallId,
        request: Box<dyn Any + Send>,
    },
}

/// Where an answer to a call is put. `Some(None)`: the process died.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) value: Option<Option<Box<dyn Any + Send>>>,
    pub(crate) waker: Option<Waker>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot(answered: {})", self.value.is_some())
    }
}

/// Puts an answer there.
pub(crate) fn fill(slot: &Mutex<Slot>, value: Option<Box<dyn Any + Send>>) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    slot.value = Some(value);
    if let Some(waker) = slot.waker.take() {
        waker.wake();
    }
}

/// An operation under way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pub(crate) op: OpId,
    pub(crate) request: DiskRequest,
    /// For syncs: what had completed at its issue.
    pub(crate) mark: u64,
    /// Its beginning, if events are kept.
    pub(crate) begun: Option<HappeningId>,
}

/// Makes and starts the process of a node.
pub(crate) type Spawn = Box<dyn FnMut(&World, NodeIx, u64, &Birth) -> Arc<dyn Any + Send + Sync> + Send>;

/// A node dies when so many more disk operations were carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doom {
    pub(crate) left: u64,
    /// Only those count that make a name.
    pub(crate) naming: bool,
    /// Its power goes too.
    pub(crate) power: bool,
}

/// A node.
pub(crate) struct Node {
    pub(crate) name: Arc<str>,
    pub(crate) madsim: madsim::task::NodeId,
    pub(crate) state: NodeState,
    /// The power is off: nobody answers for it, not even its kernel.
    pub(crate) dark: bool,
    /// Counts processes; what was meant for an earlier one is dropped.
    pub(crate) life: u64,
    pub(crate) boot: BootId,
    pub(crate) process: ProcessId,
    pub(crate) clock: Clock,
    pub(crate) mailbox: VecDeque<Item>,
    pub(crate) waker: Option<Waker>,
    /// Which of the wakes asked for is the latest, and for when.
    pub(crate) armed: u64,
    pub(crate) armed_at: Option<u64>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) under_way: BTreeMap<u64, UnderWay>,
    pub(crate) next_op: u64,
    /// Syncs that hang.
    pub(crate) stuck: Vec<u64>,
    /// What lists showed that hang, and on which volume.
    pub(crate) stuck_lists: Vec<(u16, Item)>,
    /// What each input costs it.
    pub(crate) slowness: Span,
    /// Until when it is busy with the last one.
    pub(crate) busy_until: Time,
    /// When it dies.
    pub(crate) doom: Option<Doom>,
    pub(crate) calls: BTreeMap<CallId, Arc<Mutex<Slot>>>,
    pub(crate) dialled: BTreeMap<Address, LinkId>,
    pub(crate) machine: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) spawn: Option<Spawn>,
    pub(crate) rng: Rng,
    pub(crate) disk_rng: Rng,
    pub(crate) inputs: u64,
}

impl Node {
    /// Whether there is a process.
    pub(crate) fn runs(&self) -> bool {
        matches!(self.state, NodeState::Up | NodeState::Paused)
    }

    /// What its present process could be told about itself if it began now.
    pub(crate) fn birth(&self, now: Time) -> Birth {
        let wall_now = WALL_START + now.0 / 1_000_000;
        let at_zero = UnixMs(wall_now.saturating_sub(self.clock.read(now).0 / 1_000_000));
        let (boot, process, address) = (self.boot, self.process, Address(self.name.clone()));
        Birth { seed: 0, boot, process, wall: WallClock { at_zero }, address }
    }

    /// Puts an item into the mailbox.
    pub(crate) fn deliver(&mut self, item: Item) {
        self.mailbox.push_back(item);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether this is a sync, and hangs.
    pub(crate) fn sync_hangs(&self, request: &DiskRequest) -> bool {
        self.volumes.get(usize::from(volume_of(request))).is_some_and(|Volume { faults, .. }| match request {
            DiskRequest::Sync(_) => faults.stuck_syncs,
            DiskRequest::SyncDir(_) => faults.stuck_syncs || faults.stuck_dir_syncs,
            _ => false,
        })
    }

    /// Whether lists of a volume's directories hang.
    pub(crate) fn lists_hang(&self, volume: u16) -> bool {
        self.volumes.get(usize::from(volume)).is_some_and(|volume| volume.faults.stuck_lists)
    }

    /// A wake that was armed by the old clock comes at the wrong time: has the loop look again.
    pub(crate) fn look_again(&mut self) {
        self.armed_at = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The process is gone: its memory, mailbox and calls with it.
    pub(crate) fn forget_process(&mut self) {
        self.life += 1;
        self.doom = None;
        self.stuck.clear();
        self.stuck_lists.clear();
        self.busy_until = Time(0);
        self.mailbox.clear();
        self.waker = None;
        self.armed += 1;
        self.armed_at = None;
        self.machine = None;
        self.dialled.clear();
        for (_, slot) in std::mem::take(&mut self.calls) {
            fill(&slot, None);
        }
    }
}
