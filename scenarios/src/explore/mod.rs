//! Exhaustive exploration of small scopes: the production machines themselves, over every order of deliveries and disk
//! completions and every place of a bounded number of faults. Design and limits: `docs/design/exploration.md`.
//!
//! Where to look: `scope` lists what is explored; `start` builds the state that it begins from; `step` says what can happen,
//! `take` what that makes of a state, `describe` says it in words; `node` runs one machine with its disk, `prompt` with a disk
//! that keeps nobody waiting; `invariant` what must hold; `search` goes breadth first.

#![expect(
    clippy::disallowed_types,
    reason = "hashed by fingerprint and never iterated: millions of look-ups"
)]

mod describe;
mod disk;
mod fingerprint;
mod invariant;
mod node;
mod prompt;
mod queue;
mod scope;
mod search;
mod start;
mod state;
mod step;
mod take;
mod world;
mod writer;

pub use invariant::Broken;
pub use scope::{SCOPES, Scope};
pub use search::{Counterexample, Outcome, Progress, explore};
