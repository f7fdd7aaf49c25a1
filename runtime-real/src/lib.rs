//! Cairn's machines as real daemons, and the client library, on tokio.
//!
//! - [`client`]: read and write a cluster from Rust: [`client::Cluster`].
//! - [`daemon`]: run a master or a chunkserver inside this process.
//! - [`config`]: their settings, from YAML.
//!
//! The machines themselves are pure and live in `cairn_core`; everything here only carries out what they ask.

pub mod client;
pub mod config;
pub mod daemon;
pub mod log;

mod buffer;
mod connection;
mod control;
mod data_plane;
mod directory;
mod disk;
mod entropy;
mod environment;
mod grpc;
mod http;
mod mailbox;
mod repeats;

pub use cairn_core as core;
