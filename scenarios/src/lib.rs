//! Stories, storms and checkers: what users do to Cairn, what goes wrong meanwhile, and what must hold.
//!
//! [`workload`] needs no simulator, so that storms over real processes share it. Everything else runs in the simulated
//! world of `runtime-sim`: a `plan::Plan` is drawn from a seed, `run::run` carries it out and checks it.

pub mod violation;
pub mod workload;

#[cfg(feature = "sim")]
pub mod checker;
#[cfg(feature = "sim")]
pub mod cluster;
#[cfg(feature = "sim")]
pub mod nemesis;
#[cfg(feature = "sim")]
pub mod plan;
#[cfg(feature = "sim")]
pub mod profile;
#[cfg(feature = "sim")]
pub mod run;
#[cfg(feature = "sim")]
pub mod shape;
#[cfg(feature = "sim")]
pub mod sweep;

#[cfg(all(feature = "sim", feature = "defects"))]
pub mod mutants;
