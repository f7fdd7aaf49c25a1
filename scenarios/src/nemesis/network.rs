//! The network splits, resets, slows and garbles.

use runtime_sim::Link;

use super::{Fault, Undo};
use crate::cluster::Cluster;

pub(super) fn strike(fault: &Fault, cluster: &Cluster) -> Undo {
    let world = &cluster.world;
    match fault {
        Fault::Split { mask, one_way } => {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            for (i, node) in cluster.node_names().into_iter().enumerate() {
                if mask >> (i % 64) & 1 == 1 { a.push(node) } else { b.push(node) }
            }
            if *one_way {
                world.partition_one_way(&a, &b);
            } else {
                world.partition(&a, &b);
            }
            Undo::Heal(a, b)
        }
        Fault::Isolate { target } => {
            let node = vec![cluster.resolve(target)];
            let others: Vec<String> = cluster.node_names().into_iter().filter(|n| *n != node[0]).collect();
            world.partition(&node, &others);
            Undo::Heal(node, others)
        }
        Fault::Cut { target, other, one_way } => {
            let (a, b) = (vec![cluster.resolve(target)], vec![cluster.resolve(other)]);
            if *one_way {
                world.partition_one_way(&a, &b);
            } else {
                world.partition(&a, &b);
            }
            Undo::Heal(a, b)
        }
        Fault::Reset { target, other } => {
            let (a, b) = (cluster.resolve(target), cluster.resolve(other));
            if a != b {
                world.reset_connections(&a, &b);
            }
            Undo::Nothing
        }
        Fault::BadLink { target, latency_us, loss_per_million } => {
            let node = cluster.resolve(target);
            let link = Link { latency_us: *latency_us, loss_per_million: *loss_per_million, ..cluster.link };
            set_links(cluster, &node, link);
            Undo::Links(node)
        }
        Fault::Garble { target, per_million } => {
            let node = cluster.resolve(target);
            set_links(cluster, &node, Link { corrupt_per_million: *per_million, ..cluster.link });
            Undo::Links(node)
        }
        _ => Undo::Nothing,
    }
}

pub(super) fn restore_links(cluster: &Cluster, node: &str) {
    set_links(cluster, node, cluster.link);
}

pub(super) fn set_links(cluster: &Cluster, node: &str, link: Link) {
    for other in cluster.node_names() {
        if other != node {
            cluster.world.set_link(node, &other, link);
            cluster.world.set_link(&other, node, link);
        }
    }
}
