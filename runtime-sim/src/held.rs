//! A machine that its loop and the world's observers share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_core::machine::{Effects, Input, Machine, WakeReason};
use cairn_core::time::Time;

/// The machine behind a lock that is free between inputs.
#[derive(Debug)]
pub(crate) struct Held<M>(pub(crate) Arc<Mutex<M>>);

impl<M> Held<M> {
    pub(crate) fn look(&self) -> MutexGuard<'_, M> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Machine> Machine for Held<M> {
    type Request = M::Request;
    type Response = M::Response;

    fn handle(&mut self, now: Time, input: Input<M::Request>, effects: &mut Effects<M::Response>) {
        self.look().handle(now, input, effects);
    }

    fn next_wake(&self) -> Option<(Time, WakeReason)> {
        self.look().next_wake()
    }
}
