//! The definition itself, by force: every order of every choice of lost calls. And a random history to try it on.

use cairn_core::rng::Rng;

use super::super::{Entry, Specification};

/// Whether any order of calls explains the history. Takes exponential time.
pub(super) fn is_linearizable<S: Specification>(spec: &S, entries: &[Entry<S::Call>]) -> bool {
    fn place<S: Specification>(
        spec: &S,
        entries: &[Entry<S::Call>],
        left: &[usize],
        state: &S::State,
    ) -> bool {
        if left.iter().all(|i| entries[*i].returned.is_none()) {
            return true;
        }
        left.iter().any(|i| {
            let entry = &entries[*i];
            // Nothing that is left was over before this began.
            let first = left.iter().all(|j| entries[*j].returned.is_none_or(|at| at > entry.invoked));
            let next = match entry.returned {
                Some(_) => spec.ended(state, &entry.call),
                None => spec.took_effect(state, &entry.call),
            };
            let rest: Vec<usize> = left.iter().copied().filter(|j| j != i).collect();
            first && next.is_some_and(|next| place(spec, entries, &rest, &next))
        })
    }
    let all: Vec<usize> = (0..entries.len()).collect();
    place(spec, entries, &all, &spec.initial())
}

/// A file that can be written, created if absent, removed and read: small enough for force, and with refusals.
#[derive(Clone, Debug)]
pub(super) struct Register;

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Write(u8),
    Create(u8),
    Remove,
    Read,
}

/// What came of it; 0 is absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ret {
    Ok,
    Refused,
    Value(u8),
}

impl Register {
    pub(super) fn invoke(state: &mut u8, op: Op) -> Ret {
        match op {
            Op::Read => Ret::Value(*state),
            Op::Create(_) if *state != 0 => Ret::Refused,
            Op::Remove if *state == 0 => Ret::Refused,
            Op::Write(value) | Op::Create(value) => {
                *state = value;
                Ret::Ok
            }
            Op::Remove => {
                *state = 0;
                Ret::Ok
            }
        }
    }
}

impl Specification for Register {
    type State = u8;
    type Call = (Op, Ret);

    fn initial(&self) -> u8 {
        0
    }

    fn ended(&self, state: &u8, (op, ret): &(Op, Ret)) -> Option<u8> {
        let mut next = *state;
        (Register::invoke(&mut next, *op) == *ret).then_some(next)
    }

    fn took_effect(&self, state: &u8, (op, _): &(Op, Ret)) -> Option<u8> {
        let mut next = *state;
        Register::invoke(&mut next, *op);
        (next != *state).then_some(next)
    }
}

/// A history that one register gave, each call answered at a moment within its interval; some answers are lost. Returned
/// with the thread of each call: a thread whose answer was lost asks no more.
pub(super) fn sequential(rng: &mut Rng, calls: usize, threads: usize) -> Vec<(usize, Entry<(Op, Ret)>)> {
    #[derive(Clone, Copy)]
    enum Doing {
        Nothing,
        Asked { op: Op, invoked: u64 },
        Done { op: Op, ret: Ret, invoked: u64 },
        Gone,
    }
    let mut state = 0;
    let mut doing = vec![Doing::Nothing; threads];
    let mut history = Vec::new();
    let mut asked = 0;
    for moment in 1.. {
        let busy = doing.iter().any(|d| matches!(d, Doing::Asked { .. } | Doing::Done { .. }));
        let able = asked < calls && doing.iter().any(|d| matches!(d, Doing::Nothing));
        if !busy && !able {
            break;
        }
        let thread = rng.below(threads as u64) as usize;
        doing[thread] = match doing[thread] {
            Doing::Nothing if asked < calls => {
                asked += 1;
                let value = 1 + rng.below(4) as u8;
                let op = match rng.below(6) {
                    0 | 1 => Op::Write(value),
                    2 => Op::Create(value),
                    3 => Op::Remove,
                    _ => Op::Read,
                };
                Doing::Asked { op, invoked: moment }
            }
            Doing::Asked { op, invoked } if rng.chance(1, 12) => {
                // The answer is lost; half of them were carried out.
                let mut after = state;
                let ret = Register::invoke(&mut after, op);
                if rng.chance(1, 2) {
                    state = after;
                }
                history.push((thread, Entry { call: (op, ret), invoked, returned: None }));
                Doing::Gone
            }
            Doing::Asked { op, invoked } => {
                let ret = Register::invoke(&mut state, op);
                Doing::Done { op, ret, invoked }
            }
            Doing::Done { op, ret, invoked } => {
                history.push((thread, Entry { call: (op, ret), invoked, returned: Some(moment) }));
                Doing::Nothing
            }
            other => other,
        };
    }
    history
}

/// Changes one answer, so that the history may be impossible.
pub(super) fn spoil(rng: &mut Rng, history: &mut [(usize, Entry<(Op, Ret)>)]) {
    let at = rng.below(history.len() as u64) as usize;
    let (op, ret) = &mut history[at].1.call;
    *ret = match op {
        Op::Read => Ret::Value(rng.below(5) as u8),
        _ if *ret == Ret::Ok => Ret::Refused,
        _ => Ret::Ok,
    };
}
