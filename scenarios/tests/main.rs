//! Stories and storms over simulated clusters. `SEEDS=500` widens the sweep, `SEED=7` replays one seed with its trace.

mod determinism;
mod directed;
mod explain;
mod explore;
mod plans;
mod regressions;
mod snapshots;
mod sweep;
