//! What `cairn-sim explain` and a filtered `replay` tell of a run. The page itself is opened by `.ci/explain-page`.

use std::collections::BTreeSet;

use cairn_core::defect::{Defect, Defects};
use cairn_core::id::ChunkId;
use runtime_sim::record::What;
use scenarios::explain::Run;
use scenarios::explain::data::{Data, Head};
use scenarios::explain::filter::{Filter, Unknown};
use scenarios::explain::page::page;
use scenarios::explain::story::{Step, Tone};
use scenarios::plan::Plan;
use scenarios::workload::operation::Operation;

fn head() -> Head {
    Head { seed: "1".into(), commit: "abc".into(), facts: Vec::new(), commands: Vec::new() }
}

fn explained(plan: &Plan, defects: Defects) -> (Run, Data) {
    let run = Run::of(plan, defects);
    let data = Data::of(&run, plan, head());
    (run, data)
}

/// The page's own data, read back from the page.
fn embedded(html: &str) -> serde_json::Value {
    let start = html.find("id=\"data\">").expect("there is data") + "id=\"data\">".len();
    let end = start + html[start..].find("</script>").expect("it ends");
    serde_json::from_str(&html[start..end]).expect("it is JSON")
}

#[test]
fn a_tiny_run_is_told_in_sentences() {
    let (run, data) = explained(&Plan::tiny(1), Defects::none());
    assert_eq!(run.report.violations, []);
    assert!(data.broken.is_empty());
    let told: Vec<_> = data.story.iter().map(|step| format!("{:?}: {}", step.tone, step.text)).collect();
    let well = |step: &Step| matches!(step.tone, Tone::Plain | Tone::Fault);
    assert!(data.story.iter().all(well), "nothing is odd in a calm run: {told:#?}");
    // Who comes first changes with every change of a machine; what is said only with its meaning.
    let said: BTreeSet<_> =
        data.story.iter().map(|step| step.text.split(" cs").next().unwrap_or_default()).collect();
    insta::assert_snapshot!(said.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_page_is_the_same_each_time_and_its_columns_agree() {
    let (_, first) = explained(&Plan::tiny(2), Defects::none());
    let (_, second) = explained(&Plan::tiny(2), Defects::none());
    let html = page(&first).expect("it can be written");
    assert_eq!(html, page(&second).expect("it can be written"));
    assert!(html.len() < 5 << 20, "{} bytes", html.len());
    let events = embedded(&html)["events"].take();
    let count = events["after"].as_array().expect("a column").len();
    assert!(count > 300, "{count} events");
    for column in ["cause", "chunk", "file", "text"] {
        assert_eq!(events[column].as_array().map(Vec::len), Some(count), "{column}");
    }
    for column in ["node", "kind", "peer"] {
        assert_eq!(events[column].as_str().map(|text| text.chars().count()), Some(count), "{column}");
    }
    assert_eq!(events["numbers"].as_str().map(|text| text.split('|').count()), Some(count));
    for (id, cause) in events["cause"].as_array().expect("a column").iter().enumerate() {
        assert!(cause.as_u64().is_some_and(|back| back <= id as u64), "{id} comes from {cause} before it");
    }
}

#[test]
fn a_broken_promise_leads_back_to_the_step_that_broke_it() {
    let (run, data) = explained(&Plan::tiny(1), Defects::one(Defect::AckBeforeDataSync));
    let broken = data.broken.first().expect("the acknowledgement is found to be empty");
    assert_eq!((broken.checker.as_str(), broken.number.as_str()), ("ack-durability", "3"));
    assert!(broken.promise.contains("is held by W members"), "{}", broken.promise);
    assert!(broken.id >= 0 && data.events.kind.as_bytes()[broken.id as usize] == b':');
    assert!(run.focus.chunk.is_some() && run.focus.file.is_some(), "{:?}", run.focus);
    assert_eq!(data.story.last().map(|step| step.tone), Some(Tone::Broken));
    let odd =
        data.story.iter().find(|step| step.tone == Tone::Odd).expect("the step that broke it is marked");
    assert!(odd.text.contains("are committed, but then none"), "{odd:?}");
    let mut at = run.focus.event;
    let mut chain = Vec::new();
    while let Some(cause) = run.record.happenings[at as usize].cause {
        chain.push(&run.record.happenings[cause as usize].what);
        at = cause;
    }
    let sent = chain.iter().filter(|what| matches!(what, What::Sent { .. })).count();
    let ends = chain.iter().filter(|what| matches!(what, What::DiskEnded { .. })).count();
    assert!(sent >= 2 && ends >= 1, "from the acknowledgement over a disk back: {chain:?}");
    assert!(matches!(chain.last(), Some(What::Called { .. } | What::Woken { .. })), "{chain:?}");
}

#[test]
fn a_name_never_becomes_a_part_of_the_page() {
    let mut plan = Plan::tiny(1);
    let name = "/user0/</script><script>alert(1)</script><img src=x>";
    for step in plan.users.iter_mut().flatten() {
        match &mut step.operation {
            Operation::Put { path, .. } | Operation::Get { path } => *path = name.into(),
            Operation::Rename { from, .. } => *from = name.into(),
            _ => {}
        }
    }
    let (_, data) = explained(&plan, Defects::none());
    let html = page(&data).expect("it can be written");
    assert!(!html.contains("<script>alert") && !html.contains("<img"));
    assert_eq!(html.matches("</script>").count(), 2);
    let files = embedded(&html)["files"].take();
    assert!(files.as_array().expect("a list").iter().any(|file| file == name), "{files}");
}

#[test]
fn a_trace_can_be_cut_down_to_what_concerns_a_chunk_a_file_or_a_node() {
    let run = Run::of(&Plan::tiny(1), Defects::none());
    let kept = |filter: Filter| -> Vec<String> {
        let lines = filter.lines(&run.report.trace, &run.record, &run.subjects).expect("the run has it");
        lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let all = kept(Filter::default());
    assert_eq!(all.concat(), run.report.trace);
    let chunk = kept(Filter { chunk: Some(ChunkId(1)), ..Filter::default() });
    assert!(chunk.len() > 20 && chunk.len() < all.len() / 2, "{} of {}", chunk.len(), all.len());
    assert!(chunk.iter().any(|line| line.contains("ChunkAppend chunk=1 ")), "{chunk:#?}");
    assert!(!chunk.iter().any(|line| line.contains("chunk=2 ")), "{chunk:#?}");
    assert!(chunk.iter().any(|line| line.contains("<- disk")), "{chunk:#?}");
    let both = Filter { chunk: Some(ChunkId(1)), node: Some("cs1".into()), ..Filter::default() };
    assert!(kept(both).iter().all(|line| line.contains("cs1") || line.contains("world")));
    let file = kept(Filter { file: Some("/user0/f".into()), ..Filter::default() });
    assert!(
        file.iter().any(|line| line.contains("OpenChunk")) && file.iter().any(|line| line.contains("Rename"))
    );
    let client = kept(Filter { client: Some(0), ..Filter::default() });
    assert!(client.iter().any(|line| line.contains("client0  <- user")));
    let middle = kept(Filter { from: Some(1.0), until: Some(1.5), ..Filter::default() });
    assert!(!middle.is_empty() && middle.iter().all(|line| line.trim_start().starts_with("1.")));
    let absent = Filter { node: Some("cs9".into()), ..Filter::default() };
    assert!(matches!(
        absent.lines(&run.report.trace, &run.record, &run.subjects).err(),
        Some(Unknown::Node { .. })
    ));
    let absent = Filter { chunk: Some(ChunkId(999)), ..Filter::default() };
    assert!(absent.lines(&run.report.trace, &run.record, &run.subjects).is_err());
}
