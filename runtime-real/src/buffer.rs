//! Buffers for payloads: used again when their last reader drops them, so that large transfers neither zero pages nor fault
//! them in anew.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use cairn_core::payload::MAX_PAYLOAD;

/// Smaller buffers are cheap enough to be allocated.
const POOLED_FROM: usize = 128 * 1024;
/// Free buffers kept: 32 MiB.
const KEPT: usize = 32;

/// Free buffers of [`MAX_PAYLOAD`] bytes.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// A buffer of `length` bytes whose contents are to be overwritten.
    pub(crate) fn take(self: &Arc<Pool>, length: usize) -> Buffer {
        if length < POOLED_FROM || length > MAX_PAYLOAD as usize {
            return Buffer { bytes: vec![0; length], length, pool: None };
        }
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_else(|| vec![0; MAX_PAYLOAD as usize]);
        Buffer { bytes, length, pool: Some(self.clone()) }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT {
            free.push(bytes);
        }
    }
}

/// A buffer that returns to its pool.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    pool: Option<Arc<Pool>>,
}

impl Buffer {
    /// All of it, to be filled.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    /// Keeps only the first `length` bytes.
    pub(crate) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    /// Its bytes, shared; `hold` lives as long as they do.
    pub(crate) fn freeze<H: Send + 'static>(self, hold: H) -> Bytes {
        Bytes::from_owner(Held { buffer: self, _hold: hold })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.give_back(std::mem::take(&mut self.bytes));
        }
    }
}

struct Held<H> {
    buffer: Buffer,
    _hold: H,
}

impl<H> AsRef<[u8]> for Held<H> {
    fn as_ref(&self) -> &[u8] {
        &self.buffer.bytes[..self.buffer.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_last_reader_is_gone() {
        let pool = Arc::new(Pool::default());
        let mut buffer = pool.take(MAX_PAYLOAD as usize);
        buffer.space()[..3].copy_from_slice(b"abc");
        buffer.truncate(3);
        let at = buffer.bytes.as_ptr();
        let bytes = buffer.freeze(());
        let slice = bytes.slice(1..);
        drop(bytes);
        assert!(pool.free.lock().unwrap().is_empty());
        assert_eq!(&slice[..], b"bc");
        drop(slice);
        let mut again = pool.take(POOLED_FROM);
        assert_eq!((again.bytes.as_ptr(), again.space().len()), (at, POOLED_FROM));
    }
}
