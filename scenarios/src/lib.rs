//! Stories, storms and checkers: what users do to Cairn, what goes wrong meanwhile, and what must hold.

pub mod workload;
