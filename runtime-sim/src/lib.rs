//! Cairn's machines in a simulated world: madsim's executor and virtual time, our own network, disks and clocks.
//!
//! [`run`] starts one world from one seed on a fresh thread and hands a story the [`World`]: it starts nodes, lets clients
//! work, and injects faults. The same seed is the same run, byte for byte of the trace. What is injected, and what must
//! hold all the same, is in `docs/faults.md`; the models state it in their headers ([`network`] and [`disk`]).
#![forbid(unsafe_code)]

#[cfg(not(madsim))]
compile_error!(
    "runtime-sim needs `--cfg madsim`. The workspace's .cargo/config.toml sets it, but a RUSTFLAGS variable, even an \
     empty one, and `cargo install --git` replace that: unset RUSTFLAGS and build inside the workspace."
);

mod client;
mod clock;
mod conditions;
pub mod disk;
mod environment;
mod event;
mod held;
pub mod network;
mod node;
mod options;
mod outcome;
mod parcel;
mod pump;
pub mod record;
mod run;
mod trace;
mod world;

pub use client::ClientHandle;
pub use clock::Clock;
pub use disk::{Damage, DamageKind};
pub use node::{Birth, NodeState};
pub use options::{DiskFaults, Link, Options, TraceMode};
pub use outcome::{Failure, FaultCounts, Outcome};
pub use run::run;
pub use world::{Again, Comeback, Crash, World};
