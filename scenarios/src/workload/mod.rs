//! What users do to a cluster, and what must come of it. Needs no simulator: real processes are stormed with the same.

pub mod content;
pub mod generate;
pub mod model;
pub mod operation;
pub mod perform;
pub mod tree;
