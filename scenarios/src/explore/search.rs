//! Breadth first, so that the first counterexample is a shortest one.

use std::collections::HashSet;
use std::time::Instant;

use cairn_core::defect::Defects;
use serde::Serialize;

use super::fingerprint::{Direct, fingerprint};
use super::invariant::{Broken, Holdings};
use super::scope::Scope;
use super::state::State;
use super::step::Explorer;

/// A shortest way to a broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counterexample {
    /// What is broken at its end.
    pub broken: Broken,
    /// Each step in words.
    pub steps: Vec<String>,
}

/// What an exploration came to.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// The scope's name.
    pub scope: &'static str,
    /// Different states met.
    pub states: u64,
    /// Steps taken from them.
    pub transitions: u64,
    /// Steps from the start to the farthest of them.
    pub depth: u32,
    /// Different states of single nodes.
    pub node_states: u64,
    /// Whether every state was met that can be reached within the scope's bounds.
    pub exhausted: bool,
    /// How long it took, in milliseconds.
    pub wall_ms: u64,
    /// The first broken promise, if there is one.
    pub counterexample: Option<Counterexample>,
}

/// What is on screen meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Different states so far.
    pub states: u64,
    /// Steps from the start.
    pub depth: u32,
    /// States at this depth.
    pub width: u64,
}

/// Every state met, and how it was reached first.
#[derive(Default)]
struct Seen {
    fingerprints: HashSet<u128, Direct>,
    /// Parent and the step's place among the parent's.
    parents: Vec<(u32, u16)>,
}

/// States of one depth, one after the other.
#[derive(Default)]
struct Level {
    words: Vec<u32>,
    ends: Vec<usize>,
    first: u32,
}

impl Level {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, at: usize) -> State {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        State::decode(&self.words[start..self.ends[at]])
    }
}

/// Explores a scope to its end, to the first broken promise, or until `limit` states were met.
pub fn explore(scope: &Scope, defects: Defects, limit: u64, mut progress: impl FnMut(Progress)) -> Outcome {
    let started = Instant::now();
    let (mut explorer, start) = Explorer::start(*scope, defects);
    let mut outcome = Outcome {
        scope: scope.name,
        states: 0,
        transitions: 0,
        depth: 0,
        node_states: 0,
        exhausted: false,
        wall_ms: 0,
        counterexample: None,
    };
    let mut seen = Seen::default();
    let found = run(&mut explorer, start.clone(), limit, &mut outcome, &mut seen, &mut progress);
    outcome.states = seen.parents.len() as u64;
    outcome.counterexample = found.map(|(at, last, broken)| {
        let steps = retrace(&mut explorer, start, &seen, at, last);
        Counterexample { broken, steps }
    });
    outcome.node_states = explorer.world.sizes().0 as u64;
    outcome.wall_ms = started.elapsed().as_millis() as u64;
    outcome
}

/// The state and its step that broke something.
type Found = (u32, Option<u16>, Broken);

fn run(
    explorer: &mut Explorer,
    mut start: State,
    limit: u64,
    outcome: &mut Outcome,
    seen: &mut Seen,
    progress: &mut impl FnMut(Progress),
) -> Option<Found> {
    let mut holdings = Holdings::default();
    let (mut level, mut next) = (Level::default(), Level::default());
    start.encode(&mut level.words);
    level.ends.push(level.words.len());
    seen.fingerprints.insert(fingerprint(&level.words[..]));
    seen.parents.push((0, 0));
    while level.len() > 0 {
        progress(Progress {
            states: seen.parents.len() as u64,
            depth: outcome.depth,
            width: level.len() as u64,
        });
        next.first = seen.parents.len() as u32;
        for at in 0..level.len() {
            let state = level.get(at);
            let number = level.first + at as u32;
            for (place, mut successor) in explorer.successors(&state).into_iter().enumerate() {
                outcome.transitions += 1;
                let place = place as u16;
                if let Some(fault) = successor.fault {
                    let broken =
                        Broken { invariant: "machines never give up (panic, halt)", text: fault.to_string() };
                    return Some((number, Some(place), broken));
                }
                let before = next.words.len();
                successor.state.encode(&mut next.words);
                if !seen.fingerprints.insert(fingerprint(&next.words[before..])) {
                    next.words.truncate(before);
                    continue;
                }
                next.ends.push(next.words.len());
                seen.parents.push((number, place));
                if let Some(broken) = explorer.check(&mut holdings, &successor.state) {
                    outcome.depth += 1;
                    return Some((seen.parents.len() as u32 - 1, None, broken));
                }
            }
            if seen.parents.len() as u64 >= limit {
                return None;
            }
        }
        std::mem::swap(&mut level, &mut next);
        next.words.clear();
        next.ends.clear();
        outcome.depth += u32::from(level.len() > 0);
    }
    outcome.exhausted = true;
    None
}

/// The steps that lead to a state, in words.
fn retrace(explorer: &mut Explorer, start: State, seen: &Seen, at: u32, last: Option<u16>) -> Vec<String> {
    let mut places: Vec<u16> = last.into_iter().collect();
    let mut at = at;
    while at != 0 {
        let (parent, place) = seen.parents[at as usize];
        places.push(place);
        at = parent;
    }
    let mut state = start;
    let mut steps = Vec::new();
    for place in places.into_iter().rev() {
        // A state's steps are named by place in the order of its words.
        let mut words = Vec::new();
        state.encode(&mut words);
        state = State::decode(&words);
        let Some(next) = explorer.successors(&state).into_iter().nth(usize::from(place)) else { break };
        steps.push(explorer.describe(&state, &next));
        state = next.state;
    }
    steps
}
