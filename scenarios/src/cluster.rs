//! A whole cluster in a simulated world: started from a shape, struck by role, asked in few words.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_core::chunkserver::Chunkserver;
use cairn_core::defect::Defects;
use cairn_core::id::{Address, BootId, ChunkId, ChunkUuid, ClusterId};
use cairn_core::log::{FileHeader, HEADER_BYTES, Scan, ScanEnd};
use cairn_core::master::Master;
use cairn_core::message::{Grant, Identity, MasterReply, Message};
use cairn_core::time::{Span, Time};
use runtime_sim::{Birth, ClientHandle, DiskFaults, Link, Options, World};

use crate::checker::health;
use crate::nemesis::Target;
use crate::shape::Shape;

/// The master's name and address.
pub const MASTER: &str = "master";

/// A checker's question is answered or given up within this time.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Inputs of a run at the most, far above what any storm takes: a run that exceeds it grows without bound.
const INPUTS_MAX: u64 = 20_000_000;

/// Messages, disk operations and wakings under way at once.
const EVENTS_MAX: usize = 1_000_000;

/// Bytes of a kept trace.
const TRACE_MAX: usize = 4 << 30;

/// A running cluster.
#[derive(Clone)]
pub struct Cluster {
    /// Where it runs.
    pub world: World,
    /// What it is like.
    pub shape: Arc<Shape>,
    /// Its clients.
    pub clients: Vec<ClientHandle>,
    pub(crate) link: Link,
    defects: Defects,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Default)]
struct Memory {
    last_grant: Option<Grant>,
    primaries: BTreeMap<ChunkId, String>,
    cued: Option<String>,
    cued_chunk: Option<ChunkId>,
    power_cuts: BTreeMap<String, Time>,
    disk_errors: BTreeSet<String>,
    jumps: BTreeSet<String>,
    /// When a journal's end flipped, and the boot in which it is told from a torn write.
    torn_journals: BTreeMap<String, (Time, Option<BootId>)>,
    struck: bool,
    /// Servers that joined later: their racks.
    joined: Vec<String>,
}

/// The world that suits a shape.
pub fn options(shape: &Shape) -> Options {
    Options {
        link: link(shape),
        disk: disk(shape),
        clock_drift_ppm_max: shape.drift_ppm,
        simulated_limit: Span::from_ms(1_200_000),
        inputs_limit: INPUTS_MAX,
        events_limit: EVENTS_MAX,
        trace_limit: TRACE_MAX,
        ..Options::default()
    }
}

/// How a shape's disks behave while nothing is wrong with them.
pub(crate) fn disk(shape: &Shape) -> DiskFaults {
    DiskFaults { slow_factor: shape.disk_slow_factor, ..DiskFaults::default() }
}

fn link(shape: &Shape) -> Link {
    Link { latency_us: shape.latency_us, jitter_us: shape.jitter_us, ..Link::default() }
}

impl Cluster {
    /// Starts master, chunkservers and clients; none of them is ready yet.
    pub fn start(world: &World, shape: &Shape, defects: Defects) -> Cluster {
        world.start_master(MASTER, shape.master.clone(), defects);
        for (i, server) in shape.servers.iter().enumerate() {
            let config = shape.chunkserver.clone();
            world.start_chunkserver(
                &server_name(i),
                &server.rack,
                server.volumes,
                config,
                &[MASTER],
                defects,
            );
        }
        let identity = Identity { user: "root".into(), groups: vec!["root".into()] };
        let client = |i| {
            let (name, config) = (client_name(i), shape.client.clone());
            world.start_client(&name, config, identity.clone(), &[MASTER], defects)
        };
        let clients = (0..shape.clients).map(client).collect();
        let memory = Arc::new(Mutex::new(Memory::default()));
        let seen = memory.clone();
        world.observe_messages(move |_, _, _, message| {
            if let Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. } = message {
                let mut seen = lock(&seen);
                if let Some(primary) = grant.addresses.first() {
                    seen.primaries.insert(grant.chunk, primary.0.to_string());
                }
                seen.last_grant = Some(grant.clone());
            }
        });
        Cluster {
            world: world.clone(),
            shape: Arc::new(shape.clone()),
            clients,
            link: link(shape),
            defects,
            memory,
        }
    }

    /// Waits until the master serves and counts all chunkservers as live; whether that came within the time.
    pub async fn until_ready(&self, within: Span) -> bool {
        let Some(client) = self.clients.first() else { return false };
        let start = self.world.now();
        while self.world.now().since(start) < within {
            if let Ok(Ok(status)) = madsim::time::timeout(ANSWER_WITHIN, health::status(client)).await
                && !status.starting
                && status.servers.iter().filter(|s| s.live).count() == self.server_count()
            {
                return true;
            }
            self.world.sleep(Span::from_ms(50)).await;
        }
        false
    }

    /// Names of the chunkservers.
    pub fn server_names(&self) -> Vec<String> {
        (0..self.server_count()).map(server_name).collect()
    }

    /// Chunkservers, those that joined later among them.
    pub fn server_count(&self) -> usize {
        self.shape.servers.len() + lock(&self.memory).joined.len()
    }

    /// Starts another chunkserver, with one blank volume.
    pub fn add_server(&self, rack: &str) {
        let i = self.server_count();
        lock(&self.memory).joined.push(rack.to_owned());
        let config = self.shape.chunkserver.clone();
        self.world.start_chunkserver(&server_name(i), rack, 1, config, &[MASTER], self.defects);
    }

    /// A chunkserver's process, as it would be if it began now.
    pub(crate) fn process(&self, name: &str, birth: &Birth) -> Chunkserver {
        let (config, masters) = (self.shape.chunkserver.clone(), vec![Address::new(MASTER)]);
        Chunkserver::new(birth.chunkserver("", self.volumes(name), config, masters, self.defects))
    }

    /// Starts a client that no fault strikes, for somebody who is not root.
    pub fn start_stranger(&self, identity: Identity) -> ClientHandle {
        self.world.start_client("stranger", self.shape.client.clone(), identity, &[MASTER], self.defects)
    }

    /// Names of the chunkservers in a rack.
    pub fn servers_of_rack(&self, rack: &str) -> Vec<String> {
        let first = self.shape.servers.iter().map(|server| server.rack.clone());
        let racks: Vec<String> = first.chain(lock(&self.memory).joined.iter().cloned()).collect();
        let here = |i: &usize| racks.get(*i).is_some_and(|its| its == rack);
        (0..racks.len()).filter(here).map(server_name).collect()
    }

    /// The rack of a server that was there from the start.
    pub(crate) fn rack_of(&self, server: &str) -> Option<&str> {
        let place = self.shape.servers.iter().enumerate().find(|(i, _)| server_name(*i) == server);
        place.map(|(_, shape)| shape.rack.as_str())
    }

    /// Names of all nodes: the master, then chunkservers, then clients.
    pub fn node_names(&self) -> Vec<String> {
        let clients = (0..self.shape.clients).map(client_name);
        std::iter::once(MASTER.to_owned()).chain(self.server_names()).chain(clients).collect()
    }

    /// Data directories of a node.
    pub fn volumes(&self, node: &str) -> u16 {
        match node.strip_prefix("cs").and_then(|i| i.parse::<usize>().ok()) {
            Some(i) if i >= self.server_count() => 0,
            Some(i) => self.shape.servers.get(i).map_or(1, |s| s.volumes),
            None => u16::from(node == MASTER),
        }
    }

    /// The grant that a client got last.
    pub fn last_grant(&self) -> Option<Grant> {
        lock(&self.memory).last_grant.clone()
    }

    /// The node that plays a role now, or the first chunkserver if there is none.
    pub fn resolve(&self, target: &Target) -> String {
        self.find(target).unwrap_or_else(|| server_name(0))
    }

    /// The chunks of the file at `path`, uploads to it included, in order of their granting.
    fn chunks_at(&self, path: &str) -> Vec<ChunkId> {
        let is_it = |found: Option<String>| {
            found.is_some_and(|found| {
                found == path || found.strip_prefix(path).is_some_and(|rest| rest.starts_with(" ("))
            })
        };
        let chunks = self.master(|master| {
            let catalog = master.catalog();
            let all = catalog.chunks_after(None).map(|(chunk, _)| chunk);
            all.filter(|chunk| is_it(catalog.chunk_path(*chunk))).collect()
        });
        chunks.unwrap_or_default()
    }

    /// The node that plays a role now; `None` if the file that it hangs on, or a copy of it, is not there.
    pub fn find(&self, target: &Target) -> Option<String> {
        let member = |place: usize| {
            let grant = self.last_grant();
            let mut addresses = grant.map(|g| g.addresses).unwrap_or_default();
            // A master that just started may not know yet where a member is.
            addresses.retain(|a| self.volumes(&a.0) > 0);
            let place = place.min(addresses.len().saturating_sub(1));
            addresses.get(place).map_or_else(|| server_name(0), |a| a.0.to_string())
        };
        Some(match target {
            Target::Master => MASTER.to_owned(),
            Target::Server(i) => server_name(i % self.shape.servers.len().max(1)),
            Target::Client(i) => client_name(i % self.shape.clients.max(1)),
            Target::Primary => member(0),
            Target::Cued => lock(&self.memory).cued.clone().unwrap_or_else(|| server_name(0)),
            Target::Member(place) => member(*place),
            Target::PrimaryOf(path) => {
                let chunks = self.chunks_at(path);
                let memory = lock(&self.memory);
                chunks.iter().rev().find_map(|chunk| memory.primaries.get(chunk).cloned())?
            }
            Target::Holder { path, chunk, place } => {
                let chunks = self.chunks_at(path);
                let wanted = chunk.map_or_else(|| chunks.last(), |i| chunks.get(i)).copied()?;
                let holds =
                    |server: &String| self.chunk_files(server).iter().any(|(.., chunk)| *chunk == wanted);
                let holders: Vec<String> = self.server_names().into_iter().filter(holds).collect();
                holders.get((*place).min(holders.len().checked_sub(1)?)).cloned()?
            }
        })
    }

    /// Looks at the master between two inputs; `None` while it is down.
    pub fn master<R>(&self, look: impl FnOnce(&Master) -> R) -> Option<R> {
        self.world.inspect(MASTER, look)
    }

    /// All chunk files in use on a server: `(volume, path, length, chunk)`.
    pub fn chunk_files(&self, server: &str) -> Vec<(u16, String, u64, ChunkId)> {
        let mut found = Vec::new();
        for volume in 0..self.volumes(server) {
            for (path, length) in self.world.files(server, volume) {
                if let Some(chunk) = chunk_of(&path) {
                    found.push((volume, path, length, chunk));
                }
            }
        }
        found
    }

    pub(crate) fn note_power_cut(&self, node: &str) {
        lock(&self.memory).power_cuts.insert(node.to_owned(), self.world.now());
    }

    /// When a strike last took a node's power.
    pub(crate) fn power_cut_at(&self, node: &str) -> Option<Time> {
        lock(&self.memory).power_cuts.get(node).copied()
    }

    /// A cue that is about no chunk leaves the last one that was.
    pub(crate) fn note_cued(&self, node: String, chunk: Option<ChunkId>) {
        let mut memory = lock(&self.memory);
        memory.cued = Some(node);
        memory.cued_chunk = chunk.or(memory.cued_chunk);
    }

    /// The chunk that the last cue was about which a strike waited for.
    pub(crate) fn cued_chunk(&self) -> Option<ChunkId> {
        lock(&self.memory).cued_chunk
    }

    pub(crate) fn note_disk_errors(&self, node: &str) {
        lock(&self.memory).disk_errors.insert(node.to_owned());
    }

    pub(crate) fn note_jump(&self, node: &str) {
        lock(&self.memory).jumps.insert(node.to_owned());
    }

    /// Whether a strike ever set a node's clock ahead.
    pub(crate) fn clock_jumped(&self, node: &str) -> bool {
        lock(&self.memory).jumps.contains(node)
    }

    /// A bit of a node's journal flipped near its end: `holed`, as no process leaves it that dies.
    pub(crate) fn note_torn_journal(&self, node: &str, holed: bool) {
        let (now, boot) = (self.world.now(), holed.then(|| self.world.boot(node)));
        let torn = &mut lock(&self.memory).torn_journals;
        let boot = if torn.get(node).is_some_and(|(_, boot)| boot.is_none()) { None } else { boot };
        torn.insert(node.to_owned(), (now, boot));
    }

    /// When a bit of a node's journal last flipped so near to its end that it can't be told from a torn write.
    pub(crate) fn journal_torn_at(&self, node: &str) -> Option<Time> {
        let (at, told_in) = lock(&self.memory).torn_journals.get(node).copied()?;
        told_in.is_none_or(|boot| boot != self.world.boot(node)).then_some(at)
    }

    pub(crate) fn note_strike(&self) {
        lock(&self.memory).struck = true;
    }

    /// Whether anything has gone wrong yet.
    pub(crate) fn was_struck(&self) -> bool {
        lock(&self.memory).struck
    }

    pub(crate) fn disk_errors(&self) -> BTreeSet<String> {
        lock(&self.memory).disk_errors.clone()
    }
}

/// What is kept of a node, made if there is nothing yet.
pub(crate) fn of_node<'a, T: Default>(all: &'a mut BTreeMap<String, T>, node: &str) -> &'a mut T {
    // Nearly always it is there, and needs no name of its own.
    if !all.contains_key(node) {
        all.insert(node.to_owned(), T::default());
    }
    all.get_mut(node).expect("it was just put in")
}

/// What a mutex guards; a panic elsewhere fails the run by itself.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of chunkserver `i`.
pub fn server_name(i: usize) -> String {
    format!("cs{i}")
}

/// The name of client `i`.
pub fn client_name(i: usize) -> String {
    format!("client{i}")
}

/// Where a chunk's bytes lie on a volume.
pub fn chunk_path(cluster: ClusterId, chunk: ChunkId) -> String {
    format!("chunks/{:02x}/chunk-{}", chunk.0 & 0xff, ChunkUuid::new(cluster, chunk))
}

/// Whether a path on a volume is a chunk's bytes in their place, neither sidecar nor staged nor in quarantine.
pub fn is_chunk_file(path: &str) -> bool {
    chunk_of(path).is_some()
}

/// The records of a journal or a segment of the operation log; `None` if it is just being made, or its header is damaged.
pub(crate) fn scan(file: &[u8]) -> Option<Scan> {
    let mut scan = Scan::new(FileHeader::decode(file).ok()?.first_index);
    scan.feed(file.get(HEADER_BYTES as usize..).unwrap_or_default());
    Some(scan)
}

/// How a journal or a segment of the operation log ends; `None` if it is damaged.
pub(crate) fn scan_end(file: &[u8]) -> Option<ScanEnd> {
    scan(file)?.finish().ok()
}

/// Paths and lengths of the segments of a master's operation log, the oldest first: their names sort by their first index.
pub(crate) fn log_segments(world: &World) -> Vec<(String, u64)> {
    let mut segments = world.files(MASTER, 0);
    segments.retain(|(path, _)| is_log_segment(path));
    segments.sort();
    segments
}

/// Whether a process has just begun, and does not know whose volumes it has.
pub(crate) fn is_new(server: &Chunkserver) -> bool {
    server.server().0 == 0
}

/// What a sidecar's path ends with beyond its chunk's.
pub(crate) const SIDECAR: &str = ".meta";

/// The path of the sidecar of the chunk file at `path`.
pub(crate) fn sidecar(path: &str) -> String {
    format!("{path}{SIDECAR}")
}

/// Whether a path on the master's volume is a segment of its log.
pub(crate) fn is_log_segment(path: &str) -> bool {
    path.ends_with(".log")
}

/// Whether a path on a volume is a journal.
pub(crate) fn is_journal(path: &str) -> bool {
    path.starts_with("journal-")
}

/// The chunk whose bytes or sidecar are at `path` on a volume.
pub(crate) fn chunk_of_either(path: &str) -> Option<ChunkId> {
    chunk_of(path.strip_suffix(SIDECAR).unwrap_or(path))
}

/// The chunk that a file on a volume is of, wherever it lies: a move may be in the page cache only.
pub(crate) fn chunk_of_any(path: &str) -> Option<ChunkId> {
    let (_, name) = path.rsplit_once('/')?;
    chunk_named(name.split_once('.').map_or(name, |(name, _)| name))
}

/// Whether what is at `path` on a volume is to be purged.
pub(crate) fn is_purged(path: &str) -> bool {
    path.starts_with("quarantine/") && !path.ends_with(".keep")
}

/// The chunk whose sidecar is at `path` on a volume, to be purged.
pub(crate) fn purged_sidecar(path: &str) -> Option<ChunkId> {
    let is_sidecar = is_purged(path) && path.contains(SIDECAR);
    if is_sidecar { chunk_of_any(path) } else { None }
}

/// The chunk whose bytes are at `path` on a volume.
pub fn chunk_of(path: &str) -> Option<ChunkId> {
    let (_, name) = path.strip_prefix("chunks/")?.rsplit_once('/')?;
    chunk_named(name)
}

fn chunk_named(name: &str) -> Option<ChunkId> {
    ChunkUuid::parse(name.strip_prefix("chunk-")?)?.parts().map(|(_, chunk)| chunk)
}
