//! Cuts a history into objects that can be judged alone, and judges each.
//!
//! Paths that a rename couples are one object; of a listing each object sees its own names. Since that would let a listing
//! show one name as it was before and another as it was later, the whole directory is judged once more as one object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::explain::{Contradiction, contradiction};
use super::history::Call;
use super::names::Names;
use super::search::search;
use super::{Entry, Verdict};
use crate::operation::{Operation, Outcome};
use crate::tree::{Node, Tree};

/// Calls that are told of a contradiction, the last ones before it.
const CALLS_TOLD: usize = 14;

/// What came of judging a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Objects that were judged.
    pub objects: usize,
    /// Calls that were put in order.
    pub calls: usize,
    /// Objects whose search was given up.
    pub undecided: usize,
    /// Each object that no order explains, in words.
    pub contradictions: Vec<String>,
}

/// Judges all calls below the directory `root`, which must exist before the first and stay.
pub fn judge(history: &[Entry<Call>], root: &str, steps_max: u64) -> Judgement {
    let spec = Names { root: root.to_owned() };
    let relevant: Vec<Entry<Call>> = history.iter().filter(|e| tells_something(e, root)).cloned().collect();
    let mut judgement = Judgement { calls: relevant.len(), ..Judgement::default() };
    let mut objects: Vec<(String, Vec<Entry<Call>>)> = groups(&relevant, root)
        .into_iter()
        .map(|names| {
            let title = names.iter().cloned().collect::<Vec<_>>().join(" and ");
            (title, relevant.iter().filter_map(|entry| project(entry, root, &names)).collect())
        })
        .collect();
    if relevant.iter().any(|e| e.call.operation.paths().contains(&root)) {
        objects.push((format!("{root} as a whole"), relevant));
    }
    for (title, entries) in objects {
        judgement.objects += 1;
        match search(&spec, &entries, steps_max) {
            Verdict::Linearizable => continue,
            Verdict::TooLarge => judgement.undecided += 1,
            Verdict::Violated => {
                if let Some(found) = contradiction(&spec, &entries, steps_max) {
                    judgement.contradictions.push(in_words(&title, &entries, &found, root));
                }
            }
        }
        if !judgement.contradictions.is_empty() {
            break;
        }
    }
    judgement
}

/// Whether a call says anything about the state: failures without a change, and lost reads, do not.
fn tells_something(entry: &Entry<Call>, root: &str) -> bool {
    let Call { operation, outcome, .. } = &entry.call;
    let below = operation.paths().iter().all(|p| *p == root || is_below(p, root));
    below
        && match outcome {
            // What was broken is a violation by itself, and no answer.
            Outcome::Failed(_) | Outcome::Broken(_) => false,
            Outcome::Unknown(_) => operation.is_change(),
            _ => true,
        }
}

fn is_below(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
}

/// The groups of paths that renames couple.
fn groups(history: &[Entry<Call>], root: &str) -> Vec<BTreeSet<String>> {
    let mut group_of: BTreeMap<String, usize> = BTreeMap::new();
    let mut groups: Vec<BTreeSet<String>> = Vec::new();
    for entry in history {
        let mut joined = BTreeSet::new();
        for path in entry.call.operation.paths().into_iter().filter(|p| *p != root) {
            match group_of.get(path) {
                Some(group) => joined.append(&mut groups[*group]),
                None => drop(joined.insert(path.to_owned())),
            }
        }
        if joined.is_empty() {
            continue;
        }
        for path in &joined {
            group_of.insert(path.clone(), groups.len());
        }
        groups.push(joined);
    }
    groups.retain(|group| !group.is_empty());
    groups
}

/// What a call says about some names; `None`: nothing.
fn project(entry: &Entry<Call>, root: &str, names: &BTreeSet<String>) -> Option<Entry<Call>> {
    if entry.call.operation.paths().iter().any(|p| names.contains(*p)) {
        return Some(entry.clone());
    }
    let Operation::List { path } = &entry.call.operation else { return None };
    if path != root {
        return None;
    }
    let mut entry = entry.clone();
    if let Outcome::Names(listed) = &mut entry.call.outcome {
        listed.retain(|(name, _, _)| names.contains(&format!("{root}/{name}")));
    }
    Some(entry)
}

fn in_words(title: &str, entries: &[Entry<Call>], found: &Contradiction<Tree>, root: &str) -> String {
    let mut text = format!("{title}: {} fits no order.", entries[found.call]);
    let states: Vec<String> = found.states.iter().map(|tree| state(tree, root)).collect();
    let _ = write!(text, " Until then there could have been {}.", states.join(" or "));
    let before: Vec<&usize> = found.beginning.iter().filter(|i| **i != found.call).collect();
    let told = &before[before.len().saturating_sub(CALLS_TOLD)..];
    let _ = write!(text, " {} calls before its answer", before.len());
    let _ = if told.len() < before.len() {
        write!(text, ", the last {} of them:", told.len())
    } else {
        write!(text, ":")
    };
    for i in told {
        let _ = write!(text, "\n    {}", entries[**i]);
    }
    text
}

fn state(tree: &Tree, root: &str) -> String {
    let names: Vec<String> = tree
        .nodes()
        .filter(|(path, _)| is_below(path, root))
        .map(|(path, node)| match node {
            Node::Directory => format!("{path}/"),
            Node::File(content) => format!("{path}={}", content.brief()),
        })
        .collect();
    if names.is_empty() { "nothing".to_owned() } else { format!("{{{}}}", names.join(" ")) }
}
