//! One TCP connection of the data plane: frames in, frames out.
//!
//! A payload is read straight into the buffer that will be written to disk or to the next server, and summed once, here.

use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use cairn_core::message::Message;
use cairn_core::wire::frame::{self, FrameError, PREFIX_BYTES, Prefix};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::buffer::Pool;

/// Read ahead of what is asked for: prefixes, headers and acknowledgements come in one call.
const AHEAD_BYTES: usize = 16 * 1024;
/// Frames and bytes of one vectored write.
const BATCH_FRAMES: usize = 32;
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// A frame that was begun must be complete after so long, and a write must move on.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a payload waits for memory before its connection is given up. Below the time in which writers give a chunk up,
/// so that servers which wait for each other's memory get free again.
const BUDGET_PATIENCE: Duration = Duration::from_secs(5);

/// Memory for payloads: of a whole node, and of each connection.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) pool: Arc<Pool>,
    all: Option<Arc<Semaphore>>,
    each: usize,
}

impl Budget {
    /// Payloads of all connections take at most `all` bytes, those of one at most `each`, counted until the last user drops
    /// them.
    pub(crate) fn new(all: u64, each: u64) -> Budget {
        // Below one frame nothing would ever fit.
        let bytes = |limit: u64| {
            limit.clamp(u64::from(cairn_core::payload::MAX_PAYLOAD), Semaphore::MAX_PERMITS as u64) as usize
        };
        Budget { pool: Arc::default(), all: Some(Arc::new(Semaphore::new(bytes(all)))), each: bytes(each) }
    }

    /// No limit: for clients, who decide themselves how much they ask for and how long they keep it.
    pub(crate) fn unlimited() -> Budget {
        Budget { pool: Arc::default(), all: None, each: Semaphore::MAX_PERMITS }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("closed by the other side")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("protocol error: {0}")]
    Frame(#[from] FrameError),
    #[error("no progress for {} seconds", PATIENCE.as_secs())]
    Stuck,
    #[error("no memory for another payload for {} seconds", BUDGET_PATIENCE.as_secs())]
    Budget,
}

/// Serves a connection until it breaks, or until `queue` ends and everything in it is written.
pub(crate) async fn serve(
    stream: TcpStream,
    queue: mpsc::UnboundedReceiver<Message>,
    budget: &Budget,
    deliver: impl FnMut(Message) + Send,
) -> Result<(), Broken> {
    stream.set_nodelay(true)?;
    // Buffer sizes are left to the kernel: setting them switches its tuning off and is capped far below what it grows to.
    let alive =
        socket2::TcpKeepalive::new().with_time(Duration::from_secs(10)).with_interval(Duration::from_secs(5));
    socket2::SockRef::from(&stream).set_tcp_keepalive(&alive)?;
    let (from, to) = stream.into_split();
    let mut writer = Aborting(tokio::spawn(write_frames(to, queue)));
    let mut reading = pin!(read_frames(from, budget, deliver));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(end) = reading.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        let ended = std::task::ready!(std::pin::Pin::new(&mut writer.0).poll(cx));
        Poll::Ready(ended.unwrap_or(Err(Broken::Closed)))
    })
    .await
}

struct Aborting<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for Aborting<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Delivers frames as messages until the stream ends or makes no sense.
pub(crate) async fn read_frames(
    stream: impl AsyncRead + Unpin,
    budget: &Budget,
    mut deliver: impl FnMut(Message) + Send,
) -> Result<(), Broken> {
    let mut stream = BufReader::with_capacity(AHEAD_BYTES, stream);
    let own = Arc::new(Semaphore::new(budget.each));
    let mut header = Vec::new();
    loop {
        let mut prefix = [0; PREFIX_BYTES];
        // A connection may be idle for ever, but not in the middle of a frame.
        let got = stream.read(&mut prefix).await?;
        if got == 0 {
            return Err(Broken::Closed);
        }
        let rest = read_frame(&mut stream, &mut prefix, got, &mut header, budget, &own);
        deliver(tokio::time::timeout(PATIENCE, rest).await.map_err(|_| Broken::Stuck)??);
    }
}

async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
    prefix: &mut [u8; PREFIX_BYTES],
    got: usize,
    header: &mut Vec<u8>,
    budget: &Budget,
    own: &Arc<Semaphore>,
) -> Result<Message, Broken> {
    stream.read_exact(&mut prefix[got..]).await?;
    let prefix = Prefix::parse(prefix)?;
    header.resize(prefix.header_length(), 0);
    stream.read_exact(header).await?;
    let payload = match prefix.payload_length() {
        0 => Bytes::new(),
        length => {
            let permits = tokio::time::timeout(BUDGET_PATIENCE, permits(length as u32, budget, own))
                .await
                .map_err(|_| Broken::Budget)?;
            let mut buffer = budget.pool.take(length);
            stream.read_exact(buffer.space()).await?;
            buffer.freeze(permits)
        }
    };
    Ok(frame::finish(prefix, header, payload)?)
}

type Permits = [Option<OwnedSemaphorePermit>; 2];

async fn permits(bytes: u32, budget: &Budget, own: &Arc<Semaphore>) -> Permits {
    // The semaphores are never closed, so there is always a permit in the end.
    let of_own = own.clone().acquire_many_owned(bytes).await.ok();
    let of_all = match &budget.all {
        Some(all) => all.clone().acquire_many_owned(bytes).await.ok(),
        None => None,
    };
    [of_own, of_all]
}

/// Writes messages as frames until their queue ends.
pub(crate) async fn write_frames(
    mut stream: impl AsyncWrite + Unpin,
    mut queue: mpsc::UnboundedReceiver<Message>,
) -> Result<(), Broken> {
    let mut parts: Vec<Bytes> = Vec::new();
    while let Some(first) = queue.recv().await {
        let mut length = put(&mut parts, &first)?;
        while length < BATCH_BYTES && parts.len() < 2 * BATCH_FRAMES {
            let Ok(more) = queue.try_recv() else { break };
            length += put(&mut parts, &more)?;
        }
        write_all(&mut stream, &mut parts).await?;
    }
    tokio::time::timeout(PATIENCE, stream.shutdown()).await.map_err(|_| Broken::Stuck)??;
    Ok(())
}

fn put(parts: &mut Vec<Bytes>, message: &Message) -> Result<usize, Broken> {
    let (head, payload) = frame::encode(message)?;
    let length = head.len() + payload.len();
    parts.push(head);
    if !payload.is_empty() {
        parts.push(payload);
    }
    Ok(length)
}

async fn write_all(stream: &mut (impl AsyncWrite + Unpin), parts: &mut Vec<Bytes>) -> Result<(), Broken> {
    let mut first = 0;
    while first < parts.len() {
        let slices: Vec<IoSlice<'_>> = parts[first..].iter().map(|part| IoSlice::new(part)).collect();
        let write = stream.write_vectored(&slices);
        let mut written = tokio::time::timeout(PATIENCE, write).await.map_err(|_| Broken::Stuck)??;
        if written == 0 {
            return Err(Broken::Closed);
        }
        while written > 0 {
            let step = written.min(parts[first].len());
            parts[first].advance(step);
            written -= step;
            if parts[first].is_empty() {
                first += 1;
            }
        }
    }
    parts.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use cairn_core::id::{ChunkId, ChunkVersion, WriterId};
    use cairn_core::message::{AppendMessage, ReadMessage};
    use cairn_core::payload::Payload;

    use super::*;

    fn data(record: u64, length: usize) -> Message {
        let bytes: Vec<u8> = (0..length).map(|i| (i as u64 * 7 + record) as u8).collect();
        let payload = Payload::new(65_000 * record, Bytes::from(bytes));
        let (chunk, version, writer) = (ChunkId(7), ChunkVersion(1), WriterId(9));
        AppendMessage::Data { chunk, version, writer, record, committed: 0, payload }.into()
    }

    fn small(read: u64) -> Message {
        ReadMessage::Request { read, chunk: ChunkId(1), version: ChunkVersion(1), offset: 0, length: 5 }
            .into()
    }

    fn collect(into: &mut Vec<Message>) -> impl FnMut(Message) + Send {
        |message| into.push(message)
    }

    #[tokio::test]
    async fn frames_arrive_as_they_were_sent_and_in_order() {
        let (near, far) = tokio::io::duplex(100_000);
        let sent: Vec<Message> = (0..40)
            .map(|i| if i % 3 == 0 { small(i) } else { data(i, 40_000 * i as usize % (1 << 20)) })
            .collect();
        let (queue, waiting) = mpsc::unbounded_channel();
        for message in &sent {
            queue.send(message.clone()).unwrap();
        }
        drop(queue);
        let writer = tokio::spawn(write_frames(near, waiting));
        let mut got = Vec::new();
        let end = read_frames(far, &Budget::new(1 << 30, 1 << 30), collect(&mut got)).await;
        assert!(matches!(end, Err(Broken::Closed)), "{end:?}");
        assert!(got == sent);
        writer.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn payloads_wait_for_memory_and_then_give_the_connection_up() {
        let (near, far) = tokio::io::duplex(1 << 23);
        let (queue, waiting) = mpsc::unbounded_channel();
        for record in 1..=3 {
            queue.send(data(record, 1 << 20)).unwrap();
        }
        let _writer = tokio::spawn(write_frames(near, waiting));
        let mut got = Vec::new();
        let budget = Budget::new(2 << 20, 1 << 30);
        let end = read_frames(far, &budget, collect(&mut got)).await;
        assert!(matches!(end, Err(Broken::Budget)), "{end:?}");
        assert_eq!(got.len(), 2);
        drop(got);
        assert_eq!(budget.all.unwrap().available_permits(), 2 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_frame_does_not_hold_a_connection_for_ever() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let (head, _) = frame::encode(&small(1)).unwrap();
        near.write_all(&head[..head.len() - 1]).await.unwrap();
        let mut got = Vec::new();
        let end = read_frames(far, &Budget::unlimited(), collect(&mut got)).await;
        assert!(matches!(end, Err(Broken::Stuck)), "{end:?}");
    }

    #[tokio::test]
    async fn nonsense_is_an_error_with_a_name() {
        let (mut near, far) = tokio::io::duplex(1 << 20);
        near.write_all(b"GET / HTTP/1.1\r\nHost: cairn\r\n\r\n").await.unwrap();
        let mut got = Vec::new();
        let end = read_frames(far, &Budget::unlimited(), collect(&mut got)).await;
        assert!(matches!(end, Err(Broken::Frame(FrameError::Magic))), "{end:?}");
    }
}
