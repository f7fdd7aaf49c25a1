//! One disk operation, carried out by system calls on the calling thread.

use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use cairn_core::disk::{DiskError, DiskOk, DiskPath, DiskRequest, DiskResult, Entry};
use cairn_core::payload::Payload;
use rustix::fs::{AtFlags, Dir, FileType, Mode, fstatvfs, mkdirat, renameat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::files::{Files, within};
use crate::buffer::Pool;

/// Buffers of one vectored write (the kernel takes 1,024).
const VECTORS: usize = 256;

pub(crate) fn carry_out(files: &Files, pool: &Arc<Pool>, request: &DiskRequest) -> DiskResult {
    let outcome = match request {
        DiskRequest::MakeDir(path) => make_dir(files, &path.name).map(done),
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
            let root = files.directory().fd();
            renameat(root, within(&from.name)?, root, within(&to.name)?)?;
            Ok(DiskOk::Done)
        }),
        DiskRequest::Remove(path) => files.changing(&[&path.name], || {
            unlinkat(files.directory().fd(), within(&path.name)?, AtFlags::empty())?;
            Ok(DiskOk::Done)
        }),
        DiskRequest::SyncDir(path) => {
            files.open_directory(&path.name).and_then(|directory| directory.sync_all()).map(done)
        }
        DiskRequest::Space { .. } => space(files),
    };
    outcome.map_err(|error| match error.kind() {
        // In a directory that was removed nothing is found and nothing can be made.
        io::ErrorKind::NotFound => classify(&files.directory().check().err().unwrap_or(error)),
        _ => classify(&error),
    })
}

fn done(_: ()) -> DiskOk {
    DiskOk::Done
}

/// Makes the directory and its missing parents, below the data directory alone.
fn make_dir(files: &Files, name: &str) -> io::Result<()> {
    let root = files.directory().fd();
    let path = within(name)?;
    let parents: Vec<_> = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
    for path in parents.into_iter().rev().chain([path]) {
        match mkdirat(root, path, Mode::from_raw_mode(0o777)) {
            Ok(()) => {}
            Err(Errno::EXIST)
                if FileType::from_raw_mode(statat(root, path, AtFlags::empty())?.st_mode).is_dir() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn list(files: &Files, path: &DiskPath) -> io::Result<DiskOk> {
    let directory = files.open_directory(&path.name)?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let about = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(about) => about,
            Err(Errno::NOENT) => continue, // removed meanwhile
            Err(error) => return Err(error.into()),
        };
        let directory = FileType::from_raw_mode(about.st_mode).is_dir();
        let length = if directory { 0 } else { about.st_size.unsigned_abs() };
        entries.push(Entry { name: name.to_string_lossy().into_owned(), length, directory });
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
            Err(Errno::INTR) => continue,
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
    files.directory().check()?;
    let about = retry_on_intr(|| fstatvfs(files.directory().fd()))?;
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
