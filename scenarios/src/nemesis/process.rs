//! Processes die and freeze, machines lose power, clocks drift.

use cairn_core::time::Span;

use super::{Fault, Undo};
use crate::cluster::Cluster;

pub(super) fn strike(fault: &Fault, cluster: &Cluster) -> Undo {
    if let Fault::Outage { rack, power } = fault {
        return outage(cluster, rack.as_deref(), *power);
    }
    if let Fault::AddServer { rack } = fault {
        cluster.add_server(rack);
        return Undo::Nothing;
    }
    let node = cluster.resolve(fault.target());
    match fault {
        Fault::CrashPoint { operation, power, naming, .. } => {
            if *power {
                cluster.note_power_cut(&node);
            }
            cluster.world.crash_at_operation(&node, *operation, *naming, *power);
            Undo::Restart(vec![node])
        }
        Fault::PowerCut { .. } => {
            cluster.note_power_cut(&node);
            cluster.world.power_cut(&node);
            Undo::Restart(vec![node])
        }
        Fault::Pause { .. } => {
            cluster.world.pause(&node);
            Undo::Resume(node)
        }
        Fault::Jump { ahead_ms, .. } => {
            cluster.note_jump(&node);
            cluster.world.jump_clock(&node, Span::from_ms(*ahead_ms));
            Undo::Nothing
        }
        Fault::SlowNode { each_us, .. } => {
            cluster.world.set_slowness(&node, Span(each_us * 1_000));
            Undo::Quicken(node)
        }
        Fault::Drift { ppm, .. } => {
            cluster.world.set_clock_drift(&node, *ppm);
            Undo::Nothing
        }
        _ => {
            cluster.world.kill(&node);
            Undo::Restart(vec![node])
        }
    }
}

fn outage(cluster: &Cluster, rack: Option<&str>, power: bool) -> Undo {
    let nodes = match rack {
        Some(rack) => cluster.servers_of_rack(rack),
        None => cluster.node_names(),
    };
    for node in &nodes {
        if power {
            cluster.note_power_cut(node);
            cluster.world.power_cut(node);
        } else {
            cluster.world.kill(node);
        }
    }
    Undo::Restart(nodes)
}
