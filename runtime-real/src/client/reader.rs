//! Reading a file: in order with readahead, or at any place.

use std::collections::VecDeque;
use std::io::{self, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use cairn_core::client::{ClientRequest, ClientResponse};
use cairn_core::error::ClientError;
use cairn_core::id::HandleId;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tokio::sync::oneshot;

use super::{Cluster, Result, io_error};

/// Bytes of one read ahead.
const AHEAD_BYTES: u64 = 4 * 1024 * 1024;
/// Reads ahead under way at once, when reading goes on in order.
const AHEAD_READS: usize = 4;
/// Bytes of the first read after opening or seeking: what follows is not known to be wanted.
const FIRST_BYTES: u64 = 256 * 1024;

struct Ahead {
    offset: u64,
    length: u64,
    answer: oneshot::Receiver<Result<ClientResponse>>,
}

/// An open file. Every byte is verified against its checksum before it is handed out.
///
/// In order it reads ahead, more the longer the reading goes on; [`FileReader::next_bytes`] hands bytes out without
/// copying. [`FileReader::read_at`] reads anywhere, also many at once.
pub struct FileReader {
    cluster: Cluster,
    handle: HandleId,
    length: u64,
    /// Next byte to hand out.
    position: u64,
    ready: VecDeque<Bytes>,
    ahead: VecDeque<Ahead>,
    /// Length of the next read ahead.
    step: u64,
}

impl std::fmt::Debug for FileReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileReader({} at {} of {})", self.handle, self.position, self.length)
    }
}

impl FileReader {
    pub(super) fn new(cluster: Cluster, handle: HandleId, length: u64) -> FileReader {
        FileReader {
            cluster,
            handle,
            length,
            position: 0,
            ready: VecDeque::new(),
            ahead: VecDeque::new(),
            step: FIRST_BYTES,
        }
    }

    /// The file's length in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether the file has no bytes.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Reads `length` bytes at `offset`, fewer at the file's end. Independent of the position; calls may overlap.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Bytes> {
        let end = self.length.min(offset.saturating_add(length as u64));
        let (mut at, mut reads) = (offset, Vec::new());
        while at < end {
            let piece = AHEAD_BYTES.min(end - at);
            reads.push(self.start(at, piece));
            at += piece;
        }
        let mut parts = Vec::new();
        for read in reads {
            parts.extend(data(read.answer.await)?);
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut whole = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        for part in parts {
            whole.extend_from_slice(&part);
        }
        Ok(whole.freeze())
    }

    /// The next bytes in order, as many as came in one piece; `None` at the end.
    pub async fn next_bytes(&mut self) -> Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        let next = self.ready.pop_front();
        self.position += next.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Ok(next)
    }

    /// Moves the position for reading in order.
    pub fn seek_to(&mut self, position: u64) {
        if position == self.position {
            return;
        }
        // A short way forward within what is here already costs nothing.
        let skip = position.checked_sub(self.position).map(|skip| skip as usize);
        let here: usize = self.ready.iter().map(Bytes::len).sum();
        match skip {
            Some(mut skip) if skip <= here => {
                while let Some(first) = self.ready.front_mut() {
                    let step = skip.min(first.len());
                    first.advance(step);
                    skip -= step;
                    if !first.is_empty() {
                        break;
                    }
                    self.ready.pop_front();
                }
            }
            _ => {
                self.ready.clear();
                self.ahead.clear();
                self.step = FIRST_BYTES;
            }
        }
        self.position = position;
    }

    fn start(&self, offset: u64, length: u64) -> Ahead {
        let request = ClientRequest::Read { handle: self.handle, offset, length: length as u32 };
        Ahead { offset, length, answer: self.cluster.start(request) }
    }

    fn read_ahead(&mut self) {
        let here: u64 = self.ready.iter().map(|bytes| bytes.len() as u64).sum();
        let mut next = self.ahead.back().map_or(self.position + here, |last| last.offset + last.length);
        while next < self.length && self.ahead.len() < AHEAD_READS {
            // One cautious read first; from the second on, reading is taken to go on in order.
            if self.step == FIRST_BYTES && !self.ahead.is_empty() {
                break;
            }
            let length = self.step.min(self.length - next);
            let read = self.start(next, length);
            self.ahead.push_back(read);
            next += length;
            if self.step == FIRST_BYTES {
                break;
            }
        }
    }

    /// Ready when there are bytes, or the end is reached.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while self.ready.is_empty() && self.position < self.length {
            self.read_ahead();
            let Some(first) = self.ahead.front_mut() else { break };
            let answer = ready!(Pin::new(&mut first.answer).poll(cx));
            let asked = first.length;
            self.ahead.pop_front();
            let parts = match data(answer) {
                Ok(parts) => parts,
                Err(error) => {
                    self.ahead.clear();
                    return Poll::Ready(Err(error));
                }
            };
            let got: u64 = parts.iter().map(|part| part.len() as u64).sum();
            assert!(got == asked, "a read of {asked} bytes within the file yielded {got}");
            self.ready.extend(parts.into_iter().filter(|part| !part.is_empty()));
            self.step = (self.step * 4).min(AHEAD_BYTES);
            self.read_ahead();
        }
        Poll::Ready(Ok(()))
    }
}

fn data(
    answer: std::result::Result<Result<ClientResponse>, oneshot::error::RecvError>,
) -> Result<Vec<Bytes>> {
    match answer.unwrap_or(Err(ClientError::Closed))? {
        ClientResponse::Data(parts) => Ok(parts),
        other => unreachable!("{other:?} in answer to Read"),
    }
}

impl Drop for FileReader {
    fn drop(&mut self) {
        drop(self.cluster.start(ClientRequest::Release { handle: self.handle }));
    }
}

impl AsyncRead for FileReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_ready(cx)).map_err(io_error)?;
        while into.remaining() > 0
            && let Some(first) = this.ready.front_mut()
        {
            let count = first.len().min(into.remaining());
            into.put_slice(&first[..count]);
            first.advance(count);
            if first.is_empty() {
                this.ready.pop_front();
            }
            this.position += count as u64;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for FileReader {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let target = target
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the file's beginning"))?;
        self.seek_to(target);
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}
