//! Random histories: those that one machine gave always pass, spoilt ones are judged as by force.

use cairn_core::rng::Rng;
use proptest::prelude::*;

use super::super::explain::contradiction;
use super::super::search::{STEPS_MAX, search};
use super::super::{Entry, Verdict};
use super::force::{Op, Register, Ret, is_linearizable, sequential, spoil};

fn entries(history: Vec<(usize, Entry<(Op, Ret)>)>) -> Vec<Entry<(Op, Ret)>> {
    history.into_iter().map(|(_, entry)| entry).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_one_machine_answered_passes(seed: u64, calls in 1_usize..400, threads in 1_usize..12) {
        let history = entries(sequential(&mut Rng::new(seed), calls, threads));
        prop_assert_eq!(search(&Register, &history, STEPS_MAX), Verdict::Linearizable);
        prop_assert_eq!(contradiction(&Register, &history, STEPS_MAX), None);
    }

    #[test]
    fn a_spoilt_history_is_judged_as_by_force(seed: u64, calls in 1_usize..9, threads in 1_usize..5, spoilt in 0_usize..3) {
        let mut rng = Rng::new(seed);
        let mut history = sequential(&mut rng, calls, threads);
        for _ in 0..spoilt {
            spoil(&mut rng, &mut history);
        }
        let history = entries(history);
        let expected =
            if is_linearizable(&Register, &history) { Verdict::Linearizable } else { Verdict::Violated };
        prop_assert_eq!(search(&Register, &history, STEPS_MAX), expected);
    }

    #[test]
    fn the_first_bad_answer_is_named(seed: u64, calls in 1_usize..9, threads in 1_usize..5) {
        let mut rng = Rng::new(seed);
        let mut history = sequential(&mut rng, calls, threads);
        spoil(&mut rng, &mut history);
        let history = entries(history);
        if let Some(found) = contradiction(&Register, &history, STEPS_MAX) {
            let end = history[found.call].returned.unwrap();
            // What was known at that moment is impossible; what was known just before it is not.
            let known = |end: u64| -> Vec<Entry<(Op, Ret)>> {
                history
                    .iter()
                    .filter(|e| e.invoked < end)
                    .map(|e| Entry { returned: e.returned.filter(|at| *at <= end), ..e.clone() })
                    .collect()
            };
            prop_assert!(!is_linearizable(&Register, &known(end)));
            prop_assert!(is_linearizable(&Register, &known(end - 1)));
            prop_assert!(!found.states.is_empty());
        }
    }
}

#[test]
fn a_search_that_is_too_large_says_so() {
    let history = entries(sequential(&mut Rng::new(1), 100, 8));
    assert_eq!(search(&Register, &history, 3), Verdict::TooLarge);
}

#[test]
fn many_lost_writes_cost_little() {
    // Forty writes of unknown fate, and reads that saw some of them: without skipping what is dominated, 2^40 situations.
    let mut history = Vec::new();
    for i in 0..40_u64 {
        let call = (Op::Write(i as u8 + 1), Ret::Ok);
        history.push(Entry { call, invoked: i, returned: None });
    }
    for i in 0..40_u64 {
        let call = (Op::Read, Ret::Value(40 - i as u8));
        history.push(Entry { call, invoked: 100 + 2 * i, returned: Some(101 + 2 * i) });
    }
    assert_eq!(search(&Register, &history, 100_000), Verdict::Linearizable);
    // One of them is seen again after another one: each happens once at the most.
    let call = (Op::Read, Ret::Value(40));
    history.push(Entry { call, invoked: 300, returned: Some(301) });
    assert_eq!(search(&Register, &history, 100_000), Verdict::Violated);
}
