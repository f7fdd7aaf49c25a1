//! A journal that rotted is noticed by the next process that reads it, at its very end too unless the power failed, and its volume
//! goes on as another one (invariant 31).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::chunkserver::Chunkserver;
use cairn_core::disk::{DiskPath, DiskRequest};
use cairn_core::id::{BootId, VolumeId};
use cairn_core::message::{FromServer, Message};
use runtime_sim::DamageKind;

use crate::cluster::{Cluster, is_journal, is_new, lock, scan_end};
use crate::violation::Violations;

const NAME: &str = "journals";

/// Compares what a starting chunkserver reads with what it makes of it.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let world = &cluster.world;
    let unnoticed: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    // Which journals each process has read: what rots afterwards is for the next one.
    let read: Arc<Mutex<BTreeSet<(String, DiskPath)>>> = Arc::default();
    let (rotten, seen, known) = (unnoticed.clone(), cluster.clone(), read.clone());
    // Where the latest journals were begun: as long as a boot lasts, they have no holes.
    let mut begun: BTreeMap<(String, DiskPath), BootId> = BTreeMap::new();
    world.observe_disks(move |_, node, request| match request {
        DiskRequest::Rename { to, .. } if is_journal(&to.name) => {
            begun.retain(|(of, path), _| of != node || path.volume != to.volume);
            begun.insert((node.to_owned(), to.clone()), seen.world.boot(node));
        }
        DiskRequest::Read { path, offset: 0, .. } if is_journal(&path.name) => {
            let key = (node.to_owned(), path.clone());
            let unbroken = begun.get(&key) == Some(&seen.world.boot(node));
            if lock(&known).insert(key) && is_rotten(&seen, node, path, unbroken) {
                lock(&rotten).insert(node.to_owned());
            }
        }
        _ => {}
    });
    let noticed = unnoticed.clone();
    let (volumes, same) = (cluster.clone(), violations.clone());
    let mut starts: BTreeMap<String, Start> = BTreeMap::new();
    world.observe_chunkserver(move |_, node, machine: &Chunkserver| {
        if is_new(machine) {
            lock(&read).retain(|(of, _)| of != node);
            // What its predecessor had begun to read may be gone.
            lock(&noticed).remove(node);
        }
        if !machine.has_recovered() {
            let start = starts.entry(node.to_owned()).or_default();
            if let Err(text) = start.look(node, volumes.volumes(node), machine) {
                same.add(NAME, text);
            }
        }
        let mut unnoticed = lock(&noticed);
        if !unnoticed.is_empty() && machine.damaged_journals() > 0 {
            unnoticed.remove(node);
        }
    });
    let violations = violations.clone();
    world.observe_sends(move |_, node, _, _, message| {
        let registers = matches!(message, Message::FromServer(FromServer::Register { .. }));
        if registers && lock(&unnoticed).remove(node) {
            violations.add(NAME, format!("{node} has read a rotten journal, and takes it for a sound one"));
        }
    });
}

/// What is known of a server that starts.
#[derive(Default)]
struct Start {
    /// All volumes that it ever had.
    volumes: BTreeSet<VolumeId>,
    damaged: u64,
}

impl Start {
    /// What was promised on a volume must not be asked of it any more once its journal is lost.
    fn look(&mut self, node: &str, count: u16, machine: &Chunkserver) -> Result<(), String> {
        let damaged = machine.damaged_journals();
        let found = damaged.saturating_sub(self.damaged);
        self.damaged = damaged;
        let before = self.volumes.len();
        self.volumes
            .extend((0..count).map(|volume| machine.incarnation(volume).volume).filter(|id| id.0 != 0));
        if (self.volumes.len() - before) as u64 >= found {
            return Ok(());
        }
        Err(format!("{node} has found a journal damaged, and its volume goes on under the same name"))
    }
}

/// Whether bits flipped in a file so that it can't be taken for one whose last write was torn, by a loss of power unless there was
/// none. A file whose header rotted may be anything.
fn is_rotten(cluster: &Cluster, node: &str, path: &DiskPath, unbroken: bool) -> bool {
    let here = |d: &runtime_sim::Damage| {
        d.node == node && d.volume == path.volume && d.path == *path.name && d.kind == DamageKind::BitFlip
    };
    let seems_torn = |bytes: &[u8]| scan_end(bytes).is_some_and(|end| !end.holed || !unbroken);
    cluster.world.damage_standing().iter().any(here)
        && cluster.world.with_file(node, path.volume, &path.name, |bytes| !seems_torn(bytes)).unwrap_or(false)
}
