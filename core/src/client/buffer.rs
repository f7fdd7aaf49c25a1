//! The bytes of a file being written that may still have to be sent: addressed by their offset in the file.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use bytes::Bytes;

/// `acked ≤ sent ≤ end`, in bytes of the file. Bytes below `acked` are gone; those up to `sent` can be sent again.
///
/// Large writes are kept as they came; only writes below a quarter of a frame are copied, once, to be sent together.
#[derive(Debug)]
pub(super) struct SendBuffer {
    segments: VecDeque<(u64, Bytes)>,
    /// Small writes being collected; they end at `end`.
    tail: Vec<u8>,
    acked: u64,
    sent: u64,
    end: u64,
    frame_bytes: usize,
}

impl SendBuffer {
    pub(super) fn new(frame_bytes: usize) -> SendBuffer {
        SendBuffer { segments: VecDeque::new(), tail: Vec::new(), acked: 0, sent: 0, end: 0, frame_bytes }
    }

    /// Everything below is in the cluster.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// The next byte to send.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// The end of what was accepted.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held.
    pub(super) fn held(&self) -> u64 {
        self.end - self.acked
    }

    /// Bytes accepted and not (or no longer) sent.
    pub(super) fn unsent(&self) -> u64 {
        self.end - self.sent
    }

    /// Accepts bytes at the end.
    pub(super) fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let start = self.end;
        self.end += data.len() as u64;
        if data.len() < self.frame_bytes / 4 {
            self.tail.extend_from_slice(&data);
            if self.tail.len() >= self.frame_bytes {
                self.freeze(self.end);
            }
        } else {
            self.freeze(start);
            self.segments.push_back((start, data));
        }
    }

    /// The next frame, at most `limit` bytes. Collected small writes are held back unless `flush`.
    pub(super) fn take(&mut self, limit: u64, flush: bool) -> Option<Bytes> {
        let tail_start = self.end - self.tail.len() as u64;
        if self.sent == tail_start {
            if !flush || self.tail.is_empty() {
                return None;
            }
            self.freeze(self.end);
        }
        let limit = limit.min(self.frame_bytes as u64) as usize;
        let after = self.segments.partition_point(|(start, _)| *start <= self.sent);
        let (start, bytes) = self.segments.get(after.checked_sub(1)?)?;
        let from = (self.sent - start) as usize;
        let length = (bytes.len() - from).min(limit);
        if length == 0 {
            return None;
        }
        self.sent += length as u64;
        Some(bytes.slice(from..from + length))
    }

    /// Everything below `to` is in the cluster.
    pub(super) fn release(&mut self, to: u64) {
        assert!(to <= self.sent, "released up to {to}, beyond the {} sent", self.sent);
        self.acked = self.acked.max(to);
        while let Some((start, bytes)) = self.segments.front() {
            if start + bytes.len() as u64 > self.acked {
                break;
            }
            self.segments.pop_front();
        }
    }

    /// Bytes from `to` on must be sent again.
    pub(super) fn rewind(&mut self, to: u64) {
        assert!(
            self.acked <= to && to <= self.sent,
            "rewound to {to}, outside of {}..={}",
            self.acked,
            self.sent
        );
        self.sent = to;
    }

    /// Lets all bytes go.
    pub(super) fn clear(&mut self) {
        self.segments.clear();
        self.tail = Vec::new();
        self.acked = self.end;
        self.sent = self.end;
    }

    fn freeze(&mut self, end: u64) {
        if !self.tail.is_empty() {
            let tail = core::mem::take(&mut self.tail);
            self.segments.push_back((end - tail.len() as u64, Bytes::from(tail)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_taken_is_what_was_pushed(
            steps in proptest::collection::vec((0_u8..4, 0_usize..200, any::<bool>()), 1..80),
        ) {
            let mut buffer = SendBuffer::new(64);
            let mut model: Vec<u8> = Vec::new();
            for (step, size, flush) in steps {
                match step {
                    0 => {
                        let data: Vec<u8> = (0..size).map(|i| (model.len() + i) as u8).collect();
                        model.extend(&data);
                        buffer.push(Bytes::from(data));
                    }
                    1 => {
                        let at = buffer.sent() as usize;
                        if let Some(frame) = buffer.take(1 + size as u64, flush) {
                            prop_assert!(frame.len() <= 64.min(1 + size));
                            prop_assert_eq!(&frame[..], &model[at..at + frame.len()]);
                        } else if flush {
                            prop_assert_eq!(buffer.unsent(), 0);
                        }
                    }
                    2 => buffer.release((buffer.acked() + size as u64).min(buffer.sent())),
                    _ => buffer.rewind((buffer.acked() + size as u64).min(buffer.sent())),
                }
                prop_assert_eq!(buffer.end(), model.len() as u64);
            }
        }
    }
}
