//! Cairn's master, chunkserver and client as pure, deterministic state machines.
//!
//! Nothing here opens a file, reads a clock, starts a thread or draws a random number of its own: time is an argument,
//! randomness a seed, I/O a value returned. The crate has no `std`, so the compiler proves it. Start with [`machine`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod chunkserver;
pub mod client;
pub mod codec;
pub mod config;
pub mod defect;
pub mod disk;
pub mod driver;
pub mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod id;
pub mod limits;
pub mod log;
pub mod machine;
pub mod mark;
pub mod master;
pub mod message;
pub mod payload;
pub mod rng;
pub mod stats;
pub mod time;
pub mod trace;
pub mod wire;
