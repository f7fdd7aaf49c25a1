//! Stories, storms and checkers: what users do to Cairn, what goes wrong meanwhile, and what must hold.
//!
//! All of it runs in the simulated world of `runtime-sim`: a `plan::Plan` is drawn from a seed, `run::run` carries it out
//! and checks it. What needs no simulator is [`workload`], which storms over real processes share.

pub mod checker;
pub mod cluster;
pub mod explain;
pub mod explore;
pub mod nemesis;
pub mod plan;
pub mod profile;
pub mod run;
pub mod shape;
pub mod sweep;

#[cfg(feature = "defects")]
pub mod mutants;
#[cfg(feature = "defects")]
pub mod shrink;

pub use ::workload;
pub use ::workload::violation;
