//! When which part of the client is to be woken.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::id::{CallId, HandleId};
use crate::time::Time;

/// A part that can be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sleeper {
    /// A file being written.
    Writer(HandleId),
    /// A read.
    Read(CallId),
}

/// One alarm for each sleeper.
#[derive(Debug, Default)]
pub(super) struct Timers {
    order: BTreeSet<(Time, Sleeper)>,
    armed: BTreeMap<Sleeper, Time>,
}

impl Timers {
    /// Sets or clears a sleeper's alarm.
    pub(super) fn set(&mut self, sleeper: Sleeper, at: Option<Time>) {
        let before = match at {
            Some(at) => self.armed.insert(sleeper, at),
            None => self.armed.remove(&sleeper),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, sleeper));
        }
        if let Some(at) = at {
            self.order.insert((at, sleeper));
        }
    }

    /// Takes out one alarm that is due.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Sleeper> {
        let (at, sleeper) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.set(sleeper, None);
        Some(sleeper)
    }

    /// Alarms that are set.
    pub(super) fn len(&self) -> usize {
        self.order.len().max(self.armed.len())
    }

    /// The next alarm.
    pub(super) fn first(&self) -> Option<(Time, Sleeper)> {
        self.order.first().copied()
    }
}
