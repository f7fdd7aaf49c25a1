//! Bits rot, sectors die, volumes vanish.

use super::{Fault, Undo};
use crate::cluster::{Cluster, is_chunk_file};

/// Chunks, their sidecars, and the journals that hold what was promised of unsealed ones.
fn may_rot(path: &str) -> bool {
    path.starts_with("chunks/") || path.starts_with("journal-")
}

pub(super) fn strike(fault: &Fault, cluster: &Cluster) -> Undo {
    let world = &cluster.world;
    let node = cluster.resolve(fault.target());
    let mut rng = world.rng(&format!("rot at {}", world.now().0));
    match fault {
        Fault::Flip { bits, .. } => {
            for _ in 0..*bits {
                // Without a file there is nothing to rot.
                let _ = world.flip_random_bit(&node, &mut rng, may_rot);
            }
            Undo::Nothing
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
        Fault::Wipe { volume, .. } => {
            world.kill(&node);
            world.wipe_volume(&node, volume % cluster.volumes(&node).max(1));
            Undo::Restart(vec![node])
        }
        _ => Undo::Nothing,
    }
}
