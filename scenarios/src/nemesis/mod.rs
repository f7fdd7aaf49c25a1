//! What goes wrong, as data, and how it is done to a cluster. One file for each place where things go wrong.

mod cue;
mod disk;
mod hostile;
mod network;
mod process;
mod rot;
mod storm;

pub use cue::{Cue, Stagehand};
pub(crate) use storm::storm;

use serde::{Deserialize, Serialize};

use cairn_core::time::Span;

use crate::cluster::{Cluster, MASTER};

/// Who is struck, by role: found out at the time of the strike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// The master.
    Master,
    /// This chunkserver.
    Server(usize),
    /// This client.
    Client(usize),
    /// The primary of the chunk that was granted last.
    Primary,
    /// Whoever got the message that the strike waited for.
    Cued,
    /// That chunk's member at this place of the pipeline, or its last one.
    Member(usize),
    /// The primary of the last chunk that was granted for the file at this path.
    PrimaryOf(String),
    /// Who has a copy of a chunk of the file at this path.
    Holder {
        /// The file.
        path: String,
        /// Which of its chunks, from 0; without it the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chunk: Option<usize>,
        /// Which of the holders, in order of their names, or the last one.
        place: usize,
    },
}

/// Something that goes wrong. Until the end of its strike, unless it is over at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// The process dies, and is started again at the end.
    Kill {
        /// Whose.
        target: Target,
    },
    /// The machine loses power, and is started again at the end.
    PowerCut {
        /// Which.
        target: Target,
    },
    /// The process freezes.
    Pause {
        /// Whose.
        target: Target,
    },
    /// The clock's rate changes, for good.
    Drift {
        /// Whose.
        target: Target,
        /// Parts per million.
        ppm: i32,
    },
    /// The clock jumps ahead, at once.
    Jump {
        /// Whose.
        target: Target,
        /// By how many milliseconds.
        ahead_ms: u64,
    },
    /// The process is slow: each input takes time.
    SlowNode {
        /// Whose.
        target: Target,
        /// Microseconds for each input.
        each_us: u64,
    },
    /// The network splits in two.
    Split {
        /// Bit `i` says on which side node `i` is: the master, then servers, then clients.
        mask: u64,
        /// Only from the first side to the second.
        one_way: bool,
    },
    /// A node is cut off.
    Isolate {
        /// Which.
        target: Target,
    },
    /// Two nodes can't hear each other; everybody else hears both.
    Cut {
        /// One.
        target: Target,
        /// The other.
        other: Target,
        /// Only what the first says is not heard.
        one_way: bool,
    },
    /// Connections between two nodes break, at once.
    Reset {
        /// One.
        target: Target,
        /// The other.
        other: Target,
    },
    /// All links of a node are slow and lossy.
    BadLink {
        /// Whose.
        target: Target,
        /// Microseconds for each message.
        latency_us: u64,
        /// Lost packets, sent again later.
        loss_per_million: u32,
    },
    /// Frames to a node arrive with a bit flipped.
    Garble {
        /// To whom.
        target: Target,
        /// How many.
        per_million: u32,
    },
    /// What one node sends another over the connections that they have stands still; new connections pass.
    Stall {
        /// Who sends.
        target: Target,
        /// Who does not hear.
        other: Target,
    },
    /// As a stall; after a while the sender loses the connections, and may dial anew. At the end all that it had sent still
    /// arrives.
    Zombie {
        /// Who sends.
        target: Target,
        /// Who hears late.
        other: Target,
        /// When the sender gives up, in milliseconds.
        after_ms: u64,
    },
    /// How a chunk was opened is said to a server again, over a new connection without answers: of the cue's chunk, if the
    /// cue is the target, else of one of the latest chunks opened there.
    Replay {
        /// Who hears it.
        target: Target,
        /// How many chunks further back than the latest.
        back: usize,
        /// How many records are said again too.
        records: usize,
        /// How long that connection stands afterwards, in milliseconds.
        linger_ms: u64,
    },
    /// The master is asked again for changes that it was asked for, in their order; nobody waits for the answers.
    RepeatCall {
        /// How many changes further back than the latest the first of them is.
        back: usize,
        /// How many there are.
        #[serde(default = "one")]
        count: usize,
    },
    /// Records to and from a node are said twice in a row.
    Repeats {
        /// Whose.
        target: Target,
        /// How many.
        per_million: u32,
    },
    /// The process dies, or its machine loses power, when one of its next disk operations is carried out and before it is
    /// told so; it is started again at the end.
    CrashPoint {
        /// Whose.
        target: Target,
        /// Which of the disk operations that end from now on: 1, 2, …
        operation: u64,
        /// Whether the power goes too.
        power: bool,
        /// Only those count that make a name: of a file, a directory, or by renaming.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        naming: bool,
    },
    /// Processes of many die at once, or lose power, and are started again at the end.
    Outage {
        /// Only the servers of this rack; `None`: everyone, the master and clients too.
        rack: Option<String>,
        /// Whether the power goes too.
        power: bool,
    },
    /// Bits of chunk files rot, at once.
    Flip {
        /// Whose.
        target: Target,
        /// How many.
        bits: u32,
        /// Only of the youngest chunk that is there, or of the ends of journals.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        youngest: bool,
        /// Only of journals.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        journals: bool,
    },
    /// An operator removes a chunk's file, or its sidecar, under the running server, at once.
    Remove {
        /// Whose.
        target: Target,
    },
    /// A sector of a chunk file can't be read any more.
    BadSector {
        /// Whose.
        target: Target,
    },
    /// The process dies, a volume is emptied, the process is started again at the end.
    Wipe {
        /// Whose.
        target: Target,
        /// Which, modulo the volumes that there are.
        volume: u16,
        /// Whether its machine lost power: nobody hears that the process is over.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        power: bool,
    },
    /// A sector of a chunk file, sidecar or journal was written to the wrong place, at once.
    Misdirect {
        /// Whose.
        target: Target,
    },
    /// The master dies, a bit of its log rots, and it is started again: it must refuse to. At the end the log is restored from
    /// a copy.
    LogRot,
    /// A new server with blank volumes joins, for good.
    AddServer {
        /// Its rack.
        rack: String,
    },
    /// Syncs hang.
    StuckSync {
        /// Whose.
        target: Target,
        /// Whether only those of directories do.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        names: bool,
    },
    /// What every other list of a directory shows is told late.
    StuckList {
        /// Whose.
        target: Target,
    },
    /// Disk operations fail.
    DiskErrors {
        /// Whose.
        target: Target,
        /// Reads.
        read_per_million: u32,
        /// Writes.
        write_per_million: u32,
        /// Syncs.
        sync_per_million: u32,
        /// Only where chunks are; journals and the rest of the disk are spared.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        chunks_only: bool,
    },
    /// The process dies and starts again, and can read nothing on the volume where the chunk of the cue lies.
    VolumeAway {
        /// Whose.
        target: Target,
    },
    /// No byte fits on the disks any more.
    FullDisk {
        /// Whose.
        target: Target,
    },
    /// Disks crawl.
    SlowDisk {
        /// Whose.
        target: Target,
        /// How many times slower.
        factor: u32,
    },
}

fn one() -> usize {
    1
}

/// Everyone whom a fault names, as references of its own kind.
macro_rules! named {
    ($fault:expr) => {
        match $fault {
            Fault::Reset { target, other }
            | Fault::Cut { target, other, .. }
            | Fault::Stall { target, other }
            | Fault::Zombie { target, other, .. } => vec![target, other],
            Fault::Split { .. }
            | Fault::RepeatCall { .. }
            | Fault::Outage { .. }
            | Fault::LogRot
            | Fault::AddServer { .. } => Vec::new(),
            Fault::Kill { target }
            | Fault::PowerCut { target }
            | Fault::Pause { target }
            | Fault::Drift { target, .. }
            | Fault::Isolate { target }
            | Fault::BadLink { target, .. }
            | Fault::Garble { target, .. }
            | Fault::Flip { target, .. }
            | Fault::BadSector { target }
            | Fault::Wipe { target, .. }
            | Fault::DiskErrors { target, .. }
            | Fault::VolumeAway { target }
            | Fault::FullDisk { target }
            | Fault::SlowDisk { target, .. }
            | Fault::Replay { target, .. }
            | Fault::Repeats { target, .. }
            | Fault::Jump { target, .. }
            | Fault::SlowNode { target, .. }
            | Fault::Misdirect { target }
            | Fault::Remove { target }
            | Fault::StuckSync { target, .. }
            | Fault::StuckList { target }
            | Fault::CrashPoint { target, .. } => vec![target],
        }
    };
}

impl Fault {
    /// Who is struck first of all. What strikes everybody has the master stand for them.
    pub fn target(&self) -> &Target {
        self.targets().first().copied().unwrap_or(&Target::Master)
    }

    /// Everyone who is named.
    pub fn targets(&self) -> Vec<&Target> {
        named!(self)
    }

    /// The same, to be changed.
    pub fn targets_mut(&mut self) -> Vec<&mut Target> {
        named!(self)
    }

    /// Whether a server may lose bytes that count towards a quorum. `relaxed`: page caches count.
    pub fn loses_data(&self, relaxed: bool) -> bool {
        match self {
            Fault::Flip { .. }
            | Fault::BadSector { .. }
            | Fault::Misdirect { .. }
            | Fault::Remove { .. }
            | Fault::Wipe { .. } => true,
            Fault::PowerCut { target } | Fault::CrashPoint { target, power: true, .. } => {
                relaxed && *target != Target::Master
            }
            // What can't be read now is still there.
            Fault::DiskErrors { write_per_million: 0, sync_per_million: 0, .. } => false,
            Fault::DiskErrors { target, .. } => relaxed && *target != Target::Master,
            _ => false,
        }
    }

    /// Whether it may harm bytes at rest so that only reading them tells.
    pub fn rots(&self) -> bool {
        matches!(
            self,
            Fault::Flip { .. } | Fault::BadSector { .. } | Fault::Misdirect { .. } | Fault::DiskErrors { .. }
        )
    }

    /// Begins it. Returns what has to be done at its end.
    pub(crate) fn strike(&self, cluster: &Cluster) -> Undo {
        if let Some(missing) = self.targets().into_iter().find(|target| cluster.find(target).is_none()) {
            cluster.world.note(format_args!("skipped: there is no {missing:?} now"));
            return Undo::Nothing;
        }
        cluster.note_strike();
        match self {
            Fault::Kill { .. }
            | Fault::PowerCut { .. }
            | Fault::Pause { .. }
            | Fault::Drift { .. }
            | Fault::Jump { .. }
            | Fault::SlowNode { .. }
            | Fault::AddServer { .. }
            | Fault::CrashPoint { .. }
            | Fault::Outage { .. } => process::strike(self, cluster),
            Fault::Stall { .. }
            | Fault::Zombie { .. }
            | Fault::Replay { .. }
            | Fault::RepeatCall { .. }
            | Fault::Repeats { .. } => hostile::strike(self, cluster),
            Fault::Split { .. }
            | Fault::Isolate { .. }
            | Fault::Cut { .. }
            | Fault::Reset { .. }
            | Fault::BadLink { .. }
            | Fault::Garble { .. } => network::strike(self, cluster),
            Fault::Flip { .. }
            | Fault::BadSector { .. }
            | Fault::Misdirect { .. }
            | Fault::Remove { .. }
            | Fault::LogRot
            | Fault::Wipe { .. } => rot::strike(self, cluster),
            Fault::DiskErrors { .. }
            | Fault::VolumeAway { .. }
            | Fault::FullDisk { .. }
            | Fault::SlowDisk { .. }
            | Fault::StuckSync { .. }
            | Fault::StuckList { .. } => disk::strike(self, cluster),
        }
    }
}

/// The end of a fault, in nodes' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undo {
    Nothing,
    Restart(Vec<String>),
    Resume(String),
    Heal(Vec<String>, Vec<String>),
    EndStall(String, String),
    Links(String),
    Quicken(String),
    MendLog,
    Disks { node: String, restarts: bool },
    Readable(String),
    Lists(String),
}

impl Undo {
    pub(crate) fn run(self, cluster: &Cluster) {
        match self {
            Undo::Nothing => {}
            Undo::Restart(nodes) => nodes.iter().for_each(|node| cluster.world.restart(node)),
            Undo::EndStall(from, to) => cluster.world.end_stall(&from, &to),
            Undo::Resume(node) => cluster.world.resume(&node),
            Undo::Heal(a, b) => cluster.world.heal(&a, &b),
            Undo::Quicken(node) => cluster.world.set_slowness(&node, Span(0)),
            Undo::MendLog => rot::mend_log(cluster),
            Undo::Links(node) => network::restore_links(cluster, &node),
            Undo::Disks { node, restarts } => disk::restore(cluster, &node, restarts),
            Undo::Readable(node) => disk::set_normal(cluster, &node),
            Undo::Lists(node) => disk::hang_lists(cluster, &node, false),
        }
    }
}

/// Ends everything that goes wrong, and starts whatever is down.
pub fn heal(cluster: &Cluster) {
    let world = &cluster.world;
    world.heal_all();
    world.clear_disk_faults();
    rot::mend_log(cluster);
    for node in world.nodes() {
        world.set_slowness(&node, Span(0));
        world.resume(&node);
        world.restart(&node);
    }
    // A volume that met an error stays out of use until its server is started again.
    for server in cluster.server_names().into_iter().chain([MASTER.to_owned()]) {
        if disk::had_errors(cluster, &server) {
            disk::start_again(cluster, &server);
        }
    }
}
