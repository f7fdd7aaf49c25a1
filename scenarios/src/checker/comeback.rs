//! A server that died now, or lost power, would come back with all that it promised, and with nothing that it has not
//! (invariant 34).
//!
//! Storms crash a server now and then; here one comes back beside the run, hundreds of times: most of all when it has just
//! promised something, since that is where what must be durable first may not be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::chunkserver::{Chunkserver, ReplicaView};
use cairn_core::disk::DiskRequest;
use cairn_core::id::{ChunkId, ChunkVersion};
use cairn_core::message::{AppendMessage, FromServer, Message, ReplicaState, ToServer, Vote};
use cairn_core::rng::Rng;
use runtime_sim::{Again, Comeback, Crash, Damage, DamageKind};

use super::known_damage::KnownDamage;
use super::second_crash::{doubled, draw_again};
use crate::cluster::{
    Cluster, SIDECAR, chunk_of, chunk_of_any, chunk_path, is_journal, lock, purged_sidecar,
};
use crate::violation::Violations;

const NAME: &str = "comeback";

/// One in so many inputs is followed by a comeback; of those that READY was the answer to, of those that settled a replica, of those
/// that dropped one, of those that made one durable later, of those that ended a recovery, of those while files are being moved away
/// or sealed, of those when one is sealed as empty or was sealed at less than it promised, of those when bytes follow their sidecar
/// that was purged before, of those while a volume is out of use, and of those while a copy takes the place of a sound replica.
const ANY: u64 = 3_000;
const READY: u64 = 2_000;
const SETTLING: u64 = 60;
const DROPPED: u64 = 20;
const FLUSHED: u64 = 6;
const RECOVERED: u64 = 3;
const MOVING: u64 = 60;
const SEALING: u64 = 300;
const CUTTING: u64 = 4;
const PURGING: u64 = 2;
const RETURNING: u64 = 30;
const REPLACING: u64 = 10;
/// Inputs of a process after an order to drop or to seal, or after a recovery that found a chunk twice, within which files are moved.
const MOVES: u64 = 20;

/// A server's votes on chunks that are not settled.
type Votes = BTreeMap<ChunkId, (ChunkVersion, u64)>;

#[derive(Default)]
struct Memory {
    votes: BTreeMap<String, Votes>,
    /// Servers that promise something in answer to the present input: how many such promises one comeback follows, and of what.
    promising: BTreeMap<String, (u64, Option<ChunkId>)>,
    /// Replicas that a server has told to be damaged.
    told_damaged: BTreeSet<(String, ChunkId)>,
    /// Servers whose present process has not recovered yet.
    recovering: BTreeSet<String>,
    /// Servers that are moving files: for how many inputs that is taken to last, and how many one comeback follows.
    moving: BTreeMap<String, (u64, u64)>,
    /// Replicas that each server has made durable after their seal.
    flushed: BTreeMap<String, u64>,
    copies: BTreeMap<String, Copies>,
    /// What a server is told that a chunk is sealed as in the present input.
    sealing: BTreeMap<String, (ChunkId, u64)>,
    /// Chunks that a server's present process was told to seal. If it can't, it may know more of their bytes than its journal does, and
    /// nobody was told of those.
    told_to_seal: BTreeMap<String, BTreeSet<ChunkId>>,
    /// Chunks that were sealed at less than a server had promised.
    cut: BTreeSet<(String, ChunkId)>,
    /// Chunks whose sidecar a server has purged: their bytes went before, or are still to follow.
    purged: BTreeSet<(String, ChunkId)>,
}

/// Copies that a server was told to make.
#[derive(Default)]
struct Copies {
    /// How often damage was found before.
    damage_found: u64,
    /// Whether what is there already was sound while the copy was under way: when its files begin to be replaced, its server
    /// counts it among the damaged ones, lest it be read.
    was_sound: BTreeMap<ChunkId, bool>,
}

impl Copies {
    /// True while one of them is replacing what was sound.
    fn look(&mut self, machine: &Chunkserver) -> bool {
        let found_more = machine.damage_found() != self.damage_found;
        self.damage_found = machine.damage_found();
        let mut replacing = false;
        for (chunk, was_sound) in &mut self.was_sound {
            if let Some(replica) = machine.replica(*chunk) {
                let is_damaged = replica.state == ReplicaState::Damaged;
                if !is_damaged || !replica.is_moving || found_more {
                    *was_sound = replica.is_moving && !is_damaged;
                }
                replacing |= is_damaged && *was_sound;
            }
        }
        replacing
    }

    /// Whether a replica counts as damaged because a copy is replacing it, and for no other reason.
    fn is_replaced(&self, replica: &ReplicaView) -> bool {
        replica.state == ReplicaState::Damaged && self.was_sound.get(&replica.chunk) == Some(&true)
    }
}

impl Memory {
    /// If files are being moved, how many inputs one comeback follows.
    fn moving(&mut self, node: &str) -> Option<u64> {
        if self.moving.is_empty() {
            return None;
        }
        let (left, one_in) = self.moving.get_mut(node)?;
        *left -= 1;
        let (left, one_in) = (*left, *one_in);
        if left == 0 {
            self.moving.remove(node);
        }
        Some(one_in)
    }

    /// Looks into what a server was told to seal in the present input: what it does next must be done in an order that two crashes
    /// in the midst of it would show.
    fn look_at_seal(&mut self, node: &str, machine: &Chunkserver) {
        if let Some((chunk, length)) = take(&mut self.sealing, node)
            && let Some(replica) = machine.replica(chunk)
            && (replica.promised > length || length == 0)
        {
            self.moving.insert(node.to_owned(), (MOVES, CUTTING));
            if replica.promised > length {
                self.cut.insert((node.to_owned(), chunk));
            }
        }
    }

    /// Whether a replica was made durable just now: nobody is told, and everybody relies on it.
    fn has_flushed(&mut self, node: &str, count: u64) -> bool {
        if count == 0 || self.flushed.get(node) == Some(&count) {
            return false;
        }
        self.flushed.insert(node.to_owned(), count);
        true
    }
}

fn take<T>(all: &mut BTreeMap<String, T>, node: &str) -> Option<T> {
    if all.is_empty() { None } else { all.remove(node) }
}

/// Lets servers come back beside the run.
pub fn watch(cluster: &Cluster, known_damage: KnownDamage, violations: &Violations) {
    let memory: Arc<Mutex<Memory>> = Arc::default();
    let told = memory.clone();
    cluster.world.observe_sends(move |_, node, _, _, message| {
        let memory = &mut *lock(&told);
        if let Message::FromServer(FromServer::CopyDone { target, .. }) = message
            && let Some(copies) = memory.copies.get_mut(node)
        {
            copies.was_sound.remove(&target.chunk);
        }
        let promise = match message {
            Message::FromServer(FromServer::Vote { chunk, version, vote, .. }) => {
                if let Vote::Prefix { length, .. } = vote {
                    let votes = memory.votes.entry(node.to_owned()).or_default();
                    votes.insert(*chunk, (*version, *length));
                }
                (SETTLING, Some(*chunk))
            }
            Message::FromServer(FromServer::ReplicaChanged(replica)) => {
                if replica.state == ReplicaState::Damaged {
                    memory.told_damaged.insert((node.to_owned(), replica.chunk));
                }
                (SETTLING, Some(replica.chunk))
            }
            Message::FromServer(FromServer::CopyDone { target, .. }) => (SETTLING, Some(target.chunk)),
            Message::FromServer(FromServer::DropDone { .. }) => (DROPPED, None),
            Message::Append(AppendMessage::Ready { .. } | AppendMessage::Committed { .. }) => (READY, None),
            _ => return,
        };
        memory.promising.insert(node.to_owned(), promise);
    });
    let ordered = memory.clone();
    cluster.world.observe_messages(move |_, _, to, message| match message {
        Message::ToServer(ToServer::Drop { chunk, .. }) => {
            let memory = &mut *lock(&ordered);
            let was_cut = !memory.cut.is_empty() && memory.cut.remove(&(to.to_owned(), *chunk));
            let one_in = if was_cut { CUTTING } else { MOVING };
            memory.moving.insert(to.to_owned(), (MOVES, one_in));
        }
        Message::ToServer(ToServer::Seal { sealed, .. }) => {
            let memory = &mut *lock(&ordered);
            memory.moving.entry(to.to_owned()).or_insert((MOVES, SEALING));
            memory.sealing.insert(to.to_owned(), (sealed.chunk, sealed.length));
            memory.told_to_seal.entry(to.to_owned()).or_default().insert(sealed.chunk);
        }
        Message::ToServer(ToServer::Copy { sealed, .. }) => {
            let memory = &mut *lock(&ordered);
            memory.copies.entry(to.to_owned()).or_default().was_sound.insert(sealed.chunk, false);
        }
        _ => {}
    });
    let asked = memory.clone();
    cluster.world.observe_disks(move |_, node, request| match request {
        DiskRequest::Remove(path) => {
            if let Some(chunk) = purged_sidecar(&path.name) {
                lock(&asked).purged.insert((node.to_owned(), chunk));
            }
        }
        DiskRequest::Rename { from, .. } => {
            let memory = &mut *lock(&asked);
            // Where a sidecar is moved, or comes anew, nothing is left to follow the one before.
            if !memory.purged.is_empty()
                && let Some(chunk) = chunk_of_any(&from.name)
                && memory.purged.remove(&(node.to_owned(), chunk))
                && chunk_of(&from.name).is_some()
            {
                memory.moving.insert(node.to_owned(), (3 * MOVES, PURGING));
            }
        }
        _ => {}
    });
    let (seen, violations) = (cluster.clone(), violations.clone());
    let mut rng = cluster.world.rng(NAME);
    cluster.world.observe_chunkserver(move |_, node, machine| {
        let mut memory = lock(&memory);
        let promising = take(&mut memory.promising, node);
        if !machine.has_recovered() {
            if !memory.recovering.contains(node) {
                memory.recovering.insert(node.to_owned());
                memory.copies.remove(node);
                memory.told_to_seal.remove(node);
            }
            return;
        }
        let copies = memory.copies.get_mut(node).filter(|copies| !copies.was_sound.is_empty());
        let replacing = copies.is_some_and(|copies| copies.look(machine));
        let recovered = !memory.recovering.is_empty() && memory.recovering.remove(node);
        if recovered && machine.second_replicas() > 0 {
            memory.moving.insert(node.to_owned(), (MOVES, RECOVERED));
        }
        memory.look_at_seal(node, machine);
        let moving = memory.moving(node);
        let flushed = memory.has_flushed(node, machine.flushed());
        // What it can't read now its successor may find beside what came in its place.
        let returning = machine.failed_volumes().next().is_some();
        let reasons = [
            promising.map(|(one_in, _)| one_in),
            returning.then_some(RETURNING),
            moving,
            recovered.then_some(RECOVERED),
            flushed.then_some(FLUSHED),
            replacing.then_some(REPLACING),
        ];
        if !rng.chance(1, reasons.into_iter().flatten().min().unwrap_or(ANY)) {
            return;
        }
        let votes = memory.votes.entry(node.to_owned()).or_default();
        votes.retain(|chunk, (version, length)| stands(machine, *chunk, *version, *length));
        let power = rng.chance(1, 2);
        // Names are lost by two crashes, one after the other, more often than by one.
        let again = rng.chance(if moving.is_some() || returning { 3 } else { 1 }, 4).then(|| {
            let of_interest = if recovered || returning {
                doubled(&seen, node)
            } else {
                promising.and_then(|(_, chunk)| chunk)
            };
            draw_again(machine, power, of_interest, &mut rng)
        });
        let memory = &*memory;
        let knows = Knows {
            votes: &memory.votes[node],
            told_to_seal: memory.told_to_seal.get(node),
            told_damaged: &memory.told_damaged,
            copies: memory.copies.get(node),
            damage: &known_damage,
        };
        if let Err(text) = check(&seen, node, machine, knows, Crash { power, again }, &mut rng) {
            violations.add(NAME, text);
        }
    });
}

/// Whether a voter still stands by what it said: what it takes back itself is another checker's business.
fn stands(machine: &Chunkserver, chunk: ChunkId, version: ChunkVersion, length: u64) -> bool {
    machine.replica(chunk).is_some_and(|r| {
        r.state == ReplicaState::Fenced && r.version == version && r.ready >= length && r.fence.is_some()
    })
}

/// What is known of the server.
#[derive(Clone, Copy)]
struct Knows<'a> {
    votes: &'a Votes,
    told_to_seal: Option<&'a BTreeSet<ChunkId>>,
    told_damaged: &'a BTreeSet<(String, ChunkId)>,
    copies: Option<&'a Copies>,
    damage: &'a KnownDamage,
}

fn check(
    cluster: &Cluster,
    node: &str,
    machine: &Chunkserver,
    knows: Knows<'_>,
    crash: Crash,
    rng: &mut Rng,
) -> Result<(), String> {
    let world = &cluster.world;
    let failed: BTreeSet<u16> = machine.failed_volumes().map(|(volume, _)| volume).collect();
    if failed.len() == usize::from(cluster.volumes(node)) {
        return Ok(());
    }
    let harm = world.damage_standing_at(node);
    if harm.iter().any(|d| is_journal(&d.path)) {
        return Ok(());
    }
    let Crash { power: first, again } = crash.clone();
    let back = world.comeback(node, crash, rng, |birth| cluster.process(node, birth));
    let named = |power| if power { "lose power" } else { "be killed" };
    let what = match &again {
        Some(Again { power, unreadable: Some(path), .. }) => {
            format!("{}, and {} when it is back and can't read {path},", named(first), named(*power))
        }
        Some(again) => format!("{}, and {} when it is back,", named(first), named(again.power)),
        None => named(first).to_owned(),
    };
    let power = first || again.is_some_and(|again| again.power);
    let complain = |text: String| Err(format!("{node}, were it to {what} now, {text}"));
    if let Some(reason) = &back.halted {
        return complain(format!("would end: {reason}"));
    }
    if let Some((_, why)) = back.machine.failed_volumes().find(|(volume, _)| !failed.contains(volume)) {
        return complain(format!("would have {why}"));
    }
    if back.machine.damaged_journals() > 0 {
        return complain("would find a journal damaged, and nothing was done to it".into());
    }
    let path = |chunk| chunk_path(machine.cluster(), chunk);
    // What was removed by hand may leave a promise behind that nothing speaks for.
    let by_hand = world.damage_injected();
    let by_hand = by_hand.iter().filter(|d| d.node == node && d.kind == DamageKind::HandEdit);
    let harm: Vec<&Damage> = harm.iter().chain(by_hand).collect();
    let harmed: BTreeSet<ChunkId> = harm.iter().filter_map(|d| chunk_of_any(&d.path)).collect();
    for now in machine.replicas() {
        if failed.contains(&now.volume_index) || now.is_moving || harmed.contains(&now.chunk) {
            continue;
        }
        let then = back.machine.replica(now.chunk);
        let voted = knows.votes.get(&now.chunk).map_or(0, |(_, length)| *length);
        // One that was taken for damaged and counts again is damaged until its journal has forgotten that.
        let forgiven = now.state == ReplicaState::Sealed
            && then.is_some_and(|then| then.state == ReplicaState::Damaged)
            && !machine.is_journaled();
        let survives = !forgiven && (!power || now.is_durable);
        let was_told = knows.told_to_seal.is_some_and(|told| told.contains(&now.chunk));
        let promised = if was_told { voted } else { now.promised.max(voted) };
        if let Some(text) = breach(&now, (promised, voted), then, survives)
            && !is_ghost(cluster, node, machine, &now)
        {
            return complain(format!("would {text}"));
        }
    }
    if let Some(text) = knows.damage.forgotten(cluster, node, &back.machine) {
        return complain(format!("would come back ignorant: it {text}"));
    }
    // What was sealed in the page cache and dropped before it was durable may come back in part.
    let unsynced = power && cluster.shape.is_relaxed();
    let is_replaced = |replica: &ReplicaView| knows.copies.is_some_and(|copies| copies.is_replaced(replica));
    let is_damaged = |replica: &ReplicaView| replica.state == ReplicaState::Damaged && !is_replaced(replica);
    let is_kept = |now: &ReplicaView| now.state == ReplicaState::Sealed && now.is_durable;
    // Beside what is being dropped a sidecar may lie that an earlier power cut tore.
    let is_torn = |now: &ReplicaView| {
        now.is_moving && !is_kept(now) && cluster.shape.is_relaxed() && cluster.power_cut_at(node).is_some()
    };
    for then in back.machine.replicas() {
        // A volume that is out of use now is read again then: what stands there the machine doesn't know.
        if failed.contains(&then.volume_index) || harmed.contains(&then.chunk) {
            continue;
        }
        let now = machine.replica(then.chunk);
        // That it counts again its journal may not know yet.
        let is_forgiven =
            !machine.is_journaled() && knows.told_damaged.contains(&(node.to_owned(), then.chunk));
        let is_told =
            now.is_some_and(|now| !now.is_moving || is_damaged(&now) || is_torn(&now) || is_forgiven);
        let unsynced = unsynced && !now.as_ref().is_some_and(is_kept);
        if then.state == ReplicaState::Damaged && !is_told && !unsynced {
            return complain(format!("would find {} damaged, which it has not", then.chunk));
        }
        let path = path(then.chunk);
        let settled = now.is_some_and(|now| now.state == then.state && now.version == then.version)
            && !back.was_at_risk(then.volume_index, &path);
        if then.state == ReplicaState::Sealed && !settled && !has(&back, &then, &path) {
            return complain(format!("would claim {} {}, and has other bytes", then.chunk, then.version));
        }
    }
    // Of two replicas of a chunk the better one is among those above, and the other may be one that nobody can make anything of.
    let knows_damage = machine.damage_found() > 0
        || machine.replicas().any(|replica| is_damaged(&replica) || is_torn(&replica));
    let found = back.machine.damage_found();
    if found > 0 && !knows_damage && harm.is_empty() && failed.is_empty() && !unsynced {
        let alarms = back.alarms.join("; ");
        return complain(format!("would find damage, and nothing was done to it: {alarms}"));
    }
    Ok(())
}

/// Whether a replica is what records of long ago made of one that was sealed and dropped: a start takes it for the rest of that.
fn is_ghost(cluster: &Cluster, node: &str, machine: &Chunkserver, now: &ReplicaView) -> bool {
    let path = chunk_path(machine.cluster(), now.chunk);
    let dropped = format!("quarantine/{}{SIDECAR}.", path.rsplit('/').next().unwrap_or_default());
    let files = cluster.world.files(node, now.volume_index);
    matches!(now.state, ReplicaState::Open | ReplicaState::Fenced)
        && files.iter().any(|(path, _)| path.starts_with(&dropped))
}

/// How a replica as it is `now` would not be what was promised when its server has come back. `survives`: such a crash takes
/// nothing of what was promised.
fn breach(
    now: &ReplicaView,
    (promised, voted): (u64, u64),
    then: Option<ReplicaView>,
    survives: bool,
) -> Option<String> {
    let (chunk, version) = (now.chunk, now.version);
    let state = then.map(|then| then.state);
    if state == Some(ReplicaState::Open) {
        return Some(format!("go on with {chunk} {version}"));
    }
    match now.state {
        ReplicaState::Sealed => {
            let same = |then: ReplicaView| {
                (then.state, then.version, then.ready, then.crc) == (now.state, version, now.ready, now.crc)
            };
            (survives && !then.is_some_and(same))
                .then(|| format!("have {state:?} of {chunk} {version}, which is sealed"))
        }
        ReplicaState::Open | ReplicaState::Fenced => {
            let keeps = |then: ReplicaView| match then.state {
                ReplicaState::Fenced => {
                    then.version == version
                        && then.ready >= promised
                        && (voted == 0 || then.fence == now.fence)
                }
                ReplicaState::Sealed => then.version > version,
                _ => false,
            };
            if survives && promised > 0 && !then.is_some_and(keeps) {
                let ready = then.map_or(0, |then| then.ready);
                return Some(format!(
                    "have {ready} bytes ({state:?}) of {chunk} {version}, promised are {promised}"
                ));
            }
            (survives && state == Some(ReplicaState::Damaged))
                .then(|| format!("find {chunk} {version} damaged, and nothing was done to it"))
        }
        ReplicaState::Damaged | ReplicaState::Gone => None,
    }
}

/// Whether a sealed replica's bytes are there.
fn has(back: &Comeback<Chunkserver>, replica: &ReplicaView, path: &str) -> bool {
    let is_it = |bytes: &[u8]| (bytes.len() as u64, crc32fast::hash(bytes)) == (replica.ready, replica.crc);
    back.with_file(replica.volume_index, path, is_it) == Some(true)
}
