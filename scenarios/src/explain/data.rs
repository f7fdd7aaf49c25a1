//! A run as compact data for the page: columns instead of objects, texts as templates and their numbers, times as steps.
//!
//! Wake-ups that led to nothing are left out, and of very long runs what is far from the focus. `page/model.js` reads what this writes.

use std::collections::{BTreeMap, BTreeSet};

use runtime_sim::record::{HappeningId, Part, What};
use serde::Serialize;

use super::Run;
use super::promise::promise;
use super::story::{Step, count, story};
use super::words::words;
use crate::plan::Plan;

/// Events before the focus that a page holds in full.
const EVENTS_MAX: usize = 110_000;

/// Everything that the page shows.
#[derive(Clone, Debug, Serialize)]
pub struct Data {
    /// What was run.
    pub head: Head,
    /// Broken promises.
    pub broken: Vec<Broken>,
    /// Nodes, in order of their lanes.
    pub nodes: Vec<String>,
    /// Paths.
    pub files: Vec<String>,
    /// How many events of the run are left out.
    pub left_out: usize,
    /// Texts, with U+0001 for each number.
    pub templates: Vec<String>,
    /// Events, by column.
    pub events: Events,
    /// Chunks that anything is known of.
    pub chunks: Vec<Chunk>,
    /// What was wrong with nodes: node, part, text, from and until in nanoseconds, cause or -1.
    pub conditions: Vec<(u16, String, String, u64, u64, i64)>,
    /// Where to look first: event, chunk or -1, file or -1.
    pub focus: (u32, i64, i64),
    /// What happened there.
    pub story: Vec<Step>,
}

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub struct Head {
    /// The seed, in words: a browser's numbers are too short for some.
    pub seed: String,
    /// The source that was run.
    pub commit: String,
    /// Facts about the cluster and the storm: name and value.
    pub facts: Vec<(String, String)>,
    /// Commands that go on from here: what for, and the command.
    pub commands: Vec<(String, String)>,
}

/// A broken promise.
#[derive(Clone, Debug, Serialize)]
pub struct Broken {
    /// Who found it.
    pub checker: String,
    /// What was found.
    pub text: String,
    /// Number in `docs/invariants.md`; empty if it is not there.
    pub number: String,
    /// What must hold.
    pub promise: String,
    /// When it must.
    pub when: String,
    /// Its event.
    pub id: i64,
}

/// Columns of equal length: the event's place is its id.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Events {
    /// Nanoseconds since the event before.
    pub after: Vec<u64>,
    /// A character for each event: its place in `nodes` as `'1'` and so on, or `'0'`.
    pub node: String,
    /// A character for each event: `'0'` wake, `'1'` arrival, `'2'` disk end, `'3'` call, `'4'` connection lost, `'5'`
    /// sending, `'6'` disk operation, `'7'` answer, `'8'` note, `'9'` world, `':'` broken promise.
    pub kind: String,
    /// How many places before it its cause is; 0: none.
    pub cause: Vec<u32>,
    /// The other node, as in `node`.
    pub peer: String,
    /// The chunk's number, or 0.
    pub chunk: Vec<u64>,
    /// Place in `files`, or -1.
    pub file: Vec<i64>,
    /// Place in `templates`.
    pub text: Vec<u32>,
    /// The text's numbers, separated by spaces; events by bars.
    pub numbers: String,
    /// For an answer, its call.
    pub calls: BTreeMap<u32, u32>,
}

/// A replica from an event on: the event, state (empty: not there), version, staged, ready, committed, durable.
pub type ReplicaState = (u32, String, u32, u64, u64, u64, u64);

/// A chunk's state over time.
#[derive(Clone, Debug, Serialize)]
pub struct Chunk {
    /// Its number.
    pub id: u64,
    /// Its files, in `files`.
    pub files: Vec<u32>,
    /// Changes on each node.
    pub replicas: BTreeMap<String, Vec<ReplicaState>>,
    /// What the master knows: event, words.
    pub master: Vec<(u32, String)>,
}

/// Which events are kept, and their new places; of others, the place of the last one before.
fn renumber(run: &Run) -> (Vec<bool>, Vec<u32>) {
    let happenings = &run.record.happenings;
    let mut kept: Vec<bool> = happenings.iter().map(|h| !matches!(h.what, What::Woken { .. })).collect();
    for happening in happenings {
        if let Some(cause) = happening.cause {
            kept[cause as usize] = true;
        }
    }
    // Of a run too long for one page, only what is near the focus in time or is about it.
    let far = (run.focus.event as usize).saturating_sub(EVENTS_MAX);
    for (at, happening) in happenings.iter().enumerate().take(far) {
        let about = run.subjects.about[at];
        kept[at] &= matches!(happening.what, What::World { .. } | What::Broken { .. })
            || run.focus.chunk.is_some() && about.chunk == run.focus.chunk
            || run.focus.file.is_some() && about.files.contains(&run.focus.file);
    }
    let mut count = 0_u32;
    let places = kept.iter().map(|kept| {
        count += u32::from(*kept);
        count.saturating_sub(1)
    });
    let places = places.collect();
    (kept, places)
}

impl Data {
    /// Packs a run.
    pub fn of(run: &Run, plan: &Plan, head: Head) -> Data {
        let (kept, places) = renumber(run);
        let place = |id: HappeningId| places.get(id as usize).copied().unwrap_or(0);
        let mut story = story(&run.record, &run.subjects, &run.chronicle, &run.focus);
        for step in &mut story {
            step.id = place(step.id);
        }
        let (events, templates) = events(run, &kept, &places);
        let conditions = run.record.conditions.iter().map(|c| {
            let part = match c.part {
                Part::Process => "process".to_owned(),
                Part::Cut => "cut".to_owned(),
                Part::Link => "link".to_owned(),
                Part::Disk(volume) => format!("disk {volume}"),
            };
            let cause = c.cause.map_or(-1, |cause| i64::from(place(cause)));
            (c.node, part, c.text.clone(), c.from.0, c.until.0, cause)
        });
        let mut head = head;
        head.facts = facts(plan, run).into_iter().chain(head.facts).collect();
        Data {
            head,
            broken: broken(run, &places),
            nodes: run.record.nodes.clone(),
            files: run.subjects.files.clone(),
            left_out: kept.iter().filter(|kept| !**kept).count(),
            templates,
            events,
            chunks: chunks(run, &places),
            conditions: conditions.collect(),
            focus: (
                place(run.focus.event),
                run.focus.chunk.map_or(-1, |chunk| chunk.0 as i64),
                run.focus.file.map_or(-1, i64::from),
            ),
            story,
        }
    }
}

fn broken(run: &Run, places: &[u32]) -> Vec<Broken> {
    let happenings = &run.record.happenings;
    let found = run.report.violations.iter().map(|violation| {
        let promise = promise(&violation.checker);
        let at = happenings.iter().position(
            |h| matches!(&h.what, What::Broken { text, checker } if (text, checker) == (&violation.text, &violation.checker)),
        );
        let (number, promise, when) = promise.map_or_else(Default::default, |p| (p.number, p.sentence, p.when));
        let id = at.map_or(-1, |at| i64::from(places[at]));
        Broken { checker: violation.checker.clone(), text: violation.text.clone(), number, promise, when, id }
    });
    found.collect()
}

fn facts(plan: &Plan, run: &Run) -> Vec<(String, String)> {
    let shape = &plan.shape;
    let racks: BTreeSet<_> = shape.servers.iter().map(|server| server.rack.as_str()).collect();
    let volumes: u32 = shape.servers.iter().map(|server| u32::from(server.volumes)).sum();
    let storages: Vec<_> = (shape.storages.iter())
        .map(|s| {
            let durability = if s.relaxed { "in page caches (async)" } else { "on disk (sync)" };
            format!(
                "{} replicas, {} must hold a record {durability}, chunks of {} KiB",
                s.replication,
                s.quorum,
                s.chunk_bytes >> 10
            )
        })
        .collect();
    let figures = run.report.figures;
    let fact = |name: &str, value: String| (name.to_owned(), value);
    vec![
        fact("Storm", plan.profile.to_string()),
        fact(
            "Cluster",
            format!(
                "1 master, {} with {} on {}",
                count(shape.servers.len() as u64, "chunkserver"),
                count(volumes.into(), "volume"),
                count(racks.len() as u64, "rack")
            ),
        ),
        fact("Users", format!("{} on {}", shape.users, count(shape.clients as u64, "client"))),
        fact("Files", storages.join("; ")),
        fact("Faults planned", plan.strikes.len().to_string()),
        fact(
            "Ran for",
            format!("{:.3} simulated s, {} inputs", figures.simulated_ms as f64 / 1e3, figures.inputs),
        ),
    ]
}

fn chunks(run: &Run, places: &[u32]) -> Vec<Chunk> {
    let place = |id: HappeningId| places.get(id as usize).copied().unwrap_or(0);
    let about = run.subjects.about.iter().filter_map(|about| about.chunk);
    let ids: BTreeSet<_> = about.chain(run.chronicle.entries.keys().copied()).collect();
    let one = |id: &cairn_core::id::ChunkId| {
        let replicas = run.chronicle.replicas.get(id).into_iter().flatten().map(|(server, changes)| {
            let states = changes.iter().map(|change| match change.now {
                Some(r) => {
                    let state = format!("{:?}", r.state).to_lowercase();
                    (place(change.after), state, r.version, r.staged, r.ready, r.committed, r.durable)
                }
                None => (place(change.after), String::new(), 0, 0, 0, 0, 0),
            });
            (server.clone(), states.collect())
        });
        let master = run.chronicle.entries.get(id).into_iter().flatten();
        Chunk {
            id: id.0,
            files: run.subjects.chunks.get(id).into_iter().flatten().copied().collect(),
            replicas: replicas.collect(),
            master: master
                .map(|change| (place(change.after), entry_words(run, change.now.as_ref())))
                .collect(),
        }
    };
    ids.iter().map(one).collect()
}

fn entry_words(run: &Run, entry: Option<&super::chronicle::Entry>) -> String {
    let Some(entry) = entry else { return "not in the catalog".into() };
    let file = entry.file.as_ref().map_or(String::new(), |file| format!(" · {file}"));
    match entry.sealed {
        Some(length) => {
            format!(
                "sealed v{} · {length} bytes · {} of {} replicas good{file}",
                entry.version, entry.good, entry.goal
            )
        }
        None => {
            let names: Vec<_> = (entry.members.iter())
                .map(|member| match run.subjects.servers.get(member) {
                    Some(node) => run.record.nodes[usize::from(*node)].clone(),
                    None => member.to_string(),
                })
                .collect();
            format!(
                "open v{} on {} · {} must hold a record{file}",
                entry.version,
                names.join(", "),
                entry.quorum
            )
        }
    }
}

fn events(run: &Run, kept: &[bool], places: &[u32]) -> (Events, Vec<String>) {
    let mut out = Events::default();
    let mut templates: BTreeMap<String, u32> = BTreeMap::new();
    let mut before = 0;
    for (at, happening) in run.record.happenings.iter().enumerate().filter(|(at, _)| kept[*at]) {
        let place = places[at];
        let (kind, peer) = kind(&happening.what);
        // What an arrival says stands with its sending.
        let repeats =
            matches!(happening.what, What::Received { message: None, .. }) && happening.cause.is_some();
        let text = if repeats { String::new() } else { words(&run.record, &run.subjects, happening) };
        let (template, numbers) = split(&text);
        let count = templates.len() as u32;
        let about = run.subjects.about[at];
        out.after.push(happening.at.0 - before);
        before = happening.at.0;
        out.node.push(digit(happening.node.map_or(0, |node| node + 1)));
        out.kind.push(digit(kind));
        let cause = happening.cause.filter(|cause| kept[*cause as usize]);
        out.cause.push(cause.map_or(0, |cause| place - places[cause as usize]));
        out.peer.push(digit(peer.map_or(0, |node| node + 1)));
        out.chunk.push(about.chunk.map_or(0, |chunk| chunk.0));
        out.file.push(about.files[0].map_or(-1, i64::from));
        out.text.push(*templates.entry(template).or_insert(count));
        if place > 0 {
            out.numbers.push('|');
        }
        out.numbers.push_str(&numbers);
        if let What::Replied { called: Some(called), .. } = happening.what
            && kept[called as usize]
        {
            out.calls.insert(place, places[called as usize]);
        }
    }
    let mut listed = vec![String::new(); templates.len()];
    for (template, place) in templates {
        listed[place as usize] = template;
    }
    (out, listed)
}

/// A number as one character, from `'0'` on.
fn digit(number: u16) -> char {
    char::from_u32(u32::from('0') + u32::from(number)).unwrap_or('0')
}

fn kind(what: &What) -> (u16, Option<u16>) {
    match what {
        What::Woken { .. } => (0, None),
        What::Received { from, .. } => (1, *from),
        What::DiskEnded { .. } => (2, None),
        What::Called { .. } => (3, None),
        What::PeerLost { other } => (4, *other),
        What::Sent { to, .. } => (5, *to),
        What::DiskBegun { .. } => (6, None),
        What::Replied { .. } => (7, None),
        What::Noted { .. } => (8, None),
        What::World { .. } => (9, None),
        What::Broken { .. } => (10, None),
    }
}

/// Takes the numbers out of a text, checksums included; most texts differ in nothing else.
fn split(text: &str) -> (String, String) {
    let (mut template, mut numbers) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        template.push_str(&rest[..at]);
        rest = &rest[at..];
        let word = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len())];
        rest = &rest[word.len()..];
        let checksum = word.len() >= 8
            && word.bytes().all(|b| b.is_ascii_hexdigit())
            && word.bytes().any(|b| b.is_ascii_digit());
        if checksum {
            template.push('\u{1}');
            numbers.push(word);
            continue;
        }
        let mut left = word;
        while let Some(at) = left.find(|c: char| c.is_ascii_digit()) {
            template.push_str(&left[..at]);
            template.push('\u{1}');
            let digits = left.len() - at - left[at..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
            numbers.push(&left[at..at + digits]);
            left = &left[at + digits..];
        }
        template.push_str(left);
    }
    template.push_str(rest);
    (template, numbers.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_its_template_and_its_numbers() {
        let text = "Seal chunk=7 v=2 len=65536 crc=0a1b2c3d on cs1 é 12";
        let (template, numbers) = split(text);
        assert_eq!(template, "Seal chunk=\u{1} v=\u{1} len=\u{1} crc=\u{1} on cs\u{1} é \u{1}");
        assert_eq!(numbers, "7 2 65536 0a1b2c3d 1 12");
        let mut parts = numbers.split(' ');
        let again: String = template
            .chars()
            .map(|c| if c == '\u{1}' { parts.next().unwrap().into() } else { c.to_string() })
            .collect();
        assert_eq!(again, text);
    }
}
