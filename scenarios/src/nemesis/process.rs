//! Processes die and freeze, machines lose power, clocks drift.

use super::{Fault, Undo};
use crate::cluster::Cluster;

pub(super) fn strike(fault: &Fault, cluster: &Cluster) -> Undo {
    let node = cluster.resolve(fault.target());
    match fault {
        Fault::PowerCut { .. } => {
            cluster.note_power_cut(&node);
            cluster.world.power_cut(&node);
            Undo::Restart(node)
        }
        Fault::Pause { .. } => {
            cluster.world.pause(&node);
            Undo::Resume(node)
        }
        Fault::Drift { ppm, .. } => {
            cluster.world.set_clock_drift(&node, *ppm);
            Undo::Nothing
        }
        _ => {
            cluster.world.kill(&node);
            Undo::Restart(node)
        }
    }
}
