//! bincode behind one door: the frozen, documented 1.x layout, always with a limit, the whole input consumed or refused.

use alloc::vec::Vec;
use bincode::config;
use bincode::error::DecodeError as Inner;
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
    bincode::serde::encode_to_vec(value, config::legacy()).expect("records contain only encodable types")
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
