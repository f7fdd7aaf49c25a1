//! What must hold. One file for each promise; `docs/invariants.md` numbers them.

pub mod ack_durability;
pub mod claims;
pub mod commits;
pub mod convergence;
pub mod digest;
pub mod leaks;
pub mod replication;
pub mod versions;

pub use crate::workload::checker::{health, namespace};
