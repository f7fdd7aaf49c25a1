//! What users asked before a promise was found broken, and what they were told.

use runtime_sim::record::{Happening, HappeningId, Record, What};

use super::focus::Focus;
use super::subject::Subjects;
use super::words::words;

/// Users' calls told with the story of a chunk, and without one.
const ASKED: (usize, usize) = (4, 40);

/// Calls that change nothing that a name shows.
const OF_BYTES: [&str; 3] = ["Read ", "Write ", "Release "];

/// What the client whose answer led to the finding was asked last, and what it answered.
pub fn asked(record: &Record, subjects: &Subjects, focus: &Focus) -> Vec<(HappeningId, String)> {
    let Some(Happening { what: What::Broken { .. }, cause: Some(cause), .. }) =
        record.happenings.get(focus.event as usize)
    else {
        return Vec::new();
    };
    let Happening { node: Some(node), what: What::Replied { .. }, .. } = &record.happenings[*cause as usize]
    else {
        return Vec::new();
    };
    // The cluster's state is what checkers ask for, not users.
    if words(record, subjects, &record.happenings[*cause as usize]).starts_with("Cluster ") {
        return Vec::new();
    }
    let many = if focus.chunk.is_some() { ASKED.0 } else { ASKED.1 };
    let name = &record.nodes[usize::from(*node)];
    let until = record.happenings.iter().enumerate().take(focus.event as usize).rev();
    let mut told: Vec<_> = until
        .filter_map(|(id, happening)| match happening.what {
            What::Replied { called: Some(called), response: Some(_), .. }
                if happening.node == Some(*node) =>
            {
                let call = words(record, subjects, &record.happenings[called as usize]);
                let answer = words(record, subjects, happening);
                let dull = focus.chunk.is_none() && OF_BYTES.iter().any(|verb| call.starts_with(verb));
                (!dull && call != "ClusterStatus").then(|| {
                    (id as HappeningId, format!("A user asks {name}: {call} — and is answered: {answer}."))
                })
            }
            _ => None,
        })
        .take(many)
        .collect();
    told.reverse();
    told
}
