//! Messages that come late or again.

use cairn_core::id::{
    Address, BootId, ChunkId, ChunkVersion, ClientId, ClusterId, Durability, ProcessId, RequestId, ServerId,
    SessionId, VolumeId, WriterId,
};
use cairn_core::message::{AppendMessage, Grant, MasterRequest, Member, Message};
use cairn_core::payload::Payload;
use cairn_core::time::Span;
use runtime_sim::{Link, World, run};

use crate::toy::{ask, count, dial, log, options, send, start};

const SECOND: Span = Span::from_ms(1_000);

fn story<F, Fut>(seed: u64, told: F) -> runtime_sim::FaultCounts
where
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let outcome = run(seed, options(), |world| async move {
        start(&world, "a", false);
        start(&world, "b", true);
        told(world).await;
    });
    if let Err(failure) = outcome.result {
        panic!("seed {seed}: {failure}\n{}", outcome.trace);
    }
    outcome.faults
}

fn open(chunk: u64) -> Message {
    let grant = Grant {
        cluster: ClusterId(1),
        chunk: ChunkId(chunk),
        version: ChunkVersion(1),
        members: vec![Member {
            server: ServerId(1),
            session: SessionId(1),
            volume: VolumeId(1),
            boot: BootId(1),
            process: ProcessId(1),
        }],
        addresses: vec![Address::new("b")],
        replication: 1,
        quorum: 1,
        durability: Durability::Sync,
        capacity: 100,
    };
    Message::Append(AppendMessage::Open { grant, position: 0, writer: WriterId(1) })
}

fn data(chunk: u64, record: u64) -> Message {
    Message::Append(AppendMessage::Data {
        chunk: ChunkId(chunk),
        version: ChunkVersion(1),
        writer: WriterId(1),
        record,
        committed: 0,
        payload: Payload::new(0, bytes::Bytes::from_static(b"x")),
    })
}

/// How many lines of a log contain `text`.
fn heard(world: &World, node: &str, text: &str) -> usize {
    log(world, node).iter().filter(|line| line.contains(text)).count()
}

#[test]
fn a_stalled_connection_stands_still_while_a_new_one_passes() {
    let faults = story(1, |world| async move {
        send(&world, "a", dial("b"), ask(1)).await;
        world.sleep(SECOND).await;
        world.stall("a", "b");
        send(&world, "a", dial("b"), ask(2)).await;
        world.sleep(SECOND).await;
        world.abandon_connections("a", "b");
        world.sleep(SECOND).await;
        send(&world, "a", dial("b"), ask(3)).await;
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "a"), ["told 1", "lost b", "told 3"]);
        assert_eq!(log(&world, "b"), ["asked 1", "asked 3"]);
        world.end_stall("a", "b");
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "b"), ["asked 1", "asked 3", "asked 2", "lost caller"]);
        assert_eq!(count(&world, "a", "told 2"), 0, "answers to who is gone go nowhere");
    });
    assert_eq!((faults.stalls, faults.zombies, faults.held_messages), (1, 1, 2));
}

#[test]
fn what_a_killed_process_had_sent_may_arrive_after_its_next_life_spoke() {
    let late = (0..20)
        .filter(|seed| {
            let faults = story(*seed, |world| async move {
                send(&world, "a", dial("b"), ask(1)).await;
                world.sleep(SECOND).await;
                world.stall("a", "b");
                send(&world, "a", dial("b"), ask(2)).await;
                world.kill("a");
                world.restart("a");
                send(&world, "a", dial("b"), ask(3)).await;
                world.sleep(SECOND).await;
                assert_eq!(count(&world, "b", "asked 2"), 0);
                world.heal_all();
                world.sleep(SECOND).await;
                assert_eq!(count(&world, "b", "lost caller"), 1);
            });
            faults.zombies > 0
        })
        .count();
    assert!((2..19).contains(&late), "{late} of 20");
}

#[test]
fn no_machine_without_power_speaks_from_its_grave() {
    story(3, |world| async move {
        send(&world, "a", dial("b"), ask(1)).await;
        world.sleep(SECOND).await;
        world.stall("a", "b");
        send(&world, "a", dial("b"), ask(2)).await;
        world.power_cut("a");
        world.heal_all();
        world.sleep(Span::from_ms(20_000)).await;
        assert_eq!(log(&world, "b"), ["asked 1", "lost caller"]);
    });
}

#[test]
fn a_writers_words_come_again_in_order_and_to_whoever_runs_then() {
    let faults = story(4, |world| async move {
        for message in [open(7), data(7, 1), open(8), data(7, 2), data(8, 1)] {
            send(&world, "a", dial("b"), message).await;
        }
        world.sleep(SECOND).await;
        world.kill("b");
        world.restart("b");
        assert!(world.replay_writer("b", Some(ChunkId(7)), 0, 2, SECOND));
        world.sleep(Span::from_ms(100)).await;
        assert_eq!(log(&world, "b").len(), 3, "{:?}", log(&world, "b"));
        assert_eq!((heard(&world, "b", "chunk=7"), heard(&world, "b", "lost caller")), (3, 0));
        world.sleep(SECOND).await;
        assert_eq!(heard(&world, "b", "lost caller"), 1);
        assert!(world.replay_writer("b", None, 0, 0, SECOND), "the latest");
        world.sleep(Span::from_ms(100)).await;
        assert_eq!(heard(&world, "b", "chunk=8"), 1);
        assert!(!world.replay_writer("a", None, 0, 0, SECOND), "nobody said anything to a");
    });
    assert_eq!(faults.replays, 2);
}

#[test]
fn a_change_is_asked_for_again_and_its_answer_goes_nowhere() {
    let faults = story(5, |world| async move {
        let body = MasterRequest::Mkdir { path: "/a".into(), parents: false, mode: 0 };
        let (client, request) = (ClientId(1), RequestId(9));
        let message = Message::MasterRequest { client, request, identity: Default::default(), body };
        send(&world, "a", dial("b"), message).await;
        world.sleep(SECOND).await;
        let before = log(&world, "b").len();
        assert_eq!(world.repeat_requests("b", 5, 2), 1, "no more than were asked for");
        world.sleep(SECOND).await;
        assert_eq!(log(&world, "b").len(), before + 1);
        assert!(log(&world, "a").is_empty());
    });
    assert_eq!(faults.repeats, 1);
}

#[test]
fn records_are_said_twice_in_a_row() {
    let faults = story(6, |world| async move {
        world.set_link("a", "b", Link { repeat_per_million: 1_000_000, ..Link::default() });
        send(&world, "a", dial("b"), open(7)).await;
        send(&world, "a", dial("b"), data(7, 1)).await;
        world.sleep(SECOND).await;
        assert_eq!(heard(&world, "b", "chunk=7"), 3, "{:?}", log(&world, "b"));
    });
    assert_eq!(faults.repeats, 1);
}

#[test]
fn a_process_dies_at_the_counted_disk_operation() {
    use crate::toy::{Order, tell, write};
    let faults = story(7, |world| async move {
        world.crash_at_operation("a", 2, false, false);
        for name in ["one", "two", "three"] {
            tell(&world, "a", Order::Begin(write(name, 0, b"x"))).await;
            world.sleep(SECOND).await;
        }
        assert!(!world.is_up("a"));
        let files: Vec<String> = world.files("a", 0).into_iter().map(|(name, _)| name).collect();
        assert_eq!(files, ["one", "two"], "the second one is there, and the third was never begun");
        world.restart("a");
        tell(&world, "a", Order::Begin(write("four", 0, b"x"))).await;
        world.sleep(SECOND).await;
        assert!(world.is_up("a"));
    });
    assert_eq!((faults.kills, faults.crash_points), (1, 1));
}

#[test]
fn a_process_dies_when_it_has_made_a_name() {
    use cairn_core::disk::DiskRequest;

    use crate::toy::{Order, path, tell, write};
    let faults = story(8, |world| async move {
        tell(&world, "a", Order::Begin(write("one", 0, b"x"))).await;
        world.sleep(SECOND).await;
        world.crash_at_operation("a", 1, true, false);
        tell(&world, "a", Order::Begin(DiskRequest::Sync(path("one")))).await;
        world.sleep(SECOND).await;
        assert!(world.is_up("a"), "a sync makes no name");
        tell(&world, "a", Order::Begin(write("two", 0, b"x"))).await;
        world.sleep(SECOND).await;
        assert!(!world.is_up("a"));
        assert_eq!(world.files("a", 0).len(), 2);
    });
    assert_eq!((faults.kills, faults.crash_points), (1, 1));
}
