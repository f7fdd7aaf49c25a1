//! Every operation ends: within a stated time once there are no faults any more (invariant 23).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use cairn_core::time::{Span, Time};
use runtime_sim::World;

use crate::cluster::lock;
use crate::violation::Violations;

/// What its violations are called.
pub const NAME: &str = "progress";

/// An operation ends within this time, once there are no faults: its own deadline (6 s for each of its steps), several
/// times over.
const WITHIN: Span = Span::from_ms(60_000);

/// How often is looked.
const LOOK_EVERY: Span = Span::from_ms(1_000);

/// What users are waiting for.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    doing: BTreeMap<usize, Doing>,
    over: bool,
}

#[derive(Debug)]
struct Doing {
    what: String,
    since: Time,
}

impl Progress {
    /// A user begins something; `what` it is.
    pub fn begins(&self, user: usize, what: String, since: Time) {
        self.lock().doing.insert(user, Doing { what, since });
    }

    /// It ended.
    pub fn ended(&self, user: usize) {
        self.lock().doing.remove(&user);
    }

    /// Nothing more will begin.
    pub fn over(&self) {
        self.lock().over = true;
    }

    /// Looks until it is over. There are no faults from now on.
    pub async fn watchdog(self, world: World, violations: Violations) {
        let healed = world.now();
        while !self.lock().over {
            self.check(healed, world.now(), &violations);
            world.sleep(LOOK_EVERY).await;
        }
    }

    fn check(&self, healed: Time, now: Time, violations: &Violations) {
        for (user, doing) in &self.lock().doing {
            if now.since(doing.since.max(healed)) > WITHIN {
                let seconds = WITHIN.as_ms() / 1000;
                violations.add(
                    NAME,
                    format!("user {user} has waited for more than {seconds} s for {}", doing.what),
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}
