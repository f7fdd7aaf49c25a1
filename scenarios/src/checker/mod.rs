//! What must hold. One file for each promise; `docs/invariants.md` numbers them.

pub mod ack_durability;
pub mod alarms;
pub mod beliefs;
pub mod bounds;
pub mod claims;
pub mod comeback;
pub mod commits;
pub mod convergence;
pub mod drops;
pub mod group_ends;
pub mod half_freed;
pub mod halts;
pub mod identical;
pub mod journals;
pub mod known_damage;
pub mod leaks;
pub mod linearizability;
pub mod log_agreement;
pub mod marked_log;
pub mod once;
pub mod one_primary;
pub mod placement;
pub mod primaries;
pub mod progress;
pub mod purges;
pub mod quarantine;
mod registered;
pub mod removed;
pub mod replication;
pub mod seal_basis;
pub mod sessions;
pub mod trash;
pub mod truth;
pub mod versions;
pub mod votes;

pub use crate::workload::checker::{durability, health, namespace, permissions};
