//! Commands that move bytes: put, get, cat.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bins::exit::{Exit, Failure, unless_forced};
use bytes::{Bytes, BytesMut};
use cairn_core::error::{ClientError, MasterError};
use cairn_core::message::FileStatus;
use indicatif::ProgressBar;
use runtime_real::client::Cluster;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use crate::args::{CatArgs, GetArgs, PutArgs, without_slash};
use crate::namespace::{base_name, join};
use crate::output::{Output, status_json};

/// Bytes handed to the client at once.
const PIECE: usize = 1024 * 1024;

struct Put<'a> {
    cluster: &'a Cluster,
    out: Output,
    args: &'a PutArgs,
}

pub(crate) async fn put(cluster: &Cluster, out: Output, args: PutArgs) -> Result<()> {
    let put = Put { cluster, out, args: &args };
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
    for source in &args.sources {
        if source == "-" {
            if into {
                return Err(Failure::usage("standard input has no name: give the target's path").into());
            }
            put.stream(tokio::io::stdin(), "-", None, &args.target, 0o644).await?;
            continue;
        }
        let local = Path::new(source);
        let metadata = local_metadata(local)?;
        let target = if into { join(&args.target, local_name(local)?) } else { args.target.clone() };
        if metadata.is_dir() {
            if !args.recursive {
                return Err(Failure::usage(format!("{source}: is a directory (use -r)")).into());
            }
            put.tree(local, &target).await?;
        } else {
            put.file(local, &target).await?;
        }
    }
    Ok(())
}

async fn is_directory(cluster: &Cluster, path: &str) -> Result<bool> {
    match cluster.stat(without_slash(path)).await {
        Ok(status) => Ok(status.directory),
        Err(ClientError::Master(MasterError::NotFound(_))) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn local_metadata(path: &Path) -> Result<std::fs::Metadata> {
    std::fs::metadata(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())).into())
}

fn local_name(path: &Path) -> Result<&str> {
    path.file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(|| Failure::usage(format!("{}: has no name in UTF-8", path.display())).into())
}

impl Put<'_> {
    async fn tree(&self, local: &Path, target: &str) -> Result<()> {
        let mut pending = vec![(local.to_owned(), target.to_owned())];
        while let Some((local, target)) = pending.pop() {
            self.cluster.mkdir(&target, true, 0o755).await?;
            let mut entries: Vec<_> = std::fs::read_dir(&local)
                .and_then(Iterator::collect)
                .map_err(|error| Failure::usage(format!("{}: {error}", local.display())))?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            for entry in entries {
                let path = entry.path();
                let target = join(&target, local_name(&path)?);
                let kind = local_metadata(&path)?;
                if kind.is_dir() {
                    pending.push((path, target));
                } else if kind.is_file() {
                    self.file(&path, &target).await?;
                } else {
                    self.out.say(&format!("{}: left out, not a file or directory", path.display()))?;
                }
            }
        }
        Ok(())
    }

    async fn file(&self, local: &Path, target: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let metadata = local_metadata(local)?;
        let file = tokio::fs::File::open(local)
            .await
            .map_err(|error| Failure::usage(format!("{}: {error}", local.display())))?;
        let mode = (metadata.permissions().mode() & 0o777) as u16;
        let length = metadata.is_file().then_some(metadata.len());
        self.stream(file, &local.display().to_string(), length, target, mode).await
    }

    async fn stream(
        &self,
        mut from: impl AsyncRead + Unpin,
        name: &str,
        length: Option<u64>,
        target: &str,
        mode: u16,
    ) -> Result<()> {
        let create = self.cluster.create(target).replace(self.args.force).mode(mode);
        let hint = |error| unless_forced(self.args.force, error);
        let mut writer = self.args.storage.apply(create).await.map_err(hint)?;
        let bar = self.out.progress(target, length);
        loop {
            let piece = match read_piece(&mut from).await {
                Ok(piece) if piece.is_empty() => break,
                Ok(piece) => piece,
                Err(error) => {
                    // What was read so far must not stay behind until the upload expires. The error that matters is the first.
                    let _ = writer.abort().await;
                    return Err(anyhow::Error::new(error).context(format!("reading {name}")));
                }
            };
            let length = piece.len() as u64;
            writer.write_bytes(piece).await?;
            bar.inc(length);
        }
        let status = writer.close().await.map_err(hint)?;
        if self.out.json { self.out.result("", &status_json(&status)) } else { Ok(()) }
    }
}

/// The next bytes, as many as fit into one piece; empty at the end.
async fn read_piece(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Bytes> {
    let mut piece = BytesMut::with_capacity(PIECE);
    while piece.len() < PIECE && from.read_buf(&mut piece).await? > 0 {}
    Ok(piece.freeze())
}

pub(crate) async fn get(cluster: &Cluster, out: Output, args: GetArgs) -> Result<()> {
    if args.target == "-" {
        for source in &args.sources {
            copy_out(cluster, source, 0, None).await?;
        }
        return Ok(());
    }
    let target = Path::new(&args.target);
    let into = target.is_dir();
    if !into && (args.sources.len() > 1 || args.target.ends_with('/')) {
        return Err(Failure::usage(format!("{}: no such local directory", args.target)).into());
    }
    for source in &args.sources {
        let status = cluster.stat(source).await?;
        let local = if into { target.join(base_name(source)?) } else { target.to_owned() };
        if status.directory {
            if !args.recursive {
                return Err(Failure::usage(format!("{source}: is a directory (use -r)")).into());
            }
            get_tree(cluster, out, &args, source, &local).await?;
        } else {
            get_file(cluster, out, &args, source, &status, &local).await?;
        }
    }
    Ok(())
}

async fn get_tree(cluster: &Cluster, out: Output, args: &GetArgs, source: &str, local: &Path) -> Result<()> {
    let mut pending = vec![(source.to_owned(), local.to_owned())];
    while let Some((source, local)) = pending.pop() {
        std::fs::create_dir_all(&local).map_err(|e| Failure::usage(format!("{}: {e}", local.display())))?;
        let mut listing = cluster.list(&source);
        while let Some(entries) = listing.next_page().await? {
            for entry in entries {
                let (from, to) = (join(&source, &entry.path), local.join(&entry.path));
                if entry.directory {
                    pending.push((from, to));
                } else {
                    get_file(cluster, out, args, &from, &entry, &to).await?;
                }
            }
        }
    }
    Ok(())
}

/// Fetches into a temporary neighbour and renames it, so that a file is never seen half done.
async fn get_file(
    cluster: &Cluster,
    out: Output,
    args: &GetArgs,
    source: &str,
    status: &FileStatus,
    local: &Path,
) -> Result<()> {
    if is_special(local) {
        // A device or a pipe is written to; a rename would replace it.
        let bar = out.progress(source, Some(status.length));
        let length = fetch(cluster, source, local, &bar).await?;
        return fetched(out, source, local, length);
    }
    if local.exists() && !args.force {
        let message = format!("{}: already exists (use -f to overwrite)", local.display());
        return Err(Failure::new(Exit::Refused, message).into());
    }
    if let Some(parent) = local.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        return Err(Failure::usage(format!("{}: no such local directory", parent.display())).into());
    }
    let temporary = temporary_neighbour(local)?;
    let bar = out.progress(source, Some(status.length));
    let result = fetch(cluster, source, &temporary, &bar).await;
    match result {
        Ok(length) => {
            std::fs::rename(&temporary, local)
                .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", local.display())))?;
            fetched(out, source, local, length)
        }
        Err(error) => {
            // The error that matters is the first one.
            let _ = std::fs::remove_file(&temporary);
            Err(error)
        }
    }
}

fn is_special(local: &Path) -> bool {
    std::fs::metadata(local).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

fn fetched(out: Output, source: &str, local: &Path, length: u64) -> Result<()> {
    let value = json!({ "path": source, "target": local.display().to_string(), "length": length });
    if out.json { out.result("", &value) } else { Ok(()) }
}

fn temporary_neighbour(local: &Path) -> Result<PathBuf> {
    let name =
        local.file_name().ok_or_else(|| Failure::usage(format!("{}: names no file", local.display())))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".cairn-{}", std::process::id()));
    Ok(local.with_file_name(temporary))
}

async fn fetch(cluster: &Cluster, source: &str, local: &Path, bar: &ProgressBar) -> Result<u64> {
    let mut reader = cluster.open(source).await?;
    let mut file = tokio::fs::File::create(local)
        .await
        .map_err(|error| Failure::usage(format!("{}: {error}", local.display())))?;
    let mut length = 0;
    while let Some(bytes) = reader.next_bytes().await? {
        file.write_all(&bytes).await.with_context(|| format!("writing {}", local.display()))?;
        length += bytes.len() as u64;
        bar.inc(bytes.len() as u64);
    }
    file.flush().await.with_context(|| format!("writing {}", local.display()))?;
    Ok(length)
}

pub(crate) async fn cat(cluster: &Cluster, args: CatArgs) -> Result<()> {
    for path in &args.paths.all {
        copy_out(cluster, path, args.offset, args.length).await?;
    }
    Ok(())
}

async fn copy_out(cluster: &Cluster, path: &str, offset: u64, length: Option<u64>) -> Result<()> {
    let mut reader = cluster.open(path).await?;
    let mut left = length.unwrap_or(u64::MAX);
    reader.seek_to(offset);
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let Some(bytes) = reader.next_bytes().await? else { break };
        let part = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        out.write_all(&bytes[..part])?;
        left -= part as u64;
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_neighbour_stays_in_the_directory() {
        let path = temporary_neighbour(Path::new("/a/b")).unwrap();
        assert_eq!(path.parent(), Some(Path::new("/a")));
        assert!(temporary_neighbour(Path::new("/")).is_err());
    }

    #[tokio::test]
    async fn pieces_are_full_until_the_end() {
        let data = vec![3_u8; PIECE + 5];
        let mut from = data.as_slice();
        assert_eq!(read_piece(&mut from).await.unwrap().len(), PIECE);
        assert_eq!(read_piece(&mut from).await.unwrap().len(), 5);
        assert!(read_piece(&mut from).await.unwrap().is_empty());
    }
}
