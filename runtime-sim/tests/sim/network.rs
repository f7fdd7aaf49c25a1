use cairn_core::id::{ClientId, RequestId};
use cairn_core::message::{MasterRequest, Message};
use cairn_core::time::Span;
use runtime_sim::{FaultCounts, Link, Options, World, run};

use crate::toy::{Order, ask, count, dial, log, options, send, start, tell};

const SECOND: Span = Span::from_ms(1_000);

/// Runs a story with an asking toy `a` and an echoing one `b`.
fn pair<F, Fut>(seed: u64, options: Options, story: F) -> FaultCounts
where
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let outcome = run(seed, options, |world| async move {
        start(&world, "a", false);
        start(&world, "b", true);
        story(world).await;
    });
    if let Err(failure) = outcome.result {
        panic!("seed {seed}: {failure}\n{}", outcome.trace);
    }
    outcome.faults
}

#[test]
fn each_direction_of_a_connection_keeps_its_order() {
    let link = Link { jitter_us: 50_000, loss_per_million: 100_000, ..Link::default() };
    pair(1, Options { link, ..options() }, |world| async move {
        for n in 0..200 {
            send(&world, "a", dial("b"), ask(n)).await;
        }
        world.sleep(Span::from_ms(60_000)).await;
        assert_eq!(log(&world, "b"), (0..200).map(|n| format!("asked {n}")).collect::<Vec<_>>());
        assert_eq!(log(&world, "a"), (0..200).map(|n| format!("told {n}")).collect::<Vec<_>>());
    });
}

#[test]
fn a_short_partition_holds_messages_and_loses_none() {
    let faults = pair(2, options(), |world| async move {
        send(&world, "a", dial("b"), ask(1)).await;
        world.sleep(SECOND).await;
        world.partition(&["a"], &["b"]);
        send(&world, "a", dial("b"), ask(2)).await;
        send(&world, "a", dial("b"), ask(3)).await;
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "b"), ["asked 1"]);
        world.heal(&["a"], &["b"]);
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "b"), ["asked 1", "asked 2", "asked 3"]);
        assert_eq!(log(&world, "a"), ["told 1", "told 2", "told 3"]);
    });
    assert_eq!(faults.held_messages, 2);
}

#[test]
fn a_lasting_partition_resets_the_connection_and_stops_dials() {
    pair(3, options(), |world| async move {
        send(&world, "a", dial("b"), ask(1)).await;
        world.sleep(SECOND).await;
        world.partition(&["a"], &["b"]);
        send(&world, "a", dial("b"), ask(2)).await;
        world.sleep(Span::from_ms(30_000)).await;
        assert_eq!(log(&world, "a"), ["told 1", "lost b"]);
        assert_eq!(log(&world, "b"), ["asked 1", "lost caller"]);
        send(&world, "a", dial("b"), ask(3)).await;
        world.sleep(Span::from_ms(10_000)).await;
        assert_eq!(count(&world, "a", "lost b"), 2);
        world.heal_all();
        send(&world, "a", dial("b"), ask(4)).await;
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "a").last().unwrap(), "told 4");
        assert_eq!(count(&world, "b", "asked 2") + count(&world, "b", "asked 3"), 0);
    });
}

#[test]
fn a_one_way_partition_lets_the_other_way_through() {
    pair(4, options(), |world| async move {
        send(&world, "a", dial("b"), ask(1)).await;
        world.sleep(SECOND).await;
        world.partition_one_way(&["b"], &["a"]);
        send(&world, "a", dial("b"), ask(2)).await;
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "b"), ["asked 1", "asked 2"]);
        assert_eq!(log(&world, "a"), ["told 1"]);
        world.heal_all();
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "a"), ["told 1", "told 2"]);
    });
}

#[test]
fn a_reset_is_told_to_both_ends_and_the_next_send_dials_again() {
    pair(5, options(), |world| async move {
        send(&world, "a", dial("b"), ask(1)).await;
        world.sleep(SECOND).await;
        world.reset_connections("a", "b");
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "a"), ["told 1", "lost b"]);
        assert_eq!(log(&world, "b"), ["asked 1", "lost caller"]);
        send(&world, "a", dial("b"), ask(2)).await;
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "a"), ["told 1", "lost b", "told 2"]);
        assert_eq!(world.inspect("b", |toy: &crate::toy::Toy| toy.conns.len()), Some(2));
    });
}

#[test]
fn what_is_under_way_at_a_reset_is_lost() {
    let link = Link { latency_us: 100_000, ..Link::default() };
    let faults = pair(6, Options { link, ..options() }, |world| async move {
        send(&world, "a", dial("b"), ask(1)).await;
        world.sleep(SECOND).await;
        send(&world, "a", dial("b"), ask(2)).await;
        world.reset_connections("a", "b");
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "b"), ["asked 1", "lost caller"]);
    });
    assert_eq!(faults.dropped_messages, 1);
}

#[test]
fn each_dial_to_nobody_loses_the_peer_once() {
    pair(7, options(), |world| async move {
        world.kill("b");
        send(&world, "a", dial("b"), ask(1)).await;
        send(&world, "a", dial("nowhere"), ask(1)).await;
        world.sleep(Span::from_ms(5_000)).await;
        let mut lines = log(&world, "a");
        lines.sort();
        assert_eq!(lines, ["lost b", "lost nowhere"]);
        world.restart("b");
        send(&world, "a", dial("b"), ask(2)).await;
        world.sleep(SECOND).await;
        assert_eq!(count(&world, "a", "told 2"), 1);
    });
}

#[test]
fn a_dead_process_is_noticed_by_its_peers() {
    for power in [false, true] {
        pair(8, options(), move |world| async move {
            send(&world, "a", dial("b"), ask(1)).await;
            world.sleep(SECOND).await;
            if power {
                world.power_cut("b")
            } else {
                world.kill("b")
            }
            world.sleep(Span::from_ms(10_000)).await;
            assert_eq!(log(&world, "a"), ["told 1", "lost b"]);
        });
    }
}

#[test]
fn a_corrupted_frame_closes_the_connection() {
    for seed in 0..20 {
        let faults = pair(seed, options(), |world| async move {
            send(&world, "a", dial("b"), ask(1)).await;
            world.sleep(SECOND).await;
            world.corrupt_next_frame("b", "a");
            send(&world, "a", dial("b"), ask(2)).await;
            world.sleep(SECOND).await;
            assert_eq!(log(&world, "a"), ["told 1", "lost b"]);
            assert_eq!(log(&world, "b"), ["asked 1", "asked 2", "lost caller"]);
        });
        assert_eq!(faults.corrupted_frames, 1);
    }
}

#[test]
fn a_close_lets_what_was_sent_before_arrive() {
    pair(9, options(), |world| async move {
        send(&world, "a", dial("b"), ask(1)).await;
        tell(&world, "a", Order::Close(dial("b"))).await;
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "b"), ["asked 1", "lost caller"]);
        assert!(log(&world, "a").is_empty(), "who closes is told nothing more");
        send(&world, "a", dial("b"), ask(2)).await;
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "a"), ["told 2"]);
    });
}

#[test]
fn a_unary_call_without_a_master_is_answered_unavailable() {
    let request = |n| Message::MasterRequest {
        client: ClientId(1),
        request: RequestId(n),
        identity: Default::default(),
        body: MasterRequest::ClusterStatus,
    };
    pair(10, options(), move |world| async move {
        world.kill("b");
        send(&world, "a", dial("b"), request(1)).await;
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "a"), ["master 1 false"]);
        world.restart("b");
        send(&world, "a", dial("b"), request(2)).await;
        send(&world, "a", dial("b"), request(3)).await;
        world.sleep(SECOND).await;
        let conns = world.inspect("b", |toy: &crate::toy::Toy| toy.conns.clone()).unwrap();
        assert_eq!(conns.len(), 2, "each call has its own connection");
        world.kill("b");
        world.sleep(SECOND).await;
        assert_eq!(count(&world, "a", "master 2 false") + count(&world, "a", "master 3 false"), 2);
    });
}
