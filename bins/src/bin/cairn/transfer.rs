//! Commands that fetch bytes: get, cat.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use bins::exit::{Exit, Failure};
use cairn_core::message::FileStatus;
use indicatif::ProgressBar;
use runtime_real::client::Cluster;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::args::{CatArgs, GetArgs};
use crate::namespace::{base_name, join};
use crate::output::Output;

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

/// Fetches into a temporary neighbour and renames it, so that a file is never seen half done. Whatever ends this before takes
/// the neighbour along.
async fn get_file(
    cluster: &Cluster,
    out: Output,
    args: &GetArgs,
    source: &str,
    status: &FileStatus,
    local: &Path,
) -> Result<()> {
    let bar = out.progress(source, Some(status.length));
    if is_special(local) {
        // A device or a pipe is written to; a rename would replace it.
        let file = std::fs::File::options().write(true).open(local).map_err(|error| fault(local, &error))?;
        let length = fetch(cluster, source, file, local, &bar).await?;
        return fetched(out, source, local, length);
    }
    if local.is_dir() {
        let message = format!("{}: is a directory; a file can't take its place", local.display());
        return Err(Failure::new(Exit::Refused, message).into());
    }
    if local.exists() && !args.force {
        let message = format!("{}: already exists (use -f to overwrite)", local.display());
        return Err(Failure::new(Exit::Refused, message).into());
    }
    let parent = match local.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        return Err(Failure::usage(format!("{}: no such local directory", parent.display())).into());
    }
    // The name is short: with a part of the file's own it could be longer than names may be.
    let (file, temporary) = tempfile::Builder::new()
        .prefix(".cairn-")
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(|error| fault(parent, &error))?
        .into_parts();
    let length = fetch(cluster, source, file, local, &bar).await?;
    temporary
        .persist(local)
        .map_err(|error| Failure::new(Exit::Failed, fault(local, &error.error).message))?;
    drop(bar);
    fetched(out, source, local, length)
}

fn fault(local: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", local.display()))
}

fn is_special(local: &Path) -> bool {
    std::fs::metadata(local).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

fn fetched(out: Output, source: &str, local: &Path, length: u64) -> Result<()> {
    let value = json!({ "path": source, "target": local.display().to_string(), "length": length });
    if out.json { out.result("", &value) } else { Ok(()) }
}

async fn fetch(
    cluster: &Cluster,
    source: &str,
    file: std::fs::File,
    local: &Path,
    bar: &ProgressBar,
) -> Result<u64> {
    let mut reader = cluster.open(source).await?;
    let mut file = tokio::fs::File::from_std(file);
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
