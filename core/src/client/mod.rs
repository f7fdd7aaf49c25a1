//! The client: chunking, pipelined writing, parallel verified reading, retries. The simulator runs the one that users run.

mod action;
mod buffer;
mod cache;
mod machine;
mod reader;
mod requests;
mod retry;
mod sources;
mod stream;
#[cfg(test)]
mod tests;
mod timers;
mod writer;

pub use machine::Client;

use alloc::string::String;
use alloc::vec::Vec;
use bytes::Bytes;
use core::future::Future;
use serde::{Deserialize, Serialize};

use crate::config::ClientConfig;
use crate::defect::Defects;
use crate::error::ClientError;
use crate::id::{Address, HandleId, UploadId};
use crate::message::{FileStatus, Identity, MasterReply, MasterRequest, StorageOptions};

/// What a client is built from.
#[derive(Clone, Debug)]
pub struct ClientSetup {
    /// Settings.
    pub config: ClientConfig,
    /// For everything random: client and writer ids, jitter, choice of replicas.
    pub seed: u64,
    /// As whom.
    pub identity: Identity,
    /// The masters.
    pub masters: Vec<Address>,
    /// Planted defects.
    pub defects: Defects,
}

/// What a program asks of its client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClientRequest {
    /// A request to the master, repeated until it is answered or the deadline passes. → [`ClientResponse::Master`]
    Master(MasterRequest),
    /// Starts writing a new file, which appears at [`ClientRequest::Close`]. → [`ClientResponse::Created`]
    Create {
        /// The file.
        path: String,
        /// Replace an existing one at close.
        replace: bool,
        /// Permission bits.
        mode: u16,
        /// How it is stored; zeros take the client's, then the master's settings. The durability is as given.
        options: StorageOptions,
    },
    /// Appends to a created file; answered as soon as the window has room, in order. → [`ClientResponse::Done`]
    Write {
        /// From `Created`.
        handle: HandleId,
        /// Any number of bytes up to the window.
        data: Bytes,
    },
    /// Waits until everything is committed and sealed, and makes the file visible. → [`ClientResponse::Status`]
    Close {
        /// From `Created`.
        handle: HandleId,
    },
    /// Gives an unfinished file up. → [`ClientResponse::Done`]
    Abort {
        /// From `Created`.
        handle: HandleId,
    },
    /// Opens a file for reading. → [`ClientResponse::Opened`]
    Open {
        /// The file.
        path: String,
    },
    /// Reads a range, in parallel across chunks and replicas, each byte verified. → [`ClientResponse::Data`]
    Read {
        /// From `Opened`.
        handle: HandleId,
        /// First byte.
        offset: u64,
        /// Bytes wanted; fewer come at the file's end.
        length: u32,
    },
    /// Closes a file opened for reading. → [`ClientResponse::Done`]
    Release {
        /// From `Opened`.
        handle: HandleId,
    },
}

/// What a client answers: one response for each request.
pub type ClientResult = Result<ClientResponse, ClientError>;

/// A success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ClientResponse {
    /// Done.
    Done,
    /// The master's answer.
    Master(MasterReply),
    /// A file is being written.
    Created {
        /// For `Write`, `Close` and `Abort`.
        handle: HandleId,
        /// The chunk size in bytes.
        chunk_bytes: u64,
        /// What the master calls it until it is complete.
        upload: UploadId,
    },
    /// The finished file.
    Status(FileStatus),
    /// A file is open for reading; its contents are those of this moment, for as long as they are kept.
    Opened {
        /// For `Read` and `Release`.
        handle: HandleId,
        /// The file's length in bytes.
        length: u64,
    },
    /// Bytes, in order.
    Data(Vec<Bytes>),
}

/// Whatever answers client calls: a simulated client, or one on a real network.
pub trait Caller {
    /// Makes one call.
    fn call(&self, request: ClientRequest) -> impl Future<Output = ClientResult>;
}
