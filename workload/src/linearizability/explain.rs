//! Why a history is refused: the first answer that no order explains, and what was possible just before it.

use std::ops::ControlFlow;

use super::search::{each_end, search};
use super::{Entry, Specification, Verdict};

/// States that are told at the most.
const STATES_TOLD: usize = 6;

/// The shortest beginning of a history that can't be put in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction<S> {
    /// The call whose answer contradicts all before; an index into the history.
    pub call: usize,
    /// What belongs to the beginning: calls that began before that answer, in order of their beginnings.
    pub beginning: Vec<usize>,
    /// States that were possible until this answer came, a few of them.
    pub states: Vec<S>,
}

/// Finds the first answer that can't be. `None` if the history is in order or too large to decide.
pub fn contradiction<S: Specification>(
    spec: &S,
    entries: &[Entry<S::Call>],
    steps_max: u64,
) -> Option<Contradiction<S::State>>
where
    S::Call: Clone,
{
    let mut answers: Vec<usize> = (0..entries.len()).filter(|i| entries[*i].returned.is_some()).collect();
    answers.sort_by_key(|i| entries[*i].returned);
    if search(spec, entries, steps_max) != Verdict::Violated {
        return None;
    }
    // Whatever can be put in order can be up to any earlier answer, too: the first bad answer is found by halving.
    let (mut good, mut bad) = (0, answers.len());
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        let (beginning, _) = beginning(entries, answers[middle - 1]);
        match search(spec, &beginning, steps_max) {
            Verdict::Violated => bad = middle,
            Verdict::Linearizable | Verdict::TooLarge => good = middle,
        }
    }
    let call = *answers.get(bad.checked_sub(1)?)?;
    let (mut unanswered, beginning) = beginning(entries, call);
    for (entry, index) in unanswered.iter_mut().zip(&beginning) {
        if *index == call {
            entry.returned = None;
        }
    }
    let mut states: Vec<S::State> = Vec::new();
    each_end(spec, &unanswered, steps_max, |state| {
        if !states.contains(state) {
            states.push(state.clone());
        }
        if states.len() < STATES_TOLD { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    Some(Contradiction { call, beginning, states })
}

/// What was known when call `last` was answered: later answers had not come yet. In order of beginnings, with indices.
fn beginning<C: Clone>(entries: &[Entry<C>], last: usize) -> (Vec<Entry<C>>, Vec<usize>) {
    let end = entries[last].returned.unwrap_or(u64::MAX);
    let mut indices: Vec<usize> = (0..entries.len()).filter(|i| entries[*i].invoked < end).collect();
    indices.sort_by_key(|i| entries[*i].invoked);
    let known = |i: &usize| {
        let entry = &entries[*i];
        Entry { returned: entry.returned.filter(|at| *at <= end), ..entry.clone() }
    };
    (indices.iter().map(known).collect(), indices)
}
