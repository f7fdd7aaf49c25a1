//! One disk operation, carried out by system calls on the calling thread.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::disk::{DiskError, DiskOk, DiskPath, DiskRequest, DiskResult, Entry};
use cairn_core::payload::Payload;

use super::files::Files;
use crate::buffer::Pool;

/// Buffers of one vectored write (the kernel takes 1,024).
const VECTORS: usize = 256;

pub(crate) fn carry_out(files: &Files, pool: &Arc<Pool>, request: &DiskRequest) -> DiskResult {
    let outcome = match request {
        DiskRequest::MakeDir(path) => files.path(&path.name).and_then(fs::create_dir_all).map(done),
        DiskRequest::List(path) => list(files, path),
        DiskRequest::Read { path, offset, length } => read(files, pool, path, *offset, *length),
        DiskRequest::Write { path, offset, data, create } => write(files, path, *offset, data, *create),
        DiskRequest::Sync(path) => files.open(&path.name, false).and_then(|file| file.sync_data()).map(done),
        DiskRequest::Truncate { path, length } => {
            files.open(&path.name, false).and_then(|file| file.set_len(*length)).map(done)
        }
        DiskRequest::Rename { from, to } if from.volume != to.volume => {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "rename between data directories"))
        }
        DiskRequest::Rename { from, to } => files.changing(&[&from.name, &to.name], || {
            fs::rename(files.path(&from.name)?, files.path(&to.name)?).map(done)
        }),
        DiskRequest::Remove(path) => {
            files.changing(&[&path.name], || fs::remove_file(files.path(&path.name)?).map(done))
        }
        DiskRequest::SyncDir(path) => {
            files.path(&path.name).and_then(File::open).and_then(|directory| directory.sync_all()).map(done)
        }
        DiskRequest::Space { .. } => space(files),
    };
    outcome.map_err(|error| classify(&error))
}

fn done(_: ()) -> DiskOk {
    DiskOk::Done
}

fn list(files: &Files, path: &DiskPath) -> io::Result<DiskOk> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(files.path(&path.name)?)? {
        let entry = entry?;
        let about = match entry.metadata() {
            Ok(about) => about,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue, // removed meanwhile
            Err(error) => return Err(error),
        };
        let directory = about.is_dir();
        let length = if directory { 0 } else { about.len() };
        entries.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), length, directory });
    }
    Ok(DiskOk::Entries(entries))
}

fn read(files: &Files, pool: &Arc<Pool>, path: &DiskPath, offset: u64, length: u32) -> io::Result<DiskOk> {
    let file = files.open(&path.name, false)?;
    let mut buffer = pool.take(length as usize);
    let mut filled = 0;
    while filled < buffer.space().len() {
        match file.read_at(&mut buffer.space()[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(DiskOk::Data(Payload::new(offset, buffer.freeze(()))))
}

fn write(files: &Files, path: &DiskPath, offset: u64, data: &[Bytes], create: bool) -> io::Result<DiskOk> {
    let file = files.open(&path.name, create)?;
    if let [single] = data {
        file.write_all_at(single, offset)?;
        return Ok(DiskOk::Done);
    }
    let (mut at, mut index, mut within) = (offset, 0, 0);
    while index < data.len() {
        if within == data[index].len() {
            (index, within) = (index + 1, 0);
            continue;
        }
        let mut slices = vec![IoSlice::new(&data[index][within..])];
        slices.extend(data[index + 1..].iter().take(VECTORS - 1).map(|bytes| IoSlice::new(bytes)));
        let mut written = match rustix::io::pwritev(&*file, &slices, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        at += written as u64;
        while written > 0 {
            let step = written.min(data[index].len() - within);
            within += step;
            written -= step;
            if within == data[index].len() {
                (index, within) = (index + 1, 0);
            }
        }
    }
    Ok(DiskOk::Done)
}

fn space(files: &Files) -> io::Result<DiskOk> {
    let about = rustix::fs::statvfs(files.path("")?)?;
    Ok(DiskOk::Space { total: about.f_blocks * about.f_frsize, free: about.f_bavail * about.f_frsize })
}

fn classify(error: &io::Error) -> DiskError {
    match error.kind() {
        io::ErrorKind::NotFound => DiskError::NotFound,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            DiskError::NoSpace
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            DiskError::ReadOnly(error.to_string())
        }
        _ => DiskError::Io(error.to_string()),
    }
}
