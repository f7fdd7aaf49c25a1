//! The commands of the master's operation log: every change of the catalog, with its byte format.
//!
//! A command is one log record: the op code names the [`Change`], the payload is the bincode of origin, time and the
//! change's fields in order. Op codes and field orders are frozen by golden tests; a new shape gets a new op code.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::id::{
    ChunkId, ChunkVersion, ClientId, ClusterId, Durability, RequestId, ServerId, TrashId, UploadId, VolumeId,
};
use crate::log::MAX_RECORD;
use crate::message::{DropReason, Identity, Member, StorageOptions};
use crate::time::UnixMs;

/// The most entries of one [`Change::DropReplicas`]: keeps the record far below the log's limit.
pub const MAX_DROPS: usize = 10_000;

/// One entry of the operation log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Whose request it is; its outcome is remembered, so that a retry gets the same answer.
    pub origin: Option<(ClientId, RequestId)>,
    /// The wall clock of the master that proposed it.
    pub at: UnixMs,
    /// What is to change.
    pub change: Change,
}

/// Why a log record is not a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Written by a newer release.
    #[error("log record has op code {0}, which this release does not know")]
    UnknownOp(u8),
    /// The payload does not fit the op code.
    #[error("log record with op code {op} can't be read: {error}")]
    Malformed {
        /// The op code.
        op: u8,
        /// What is wrong with the payload.
        error: DecodeError,
    },
}

/// A replica that the master orders to be dropped, as logged before the order (PROTOCOL rule 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaDrop {
    /// The chunk.
    pub chunk: ChunkId,
    /// The highest version that may be dropped.
    pub version: ChunkVersion,
    /// Whose replica.
    pub server: ServerId,
    /// The volume that holds it.
    pub volume: VolumeId,
    /// Why.
    pub reason: DropReason,
}

macro_rules! changes {
    ($($(#[$doc:meta])* $op:literal = $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        /// A change of the catalog, with all that its outcome depends on besides the catalog itself.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Change {
            $($(#[$doc])* $name { $($(#[$field_doc])* $field: $type,)* },)*
        }

        impl Command {
            /// Every op code in use.
            pub const OPS: &'static [u8] = &[$($op),*];

            /// The log record: op code and payload.
            pub fn encode(&self) -> (u8, Vec<u8>) {
                match &self.change {
                    $(Change::$name { $($field),* } => {
                        ($op, codec::encode(&(&self.origin, self.at, ($($field,)*))))
                    })*
                }
            }

            /// Reads a log record.
            pub fn decode(op: u8, payload: &[u8]) -> Result<Command, CommandError> {
                match op {
                    $($op => {
                        type Fields = (Option<(ClientId, RequestId)>, UnixMs, ($($type,)*));
                        let (origin, at, ($($field,)*)) = codec::decode::<Fields, MAX_RECORD>(payload)
                            .map_err(|error| CommandError::Malformed { op, error })?;
                        Ok(Command { origin, at, change: Change::$name { $($field),* } })
                    })*
                    _ => Err(CommandError::UnknownOp(op)),
                }
            }
        }
    };
}

changes! {
    /// The first record of a new log.
    1 = Format {
        /// The new cluster.
        cluster: ClusterId,
    }
    /// A master starts: begins a new epoch, under which it numbers its sessions.
    2 = Start {}
    /// See [`crate::message::MasterRequest::Mkdir`].
    3 = Mkdir {
        /// As whom.
        identity: Identity,
        /// The directory.
        path: String,
        /// Also make missing parents, and succeed if it exists.
        parents: bool,
        /// Permission bits.
        mode: u16,
    }
    /// See [`crate::message::MasterRequest::Chmod`].
    4 = Chmod {
        /// As whom.
        identity: Identity,
        /// The path.
        path: String,
        /// The new bits.
        mode: u16,
    }
    /// See [`crate::message::MasterRequest::Chown`].
    5 = Chown {
        /// As whom.
        identity: Identity,
        /// The path.
        path: String,
        /// New owner.
        owner: Option<String>,
        /// New group.
        group: Option<String>,
    }
    /// See [`crate::message::MasterRequest::Rename`].
    6 = Rename {
        /// As whom.
        identity: Identity,
        /// From this path,
        from: String,
        /// to this one.
        to: String,
        /// Replace an existing file, which goes to the trash.
        replace: bool,
        /// How long the replaced file can be restored.
        undelete_ms: u64,
    }
    /// See [`crate::message::MasterRequest::Delete`].
    7 = Delete {
        /// As whom.
        identity: Identity,
        /// The path.
        path: String,
        /// Also directories that are not empty.
        recursive: bool,
        /// How long it can be restored.
        undelete_ms: u64,
    }
    /// See [`crate::message::MasterRequest::Restore`].
    8 = Restore {
        /// As whom.
        identity: Identity,
        /// Which entry; `None`: the latest that was deleted from `path`.
        entry: Option<TrashId>,
        /// The original path, when `entry` is `None`.
        path: String,
        /// Where to; `None`: where it was.
        to: Option<String>,
    }
    /// See [`crate::message::MasterRequest::BeginUpload`].
    9 = BeginUpload {
        /// As whom.
        identity: Identity,
        /// The file to be.
        path: String,
        /// Replace an existing file at completion.
        replace: bool,
        /// Permission bits.
        mode: u16,
        /// How it is stored, the defaults filled in.
        options: StorageOptions,
    }
    /// Allots the upload's next chunk, open at version 1 (PROTOCOL rule 1). Naming an ordinal that has its chunk
    /// already changes nothing and answers with that chunk (rule 17).
    10 = GrantChunk {
        /// The upload.
        upload: UploadId,
        /// The chunk's place in the file.
        ordinal: u32,
        /// Its replicas in pipeline order.
        members: Vec<Member>,
        /// Replicas wanted (N).
        replication: u8,
        /// Replicas that must be READY before a commit (W).
        quorum: u8,
        /// What READY promises.
        durability: Durability,
        /// Its capacity in bytes.
        capacity: u64,
    }
    /// Settles a chunk's length, on the condition that it is open at exactly `version` (PROTOCOL rule 8).
    11 = SealChunk {
        /// The chunk.
        chunk: ChunkId,
        /// The version under which it is open.
        version: ChunkVersion,
        /// Its length in bytes.
        length: u64,
        /// CRC32 of its content.
        crc: u32,
    }
    /// See [`crate::message::MasterRequest::CompleteUpload`].
    12 = CompleteUpload {
        /// As whom.
        identity: Identity,
        /// The upload.
        upload: UploadId,
        /// The file's length in bytes.
        length: u64,
        /// How long a replaced file can be restored.
        undelete_ms: u64,
    }
    /// See [`crate::message::MasterRequest::AbortUpload`].
    13 = AbortUpload {
        /// As whom.
        identity: Identity,
        /// The upload.
        upload: UploadId,
    }
    /// Gives up an upload whose client fell silent; its chunks are doomed (PROTOCOL rule 19).
    14 = ExpireUpload {
        /// The upload.
        upload: UploadId,
    }
    /// One step of freeing an expired entry of the trash; repeated until the entry is gone.
    15 = ReclaimTrash {
        /// The entry.
        entry: TrashId,
        /// Files, directories and extents to free at most.
        budget: u32,
    }
    /// Tells why replicas are about to be dropped; the catalog itself does not change (PROTOCOL rule 14).
    16 = DropReplicas {
        /// At most [`MAX_DROPS`].
        drops: Vec<ReplicaDrop>,
    }
}
