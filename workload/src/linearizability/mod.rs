//! Could one machine, doing one thing after the other, have given all of these answers? Concurrent histories of clients are
//! judged against a sequential model: linearizability (Herlihy and Wing, "Linearizability: a correctness condition for
//! concurrent objects", 1990).
//!
//! [`history`] records who asked what when, and what came of it. [`objects`] cuts a history into independent objects, since
//! a history is linearizable exactly if it is for each object. [`search`] looks for an order, as Wing and Gong did, with
//! Lowe's memory of what was tried ("Testing for linearizability", 2017). [`explain`] boils a refusal down to the first
//! answer that no order explains.

pub mod explain;
pub mod history;
pub mod names;
pub mod objects;
pub mod search;
#[cfg(test)]
mod tests;

use std::hash::Hash;

/// What one machine would do: a state, and what calls make of it.
pub trait Specification {
    /// A state of the object.
    type State: Clone + Eq + Hash;
    /// A call with its outcome.
    type Call;

    /// The state before the first call.
    fn initial(&self) -> Self::State;

    /// The state after `call` ended as it did; `None` if it can't end so in `state`.
    fn ended(&self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;

    /// The state after a call that nobody heard of again had its effect; `None` if it has none in `state`.
    fn took_effect(&self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;
}

/// A call, and when it was under way. Moments are compared only: any counter that no two events share will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<C> {
    /// What was asked, and what came of it.
    pub call: C,
    /// The moment before it was sent.
    pub invoked: u64,
    /// The moment after it was answered; `None`: it may have its effect at any time from `invoked` on, or never.
    pub returned: Option<u64>,
}

/// What came of the search for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is one.
    Linearizable,
    /// There is none.
    Violated,
    /// The search was given up after so many steps: nothing is known.
    TooLarge,
}
