//! Asking what a crash would leave.

use cairn_core::disk::{DiskOk, DiskRequest};
use cairn_core::id::OpId;
use cairn_core::machine::{Effect, Effects, Input, Machine, WakeReason};
use cairn_core::rng::Rng;
use cairn_core::time::Time;
use runtime_sim::{Again, Comeback, Crash, World, run};

use crate::toy::{Order, Toy, disk, options, path, read, start, tell, write};

/// Adds a byte to a file, syncs it, and ends with the number of bytes.
#[derive(Debug, Default)]
struct Counter(u64);

impl Machine for Counter {
    type Request = ();
    type Response = ();

    fn handle(&mut self, _: Time, input: Input<()>, effects: &mut Effects<()>) {
        self.0 += 1;
        let op = OpId(self.0);
        match (self.0, input) {
            (1, _) => effects.disk(op, DiskRequest::Read { path: path("count"), offset: 0, length: 100 }),
            (2, Input::DiskDone { result, .. }) => {
                let at = result.map_or(0, |done| if let DiskOk::Data(data) = done { data.len() } else { 0 });
                self.0 += at * 10;
                effects.disk(op, write("count", at, b"x"));
            }
            (n, _) if n % 10 == 3 => effects.disk(op, DiskRequest::Sync(path("count"))),
            (n, _) => {
                let reason = format!("{} bytes", n / 10 + 1);
                effects.push(Effect::Halt { reason, failed: false });
            }
        }
    }

    fn next_wake(&self) -> Option<(Time, WakeReason)> {
        None
    }
}

fn toy(world: &World, power: bool, seed: u64) -> Comeback<Toy> {
    let crash = Crash { power, again: None };
    world.comeback("a", crash, &mut Rng::new(seed), |_| Toy::default())
}

#[test]
fn it_shows_what_a_crash_would_leave_and_leaves_the_run_alone() {
    let story = |asks: bool| {
        run(5, options(), move |world| async move {
            start(&world, "a", false);
            disk(&world, "a", write("safe", 0, b"safe")).await.unwrap();
            disk(&world, "a", DiskRequest::Sync(path("safe"))).await.unwrap();
            disk(&world, "a", DiskRequest::SyncDir(path(""))).await.unwrap();
            disk(&world, "a", write("risk", 0, b"risk")).await.unwrap();
            tell(&world, "a", Order::Begin(write("late", 0, b"late"))).await;
            let (mut risks, mut lates) = (0, 0);
            for seed in (0..40).filter(|_| asks) {
                let has = |back: &Comeback<Toy>, name| back.with_file(0, name, |bytes| bytes.to_vec());
                let killed = toy(&world, false, seed);
                assert_eq!(has(&killed, "risk"), Some(b"risk".to_vec()));
                lates += u32::from(has(&killed, "late").is_some());
                let cut = toy(&world, true, seed);
                assert_eq!(has(&cut, "safe"), Some(b"safe".to_vec()));
                risks += u32::from(has(&cut, "risk").is_some());
            }
            assert!(!asks || (1..40).contains(&risks) && (1..40).contains(&lates), "{risks} {lates}");
            assert_eq!(read(&world, "a", "risk").await.unwrap(), b"risk");
        })
    };
    let (asked, alone) = (story(true), story(false));
    assert!(asked.result.is_ok(), "{:?}", asked.result);
    assert_eq!((asked.trace_hash, asked.faults), (alone.trace_hash, alone.faults));
}

#[test]
fn a_new_process_may_go_down_again_before_one_recovers() {
    let outcome = run(5, options(), |world| async move {
        start(&world, "a", false);
        let end = |after: Option<u64>, power| {
            let crash = Crash {
                power,
                again: after.map(|after| Again { after, changing: false, power, unreadable: None }),
            };
            world.comeback("a", crash, &mut Rng::new(1), |_| Counter::default()).halted
        };
        assert_eq!(end(None, true).as_deref(), Some("1 bytes"));
        // What the first one wrote the second one finds, unless the power took it.
        assert_eq!(end(Some(2), false).as_deref(), Some("2 bytes"));
        assert_eq!(end(Some(0), true).as_deref(), Some("1 bytes"));
    });
    assert!(outcome.result.is_ok(), "{:?}", outcome.result);
}
