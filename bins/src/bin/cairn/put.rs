//! `cairn put`: local files and trees into the cluster.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bins::exit::{Exit, Failure, exit_of, is_broken_pipe, unless_forced};
use bytes::{Bytes, BytesMut};
use cairn_core::error::{ClientError, MasterError};
use cairn_core::message::FileStatus;
use indicatif::ProgressBar;
use runtime_real::client::{Cluster, FileWriter};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OnceCell;

use crate::args::{PutArgs, without_slash};
use crate::health;
use crate::interrupt::{GRACE, Stop};
use crate::namespace::join;
use crate::output::{Output, status_json};

/// Bytes handed to the client at once.
const PIECE: usize = 1024 * 1024;

struct Put<'a> {
    cluster: &'a Cluster,
    out: Output,
    args: &'a PutArgs,
    stop: Stop,
    /// Chunkservers that can hold replicas, if the master told.
    servers: OnceCell<Option<usize>>,
    /// Whether the user knows that there are too few of them.
    noted: Cell<bool>,
    /// Entries looked at, and those among them that could not be stored.
    entries: Cell<u64>,
    failed: Cell<u64>,
}

pub(crate) async fn put(cluster: &Cluster, out: Output, args: PutArgs, stop: Stop) -> Result<()> {
    let (servers, noted) = (OnceCell::new(), Cell::new(false));
    let (entries, failed) = (Cell::new(0), Cell::new(0));
    let put = Put { cluster, out, args: &args, stop, servers, noted, entries, failed };
    if args.parents {
        let parent = if args.target.ends_with('/') || args.sources.len() > 1 {
            args.target.as_str()
        } else {
            args.target.rsplit_once('/').map_or("", |(parent, _)| parent)
        };
        if !parent.trim_end_matches('/').is_empty() {
            cluster.mkdir(without_slash(parent), true, 0o755).await?;
        }
    }
    let into = is_directory(cluster, &args.target).await?;
    if args.sources.len() > 1 && !into {
        return Err(
            Failure::usage(format!("{}: not a directory; several sources need one", args.target)).into()
        );
    }
    if !into && args.target.ends_with('/') {
        return Err(Failure::usage(format!("{}: no such directory (use -p to make it)", args.target)).into());
    }
    if let [source] = &args.sources[..] {
        put.source(source, into).await?;
    } else {
        for source in &args.sources {
            put.count(put.source(source, into).await)?;
        }
    }
    match put.failed.get() {
        0 => Ok(()),
        failed => {
            let text = format!("{failed} of {} entries were not stored; see above", put.entries.get());
            Err(Failure::new(Exit::Failed, text).into())
        }
    }
}

async fn is_directory(cluster: &Cluster, path: &str) -> Result<bool> {
    match cluster.stat(without_slash(path)).await {
        Ok(status) => Ok(status.directory),
        Err(ClientError::Master(MasterError::NotFound(_))) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn local_error(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

/// The name that `path` gets in the cluster; that of the directory itself for `.` and `..`.
fn local_name(path: &Path) -> Result<String> {
    let whole = match path.file_name() {
        Some(_) => path.to_owned(),
        None => path.canonicalize().map_err(|error| local_error(path, &error))?,
    };
    match whole.file_name().map(|name| name.to_str()) {
        Some(Some(name)) => Ok(name.to_owned()),
        Some(None) => Err(Failure::usage(format!("{}: has no name in UTF-8", path.display())).into()),
        None => Err(Failure::usage(format!("{}: has no name; give the target's", path.display())).into()),
    }
}

impl Put<'_> {
    /// What is wrong with one of several entries is told and does not stop the others. What would stop them too does.
    fn count(&self, stored: Result<()>) -> Result<()> {
        let Err(error) = stored else { return Ok(()) };
        self.stop.check()?;
        if exit_of(&error) == Exit::Unavailable || is_broken_pipe(&error) {
            return Err(error);
        }
        self.failed.set(self.failed.get() + 1);
        self.out.complain(&format!("{error:#}"))
    }

    async fn source(&self, source: &str, into: bool) -> Result<()> {
        self.entries.set(self.entries.get() + 1);
        if source == "-" {
            if into {
                return Err(Failure::usage("standard input has no name: give the target's path").into());
            }
            return self.stream(tokio::io::stdin(), "-", None, &self.args.target, 0o644).await;
        }
        let local = Path::new(source);
        let metadata = std::fs::metadata(local).map_err(|error| local_error(local, &error))?;
        let target =
            if into { join(&self.args.target, &local_name(local)?) } else { self.args.target.clone() };
        if !metadata.is_dir() {
            return self.file(local, &target).await;
        }
        if !self.args.recursive {
            return Err(Failure::usage(format!("{source}: is a directory (use -r)")).into());
        }
        let mut pending = Vec::new();
        self.directory(local, &target, &mut pending).await?;
        while let Some((local, target)) = pending.pop() {
            self.stop.check()?;
            self.count(self.directory(&local, &target, &mut pending).await)?;
        }
        Ok(())
    }

    /// Stores a directory and its files; its directories are left for later. Symbolic links are not followed: they may lead
    /// out of the tree, or around in it.
    async fn directory(
        &self,
        local: &Path,
        target: &str,
        pending: &mut Vec<(PathBuf, String)>,
    ) -> Result<()> {
        let mut entries: Vec<_> = std::fs::read_dir(local)
            .and_then(Iterator::collect)
            .map_err(|error| local_error(local, &error))?;
        self.cluster.mkdir(target, true, 0o755).await?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            self.stop.check()?;
            self.entries.set(self.entries.get() + 1);
            self.count(self.entry(&entry, target, pending).await)?;
        }
        Ok(())
    }

    async fn entry(
        &self,
        entry: &std::fs::DirEntry,
        directory: &str,
        pending: &mut Vec<(PathBuf, String)>,
    ) -> Result<()> {
        let path = entry.path();
        let kind = entry.file_type().map_err(|error| local_error(&path, &error))?;
        if kind.is_symlink() {
            return self.out.say(&format!("{}: left out, a symbolic link", path.display()));
        }
        if !kind.is_dir() && !kind.is_file() {
            return self.out.say(&format!("{}: left out, not a file or directory", path.display()));
        }
        let target = join(directory, &local_name(&path)?);
        if kind.is_dir() {
            pending.push((path, target));
            return Ok(());
        }
        self.file(&path, &target).await
    }

    async fn file(&self, local: &Path, target: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(local).map_err(|error| local_error(local, &error))?;
        let file = tokio::fs::File::open(local).await.map_err(|error| local_error(local, &error))?;
        let mode = (metadata.permissions().mode() & 0o777) as u16;
        let length = metadata.is_file().then_some(metadata.len());
        self.stream(file, &local.display().to_string(), length, target, mode).await
    }

    async fn stream(
        &self,
        from: impl AsyncRead + Unpin,
        name: &str,
        length: Option<u64>,
        target: &str,
        mode: u16,
    ) -> Result<()> {
        let create = self.cluster.create(target).replace(self.args.force).mode(mode);
        let hint = |error| unless_forced(self.args.force, error);
        let writer = self.args.storage.apply(create).await.map_err(hint)?;
        let upload = writer.upload();
        let bar = self.out.progress(target, length);
        match self.stop.or(copy(from, name, writer, &bar, hint)).await {
            Ok(status) => {
                drop(bar);
                self.stored(&status).await
            }
            Err(error) => {
                // What was sent so far must not stay behind until the upload expires. The error that matters is the first.
                let _ = tokio::time::timeout(GRACE, self.cluster.abort_upload(upload)).await;
                Err(error)
            }
        }
    }

    async fn stored(&self, status: &FileStatus) -> Result<()> {
        let wanted = if status.length == 0 { 0 } else { usize::from(status.replication) };
        let ask = || async { self.cluster.status().await.ok().map(|status| health::usable(&status)) };
        let servers = self.servers.get_or_init(ask).await.unwrap_or(wanted);
        let lacking = wanted.saturating_sub(servers);
        if lacking > 0 && !self.noted.replace(true) {
            self.out.note(&format!(
                "{}: {wanted} replicas were asked for, {servers} chunkservers are live; the others are made when more come",
                status.path
            ))?;
        }
        if self.out.json {
            let mut value = status_json(status);
            value["replicas_lacking"] = lacking.into();
            self.out.result("", &value)?;
        }
        Ok(())
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    name: &str,
    mut writer: FileWriter,
    bar: &ProgressBar,
    hint: impl Fn(ClientError) -> anyhow::Error,
) -> Result<FileStatus> {
    loop {
        let piece = read_piece(&mut from).await.with_context(|| format!("reading {name}"))?;
        if piece.is_empty() {
            return writer.close().await.map_err(hint);
        }
        let length = piece.len() as u64;
        writer.write_bytes(piece).await?;
        bar.inc(length);
    }
}

/// The next bytes, as many as fit into one piece; empty at the end.
async fn read_piece(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Bytes> {
    let mut piece = BytesMut::with_capacity(PIECE);
    while piece.len() < PIECE && from.read_buf(&mut piece).await? > 0 {}
    Ok(piece.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_full_until_the_end() {
        let data = vec![3_u8; PIECE + 5];
        let mut from = data.as_slice();
        assert_eq!(read_piece(&mut from).await.unwrap().len(), PIECE);
        assert_eq!(read_piece(&mut from).await.unwrap().len(), 5);
        assert!(read_piece(&mut from).await.unwrap().is_empty());
    }

    #[test]
    fn a_directory_has_a_name_however_it_is_called() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        std::fs::create_dir(path.join("sub")).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(local_name(&path).unwrap(), name);
        assert_eq!(local_name(&path.join("sub/..")).unwrap(), name);
        assert!(local_name(Path::new("/")).is_err());
    }
}
