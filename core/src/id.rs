//! Identifiers: one newtype for each kind, so that none can stand for another.

use alloc::sync::Arc;
use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident($inner:ty) $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )*};
}

ids! {
    /// One Cairn cluster: 58 random bits, drawn when the master's directory is first formatted.
    ClusterId(u64) "cluster-";
    /// A chunk. Allotted by the log, upwards from 1, never reused.
    ChunkId(u64) "chunk-";
    /// A chunk's version: bumped and logged before every grant and by every seal.
    ChunkVersion(u32) "v";
    /// A file or directory. Allotted by the log, never reused; 1 is the root directory.
    FileId(u64) "file-";
    /// An upload: a file being written, invisible until it is completed. Allotted by the log, never reused.
    UploadId(u64) "upload-";
    /// An entry of the trash. Allotted by the log, never reused.
    TrashId(u64) "trash-";
    /// A chunkserver: random, drawn at its first start, kept on each of its volumes.
    ServerId(u64) "server-";
    /// One formatting of one volume: random, kept on it. A blank, replaced or re-made volume has another one.
    VolumeId(u64) "volume-";
    /// One boot of a machine: what was only in the page cache is gone under another one.
    BootId(u64) "boot-";
    /// One process of a chunkserver: what was only in memory is gone under another one.
    ProcessId(u64) "process-";
    /// One registration of a chunkserver with a master, never reused: `(master's start << 32) | count`.
    SessionId(u64) "session-";
    /// One running client, random.
    ClientId(u64) "client-";
    /// A writer of chunk records, random: the identity of one upload's stream.
    WriterId(u64) "writer-";
    /// A client's request to the master: numbered upwards from 1 by the client.
    RequestId(u64) "request-";
    /// A disk operation, numbered by the machine that asked for it.
    OpId(u64) "op-";
    /// A user's call into a machine, numbered by the caller.
    CallId(u64) "call-";
    /// An inbound connection, numbered by the runtime, never reused within one process.
    ConnId(u64) "conn-";
    /// An open file handle inside a client machine.
    HandleId(u64) "handle-";
}

impl ChunkVersion {
    /// The version that a seal of this one leads to.
    pub fn next(self) -> ChunkVersion {
        ChunkVersion(self.0.saturating_add(1))
    }
}

/// Where a node can be dialled: `host:port` in production, a node's name in simulation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address(pub Arc<str>);

impl Address {
    /// An address from its text.
    pub fn new(text: &str) -> Address {
        Address(Arc::from(text))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The other end of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// A node that this one dials; the runtime connects on demand and keeps one connection.
    Dial(Address),
    /// Whoever opened this inbound connection; answers go back on it.
    Conn(ConnId),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Dial(address) => address.fmt(f),
            Peer::Conn(conn) => conn.fmt(f),
        }
    }
}

/// What a replica's promises hang on. Which parts matter depends on the durability promised (chunk protocol, rules 1 and 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation {
    /// The volume that holds the replica.
    pub volume: VolumeId,
    /// The boot under which it was granted.
    pub boot: BootId,
    /// The process under which it was granted.
    pub process: ProcessId,
}

impl Incarnation {
    /// Whether what was promised under `self` with `durability` still stands on a server that is now `now`.
    pub fn stands(self, durability: Durability, now: Incarnation) -> bool {
        self.volume == now.volume
            && match durability {
                Durability::Sync => true,
                Durability::Async => self.boot == now.boot,
            }
    }
}

/// What READY promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Durability {
    /// On stable storage (fdatasync): survives power loss.
    #[default]
    #[serde(alias = "sync")]
    Sync,
    /// In the page cache: survives the death of every process, and power loss of fewer than W machines.
    #[serde(alias = "async")]
    Async,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Sync => "sync",
            Durability::Async => "async",
        })
    }
}

/// The UUID (version 8, RFC 9562) that names a chunk's file: made of cluster and chunk, so the master keeps 8 bytes.
///
/// Layout: 48 high bits of the cluster id, version 8, 10 low bits of the cluster id, 2 zero bits, variant, then 62 bits
/// of the chunk id. Cluster ids have 58 bits, chunk ids fewer than 62.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkUuid(pub u128);

impl ChunkUuid {
    /// The name of `chunk` in `cluster`.
    pub fn new(cluster: ClusterId, chunk: ChunkId) -> ChunkUuid {
        let high = u128::from(cluster.0 >> 10 & 0xffff_ffff_ffff) << 80;
        let low_cluster = u128::from(cluster.0 & 0x3ff) << 66;
        ChunkUuid(high | 8 << 76 | low_cluster | 0b10 << 62 | u128::from(chunk.0 & (u64::MAX >> 2)))
    }

    /// The cluster and chunk that the UUID was made of; `None` if it was not made by [`ChunkUuid::new`].
    pub fn parts(self) -> Option<(ClusterId, ChunkId)> {
        let cluster = ((self.0 >> 80) as u64) << 10 | (self.0 >> 66) as u64 & 0x3ff;
        let chunk = ChunkId(self.0 as u64 & (u64::MAX >> 2));
        (ChunkUuid::new(ClusterId(cluster), chunk) == self).then_some((ClusterId(cluster), chunk))
    }

    /// Reads the hyphenated form.
    pub fn parse(text: &str) -> Option<ChunkUuid> {
        if text.len() != 36 {
            return None;
        }
        let mut value = 0;
        for (at, byte) in text.bytes().enumerate() {
            let digit = match (matches!(at, 8 | 13 | 18 | 23), byte) {
                (true, b'-') => continue,
                (false, b'0'..=b'9') => byte - b'0',
                (false, b'a'..=b'f') => byte - b'a' + 10,
                _ => return None,
            };
            value = value << 4 | u128::from(digit);
        }
        Some(ChunkUuid(value))
    }
}

impl fmt::Display for ChunkUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Written out, since every path on a chunkserver's disks has one.
        let mut text = [b'-'; 36];
        let mut rest = self.0;
        for at in (0..36).rev().filter(|at| !matches!(at, 8 | 13 | 18 | 23)) {
            text[at] = b"0123456789abcdef"[(rest & 0xf) as usize];
            rest >>= 4;
        }
        f.write_str(core::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_chunk_uuid_keeps_its_parts(cluster in 0_u64..1 << 58, chunk in 0_u64..1 << 62) {
            let uuid = ChunkUuid::new(ClusterId(cluster), ChunkId(chunk));
            let read = ChunkUuid::parse(&uuid.to_string()).unwrap();
            prop_assert_eq!(read.parts(), Some((ClusterId(cluster), ChunkId(chunk))));
            prop_assert_eq!(&uuid.to_string()[14..15], "8");
            prop_assert!(matches!(&uuid.to_string()[19..20], "8" | "9" | "a" | "b"));
        }

        #[test]
        fn only_what_is_printed_is_read(value in proptest::num::u128::ANY, at in 0_usize..36, other in 0_u8..128) {
            let text = ChunkUuid(value).to_string();
            let digits = alloc::format!("{value:032x}");
            let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
            prop_assert_eq!(&text, &parts.join("-"));
            prop_assert_eq!(ChunkUuid::parse(&text), Some(ChunkUuid(value)));
            let mut changed = text.clone().into_bytes();
            changed[at] = other;
            let changed = alloc::string::String::from_utf8(changed).unwrap();
            let same = ChunkUuid::parse(&changed).is_none_or(|read| read.to_string() == changed);
            prop_assert!(same, "{changed}");
            prop_assert_eq!(ChunkUuid::parse(&text[1..]), None);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = ChunkUuid::parse(&text);
        }
    }
}
