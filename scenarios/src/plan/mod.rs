//! A run as data: what the cluster is like, what users do, what goes wrong. Drawn up front from independent random
//! streams, so that taking a step away changes no other.

mod file;
mod validity;
mod words;

pub use file::{PlanError, PlanFile, VERSION};

use cairn_core::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::nemesis::{Cue, Fault};
use crate::profile::Profile;
use crate::shape::{ServerShape, Shape};
use crate::workload::content::Content;
use crate::workload::generate::{Habits, Step, home, steps};
use crate::workload::operation::{Operation, Storage};
use crate::workload::shared::{self, Sharing};

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where it was drawn from, and what the world's own chances follow from.
    pub seed: u64,
    /// Which kind of storm.
    pub profile: Profile,
    /// The cluster.
    pub shape: Shape,
    /// Each user's steps: first those who keep to their homes, then those who meet in the shared directory.
    pub users: Vec<Vec<Step>>,
    /// What goes wrong, in order of time.
    pub strikes: Vec<Strike>,
    /// How long things go wrong, in milliseconds.
    pub chaos_ms: u64,
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Strike {
    /// Milliseconds after the users began.
    pub at_ms: u64,
    /// What it waits for then; gone if that takes longer than the cue's patience, one to eight seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cue: Option<Moment>,
    /// How long it lasts, in milliseconds.
    pub for_ms: u64,
    /// What goes wrong.
    pub fault: Fault,
}

/// A moment that a strike waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// What has to arrive somewhere.
    pub what: Cue,
    /// Only at this chunkserver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<usize>,
    /// How many microseconds after that the strike comes.
    pub after_us: u64,
}

impl Moment {
    /// When `what` arrives at chunkserver `place`, and a little later.
    pub(crate) fn at(place: usize, what: Cue, after_us: u64) -> Moment {
        Moment { what, at: Some(place), after_us }
    }
}

/// Simulated milliseconds of a storm.
const CHAOS_MS: u64 = 40_000;

/// Chunks of the largest file, so that tiny ones don't make runs long.
const CHUNKS_MAX: u64 = 24;

/// Bytes per second of a scrubber that does not come round within a run.
const IDLE_SCRUBBER: u64 = 64;

fn keeps_trash(shape: &Shape) -> bool {
    shape.master.undelete_ms > CHAOS_MS * 10
}

fn file_bytes(shape: &Shape, drawn: u32) -> u32 {
    let chunk = shape.storages.iter().map(|storage| storage.chunk_bytes).min().unwrap_or(u64::MAX);
    drawn.min((chunk * CHUNKS_MAX).min(u64::from(u32::MAX)) as u32)
}

impl Plan {
    /// The plan of `seed`.
    pub fn draw(seed: u64, profile: Profile) -> Plan {
        let mut shape = Shape::draw(&mut Rng::stream(seed, "shape"));
        let mut rng = Rng::stream(seed, "habits");
        let habits = Habits {
            operations: 80 + rng.below(40) as u32,
            pause_ms: 100 + rng.below(350),
            file_bytes: file_bytes(&shape, (256 << 10) + rng.below(768 << 10) as u32),
            storages: shape.storages.clone(),
            piece: shape.client.frame_bytes * 2,
            restores: keeps_trash(&shape),
        };
        let mut users: Vec<Vec<Step>> = (0..shape.users)
            .map(|user| steps(&mut Rng::stream(seed, &format!("user{user}")), &habits, user, shape.users))
            .collect();
        let mut rng = Rng::stream(seed, "sharing");
        let sharing = Sharing::draw(&mut rng, shape.master.chunk_bytes);
        users.extend((0..2 + rng.below(3) as usize).map(|sharer| {
            let rng = &mut Rng::stream(seed, &format!("sharer{sharer}"));
            shared::steps(rng, &sharing, &habits, shape.users + sharer)
        }));
        let strikes = profile.strikes(&mut Rng::stream(seed, "faults"), &shape, CHAOS_MS);
        // Where nothing rots the scrubber has nothing to find: if it hardly comes round, others must find what is gone.
        let rots = shape.is_relaxed() || strikes.iter().any(|strike| strike.fault.rots());
        if !rots && Rng::stream(seed, "scrubber").chance(1, 2) {
            shape.chunkserver.scrub_bytes_per_second = IDLE_SCRUBBER;
        }
        Plan { seed, profile, shape, users, strikes, chaos_ms: CHAOS_MS }
    }

    /// Whether what is deleted can still be restored at the end.
    pub(crate) fn keeps_trash(&self) -> bool {
        keeps_trash(&self.shape)
    }

    /// A short, calm run of one user on three servers: for looking at.
    pub fn tiny(seed: u64) -> Plan {
        let mut plan = Plan::draw(seed, Profile::Calm);
        plan.shape.servers = vec![ServerShape { rack: "rack0".into(), volumes: 1 }; 3];
        (plan.shape.users, plan.shape.clients, plan.chaos_ms) = (1, 1, 2_000);
        let storage = Storage { replication: 3, quorum: 2, chunk_bytes: 65_536, relaxed: false };
        plan.shape.storages = vec![storage];
        (plan.shape.client.frame_bytes, plan.shape.client.read_bytes) = (32_768, 65_536);
        let (path, content) = (format!("{}/f", home(0)), Content { number: 1, length: 100_000 });
        let (from, to) = (path.clone(), format!("{}/g", home(0)));
        let operations = [
            Operation::Mkdir { path: home(0), parents: true },
            Operation::Put { path: path.clone(), content, replace: false, piece: 65_536, storage },
            Operation::Get { path },
            Operation::Rename { from, to: to.clone(), replace: false },
            Operation::Delete { path: to, recursive: false },
        ];
        plan.users = vec![operations.into_iter().map(|operation| Step { pause_ms: 50, operation }).collect()];
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_follows_from_its_seed_and_survives_writing_down() {
        let plan = Plan::draw(3, Profile::All);
        assert_eq!(plan, Plan::draw(3, Profile::All));
        assert_ne!(plan.users, Plan::draw(4, Profile::All).users);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn other_faults_leave_the_users_alone() {
        assert_eq!(Plan::draw(3, Profile::Calm).users, Plan::draw(3, Profile::Power).users);
    }
}
