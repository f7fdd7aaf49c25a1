//! bincode behind one door: the frozen, documented 1.x layout, always with a limit, the whole input consumed or refused.

use alloc::vec::Vec;
use bincode::config;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError as Inner, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// More bytes would be needed than there are.
    #[error("record is cut short")]
    Short,
    /// The record ends before the bytes do.
    #[error("{0} bytes after the record's end")]
    Trailing(usize),
    /// A length inside the record is larger than this kind of record may be.
    #[error("record is larger than allowed")]
    TooLarge,
    /// The bytes can't be a value of the type.
    #[error("record is malformed")]
    Malformed,
}

/// Encodes a record: little-endian, fixed-width integers, lengths as u64 (bincode 1.x).
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Most records are short: grown from nothing, they would be moved several times.
    let mut record = Record(Vec::with_capacity(USUAL_BYTES));
    bincode::serde::encode_into_writer(value, &mut record, config::legacy())
        .expect("records contain only encodable types");
    record.0
}

/// Room for most records.
const USUAL_BYTES: usize = 128;

/// A record being written.
struct Record(Vec<u8>);

impl Writer for Record {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Decodes a record of at most `LIMIT` bytes. No allocation exceeds `LIMIT`.
pub fn decode<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, DecodeError> {
    if bytes.len() > LIMIT {
        return Err(DecodeError::TooLarge);
    }
    let config = config::legacy().with_limit::<LIMIT>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok((_, used)) => Err(DecodeError::Trailing(bytes.len() - used)),
        Err(Inner::UnexpectedEnd { .. }) => Err(DecodeError::Short),
        Err(Inner::LimitExceeded) => Err(DecodeError::TooLarge),
        Err(_) => Err(DecodeError::Malformed),
    }
}
