//! What users do to a cluster, and what must come of it. Needs no simulator: simulated clusters and real processes are
//! stormed with the same, and checked with the same.
//!
//! [`generate::steps`] draws what a user does, [`perform::perform`] does it through any [`perform::Caller`],
//! [`model::Model`] judges each outcome, and the [`checker`]s look at what is left. What users do at the same time to
//! [`shared`] names is judged by [`linearizability`].

pub mod checker;
pub mod content;
pub mod generate;
pub mod invariant;
pub mod linearizability;
pub mod model;
pub mod operation;
pub mod perform;
pub mod shared;
pub mod tree;
pub mod violation;
