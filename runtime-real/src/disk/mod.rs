//! Disk operations on dedicated threads: a few for each data directory, one queue for each.
//!
//! Threads rather than a blocking pool: an operation on cached pages costs less than a hand-over to such a pool. Checksums
//! of what is read are computed here too, on the thread that has the bytes in its cache.

mod files;
mod operation;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use cairn_core::disk::{DiskError, DiskPath, DiskRequest, DiskResult};
use cairn_core::id::OpId;

use crate::buffer::Pool;
use crate::directory::DataDir;
use crate::environment::Disk;
use files::Files;

/// Told of every operation's end.
pub(crate) type Done = Arc<dyn Fn(OpId, DiskResult) + Send + Sync>;

/// The data directories of one node. Dropping it ends the threads once their current operations are done.
pub(crate) struct Disks {
    volumes: Vec<Arc<Volume>>,
    threads: Vec<JoinHandle<()>>,
    done: Done,
}

struct Volume {
    files: Files,
    pool: Arc<Pool>,
    queue: Mutex<Queue>,
    arrived: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(OpId, DiskRequest)>,
    /// Files being written to. A second writer would only spin on the kernel's lock of the file.
    writing: Vec<DiskPath>,
    idle: usize,
    closed: bool,
}

impl Disks {
    /// Starts `threads` threads for each of `directories`.
    pub(crate) fn start(directories: &[Arc<DataDir>], threads: u16, done: Done) -> std::io::Result<Disks> {
        let pool = Arc::new(Pool::default());
        let mut disks = Disks { volumes: Vec::new(), threads: Vec::new(), done };
        for (number, directory) in directories.iter().enumerate() {
            let volume = Arc::new(Volume {
                files: Files::new(directory.clone()),
                pool: pool.clone(),
                queue: Mutex::default(),
                arrived: Condvar::new(),
            });
            disks.volumes.push(volume.clone());
            for _ in 0..threads.max(1) {
                let (volume, done) = (volume.clone(), disks.done.clone());
                let thread = std::thread::Builder::new()
                    .name(format!("disk-{number}"))
                    .spawn(move || volume.work(&done))?;
                disks.threads.push(thread);
            }
        }
        Ok(disks)
    }
}

impl Disk for Disks {
    fn submit(&mut self, batch: &mut Vec<(OpId, DiskRequest)>) {
        for (op, request) in batch.drain(..) {
            match self.volumes.get(usize::from(volume_of(&request))) {
                Some(volume) => volume.put(op, request),
                None => (self.done)(op, Err(DiskError::Io("no such data directory".into()))),
            }
        }
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for volume in &self.volumes {
            let mut queue = volume.queue.lock().unwrap_or_else(PoisonError::into_inner);
            // As in a crash: what was not begun does not happen.
            queue.closed = true;
            queue.waiting.clear();
            volume.arrived.notify_all();
        }
        for thread in self.threads.drain(..) {
            // A panicked disk thread has already told so.
            let _ = thread.join();
        }
    }
}

impl Queue {
    /// Takes out the first operation that need not wait for another.
    fn next(&mut self) -> Option<(OpId, DiskRequest)> {
        let writing = &self.writing;
        let free = |request: &DiskRequest| match request {
            DiskRequest::Write { path, .. } => !writing.contains(path),
            _ => true,
        };
        let at = self.waiting.iter().position(|(_, request)| free(request))?;
        let next = self.waiting.remove(at)?;
        if let DiskRequest::Write { path, .. } = &next.1 {
            self.writing.push(path.clone());
        }
        Some(next)
    }
}

impl Volume {
    fn put(&self, op: OpId, request: DiskRequest) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push_back((op, request));
        if queue.idle > 0 {
            self.arrived.notify_one();
        }
    }

    /// The next operation, and the numbers of others that it answers too.
    fn take(&self) -> Option<(OpId, DiskRequest, Vec<OpId>)> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if queue.closed {
                return None;
            }
            if let Some((op, request)) = queue.next() {
                let also = same_sync(&mut queue.waiting, &request);
                return Some((op, request, also));
            }
            queue.idle += 1;
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// Lets the next write to the same file go ahead.
    fn written(&self, request: &DiskRequest) {
        if let DiskRequest::Write { path, .. } = request {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.writing.retain(|other| other != path);
            if queue.idle > 0 && !queue.waiting.is_empty() {
                self.arrived.notify_one();
            }
        }
    }

    fn work(&self, done: &Done) {
        while let Some((op, request, also)) = self.take() {
            let result = operation::carry_out(&self.files, &self.pool, &request);
            self.written(&request);
            drop(request);
            for other in also {
                done(other, result.clone());
            }
            done(op, result);
        }
    }
}

/// Takes out the other waiting syncs of what `request` syncs. They were asked for before the one call begins, so what they
/// are to cover was written before it begins.
fn same_sync(waiting: &mut VecDeque<(OpId, DiskRequest)>, request: &DiskRequest) -> Vec<OpId> {
    if !matches!(request, DiskRequest::Sync(_) | DiskRequest::SyncDir(_)) {
        return Vec::new();
    }
    let mut also = Vec::new();
    waiting.retain(|(op, other)| {
        let same = other == request;
        if same {
            also.push(*op);
        }
        !same
    });
    also
}

fn volume_of(request: &DiskRequest) -> u16 {
    let path: &DiskPath = match request {
        DiskRequest::Space { volume } => return *volume,
        DiskRequest::MakeDir(path)
        | DiskRequest::List(path)
        | DiskRequest::Read { path, .. }
        | DiskRequest::Write { path, .. }
        | DiskRequest::Sync(path)
        | DiskRequest::Truncate { path, .. }
        | DiskRequest::Rename { from: path, .. }
        | DiskRequest::Remove(path)
        | DiskRequest::SyncDir(path) => path,
    };
    path.volume
}

#[cfg(test)]
mod tests;
