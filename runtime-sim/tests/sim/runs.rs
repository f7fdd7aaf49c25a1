use cairn_core::time::{Span, Time};
use runtime_sim::{NodeState, Options, Outcome, TraceMode, run};

use crate::toy::{Order, Toy, ask, count, dial, disk, log, options, path, send, start, tell, write};

/// A busy run with every kind of fault.
pub fn storm(seed: u64, options: Options, rounds: u64) -> Outcome<u64> {
    run(seed, options, move |world| async move {
        let names = ["a", "b", "c", "d"];
        for name in names {
            start(&world, name, true);
        }
        let mut rng = world.rng("storm");
        for n in 0..rounds {
            let (x, y) = (names[rng.below(4) as usize], names[rng.below(4) as usize]);
            match rng.below(40) {
                0 => world.kill(x),
                1 => world.power_cut(x),
                2 if x != y => world.partition(&[x], &[y]),
                3 => world.reset_connections(x, y),
                4 => world.pause(x),
                5 => world.heal_all(),
                _ if x != y && world.is_up(x) => {
                    send(&world, x, dial(y), ask(n)).await;
                    tell(&world, x, Order::Begin(write(&format!("f{}", n % 9), n * 10, &[n as u8; 700])))
                        .await;
                }
                _ => {}
            }
            if rng.chance(1, 10) {
                world.sleep(Span::from_ms(rng.between(1, 300))).await;
                world.resume(x);
                world.restart(x);
            }
        }
        world.sleep(Span::from_ms(1_000)).await;
        let files: Vec<_> = names.iter().map(|name| world.files(name, 0)).collect();
        files.iter().flatten().map(|(_, length)| length).sum()
    })
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3] {
        let full = Options { trace: TraceMode::Full, ..Options::default() };
        let first = storm(seed, full.clone(), 400);
        let second = storm(seed, full, 400);
        assert!(first.inputs > 500, "{} inputs", first.inputs);
        if first.trace != second.trace {
            let differ = first.trace.lines().zip(second.trace.lines()).find(|(a, b)| a != b);
            panic!("two runs of seed {seed} differ: {differ:?}");
        }
        let hashed = storm(seed, Options { trace: TraceMode::Hash, ..Options::default() }, 400);
        assert_eq!((hashed.trace_hash, hashed.result.unwrap()), (first.trace_hash, first.result.unwrap()));
        assert_eq!((hashed.inputs, hashed.faults), (second.inputs, second.faults));
    }
    assert_ne!(storm(1, Options::default(), 400).trace_hash, storm(2, Options::default(), 400).trace_hash);
}

#[test]
fn a_panic_in_a_machine_is_the_outcome() {
    let outcome = run(1, options(), |world| async move {
        start(&world, "a", false);
        tell(&world, "a", Order::Panic).await;
    });
    let failure = outcome.result.unwrap_err();
    assert_eq!(failure.message, "told to panic");
    assert!(failure.location.contains("toy.rs:"), "{failure}");
    assert!(outcome.trace.contains("a starts"));
}

#[test]
fn a_halted_machine_is_gone_until_it_is_restarted() {
    let outcome = run(1, options(), |world| async move {
        start(&world, "a", true);
        start(&world, "b", true);
        send(&world, "b", dial("a"), ask(1)).await;
        world.sleep(Span::from_ms(100)).await;
        tell(&world, "a", Order::Halt).await;
        assert_eq!(world.state("a"), NodeState::Halted { reason: "told to".into(), failed: true });
        assert!(tell(&world, "a", Order::Halt).await.is_none());
        world.sleep(Span::from_ms(100)).await;
        assert_eq!(log(&world, "b"), ["told 1", "lost a"]);
        world.restart("a");
        assert!(world.is_up("a"));
        assert_eq!(disk(&world, "a", write("f", 0, &[1])).await, Ok(cairn_core::disk::DiskOk::Done));
    });
    outcome.result.unwrap();
}

#[test]
fn calls_under_way_end_when_their_process_dies() {
    let outcome = run(1, options(), |world| async move {
        start(&world, "a", false);
        let asked = {
            let world = world.clone();
            world.clone().spawn(async move {
                tell(&world, "a", Order::Disk(cairn_core::disk::DiskRequest::Sync(path("f")))).await.is_none()
            })
        };
        world.pause("a");
        world.sleep(Span::from_ms(10)).await;
        world.kill("a");
        assert!(asked.await.unwrap());
    });
    outcome.result.unwrap();
}

#[test]
fn wakes_come_by_the_nodes_own_clock_and_never_early() {
    for seed in 0..10 {
        let options = Options { clock_drift_ppm_max: 100_000, ..options() };
        let outcome = run(seed, options, |world| async move {
            start(&world, "a", false);
            let (own, truth) = (world.clock("a"), world.now());
            tell(&world, "a", Order::WakeIn(Span::from_ms(10_000))).await;
            assert!(world.eventually(Span::from_ms(12_000), || count(&world, "a", "wake") == 1).await);
            assert_eq!(world.inspect("a", |toy: &Toy| toy.woken_early), Some(false));
            let passed = world.clock("a").since(own);
            assert!(passed >= Span::from_ms(10_000) && passed < Span::from_ms(10_030), "{passed:?}");
            (passed.0, world.now().since(truth).0)
        });
        let (own, truth) = outcome.result.unwrap();
        assert_ne!(own / 1_000_000, truth / 1_000_000, "the clock drifts");
    }
}

#[test]
fn a_paused_process_gets_everything_when_it_goes_on() {
    let outcome = run(1, options(), |world| async move {
        start(&world, "a", false);
        start(&world, "b", true);
        world.pause("b");
        send(&world, "a", dial("b"), ask(1)).await;
        world.sleep(Span::from_ms(5_000)).await;
        assert!(log(&world, "a").is_empty());
        world.resume("b");
        world.sleep(Span::from_ms(10)).await;
        assert_eq!(log(&world, "a"), ["told 1"]);
    });
    outcome.result.unwrap();
}

#[test]
fn observers_see_every_input_and_message() {
    let outcome = run(1, options(), |world| async move {
        let seen = std::sync::Arc::new(std::sync::Mutex::new((0, Vec::new(), Time::ZERO)));
        let (machines, messages) = (seen.clone(), seen.clone());
        world.observe(move |now, _, _: &Toy| {
            let mut seen = machines.lock().unwrap();
            seen.0 += 1;
            seen.2 = now;
        });
        world.observe_messages(move |_, from, to, message| {
            messages.lock().unwrap().1.push(format!("{from} {to} {}", message.to_string().len() > 4));
        });
        start(&world, "a", false);
        start(&world, "b", true);
        send(&world, "a", dial("b"), ask(1)).await;
        world.sleep(Span::from_ms(100)).await;
        let seen = seen.lock().unwrap();
        assert_eq!(seen.1, ["a b true", "b a true"]);
        assert!(seen.2 > Time::ZERO);
        seen.0
    });
    assert_eq!(outcome.result.unwrap(), outcome.inputs);
}

/// Resident memory of this process in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn memory_stays_flat_over_runs() {
    for seed in 0..4 {
        storm(seed, Options::default(), 300).result.unwrap();
    }
    let before = resident_kib();
    for seed in 0..40 {
        storm(seed, Options::default(), 300).result.unwrap();
    }
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 40_000, "40 runs left {grown} KiB behind");
}

#[test]
fn a_clock_that_jumps_wakes_who_waited() {
    let outcome = run(31, options(), |world| async move {
        start(&world, "a", false);
        tell(&world, "a", Order::WakeIn(Span::from_ms(60_000))).await;
        world.sleep(Span::from_ms(1_000)).await;
        let before = world.clock("a");
        world.jump_clock("a", Span::from_ms(59_500));
        assert_eq!(world.clock("a"), before + Span::from_ms(59_500));
        assert_eq!(log(&world, "a"), Vec::<String>::new());
        world.sleep(Span::from_ms(1_000)).await;
        assert_eq!(log(&world, "a"), ["wake"]);
    });
    assert_eq!((outcome.result, outcome.faults.clock_jumps), (Ok(()), 1));
}

#[test]
fn a_slow_node_takes_its_time_and_loses_nothing() {
    let outcome = run(32, options(), |world| async move {
        start(&world, "a", false);
        start(&world, "b", true);
        world.set_slowness("b", Span::from_ms(100));
        for n in 0..10 {
            send(&world, "a", dial("b"), ask(n)).await;
        }
        world.sleep(Span::from_ms(550)).await;
        let some = log(&world, "b").len();
        assert!((4..=6).contains(&some), "{some} of 10 in half the time");
        world.sleep(Span::from_ms(1_000)).await;
        assert_eq!(log(&world, "b").len(), 10);
        world.set_slowness("b", Span(0));
    });
    assert_eq!((outcome.result, outcome.faults.slowdowns), (Ok(()), 1));
}
