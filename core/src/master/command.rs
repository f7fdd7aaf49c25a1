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
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
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

/// A replica that the master orders to be dropped, as logged before the order (chunk protocol, rule 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
        #[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
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
    /// Allots the upload's next chunk, open at version 1 (chunk protocol, rule 1). Naming an ordinal that has its chunk
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
    /// Settles a chunk's length, on the condition that it is open at exactly `version` (chunk protocol, rule 8).
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
    /// Gives up an upload whose client fell silent; its chunks are doomed (chunk protocol, rule 19).
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
    /// Tells why replicas are about to be dropped; the catalog itself does not change (chunk protocol, rule 14).
    16 = DropReplicas {
        /// At most [`MAX_DROPS`].
        drops: Vec<ReplicaDrop>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{BootId, ProcessId, SessionId};
    use alloc::format;
    use alloc::vec;
    use proptest::prelude::*;

    /// One command of each op, in order of op codes, each field with a value of its own.
    fn examples() -> Vec<Change> {
        let identity = Identity { user: "u".into(), groups: vec!["g".into()] };
        let undelete_ms = 0x1122;
        let member = Member {
            server: ServerId(1),
            session: SessionId(2),
            volume: VolumeId(3),
            boot: BootId(4),
            process: ProcessId(5),
        };
        let durability = Durability::Async;
        let options = StorageOptions { replication: 3, quorum: 2, chunk_bytes: 4096, durability };
        let drop = ReplicaDrop {
            chunk: ChunkId(1),
            version: ChunkVersion(2),
            server: ServerId(3),
            volume: VolumeId(4),
            reason: DropReason::Excess,
        };
        vec![
            Change::Format { cluster: ClusterId(7) },
            Change::Start {},
            Change::Mkdir { identity: identity.clone(), path: "/d".into(), parents: true, mode: 0o755 },
            Change::Chmod { identity: identity.clone(), path: "/d".into(), mode: 0o755 },
            Change::Chown {
                identity: identity.clone(),
                path: "/d".into(),
                owner: Some("o".into()),
                group: None,
            },
            Change::Rename {
                identity: identity.clone(),
                from: "/a".into(),
                to: "/b".into(),
                replace: true,
                undelete_ms,
            },
            Change::Delete { identity: identity.clone(), path: "/d".into(), recursive: true, undelete_ms },
            Change::Restore {
                identity: identity.clone(),
                entry: Some(TrashId(9)),
                path: "".into(),
                to: None,
            },
            Change::BeginUpload {
                identity: identity.clone(),
                path: "/f".into(),
                replace: false,
                mode: 0o644,
                options,
            },
            Change::GrantChunk {
                upload: UploadId(6),
                ordinal: 7,
                members: vec![member],
                replication: 3,
                quorum: 2,
                durability,
                capacity: 4096,
            },
            Change::SealChunk { chunk: ChunkId(1), version: ChunkVersion(2), length: 3, crc: 4 },
            Change::CompleteUpload {
                identity: identity.clone(),
                upload: UploadId(6),
                length: 5,
                undelete_ms,
            },
            Change::AbortUpload { identity, upload: UploadId(6) },
            Change::ExpireUpload { upload: UploadId(6) },
            Change::ReclaimTrash { entry: TrashId(9), budget: 8 },
            Change::DropReplicas { drops: vec![drop] },
        ]
    }

    #[test]
    fn every_record_is_the_documented_bytes() {
        let mut lines = String::new();
        for (change, op) in examples().into_iter().zip(Command::OPS) {
            let with_origin = *op == 3;
            let origin = with_origin.then_some((ClientId(0xaa), RequestId(0xbb)));
            let command = Command { origin, at: UnixMs(0xcc), change };
            let (written, payload) = command.encode();
            assert_eq!(written, *op);
            assert_eq!(Command::decode(written, &payload).as_ref(), Ok(&command));
            let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
            lines += &format!("{op} {hex}\n");
        }
        insta::assert_snapshot!(lines, @r"
        1 00cc000000000000000700000000000000
        2 00cc00000000000000
        3 01aa00000000000000bb00000000000000cc00000000000000010000000000000075010000000000000001000000000000006702000000000000002f6401ed01
        4 00cc00000000000000010000000000000075010000000000000001000000000000006702000000000000002f64ed01
        5 00cc00000000000000010000000000000075010000000000000001000000000000006702000000000000002f640101000000000000006f00
        6 00cc00000000000000010000000000000075010000000000000001000000000000006702000000000000002f6102000000000000002f62012211000000000000
        7 00cc00000000000000010000000000000075010000000000000001000000000000006702000000000000002f64012211000000000000
        8 00cc000000000000000100000000000000750100000000000000010000000000000067010900000000000000000000000000000000
        9 00cc00000000000000010000000000000075010000000000000001000000000000006702000000000000002f6600a4010302001000000000000001000000
        10 00cc000000000000000600000000000000070000000100000000000000010000000000000002000000000000000300000000000000040000000000000005000000000000000302010000000010000000000000
        11 00cc00000000000000010000000000000002000000030000000000000004000000
        12 00cc000000000000000100000000000000750100000000000000010000000000000067060000000000000005000000000000002211000000000000
        13 00cc0000000000000001000000000000007501000000000000000100000000000000670600000000000000
        14 00cc000000000000000600000000000000
        15 00cc00000000000000090000000000000008000000
        16 00cc0000000000000001000000000000000100000000000000020000000300000000000000040000000000000002000000
        ");
    }

    #[test]
    fn all_ops_have_an_example() {
        assert_eq!(examples().len(), Command::OPS.len());
        assert_eq!(Command::OPS.first(), Some(&1));
        assert!(Command::OPS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn foreign_records_are_refused_with_a_reason() {
        let (op, payload) = Command { origin: None, at: UnixMs(1), change: Change::Start {} }.encode();
        assert_eq!(Command::decode(200, &payload), Err(CommandError::UnknownOp(200)));
        let cut = Command::decode(op, &payload[..payload.len() - 1]);
        assert_eq!(cut, Err(CommandError::Malformed { op, error: DecodeError::Short }));
        let long = [payload.as_slice(), &[0]].concat();
        let error = DecodeError::Trailing(1);
        assert_eq!(Command::decode(op, &long), Err(CommandError::Malformed { op, error }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(op in 0_u8..20, payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(command) = Command::decode(op, &payload) {
                prop_assert_eq!(command.encode(), (op, payload));
            }
        }
    }
}
