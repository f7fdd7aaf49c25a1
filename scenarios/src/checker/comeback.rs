//! A server that died now, or lost power, would come back with all that it promised, and with nothing that it has not
//! (invariant 34).
//!
//! Storms crash a server now and then; here one comes back beside the run, hundreds of times: most of all when it has just
//! promised something, since that is where what must be durable first may not be.

mod cues;
mod second_crash;

use std::collections::BTreeSet;

use cairn_core::chunkserver::{Chunkserver, ReplicaView};
use cairn_core::id::ChunkId;
use cairn_core::message::ReplicaState;
use cairn_core::rng::Rng;
use runtime_sim::{Again, Comeback, Crash, Damage, DamageKind};

use self::cues::{Copies, Votes, follow};
use self::second_crash::{doubled, draw_again};
use super::known_damage::KnownDamage;
use crate::cluster::{Cluster, SIDECAR, chunk_of_any, chunk_path, is_journal, lock};
use crate::violation::Violations;

const NAME: &str = "comeback";

/// Lets servers come back beside the run.
pub fn watch(cluster: &Cluster, known_damage: KnownDamage, violations: &Violations) {
    let memory = follow(cluster);
    let (seen, violations) = (cluster.clone(), violations.clone());
    let mut rng = cluster.world.rng(NAME);
    cluster.world.observe_chunkserver(move |_, node, machine| {
        let mut memory = lock(&memory);
        let Some(moment) = memory.look(node, machine, &mut rng) else { return };
        let power = rng.chance(1, 2);
        // Names are lost by two crashes, one after the other, more often than by one.
        let again = rng.chance(if moment.is_in_between { 3 } else { 1 }, 4).then(|| {
            let of_interest = if moment.of_doubled { doubled(&seen, node) } else { moment.chunk };
            draw_again(machine, power, of_interest, &mut rng)
        });
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
    let alarms = back.alarms.join("; ");
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
        // Of two replicas the lesser one may be on another volume, and in the page cache only.
        let is_kept_there = now.is_some_and(|now| is_kept(&now) && now.volume_index == then.volume_index);
        let unsynced = unsynced && !is_kept_there;
        if then.state == ReplicaState::Damaged && !is_told && !unsynced {
            let (chunk, volume) = (then.chunk, then.volume_index);
            return complain(format!(
                "would find {chunk} on volume {volume} damaged, which it has not: {alarms}"
            ));
        }
        if then.state == ReplicaState::Sealed {
            let path = chunk_path(machine.cluster(), then.chunk);
            let settled = now.is_some_and(|now| now.state == then.state && now.version == then.version)
                && !back.was_at_risk(then.volume_index, &path);
            if !settled && !has(&back, &then, &path) {
                return complain(format!("would claim {} {}, and has other bytes", then.chunk, then.version));
            }
        }
    }
    // Of two replicas of a chunk the better one is among those above, and the other may be one that nobody can make anything of.
    let knows_damage = machine.damage_found() > 0
        || machine.replicas().any(|replica| is_damaged(&replica) || is_torn(&replica));
    let found = back.machine.damage_found();
    if found > 0 && !knows_damage && harm.is_empty() && failed.is_empty() && !unsynced {
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
