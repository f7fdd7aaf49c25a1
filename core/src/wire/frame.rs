//! Data-plane frames: messages about chunk bytes, over TCP.
//!
//! ```text
//! 0      4 magic "CRN1"
//! 4      1 format version
//! 5      1 kind
//! 6      2 reserved, zero
//! 8      4 header length   (little-endian, as all numbers)
//! 12     4 payload length
//! 16     4 CRC32 of bytes 0..16 and the header
//! 20       header, bincode
//! …        payload, raw
//! ```
//! The header holds everything but the payload's bytes: its offset and the CRC32 of each of its pieces too, so that
//! every bit of a frame is under a checksum. Both lengths are bounded before anything is allocated for them.

use alloc::vec::Vec;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::shape;
use crate::codec;
use crate::error::ChunkError;
use crate::id::{ChunkId, ChunkVersion, ServerId, WriterId};
use crate::message::{AppendMessage, Grant, Message, ReadMessage};
use crate::payload::{MAX_PAYLOAD, Payload};

/// Length of the fixed part in bytes.
pub const PREFIX_BYTES: usize = 20;
/// The largest header in bytes.
pub const MAX_HEADER: usize = 64 * 1024;

const MAGIC: [u8; 4] = *b"CRN1";
const VERSION: u8 = 1;
const CRC_AT: usize = 16;

/// Why bytes are not a frame, or a message can't be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer does not speak this protocol, or lost its place.
    #[error("not a Cairn frame")]
    Magic,
    /// The peer is newer or older.
    #[error("frame of format version {0}, only version 1 is understood")]
    Version(u8),
    /// The kind is not one of this version.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The header is larger than [`MAX_HEADER`].
    #[error("frame header of {0} bytes is too large")]
    HeaderTooLarge(u32),
    /// The payload is larger than [`MAX_PAYLOAD`].
    #[error("frame payload of {0} bytes is too large")]
    PayloadTooLarge(u32),
    /// Prefix or header were damaged.
    #[error("frame header does not match its checksum")]
    HeaderCrc,
    /// The payload was damaged.
    #[error("frame payload does not match its checksums")]
    PayloadCrc,
    /// The bytes are whole and make no sense.
    #[error("frame is malformed")]
    Malformed,
    /// The message belongs to the control plane.
    #[error("message does not travel in frames")]
    WrongPlane,
}

/// A frame's kind: one for each message, its number fixed for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    AppendOpen = 1,
    AppendData = 2,
    AppendReady = 3,
    AppendCommitted = 4,
    AppendFailed = 5,
    ReadRequest = 16,
    ReadData = 17,
    ReadFailed = 18,
}

impl Kind {
    fn parse(byte: u8) -> Result<Kind, FrameError> {
        const ALL: [Kind; 8] = [
            Kind::AppendOpen,
            Kind::AppendData,
            Kind::AppendReady,
            Kind::AppendCommitted,
            Kind::AppendFailed,
            Kind::ReadRequest,
            Kind::ReadData,
            Kind::ReadFailed,
        ];
        ALL.into_iter().find(|kind| *kind as u8 == byte).ok_or(FrameError::UnknownKind(byte))
    }

    fn has_payload(self) -> bool {
        matches!(self, Kind::AppendData | Kind::ReadData)
    }
}

/// Every header: room for a chunk access token, then what the kind says.
#[derive(Serialize, Deserialize)]
struct Header<T, B> {
    token: T,
    body: B,
}

#[derive(Serialize, Deserialize)]
struct Open<G> {
    grant: G,
    position: u8,
    writer: WriterId,
}

#[derive(Serialize, Deserialize)]
struct Data<C> {
    chunk: ChunkId,
    version: ChunkVersion,
    writer: WriterId,
    record: u64,
    committed: u64,
    offset: u64,
    crcs: C,
}

#[derive(Serialize, Deserialize)]
struct Ready<E> {
    chunk: ChunkId,
    version: ChunkVersion,
    ends: E,
}

#[derive(Serialize, Deserialize)]
struct Committed {
    chunk: ChunkId,
    version: ChunkVersion,
    end: u64,
    record: u64,
    everywhere: u64,
}

#[derive(Serialize, Deserialize)]
struct Failed<E> {
    chunk: ChunkId,
    version: ChunkVersion,
    server: ServerId,
    error: E,
}

#[derive(Serialize, Deserialize)]
struct Request {
    read: u64,
    chunk: ChunkId,
    version: ChunkVersion,
    offset: u64,
    length: u32,
}

#[derive(Serialize, Deserialize)]
struct ReadData<C> {
    read: u64,
    offset: u64,
    crcs: C,
}

#[derive(Serialize, Deserialize)]
struct ReadFailed<E> {
    read: u64,
    error: E,
}

/// The fixed part of a frame, its bounds checked.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    kind: Kind,
    header: u32,
    payload: u32,
    crc: u32,
    /// CRC32 of bytes 0..16, on which the header's continues.
    start: u32,
}

impl Prefix {
    /// Reads the first [`PREFIX_BYTES`] of a frame.
    pub fn parse(bytes: &[u8; PREFIX_BYTES]) -> Result<Prefix, FrameError> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[..4] != MAGIC {
            return Err(FrameError::Magic);
        }
        if bytes[4] != VERSION {
            return Err(FrameError::Version(bytes[4]));
        }
        let kind = Kind::parse(bytes[5])?;
        let (header, payload) = (number(8), number(12));
        if header as usize > MAX_HEADER {
            return Err(FrameError::HeaderTooLarge(header));
        }
        if payload > MAX_PAYLOAD {
            return Err(FrameError::PayloadTooLarge(payload));
        }
        if bytes[6..8] != [0, 0] || (payload > 0 && !kind.has_payload()) {
            return Err(FrameError::Malformed);
        }
        Ok(Prefix { kind, header, payload, crc: number(CRC_AT), start: crc32fast::hash(&bytes[..CRC_AT]) })
    }

    /// Bytes of the header that follows.
    pub fn header_length(&self) -> usize {
        self.header as usize
    }

    /// Bytes of the payload that follows the header.
    pub fn payload_length(&self) -> usize {
        self.payload as usize
    }
}

/// A message as `(prefix and header, payload)`. The payload is not copied, its checksums are taken as they are.
pub fn encode(message: &Message) -> Result<(Bytes, Bytes), FrameError> {
    match message {
        Message::Append(message) => encode_append(message),
        Message::Read(message) => encode_read(message),
        _ => Err(FrameError::WrongPlane),
    }
}

fn encode_append(message: &AppendMessage) -> Result<(Bytes, Bytes), FrameError> {
    match message {
        AppendMessage::Open { grant, position, writer } => {
            assemble(Kind::AppendOpen, &Open { grant, position: *position, writer: *writer }, Bytes::new())
        }
        AppendMessage::Data { chunk, version, writer, record, committed, payload } => {
            let body = Data {
                chunk: *chunk,
                version: *version,
                writer: *writer,
                record: *record,
                committed: *committed,
                offset: payload.offset,
                crcs: &payload.crcs,
            };
            assemble(Kind::AppendData, &body, payload.bytes.clone())
        }
        AppendMessage::Ready { chunk, version, ends } => {
            assemble(Kind::AppendReady, &Ready { chunk: *chunk, version: *version, ends }, Bytes::new())
        }
        AppendMessage::Committed { chunk, version, end, record, everywhere } => {
            let body = Committed {
                chunk: *chunk,
                version: *version,
                end: *end,
                record: *record,
                everywhere: *everywhere,
            };
            assemble(Kind::AppendCommitted, &body, Bytes::new())
        }
        AppendMessage::Failed { chunk, version, server, error } => {
            let body = Failed { chunk: *chunk, version: *version, server: *server, error };
            assemble(Kind::AppendFailed, &body, Bytes::new())
        }
    }
}

fn encode_read(message: &ReadMessage) -> Result<(Bytes, Bytes), FrameError> {
    match message {
        ReadMessage::Request { read, chunk, version, offset, length } => {
            let body =
                Request { read: *read, chunk: *chunk, version: *version, offset: *offset, length: *length };
            assemble(Kind::ReadRequest, &body, Bytes::new())
        }
        ReadMessage::Reply { read, result: Ok(payload) } => {
            let body = ReadData { read: *read, offset: payload.offset, crcs: &payload.crcs };
            assemble(Kind::ReadData, &body, payload.bytes.clone())
        }
        ReadMessage::Reply { read, result: Err(error) } => {
            assemble(Kind::ReadFailed, &ReadFailed { read: *read, error }, Bytes::new())
        }
    }
}

fn assemble<B: Serialize>(kind: Kind, body: &B, payload: Bytes) -> Result<(Bytes, Bytes), FrameError> {
    let header = codec::encode(&Header { token: &[] as &[u8], body });
    let header_length = u32::try_from(header.len()).unwrap_or(u32::MAX);
    let payload_length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    if header.len() > MAX_HEADER {
        return Err(FrameError::HeaderTooLarge(header_length));
    }
    if payload_length > MAX_PAYLOAD {
        return Err(FrameError::PayloadTooLarge(payload_length));
    }
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + header.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[VERSION, kind as u8, 0, 0]);
    bytes.extend_from_slice(&header_length.to_le_bytes());
    bytes.extend_from_slice(&payload_length.to_le_bytes());
    let crc = checksum(crc32fast::hash(&bytes), &header);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(&header);
    Ok((Bytes::from(bytes), payload))
}

/// CRC32 of the prefix's first bytes (whose own CRC is `start`) and the header.
fn checksum(start: u32, header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(start);
    hasher.update(header);
    hasher.finalize()
}

/// The message of a frame whose parts have arrived. Sums the payload, once.
pub fn finish(prefix: Prefix, header: &[u8], payload: Bytes) -> Result<Message, FrameError> {
    if header.len() != prefix.header_length() || payload.len() != prefix.payload_length() {
        return Err(FrameError::Malformed);
    }
    if checksum(prefix.start, header) != prefix.crc {
        return Err(FrameError::HeaderCrc);
    }
    let message = match prefix.kind {
        Kind::AppendOpen => {
            let Open { grant, position, writer } = body::<Open<Grant>>(header)?;
            if !shape::grant(&grant) || usize::from(position) >= grant.members.len() {
                return Err(FrameError::Malformed);
            }
            AppendMessage::Open { grant, position, writer }.into()
        }
        Kind::AppendData => {
            let Data { chunk, version, writer, record, committed, offset, crcs } =
                body::<Data<Vec<u32>>>(header)?;
            let payload = verify(offset, &crcs, payload)?;
            AppendMessage::Data { chunk, version, writer, record, committed, payload }.into()
        }
        Kind::AppendReady => {
            let Ready { chunk, version, ends } = body::<Ready<Vec<u64>>>(header)?;
            AppendMessage::Ready { chunk, version, ends }.into()
        }
        Kind::AppendCommitted => {
            let Committed { chunk, version, end, record, everywhere } = body(header)?;
            AppendMessage::Committed { chunk, version, end, record, everywhere }.into()
        }
        Kind::AppendFailed => {
            let Failed { chunk, version, server, error } = body::<Failed<ChunkError>>(header)?;
            AppendMessage::Failed { chunk, version, server, error }.into()
        }
        Kind::ReadRequest => {
            let Request { read, chunk, version, offset, length } = body(header)?;
            if length > MAX_PAYLOAD || offset.checked_add(u64::from(length)).is_none() {
                return Err(FrameError::Malformed);
            }
            ReadMessage::Request { read, chunk, version, offset, length }.into()
        }
        Kind::ReadData => {
            let ReadData { read, offset, crcs } = body::<ReadData<Vec<u32>>>(header)?;
            ReadMessage::Reply { read, result: Ok(verify(offset, &crcs, payload)?) }.into()
        }
        Kind::ReadFailed => {
            let ReadFailed { read, error } = body::<ReadFailed<ChunkError>>(header)?;
            ReadMessage::Reply { read, result: Err(error) }.into()
        }
    };
    Ok(message)
}

/// What follows the token. Tokens are not checked yet: there is no authentication.
fn body<B: DeserializeOwned>(header: &[u8]) -> Result<B, FrameError> {
    let header: Header<Vec<u8>, B> =
        codec::decode::<_, MAX_HEADER>(header).map_err(|_| FrameError::Malformed)?;
    Ok(header.body)
}

fn verify(offset: u64, crcs: &[u32], bytes: Bytes) -> Result<Payload, FrameError> {
    if offset.checked_add(bytes.len() as u64 + 1).is_none() {
        return Err(FrameError::Malformed);
    }
    let payload = Payload::new(offset, bytes);
    if payload.crcs == crcs { Ok(payload) } else { Err(FrameError::PayloadCrc) }
}

/// The message of a frame as [`encode`] gives it out. The payload is not copied.
pub fn decode_parts(head: &[u8], payload: Bytes) -> Result<Message, FrameError> {
    let (prefix, header) = head.split_first_chunk().ok_or(FrameError::Malformed)?;
    finish(Prefix::parse(prefix)?, header, payload)
}

/// The message of one whole frame, its payload copied.
pub fn decode(frame: &[u8]) -> Result<Message, FrameError> {
    let (prefix, rest) = frame.split_first_chunk().ok_or(FrameError::Malformed)?;
    let prefix = Prefix::parse(prefix)?;
    let (header, payload) = rest.split_at_checked(prefix.header_length()).ok_or(FrameError::Malformed)?;
    if payload.len() != prefix.payload_length() {
        return Err(FrameError::Malformed);
    }
    finish(prefix, header, Bytes::copy_from_slice(payload))
}
