//! Bits rot, sectors die, volumes vanish.

use cairn_core::log::HEADER_BYTES;

use super::{Fault, Undo};
use crate::cluster::{Cluster, MASTER, is_chunk_file, is_journal, log_segments, scan_end, sidecar};

/// Bytes that count as the end of a journal: about the last groups.
const JOURNAL_END: u64 = 300;

/// Chunks, their sidecars, and the journals that hold what was promised of unsealed ones.
fn may_rot(path: &str) -> bool {
    path.starts_with("chunks/") || is_journal(path)
}

pub(super) fn strike(fault: &Fault, cluster: &Cluster) -> Undo {
    let world = &cluster.world;
    let node = cluster.resolve(fault.target());
    let mut rng = world.rng(&format!("rot at {}", world.now().0));
    match fault {
        Fault::Flip { bits, youngest, journals, .. } => {
            let last = cluster.chunk_files(&node).into_iter().max_by_key(|(.., chunk)| *chunk);
            let young = last.filter(|_| *youngest).map(|(_, path, ..)| path);
            let within = if *youngest && *journals { JOURNAL_END } else { u64::MAX };
            for _ in 0..*bits {
                // Without a file there is nothing to rot.
                let struck = world.flip_random_bit(&node, &mut rng, within, |path| match &young {
                    _ if *journals => is_journal(path),
                    Some(young) => path.starts_with(young.as_str()),
                    None => may_rot(path),
                });
                if let Some(damage) = struck.filter(|damage| is_journal(&damage.path))
                    && let Some(Some(end)) = world.with_file(&node, damage.volume, &damage.path, scan_end)
                {
                    cluster.note_torn_journal(&node, end.holed);
                }
            }
            Undo::Nothing
        }
        Fault::Remove { .. } => {
            let is_sealed =
                |volume: u16, path: &str| world.with_file(&node, volume, &sidecar(path), |_| ()).is_some();
            let files = cluster.chunk_files(&node).into_iter();
            let (sealed, open): (Vec<_>, Vec<_>) =
                files.partition(|(volume, path, ..)| is_sealed(*volume, path));
            // Reports compare range by range: what comes last is the end of one.
            let last = sealed.iter().max_by_key(|(.., chunk)| *chunk).filter(|_| rng.chance(1, 2));
            let youngest = open.iter().max_by_key(|(.., chunk)| *chunk).filter(|_| rng.chance(1, 2));
            if let Some((volume, path, ..)) = youngest {
                world.remove_file(&node, *volume, path);
            } else if let Some((volume, path, ..)) = last.or_else(|| rng.pick(&sealed)) {
                let path = if rng.chance(1, 3) { sidecar(path) } else { path.clone() };
                world.remove_file(&node, *volume, &path);
            }
            Undo::Nothing
        }
        Fault::Misdirect { .. } => {
            let _ = world.misdirect_write(&node, &mut rng, may_rot);
            Undo::Nothing
        }
        Fault::LogRot => {
            world.kill(MASTER);
            // The end of the last segment can't be told from a torn write; what lies before it can, the segment's header among it
            // if anything follows that.
            let mut logs = log_segments(world);
            if let Some((_, length)) = logs.last_mut()
                && *length > HEADER_BYTES
            {
                *length = HEADER_BYTES;
            } else {
                logs.pop();
            }
            if let Some((path, length)) = rng.pick(&logs) {
                world.flip_bit(MASTER, 0, path, rng.below(length * 8));
            }
            world.restart(MASTER);
            Undo::MendLog
        }
        Fault::BadSector { .. } => {
            let files: Vec<_> = (0..cluster.volumes(&node))
                .flat_map(|v| world.files(&node, v).into_iter().map(move |(path, length)| (v, path, length)))
                .filter(|(_, path, length)| is_chunk_file(path) && *length > 0)
                .collect();
            if let Some((volume, path, length)) = rng.pick(&files) {
                world.bad_sector(&node, *volume, path, rng.below(*length));
            }
            Undo::Nothing
        }
        Fault::Wipe { volume, power, .. } => {
            if *power {
                cluster.note_power_cut(&node);
                world.power_cut(&node);
            } else {
                world.kill(&node);
            }
            world.wipe_volume(&node, volume % cluster.volumes(&node).max(1));
            Undo::Restart(vec![node])
        }
        _ => Undo::Nothing,
    }
}

/// An operator restores the master's log from a copy, if it has to be.
pub(super) fn mend_log(cluster: &Cluster) {
    let world = &cluster.world;
    if world.damage_standing().iter().any(|damage| damage.node == MASTER) {
        world.kill(MASTER);
        world.mend_files(MASTER);
        world.restart(MASTER);
    }
}
