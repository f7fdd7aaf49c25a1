//! One thing that a user does, and what came of it.

use cairn_core::error::{ClientError, MasterError};
use cairn_core::id::Durability;
use serde::{Deserialize, Serialize};

use crate::content::Content;

/// How a file is to be stored; zeros take the cluster's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Replicas (N).
    pub replication: u8,
    /// Replicas that must hold a byte before it is acknowledged (W).
    pub quorum: u8,
    /// Chunk size in bytes.
    pub chunk_bytes: u64,
    /// Whether an acknowledged file may hang on the page caches of W machines instead of their disks.
    pub relaxed: bool,
}

impl Storage {
    /// The same in the protocol's words.
    pub fn options(self) -> cairn_core::message::StorageOptions {
        cairn_core::message::StorageOptions {
            replication: self.replication,
            quorum: self.quorum,
            chunk_bytes: self.chunk_bytes,
            durability: if self.relaxed { Durability::Async } else { Durability::Sync },
        }
    }
}

/// One thing that a user does. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Operation {
    /// Writes a whole file; done when it is acknowledged and visible.
    Put {
        /// Where.
        path: String,
        /// What.
        content: Content,
        /// Replace a file that is there.
        replace: bool,
        /// Bytes of one write call.
        piece: u32,
        /// How.
        storage: Storage,
    },
    /// Writes the first half of a file, then aborts or just walks away: the file must never appear.
    Abandon {
        /// Where it would have been.
        path: String,
        /// What it would have been.
        content: Content,
        /// Bytes of one write call.
        piece: u32,
        /// How.
        storage: Storage,
        /// Abort properly; else leave it to the expiry.
        politely: bool,
    },
    /// Reads a whole file.
    Get {
        /// Which.
        path: String,
    },
    /// Reads a whole file of another user, who may be changing it.
    Peek {
        /// Which.
        path: String,
    },
    /// Reads a range.
    GetRange {
        /// Which.
        path: String,
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// Asks for attributes.
    Stat {
        /// Of what.
        path: String,
    },
    /// Lists a directory.
    List {
        /// Which.
        path: String,
    },
    /// Makes a directory.
    Mkdir {
        /// Where.
        path: String,
        /// With parents, and fine if it exists.
        parents: bool,
    },
    /// Renames a file or tree.
    Rename {
        /// From here
        from: String,
        /// to there.
        to: String,
        /// Replace a file that is there.
        replace: bool,
    },
    /// Deletes a file or tree, into the trash.
    Delete {
        /// Which.
        path: String,
        /// Also a directory with entries.
        recursive: bool,
    },
    /// Brings the last thing deleted from `path` back to where it was.
    Restore {
        /// Which.
        path: String,
    },
}

impl Operation {
    /// The paths that it names.
    pub fn paths(&self) -> Vec<&str> {
        match self {
            Operation::Rename { from, to, .. } => vec![from, to],
            Operation::Put { path, .. }
            | Operation::Abandon { path, .. }
            | Operation::Get { path }
            | Operation::Peek { path }
            | Operation::GetRange { path, .. }
            | Operation::Stat { path }
            | Operation::List { path }
            | Operation::Mkdir { path, .. }
            | Operation::Delete { path, .. }
            | Operation::Restore { path } => vec![path],
        }
    }

    /// The paths that it names, to be changed.
    pub fn paths_mut(&mut self) -> Vec<&mut String> {
        match self {
            Operation::Rename { from, to, .. } => vec![from, to],
            Operation::Put { path, .. }
            | Operation::Abandon { path, .. }
            | Operation::Get { path }
            | Operation::Peek { path }
            | Operation::GetRange { path, .. }
            | Operation::Stat { path }
            | Operation::List { path }
            | Operation::Mkdir { path, .. }
            | Operation::Delete { path, .. }
            | Operation::Restore { path } => vec![path],
        }
    }

    /// In few words: what, where, with which content.
    pub fn brief(&self) -> String {
        match self {
            Operation::Put { path, content, replace, .. } => {
                format!("Put {path} {}{}", content.brief(), if *replace { ", replacing" } else { "" })
            }
            Operation::Abandon { path, content, .. } => format!("Abandon {path} {}", content.brief()),
            Operation::Get { path } => format!("Get {path}"),
            Operation::Peek { path } => format!("Peek {path}"),
            Operation::GetRange { path, offset, length } => format!("GetRange {path} {offset}+{length}"),
            Operation::Stat { path } => format!("Stat {path}"),
            Operation::List { path } => format!("List {path}"),
            Operation::Mkdir { path, parents } => {
                format!("Mkdir {path}{}", if *parents { ", with parents" } else { "" })
            }
            Operation::Rename { from, to, replace } => {
                format!("Rename {from} to {to}{}", if *replace { ", replacing" } else { "" })
            }
            Operation::Delete { path, recursive } => {
                format!("Delete {path}{}", if *recursive { ", with all in it" } else { "" })
            }
            Operation::Restore { path } => format!("Restore {path}"),
        }
    }

    /// Whether it changes the namespace.
    pub fn is_change(&self) -> bool {
        matches!(
            self,
            Operation::Put { .. }
                | Operation::Mkdir { .. }
                | Operation::Rename { .. }
                | Operation::Delete { .. }
                | Operation::Restore { .. }
        )
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Acknowledged.
    Done,
    /// A file was put; the cluster says that it has this length and checksum.
    Stored {
        /// Bytes.
        length: u64,
        /// CRC32 of the contents.
        crc: u32,
    },
    /// A whole file was read, and is what its beginning announces.
    Read {
        /// Bytes.
        length: u64,
        /// What it is; `None` of files too short to say so.
        content: Option<Content>,
        /// CRC32 of all bytes read.
        crc: u32,
    },
    /// A range was read.
    Range {
        /// The file's length when it was opened.
        length: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Attributes.
    Attributes {
        /// Whether it is a directory.
        directory: bool,
        /// Bytes of a file, entries of a directory.
        length: u64,
        /// CRC32 of a file.
        crc: u32,
    },
    /// A whole directory: `(name, is a directory, length)`.
    Names(Vec<(String, bool, u64)>),
    /// Definitely not done, for this reason.
    Refused(MasterError),
    /// May have been done, may be done yet, or never.
    Unknown(ClientError),
    /// Something that changes nothing did not work.
    Failed(ClientError),
    /// A promise was broken before any model was asked: bytes that nobody wrote, answers of the wrong kind.
    Broken(String),
}

impl Outcome {
    /// In few words.
    pub fn brief(&self) -> String {
        match self {
            Outcome::Done => "done".to_owned(),
            Outcome::Stored { length, crc } => format!("stored {length} bytes, crc {crc:08x}"),
            Outcome::Read { content: Some(content), .. } => format!("read {}", content.brief()),
            Outcome::Read { length, crc, .. } => format!("read {length} bytes, crc {crc:08x}"),
            Outcome::Range { length, bytes } => format!("{} bytes of a file of {length}", bytes.len()),
            Outcome::Attributes { directory: true, length, .. } => format!("a directory of {length}"),
            Outcome::Attributes { length, crc, .. } => format!("a file of {length} bytes, crc {crc:08x}"),
            Outcome::Names(names) => {
                let names: Vec<String> = names
                    .iter()
                    .map(
                        |(name, directory, length)| {
                            if *directory { format!("{name}/") } else { format!("{name}({length})") }
                        },
                    )
                    .collect();
                format!("[{}]", names.join(" "))
            }
            Outcome::Refused(error) => format!("refused: {error}"),
            Outcome::Unknown(error) => format!("fate unknown: {error}"),
            Outcome::Failed(error) => format!("failed: {error}"),
            Outcome::Broken(what) => format!("broken: {what}"),
        }
    }
}

/// Whether an error says that the change was definitely not made.
pub fn is_definite(error: &MasterError) -> bool {
    matches!(
        error,
        MasterError::NotFound(_)
            | MasterError::AlreadyExists(_)
            | MasterError::NotADirectory(_)
            | MasterError::IsADirectory(_)
            | MasterError::NotEmpty(_)
            | MasterError::PermissionDenied { .. }
            | MasterError::InvalidPath { .. }
            | MasterError::InvalidArgument(_)
    )
}
