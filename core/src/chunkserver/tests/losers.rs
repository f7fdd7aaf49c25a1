//! Two replicas of one chunk on two volumes of a server.

use alloc::string::String;
use alloc::vec::Vec;

use super::world::*;
use crate::defect::Defects;
use crate::id::{Address, ChunkId};
use crate::message::{DropReason, FromServer, ReplicaState, ToServer};

/// Server 0 has a sealed replica on each of two volumes; the answer to the first step of moving one of them away is late.
/// Returns which volume that is, too.
fn two_replicas(bytes: &[u8]) -> (World, u16) {
    let mut world = World::new();
    world.volumes = 2;
    world.restart(0, false);
    world.write(5, bytes);
    world.seal(&[0, 1, 2], 5, bytes);
    world.put_files_of(0, 5, 1);
    world.restart_late(0, false, &["quarantine/chunk-"]);
    assert!(world.has_late_answers(0), "one of the two is being moved away");
    world.nodes[0].late = &[];
    let loser = 1 - world.view(0, 5).unwrap().volume_index;
    (world, loser)
}

#[test]
fn of_two_replicas_one_goes() {
    let bytes = pattern(10_000);
    let (mut world, loser) = two_replicas(&bytes);
    world.answer_late(0);
    let left = world.nodes[0].disk.find("chunks/05/chunk-");
    assert!(left.len() == 2 && left.iter().all(|path| path.volume != loser), "{left:?}");
    assert_eq!(world.nodes[0].disk.find("quarantine/chunk-").len(), 2);
    assert_eq!(world.read(0, 5, V2, 0, 10_000).unwrap().bytes, bytes);
}

#[test]
fn no_copy_comes_to_a_losers_place_before_the_loser_is_gone() {
    let bytes = pattern(10_000);
    let (mut world, loser) = two_replicas(&bytes);
    let volume = |index| world.nodes[0].volumes[usize::from(index)];
    let (winner, place) = (volume(1 - loser), volume(loser));
    let (chunk, reason) = (ChunkId(5), DropReason::Excess);
    world.order(0, ToServer::Drop { chunk, version: V2, volume: winner, reason });
    world.run();
    let copy = |world: &mut World| {
        let (sealed, sources) = (sealed(5, &bytes), Vec::from([Address::new("cs1")]));
        world.order(0, ToServer::Copy { sealed, sources, volume: place });
        world.run();
        let answer = world.to_master.iter().rev().find_map(|(_, message)| match message {
            FromServer::CopyDone { error, .. } => Some(error.clone()),
            _ => None,
        });
        answer.expect("an answer")
    };
    assert!(copy(&mut world).is_some_and(|why| why.contains("put aside")));
    world.answer_all(0);
    assert_eq!(copy(&mut world), None);
    world.pass(200);
    let came = world.view(0, 5).unwrap();
    assert_eq!((came.state, came.volume_index), (ReplicaState::Sealed, loser));
    assert_eq!(world.read(0, 5, V2, 0, 10_000).unwrap().bytes, bytes);
}

/// Server 0 comes back with an unsealed replica on one volume and a copy of what was sealed without it on the other; it is cut
/// short after `steps` disk operations, and comes back once more. Returns the alarms; `None` if it takes no more steps than that.
fn alarms_after(steps: usize, defects: Defects) -> Option<Vec<String>> {
    let mut world = World::new();
    world.volumes = 2;
    world.plant(defects);
    world.write(5, b"promised");
    world.seal(&[1, 2], 5, b"promised");
    let other = 1 - world.view(0, 5).unwrap().volume_index;
    world.put_files_of(1, 5, other);
    if !world.restart_by_steps(0, false, steps) {
        return None;
    }
    world.restart(0, true);
    assert_eq!(world.state(0, 5), Some(ReplicaState::Sealed));
    assert_eq!(world.nodes[0].disk.find("chunks/05/chunk-").len(), 2, "the other one's files are gone");
    Some(world.nodes[0].alarms.clone())
}

#[test]
fn an_unsealed_loser_is_forgotten_before_its_file_goes() {
    let ends: Vec<_> = (0..).map_while(|steps| alarms_after(steps, Defects::none())).collect();
    assert!(ends.len() > 20, "{} steps", ends.len());
    assert!(ends.iter().all(Vec::is_empty), "{ends:?}");
}

#[cfg(feature = "defects")]
#[test]
fn a_loser_that_is_forgotten_late_is_taken_for_damage() {
    let defects = Defects::one(crate::defect::Defect::LoserForgottenLate);
    assert!((0..).map_while(|steps| alarms_after(steps, defects)).any(|alarms| !alarms.is_empty()));
}
