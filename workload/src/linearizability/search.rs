//! The search for an order of calls that explains every answer: depth first, never the same situation twice.
//!
//! A situation is the set of calls that were put in order so far, and the state that they led to. Of two situations that
//! differ only in the calls of unknown fate that they used, the one that used fewer can do all that the other can: the
//! other is skipped. This keeps histories with many lost answers small.

use std::collections::HashMap;
use std::ops::ControlFlow;

use super::{Entry, Specification, Verdict};

/// Steps after which a search is given up: a second or so.
pub const STEPS_MAX: u64 = 2_000_000;

/// Whether there is an order. `steps_max` bounds how many calls are tried.
pub fn search<S: Specification>(spec: &S, entries: &[Entry<S::Call>], steps_max: u64) -> Verdict {
    let mut found = false;
    let finished = each_end(spec, entries, steps_max, |_| {
        found = true;
        ControlFlow::Break(())
    });
    match (found, finished) {
        (true, _) => Verdict::Linearizable,
        (false, true) => Verdict::Violated,
        (false, false) => Verdict::TooLarge,
    }
}

/// Shows `visit` the states in which all answered calls are in order, some more than once. False if the search was given up.
pub fn each_end<S: Specification>(
    spec: &S,
    entries: &[Entry<S::Call>],
    steps_max: u64,
    mut visit: impl FnMut(&S::State) -> ControlFlow<()>,
) -> bool {
    let calls = Calls::new(entries);
    let mut tried: Tried<S::State> = Tried::default();
    let first = Situation {
        state: spec.initial(),
        answered: Set::new(calls.answered.len()),
        first_left: 0,
        used: Set::new(calls.lost.len()),
    };
    tried.admit(&first);
    let mut open = vec![first];
    let mut steps = 0;
    while let Some(now) = open.pop() {
        if now.first_left == calls.answered.len() && visit(&now.state).is_break() {
            return true;
        }
        let (ready, before) = calls.ready(&now);
        // What is pushed last is tried first: the call that was answered soonest; lost calls only if nothing else helps.
        for i in (0..calls.lost.len()).rev() {
            let call = calls.lost[i];
            if call.invoked >= before || now.used.has(i) {
                continue;
            }
            steps += 1;
            if let Some(state) = spec.took_effect(&now.state, &call.call) {
                let next = Situation { state, used: now.used.with(i), ..now.clone() };
                if tried.admit(&next) {
                    open.push(next);
                }
            }
        }
        for i in ready {
            steps += 1;
            if let Some(state) = spec.ended(&now.state, &calls.answered[i].call) {
                let answered = now.answered.with(i);
                let mut first_left = now.first_left;
                while first_left < calls.answered.len() && answered.has(first_left) {
                    first_left += 1;
                }
                let next = Situation { state, answered, first_left, used: now.used.clone() };
                if tried.admit(&next) {
                    open.push(next);
                }
            }
        }
        if steps > steps_max {
            return false;
        }
    }
    true
}

/// The calls in order of their beginnings, apart by whether an answer came.
struct Calls<'a, C> {
    answered: Vec<&'a Entry<C>>,
    lost: Vec<&'a Entry<C>>,
}

impl<'a, C> Calls<'a, C> {
    fn new(entries: &'a [Entry<C>]) -> Calls<'a, C> {
        let (mut answered, mut lost): (Vec<_>, Vec<_>) = entries.iter().partition(|e| e.returned.is_some());
        answered.sort_by_key(|e| e.invoked);
        lost.sort_by_key(|e| e.invoked);
        Calls { answered, lost }
    }

    /// Which answered calls may come next, the soonest answered last; and before which moment whatever comes next began:
    /// when the first of those left was answered.
    fn ready<S>(&self, now: &Situation<S>) -> (Vec<usize>, u64) {
        let mut before = u64::MAX;
        let mut ready = Vec::new();
        for (i, call) in self.answered.iter().enumerate().skip(now.first_left) {
            if call.invoked >= before {
                break;
            }
            if !now.answered.has(i) {
                before = before.min(call.returned.unwrap_or(u64::MAX));
                ready.push(i);
            }
        }
        ready.retain(|i| self.answered[*i].invoked < before);
        ready.sort_by_key(|i| std::cmp::Reverse(self.answered[*i].returned));
        (ready, before)
    }
}

#[derive(Clone)]
struct Situation<S> {
    state: S,
    answered: Set,
    /// All answered calls before this one are in order.
    first_left: usize,
    used: Set,
}

/// Situations that were met. Looked up only, never iterated: the order of a hash map does not show.
struct Tried<S>(HashMap<(Set, S), Vec<Set>>);

impl<S> Default for Tried<S> {
    fn default() -> Self {
        Tried(HashMap::new())
    }
}

impl<S: Clone + Eq + std::hash::Hash> Tried<S> {
    /// Notes a situation; false if one that can do as much was met before.
    fn admit(&mut self, now: &Situation<S>) -> bool {
        let known = self.0.entry((now.answered.clone(), now.state.clone())).or_default();
        if known.iter().any(|used| used.is_within(&now.used)) {
            return false;
        }
        known.retain(|used| !now.used.is_within(used));
        known.push(now.used.clone());
        true
    }
}

/// A set of small numbers.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Set(Box<[u64]>);

impl Set {
    fn new(size: usize) -> Set {
        Set(vec![0; size.div_ceil(64)].into())
    }

    fn has(&self, i: usize) -> bool {
        self.0[i / 64] & 1 << (i % 64) != 0
    }

    fn with(&self, i: usize) -> Set {
        let mut set = self.clone();
        set.0[i / 64] |= 1 << (i % 64);
        set
    }

    fn is_within(&self, other: &Set) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }
}
