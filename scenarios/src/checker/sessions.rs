//! No session is given twice, whoever asks and however often the master was started (invariant 29): openings and leases are
//! bound to sessions, and what an earlier one was told must never be taken for the present one's.

use std::collections::BTreeSet;

use cairn_core::message::{Message, ToServer};

use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "sessions";

/// Follows every registration as it is granted.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let violations = violations.clone();
    let mut given = BTreeSet::new();
    cluster.world.observe_sends(move |_, _, _, to, message| {
        if let Message::ToServer(ToServer::Registered { session, .. }) = message
            && !given.insert(*session)
        {
            violations.add(NAME, format!("{session} is given to {to:?}, and was given before"));
        }
    });
}
