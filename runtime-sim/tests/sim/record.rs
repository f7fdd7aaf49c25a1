use runtime_sim::record::{Part, Record, What};
use runtime_sim::{Options, TraceMode, run};

use crate::runs::storm;
use crate::toy::{Order, dial, send, start, tell};

fn events() -> Options {
    Options { trace: TraceMode::Events, ..Options::default() }
}

fn described(record: &Record, id: u32) -> &What {
    &record.happenings[id as usize].what
}

#[test]
fn every_arrival_and_completion_names_what_it_comes_from() {
    let outcome = storm(5, events(), 400);
    let full = storm(5, Options { trace: TraceMode::Full, ..Options::default() }, 400);
    assert_eq!((outcome.trace_hash, &outcome.trace), (full.trace_hash, &full.trace));
    assert!(full.record.is_none());
    let record = outcome.record.expect("it was asked for");
    let (mut arrivals, mut ends, mut effects) = (0, 0, 0);
    for (id, happening) in record.happenings.iter().enumerate() {
        let cause = happening.cause.map(|cause| {
            assert!((cause as usize) < id, "{id} comes from {cause}");
            let cause = &record.happenings[cause as usize];
            assert!(cause.at <= happening.at);
            cause
        });
        match (&happening.what, cause) {
            (What::Received { from, message: None }, Some(cause)) => {
                arrivals += 1;
                assert_eq!(cause.node, *from);
                assert!(matches!(&cause.what, What::Sent { to, .. } if *to == happening.node), "{cause:?}");
            }
            (What::DiskEnded { op, .. }, Some(cause)) => {
                ends += 1;
                assert_eq!(cause.node, happening.node);
                assert!(matches!(&cause.what, What::DiskBegun { op: begun, .. } if begun == op), "{cause:?}");
            }
            (What::Sent { .. } | What::DiskBegun { .. } | What::Replied { .. }, Some(cause)) => {
                effects += 1;
                assert_eq!((cause.node, cause.at), (happening.node, happening.at));
            }
            (What::Received { message: None, .. } | What::DiskEnded { .. } | What::Sent { .. }, None) => {
                panic!("{happening:?} has no cause")
            }
            _ => {}
        }
        if let What::Replied { called: Some(called), call, .. } = &happening.what {
            assert!(matches!(described(&record, *called), What::Called { call: asked, .. } if asked == call));
        }
        let line = &outcome.trace[happening.line.clone()];
        assert!(line.is_empty() || line.ends_with('\n') && line.matches('\n').count() == 1, "{line:?}");
    }
    assert!(arrivals > 50 && ends > 50 && effects > 400, "{arrivals} {ends} {effects}");
    let lines: usize = record.happenings.iter().map(|happening| happening.line.len()).sum();
    assert_eq!(lines, outcome.trace.len(), "each line belongs to one event");
}

#[test]
fn what_is_wrong_lasts_from_the_fault_to_its_end() {
    let outcome = run(1, events(), |world| async move {
        start(&world, "a", true);
        start(&world, "b", true);
        world.sleep(cairn_core::time::Span::from_ms(10)).await;
        world.partition(&["a"], &["b"]);
        world.kill("b");
        world.sleep(cairn_core::time::Span::from_ms(100)).await;
        send(&world, "a", dial("b"), crate::toy::ask(1)).await;
        world.restart("b");
        world.sleep(cairn_core::time::Span::from_ms(100)).await;
        world.heal_all();
        world.broken("test", "nothing is wrong");
        tell(&world, "b", Order::WakeIn(cairn_core::time::Span::from_ms(1))).await;
    });
    let record = outcome.record.expect("it was asked for");
    let said: Vec<_> = (record.conditions.iter())
        .map(|c| {
            let span = (c.until.0 - c.from.0) / 1_000_000;
            (record.nodes[usize::from(c.node)].as_str(), c.part, c.text.as_str(), span)
        })
        .collect();
    assert!(said.contains(&("b", Part::Process, "down", 100)), "{said:?}");
    assert!(said.contains(&("a", Part::Cut, "cut off from b", 200)), "{said:?}");
    assert!(
        record
            .happenings
            .iter()
            .any(|h| matches!(&h.what, What::Broken { checker, .. } if checker == "test"))
    );
    assert!(
        outcome.trace.contains("world    ! broken promise: test: nothing is wrong\n"),
        "{}",
        outcome.trace
    );
}
