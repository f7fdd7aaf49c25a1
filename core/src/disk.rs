//! Disk operations as values. A runtime carries them out; the simulator's disk tears, loses and flips them.
//!
//! Semantics that both disks keep: a completed write is visible to every later read of the same process; it is durable
//! only once a [`DiskRequest::Sync`] *issued after its completion* succeeded. Creation, rename and removal of a name are
//! durable only after [`DiskRequest::SyncDir`] of the parent. Operations under way at once may be carried out in any order.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bytes::Bytes;
use core::fmt;
use serde::{Deserialize, Serialize};

use crate::payload::Payload;

/// A file or directory below one of the node's data directories.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DiskPath {
    /// Which data directory, in the order of the configuration. The master has one, number 0.
    pub volume: u16,
    /// Relative to it, `/`-separated, without `.` or `..`; empty for the directory itself.
    pub name: Arc<str>,
}

impl DiskPath {
    /// The path `name` on `volume`.
    pub fn new(volume: u16, name: &str) -> DiskPath {
        DiskPath { volume, name: Arc::from(name) }
    }
}

impl fmt::Display for DiskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.volume, self.name)
    }
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DiskRequest {
    /// Makes a directory and its missing parents; succeeds if it is there. → [`DiskOk::Done`]
    MakeDir(DiskPath),
    /// Lists a directory's entries, in no particular order. → [`DiskOk::Entries`]
    List(DiskPath),
    /// Reads up to `length` bytes at `offset`, fewer at the end of the file. → [`DiskOk::Data`], whose payload has CRCs
    /// computed by the runtime for each 64 KiB block.
    Read {
        /// The file.
        path: DiskPath,
        /// First byte.
        offset: u64,
        /// How many at the most; bounded by [`crate::payload::MAX_PAYLOAD`].
        length: u32,
    },
    /// Writes at `offset`; a gap before it reads as zeros. → [`DiskOk::Done`]; all bytes are written, or an error.
    Write {
        /// The file.
        path: DiskPath,
        /// Where the first byte goes.
        offset: u64,
        /// The bytes, written one buffer after the other.
        data: Vec<Bytes>,
        /// Create the file if missing; without it a missing file is [`DiskError::NotFound`].
        create: bool,
    },
    /// fdatasync. → [`DiskOk::Done`]
    Sync(DiskPath),
    /// Cuts or extends to `length`. → [`DiskOk::Done`]
    Truncate {
        /// The file.
        path: DiskPath,
        /// The new length in bytes.
        length: u64,
    },
    /// Renames within one volume, replacing the target atomically. → [`DiskOk::Done`]
    Rename {
        /// From this name,
        from: DiskPath,
        /// to this one.
        to: DiskPath,
    },
    /// Removes a file. → [`DiskOk::Done`]; a missing file is [`DiskError::NotFound`].
    Remove(DiskPath),
    /// Makes names created, renamed or removed in this directory durable. → [`DiskOk::Done`]
    SyncDir(DiskPath),
    /// Capacity of the volume's file system. → [`DiskOk::Space`]
    Space {
        /// Which data directory.
        volume: u16,
    },
}

impl DiskRequest {
    /// The file or directory that it is about; of a rename, the new name.
    pub fn path(&self) -> Option<&DiskPath> {
        match self {
            DiskRequest::MakeDir(path)
            | DiskRequest::List(path)
            | DiskRequest::Sync(path)
            | DiskRequest::Remove(path)
            | DiskRequest::SyncDir(path)
            | DiskRequest::Read { path, .. }
            | DiskRequest::Write { path, .. }
            | DiskRequest::Truncate { path, .. }
            | DiskRequest::Rename { to: path, .. } => Some(path),
            DiskRequest::Space { .. } => None,
        }
    }
}

/// A directory's entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// Its name within the directory.
    pub name: String,
    /// Length in bytes; 0 for a directory.
    pub length: u64,
    /// Whether it is a directory.
    pub directory: bool,
}

/// What an operation yields.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DiskOk {
    /// Nothing but success.
    Done,
    /// A directory's entries.
    Entries(Vec<Entry>),
    /// Bytes read.
    Data(Payload),
    /// Bytes of the file system.
    Space {
        /// In all.
        total: u64,
        /// Free to an ordinary user.
        free: u64,
    },
}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum DiskError {
    /// No such file.
    #[error("no such file")]
    NotFound,
    /// The file system is full.
    #[error("no space left on device")]
    NoSpace,
    /// The file system is mounted read-only, or permission is missing.
    #[error("not writable: {0}")]
    ReadOnly(String),
    /// Anything else, in the operating system's words.
    #[error("I/O error: {0}")]
    Io(String),
}

/// An operation's end.
pub type DiskResult = Result<DiskOk, DiskError>;
