//! Writing a new file: bytes go out as they come, the file appears at close.

use std::collections::VecDeque;
use std::future::{Future, IntoFuture};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use cairn_core::client::{Caller, ClientRequest, ClientResponse};
use cairn_core::error::{ClientError, MasterError};
use cairn_core::id::{Durability, HandleId, UploadId};
use cairn_core::message::{FileStatus, MasterRequest, StorageOptions};
use tokio::io::AsyncWrite;
use tokio::sync::oneshot;

use super::{Cluster, Result, io_error};

/// Writes not yet taken into the machine's window.
const WRITES_WAITING: usize = 4;
/// Bytes of one write, at the most.
const WRITE_BYTES: usize = 4 * 1024 * 1024;

/// How a new file is to be stored; await it to begin. From [`Cluster::create`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens until it is awaited"]
pub struct CreateFile {
    cluster: Cluster,
    path: String,
    replace: bool,
    mode: u16,
    options: StorageOptions,
}

impl CreateFile {
    pub(super) fn new(cluster: Cluster, path: String) -> CreateFile {
        let config = cluster.tuning();
        let options = StorageOptions {
            replication: config.replication,
            quorum: config.quorum,
            chunk_bytes: config.chunk_bytes,
            durability: config.durability,
        };
        CreateFile { cluster, path, replace: false, mode: 0o644, options }
    }

    /// Replace an existing file, at close and at once.
    pub fn replace(mut self, replace: bool) -> CreateFile {
        self.replace = replace;
        self
    }

    /// Permission bits; otherwise 0644.
    pub fn mode(mut self, mode: u16) -> CreateFile {
        self.mode = mode;
        self
    }

    /// Number of replicas (N); 0 takes the master's default.
    pub fn replication(mut self, replicas: u8) -> CreateFile {
        self.options.replication = replicas;
        self
    }

    /// Replicas that must hold bytes before they count as written (W); 0 takes the master's default.
    pub fn quorum(mut self, replicas: u8) -> CreateFile {
        self.options.quorum = replicas;
        self
    }

    /// Chunk size; 0 takes the master's default.
    pub fn chunk_bytes(mut self, bytes: u64) -> CreateFile {
        self.options.chunk_bytes = bytes;
        self
    }

    /// Whether bytes count as written only when they survive power loss.
    pub fn durability(mut self, durability: Durability) -> CreateFile {
        self.options.durability = durability;
        self
    }
}

impl IntoFuture for CreateFile {
    type Output = Result<FileWriter>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<FileWriter>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let CreateFile { cluster, path, replace, mode, options } = self;
            match cluster.call(ClientRequest::Create { path, replace, mode, options }).await? {
                ClientResponse::Created { handle, upload, .. } => {
                    Ok(FileWriter::new(cluster, handle, upload))
                }
                other => unreachable!("{other:?} in answer to Create"),
            }
        })
    }
}

impl Cluster {
    /// Gives up the upload of a [`FileWriter`] that is gone, and waits until the master has done so. One that has ended is no
    /// failure.
    pub async fn abort_upload(&self, upload: UploadId) -> Result<()> {
        match self.master(MasterRequest::AbortUpload { upload }).await {
            Ok(_) | Err(ClientError::Master(MasterError::UploadGone(_))) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

type Answer = oneshot::Receiver<Result<ClientResponse>>;

/// A file being written. It becomes visible, all at once, at [`FileWriter::close`]; dropped before, it never was.
///
/// Small writes are gathered into frames; [`FileWriter::write_bytes`] takes bytes without copying them. Through
/// [`AsyncWrite`], `flush` hands everything to the client and waits until its window has taken it, and `shutdown` closes.
#[derive(Debug)]
pub struct FileWriter {
    cluster: Cluster,
    handle: HandleId,
    upload: UploadId,
    gathered: BytesMut,
    frame: usize,
    waiting: VecDeque<Answer>,
    closing: Option<Answer>,
    status: Option<FileStatus>,
    failed: Option<ClientError>,
}

impl FileWriter {
    fn new(cluster: Cluster, handle: HandleId, upload: UploadId) -> FileWriter {
        let frame = cluster.tuning().frame_bytes.max(1) as usize;
        FileWriter {
            cluster,
            handle,
            upload,
            gathered: BytesMut::new(),
            frame,
            waiting: VecDeque::new(),
            closing: None,
            status: None,
            failed: None,
        }
    }

    /// Appends `bytes` without copying them. Returns when there is room for more; errors of earlier writes show here.
    pub async fn write_bytes(&mut self, mut bytes: Bytes) -> Result<()> {
        self.send_gathered();
        let most = WRITE_BYTES.min(self.cluster.tuning().write_window_bytes.max(1) as usize);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(most));
            std::future::poll_fn(|cx| self.poll_room(cx)).await?;
            self.send(piece);
        }
        Ok(())
    }

    /// Waits until every byte is stored as asked for, makes the file visible, and tells its attributes.
    pub async fn close(mut self) -> Result<FileStatus> {
        std::future::poll_fn(|cx| self.poll_close(cx)).await
    }

    /// Gives the file up: it never becomes visible, and what it took is free again. Dropping the writer does the same without
    /// waiting for the master, which is too late for a process that ends at once.
    pub async fn abort(self) -> Result<()> {
        let (cluster, upload) = (self.cluster.clone(), self.upload);
        drop(self);
        cluster.abort_upload(upload).await
    }

    /// What the master calls the file until it is complete; for [`Cluster::abort_upload`].
    pub fn upload(&self) -> UploadId {
        self.upload
    }

    fn send(&mut self, data: Bytes) {
        self.waiting.push_back(self.cluster.start(ClientRequest::Write { handle: self.handle, data }));
    }

    fn send_gathered(&mut self) {
        if !self.gathered.is_empty() {
            let data = self.gathered.split().freeze();
            self.send(data);
        }
    }

    /// Ready when fewer than `limit` writes wait.
    fn poll_waiting(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<()>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        while let Some(first) = self.waiting.front_mut() {
            let answer = match Pin::new(first).poll(cx) {
                Poll::Ready(answer) => answer.unwrap_or(Err(ClientError::Closed)),
                Poll::Pending if self.waiting.len() < limit => break,
                Poll::Pending => return Poll::Pending,
            };
            self.waiting.pop_front();
            if let Err(error) = answer {
                self.failed = Some(error.clone());
                // Nothing can follow the failed write. The abort's own fate changes nothing.
                drop(self.cluster.start(ClientRequest::Abort { handle: self.handle }));
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.poll_waiting(cx, WRITES_WAITING)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<FileStatus>> {
        if let Some(status) = &self.status {
            return Poll::Ready(Ok(status.clone()));
        }
        if self.closing.is_none() {
            if self.failed.is_none() {
                self.send_gathered();
            }
            ready!(self.poll_waiting(cx, 1))?;
        }
        let (cluster, handle) = (&self.cluster, self.handle);
        let closing = self.closing.get_or_insert_with(|| cluster.start(ClientRequest::Close { handle }));
        let answer = ready!(Pin::new(closing).poll(cx)).unwrap_or(Err(ClientError::Closed));
        self.closing = None;
        match answer {
            Ok(ClientResponse::Status(status)) => {
                self.status = Some(status.clone());
                Poll::Ready(Ok(status))
            }
            Ok(other) => unreachable!("{other:?} in answer to Close"),
            Err(error) => {
                self.failed = Some(error.clone());
                Poll::Ready(Err(error))
            }
        }
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if self.status.is_none() && self.failed.is_none() {
            drop(self.cluster.start(ClientRequest::Abort { handle: self.handle }));
        }
    }
}

impl AsyncWrite for FileWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.closing.is_some() || self.status.is_some() {
            return Poll::Ready(Err(io_error(ClientError::BadHandle)));
        }
        ready!(self.poll_room(cx)).map_err(io_error)?;
        let frame = self.frame;
        if self.gathered.capacity() == 0 {
            self.gathered.reserve(frame);
        }
        let taken = bytes.len().min(frame - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == frame {
            self.send_gathered();
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failed.is_none() {
            self.send_gathered();
        }
        self.poll_waiting(cx, 1).map_err(io_error)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_close(cx).map(|closed| closed.map(|_| ()).map_err(io_error))
    }
}
