//! Messages come late or again: connections stall, senders give them up, writers and callers repeat themselves.

use cairn_core::time::Span;

use super::{Fault, Undo, network};
use crate::cluster::{Cluster, MASTER};

pub(super) fn strike(fault: &Fault, cluster: &Cluster) -> Undo {
    let world = &cluster.world;
    match fault {
        Fault::Stall { target, other } => {
            let (from, to) = (cluster.resolve(target), cluster.resolve(other));
            world.stall(&from, &to);
            Undo::EndStall(from, to)
        }
        Fault::Zombie { target, other, after_ms } => {
            let (from, to) = (cluster.resolve(target), cluster.resolve(other));
            world.stall(&from, &to);
            let (later, after, pair) = (world.clone(), Span::from_ms(*after_ms), (from.clone(), to.clone()));
            world.spawn(async move {
                later.sleep(after).await;
                later.abandon_connections(&pair.0, &pair.1);
            });
            Undo::EndStall(from, to)
        }
        Fault::Replay { target, back, records, linger_ms } => {
            let node = cluster.resolve(target);
            let chunk = cluster.cued_chunk().filter(|_| *target == super::Target::Cued);
            // Nothing was said to it yet: nothing can come again.
            let _ = world.replay_writer(&node, chunk, *back, *records, Span::from_ms(*linger_ms));
            Undo::Nothing
        }
        Fault::RepeatCall { back, count } => {
            let _ = world.repeat_requests(MASTER, *back, *count);
            Undo::Nothing
        }
        Fault::Repeats { target, per_million } => {
            let node = cluster.resolve(target);
            let link = runtime_sim::Link { repeat_per_million: *per_million, ..cluster.link };
            network::set_links(cluster, &node, link);
            Undo::Links(node)
        }
        _ => Undo::Nothing,
    }
}
