//! Small histories get the same verdict from stateright's tester, which shares no line with ours.

use cairn_core::rng::Rng;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use super::super::search::{STEPS_MAX, search};
use super::super::{Entry, Verdict};
use super::force::{Op, Register, Ret, sequential, spoil};

/// The same register in stateright's terms.
#[derive(Clone, Debug, Default)]
struct Theirs(u8);

impl SequentialSpec for Theirs {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        Register::invoke(&mut self.0, *op)
    }
}

fn theirs(history: &[(usize, Entry<(Op, Ret)>)]) -> bool {
    let mut events = Vec::new();
    for (thread, entry) in history {
        events.push((entry.invoked, *thread, None));
        if let Some(returned) = entry.returned {
            events.push((returned, *thread, Some(entry.call.1)));
        }
    }
    events.sort_by_key(|(moment, _, _)| *moment);
    let mut tester = LinearizabilityTester::new(Theirs::default());
    for (moment, thread, ret) in events {
        let valid = match ret {
            Some(ret) => tester.on_return(thread, ret).map(drop),
            None => {
                let (_, entry) =
                    history.iter().find(|(_, e)| e.invoked == moment).expect("events come from the history");
                tester.on_invoke(thread, entry.call.0).map(drop)
            }
        };
        valid.expect("a thread does one thing at a time");
    }
    tester.is_consistent()
}

#[test]
fn thousands_of_small_histories_get_the_same_verdict() {
    let mut rng = Rng::stream(1, "cross-check");
    let mut refused = 0;
    for round in 0..5_000 {
        let (calls, threads) = (2 + rng.below(8) as usize, 1 + rng.below(4) as usize);
        let mut history = sequential(&mut rng, calls, threads);
        for _ in 0..rng.below(3) {
            spoil(&mut rng, &mut history);
        }
        let entries: Vec<_> = history.iter().map(|(_, entry)| entry.clone()).collect();
        let ours = search(&Register, &entries, STEPS_MAX);
        assert_eq!(ours == Verdict::Linearizable, theirs(&history), "round {round}: {history:?}");
        refused += usize::from(ours == Verdict::Violated);
    }
    assert!((500..4_500).contains(&refused), "{refused} of 5,000 were refused: one verdict was hardly tried");
}
