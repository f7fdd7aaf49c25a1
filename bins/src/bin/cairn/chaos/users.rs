//! The users of a storm: the simulator's steps, done by clients on real sockets, judged by the simulator's model.

use std::sync::Arc;
use std::time::Duration;

use cairn_core::error::ClientError;
use cairn_core::rng::Rng;
use runtime_real::client::Cluster;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use workload::generate::{Habits, Step, steps};
use workload::model::Model;
use workload::operation::{Operation, Outcome, Storage};
use workload::perform::perform;
use workload::violation::Violations;

use super::cluster::client;

/// Users at once.
pub(super) const USERS: usize = 4;
/// How long an operation may go on after everything is well again.
const END_WITHIN: Duration = Duration::from_secs(60);

/// How operations ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) done: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) unknown: u64,
    pub(super) stored_bytes: u64,
    pub(super) read_bytes: u64,
}

impl Figures {
    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Failed(_) => self.failed += 1,
            Outcome::Unknown(_) => self.unknown += 1,
            Outcome::Stored { length, .. } => {
                self.done += 1;
                self.stored_bytes += length;
            }
            Outcome::Read { length, .. } => {
                self.done += 1;
                self.read_bytes += length;
            }
            _ => self.done += 1,
        }
    }

    pub(super) fn add(&mut self, other: Figures) {
        self.done += other.done;
        self.refused += other.refused;
        self.failed += other.failed;
        self.unknown += other.unknown;
        self.stored_bytes += other.stored_bytes;
        self.read_bytes += other.read_bytes;
    }
}

/// What a user may have, and what is known of it.
pub(super) struct User {
    /// Unique in a run: names the user's directory.
    pub(super) number: usize,
    pub(super) model: Model,
}

/// How users behave in a run, drawn from its seed.
pub(super) fn habits(seed: u64, servers: u16, restores: bool) -> Habits {
    let mut rng = Rng::stream(seed, "habits");
    let storages = (0..3)
        .map(|_| {
            let replication = (2 + rng.below(3) as u8).min(servers as u8);
            // One holder alone could be the one that loses its disk.
            let quorum = if rng.chance(1, 4) { replication } else { replication / 2 + 1 };
            let chunk_bytes = 65_536 * (1 + rng.below(32));
            Storage { replication, quorum, chunk_bytes, relaxed: rng.chance(1, 3) }
        })
        .collect();
    Habits {
        operations: 2_000,
        pause_ms: 50 + rng.below(250),
        file_bytes: (1 << 20) + rng.below(3 << 20) as u32,
        storages,
        piece: 256 * 1024,
        restores,
    }
}

/// Users at work. Dropped, they end in the middle of what they do.
pub(super) struct Crowd {
    tasks: JoinSet<(User, Figures)>,
    killed: Vec<Arc<Notify>>,
    stop: watch::Sender<bool>,
}

impl Crowd {
    /// Sends the users of round number `round` to the master at `address`.
    pub(super) fn start(
        address: &str,
        seed: u64,
        round: usize,
        habits: &Habits,
        violations: &Violations,
    ) -> Crowd {
        let (stop, stopped) = watch::channel(false);
        let mut crowd = Crowd { tasks: JoinSet::new(), killed: Vec::new(), stop };
        for place in 0..USERS {
            let number = round * USERS + place;
            let rng = &mut Rng::stream(seed, &format!("user{number}"));
            let life = Life {
                address: address.to_owned(),
                steps: steps(rng, habits, number, (round + 1) * USERS),
                killed: Arc::default(),
                stopped: stopped.clone(),
                violations: violations.clone(),
            };
            crowd.killed.push(life.killed.clone());
            crowd.tasks.spawn(life.lead(number));
        }
        crowd
    }

    /// Ends the client process of one user, who then takes a new one.
    pub(super) fn kill_client(&self, user: usize) {
        self.killed[user].notify_one();
    }

    /// Lets everybody end what they are doing. Their clients go with them, so that nothing is asked for any more.
    pub(super) async fn stop(mut self, violations: &Violations) -> (Vec<User>, Figures) {
        // Nobody may be left to listen.
        let _ = self.stop.send(true);
        let mut users = Vec::new();
        let mut figures = Figures::default();
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                match ended {
                    Ok((user, told)) => {
                        users.push(user);
                        figures.add(told);
                    }
                    Err(error) => violations.add("user", format!("a user's task ended: {error}")),
                }
            }
        };
        if tokio::time::timeout(END_WITHIN, all).await.is_err() {
            let seconds = END_WITHIN.as_secs();
            violations
                .add("progress", format!("an operation did not end within {seconds} s of the storm's end"));
        }
        users.sort_by_key(|user| user.number);
        (users, figures)
    }
}

struct Life {
    address: String,
    steps: Vec<Step>,
    killed: Arc<Notify>,
    stopped: watch::Receiver<bool>,
    violations: Violations,
}

impl Life {
    async fn lead(mut self, number: usize) -> (User, Figures) {
        let mut user = User { number, model: Model::default() };
        let mut figures = Figures::default();
        let mut client = client(&self.address);
        for step in std::mem::take(&mut self.steps) {
            let pause = tokio::time::timeout(
                Duration::from_millis(step.pause_ms),
                self.stopped.wait_for(|stop| *stop),
            );
            // The pause is over, unless the storm is, or the storm's own task is gone.
            if pause.await.is_ok() || self.violations.any() {
                break;
            }
            let operation = step.operation;
            if operation.is_change() && user.model.is_crowded() {
                continue;
            }
            let outcome = match self.attempt(&client, &operation).await {
                Some(outcome) => outcome,
                None => {
                    client = self::client(&self.address);
                    cut_short(&operation)
                }
            };
            figures.count(&outcome);
            if let Err(text) = user.model.learn(&operation, &outcome) {
                let checker =
                    if matches!(outcome, Outcome::Broken(_)) { "no-wrong-bytes" } else { "namespace" };
                self.violations.add(checker, text);
            }
        }
        (user, figures)
    }

    /// `None` if the client's process ended first.
    async fn attempt(&self, client: &Cluster, operation: &Operation) -> Option<Outcome> {
        tokio::select! {
            biased;
            () = self.killed.notified() => None,
            outcome = perform(client, operation) => Some(outcome),
        }
    }
}

/// What a user knows of an operation during which the client died.
fn cut_short(operation: &Operation) -> Outcome {
    if operation.is_change() {
        Outcome::Unknown(ClientError::Closed)
    } else {
        Outcome::Failed(ClientError::Closed)
    }
}
