//! What is wrong with each node at this moment, in words: read off the world itself, so that no fault can be forgotten.

use std::collections::{BTreeMap, BTreeSet};

use crate::network::Network;
use crate::node::{Node, NodeIx, NodeState};
use crate::options::{DiskFaults, Link, Options};
use crate::record::{Conditions, Part};

/// All that is wrong now.
pub(crate) fn conditions(nodes: &[Node], network: &Network, options: &Options) -> Conditions {
    let mut all = Conditions::new();
    for (ix, node) in nodes.iter().enumerate() {
        let ix = ix as NodeIx;
        if let Some(text) = process(node) {
            all.insert((ix, Part::Process), text);
        }
        if let Some(text) = cut(nodes, network, ix) {
            all.insert((ix, Part::Cut), text);
        }
        if let Some(text) = links(nodes, network, ix, &options.link) {
            all.insert((ix, Part::Link), text);
        }
        for (volume, disk) in node.volumes.iter().enumerate() {
            if let Some(text) = disk_faults(&disk.faults, &options.disk) {
                all.insert((ix, Part::Disk(volume as u16)), text);
            }
        }
    }
    all
}

fn process(node: &Node) -> Option<String> {
    match &node.state {
        NodeState::Up => None,
        NodeState::Paused => Some("paused".into()),
        NodeState::Down if node.dark => Some("without power".into()),
        NodeState::Down => Some("down".into()),
        NodeState::Halted { reason, failed: true } => Some(format!("failed: {reason}")),
        NodeState::Halted { reason, failed: false } => Some(format!("ended: {reason}")),
    }
}

fn names(nodes: &[Node], of: impl IntoIterator<Item = NodeIx>) -> String {
    of.into_iter().map(|ix| &*nodes[usize::from(ix)].name).collect::<Vec<_>>().join(", ")
}

fn cut(nodes: &[Node], network: &Network, own: NodeIx) -> Option<String> {
    let sends: BTreeSet<_> = network.cut.iter().filter(|(from, _)| *from == own).map(|(_, to)| *to).collect();
    let gets: BTreeSet<_> = network.cut.iter().filter(|(_, to)| *to == own).map(|(from, _)| *from).collect();
    let both: Vec<_> = sends.intersection(&gets).copied().collect();
    let only = |of: &BTreeSet<NodeIx>| of.iter().filter(|ix| !both.contains(ix)).copied().collect::<Vec<_>>();
    let parts = [
        ("cut off from ", both.clone()),
        ("can't send to ", only(&sends)),
        ("hears nothing from ", only(&gets)),
    ];
    let said: Vec<_> = (parts.into_iter())
        .filter(|(_, of)| !of.is_empty())
        .map(|(what, of)| what.to_owned() + &names(nodes, of))
        .collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn links(nodes: &[Node], network: &Network, own: NodeIx, normal: &Link) -> Option<String> {
    let mut said: BTreeMap<String, Vec<NodeIx>> = BTreeMap::new();
    for ((from, to), link) in &network.links {
        // Told once, at the sender.
        if *from == own && link != normal {
            said.entry(link_words(link, normal)).or_default().push(*to);
        }
    }
    let said: Vec<_> =
        said.into_iter().map(|(words, to)| format!("{words} to {}", names(nodes, to))).collect();
    (!said.is_empty()).then(|| said.join("; "))
}

fn link_words(link: &Link, normal: &Link) -> String {
    let mut words = Vec::new();
    if (link.latency_us, link.jitter_us) != (normal.latency_us, normal.jitter_us) {
        words.push(format!("{} ms", link.latency_us as f64 / 1_000.0));
    }
    if link.loss_per_million > 0 {
        words.push(format!("{} % lost and sent again", percent(link.loss_per_million)));
    }
    if link.corrupt_per_million > 0 {
        words.push(format!("{} % of the frames garbled", percent(link.corrupt_per_million)));
    }
    if link.repeat_per_million > 0 {
        words.push(format!("{} % of the records said twice", percent(link.repeat_per_million)));
    }
    if words.is_empty() { format!("{link:?}") } else { words.join(", ") }
}

fn disk_faults(now: &DiskFaults, normal: &DiskFaults) -> Option<String> {
    if now == normal || *now == normal.without_errors() {
        return None;
    }
    let mut words = Vec::new();
    if now.slow_factor > normal.slow_factor {
        words.push(format!("{} times slower", now.slow_factor / normal.slow_factor.max(1)));
    }
    if now.capacity_bytes < normal.capacity_bytes {
        words.push("full".to_owned());
    }
    for (what, rate) in [
        ("reads", now.read_errors_per_million),
        ("writes", now.write_errors_per_million),
        ("syncs", now.sync_errors_per_million),
    ] {
        if rate > 0 {
            words.push(format!("{} % of {what} fail", percent(rate)));
        }
    }
    words.extend(now.errors_below.map(|directory| format!("in {directory}/ only")));
    for (what, is_stuck) in [
        ("syncs", now.stuck_syncs),
        ("syncs of directories", now.stuck_dir_syncs),
        ("lists", now.stuck_lists),
    ] {
        if is_stuck {
            words.push(format!("{what} hang"));
        }
    }
    Some(if words.is_empty() { format!("{now:?}") } else { words.join(", ") })
}

fn percent(per_million: u32) -> f64 {
    f64::from(per_million) / 10_000.0
}
