//! Commands on names: ls, mkdir, mv, rm, restore, chmod, chown, stat, checksum, du.

use anyhow::{Context, Result};
use bins::exit::{Exit, Failure, unless_forced};
use cairn_core::error::{ClientError, MasterError};
use cairn_core::id::{ChunkUuid, ClusterId, TrashId};
use cairn_core::message::{ExtentPlan, FilePlan, FileStatus, MasterReply, MasterRequest};
use runtime_real::client::Cluster;
use serde_json::{Value, json};

use crate::args::{
    ChecksumArgs, ChmodArgs, ChownArgs, LsArgs, MkdirArgs, MvArgs, Paths, PathsOrRoot, RestoreArgs, RmArgs,
    without_slash,
};
use crate::output::{self, Output, status_json};

/// Calls `each` with every page of a directory, in name order.
pub(crate) async fn pages<F>(cluster: &Cluster, path: &str, mut each: F) -> Result<()>
where
    F: FnMut(Vec<FileStatus>) -> Result<()>,
{
    let mut listing = cluster.list(path);
    while let Some(entries) = listing.next_page().await? {
        each(entries)?;
    }
    Ok(())
}

pub(crate) async fn ls(cluster: &Cluster, out: Output, args: LsArgs) -> Result<()> {
    let several = args.paths.all.len() > 1;
    for path in &args.paths.all {
        if several {
            out.say(&format!("{path}:"))?;
        }
        pages(cluster, path, |entries| {
            if out.json {
                return entries.iter().try_for_each(|entry| out.result("", &status_json(entry)));
            }
            if entries.is_empty() {
                return Ok(());
            }
            if !args.long {
                let names: Vec<String> = entries.iter().map(name_of).collect();
                return out.result(&names.join("\n"), &Value::Null);
            }
            let rows = entries.iter().map(long_row).collect();
            out.result(&output::table(&[], rows, &[3, 4]), &Value::Null)
        })
        .await?;
    }
    Ok(())
}

fn name_of(entry: &FileStatus) -> String {
    if entry.directory { format!("{}/", entry.path) } else { entry.path.clone() }
}

fn long_row(entry: &FileStatus) -> Vec<String> {
    vec![
        output::mode(entry.directory, entry.mode),
        entry.owner.clone(),
        entry.group.clone(),
        if entry.directory { "-".into() } else { entry.replication.to_string() },
        if entry.directory { entry.length.to_string() } else { output::size(entry.length) },
        output::time(entry.modified),
        name_of(entry),
    ]
}

pub(crate) async fn mkdir(cluster: &Cluster, args: MkdirArgs) -> Result<()> {
    for path in &args.paths.all {
        cluster.mkdir(path, args.parents, args.mode).await?;
    }
    Ok(())
}

/// `base` itself, or `name` inside of it if it is a directory.
pub(crate) async fn into_directory(cluster: &Cluster, base: &str, name: &str) -> Result<String> {
    match cluster.stat(without_slash(base)).await {
        Ok(status) if status.directory => Ok(join(base, name)),
        Ok(_) if base.ends_with('/') => {
            Err(ClientError::Master(MasterError::NotADirectory(without_slash(base).to_owned())).into())
        }
        Ok(_) => Ok(base.to_owned()),
        Err(ClientError::Master(MasterError::NotFound(_))) if base.ends_with('/') => {
            Err(Failure::usage(format!("{base}: no such directory; make it with `cairn mkdir -p` first"))
                .into())
        }
        Err(ClientError::Master(MasterError::NotFound(_))) => Ok(base.to_owned()),
        Err(error) => Err(error.into()),
    }
}

/// `directory/name`.
pub(crate) fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

/// The last component of a path.
pub(crate) fn base_name(path: &str) -> Result<&str> {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Failure::usage(format!("{path:?} names no file")).into())
}

pub(crate) async fn mv(cluster: &Cluster, args: MvArgs) -> Result<()> {
    let to = into_directory(cluster, &args.to, base_name(&args.from)?).await?;
    cluster.rename(args.from, to, args.force).await.map_err(|error| unless_forced(args.force, error))
}

pub(crate) async fn rm(cluster: &Cluster, out: Output, args: RmArgs) -> Result<()> {
    for path in &args.paths.all {
        match cluster.delete(path, args.recursive).await {
            Ok(trash) if out.json => out.result("", &json!({ "path": path, "trash": trash.0 }))?,
            Ok(_) => {}
            Err(ClientError::Master(MasterError::NotFound(_))) if args.force => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub(crate) async fn restore(cluster: &Cluster, out: Output, args: RestoreArgs) -> Result<()> {
    let Some(what) = args.what else { return list_trash(cluster, out).await };
    let (entry, path) = match what.parse::<u64>() {
        Ok(number) => (Some(TrashId(number)), String::new()),
        Err(_) => (None, what),
    };
    let to = match args.to {
        Some(to) => Some(restored_to(cluster, &to, entry, &path).await?),
        None => None,
    };
    let restored = cluster.restore(path, entry, to).await.map_err(|error| match error {
        ClientError::Master(MasterError::AlreadyExists(path)) => {
            let text = format!("{path}: already exists (use --to PATH to bring it back to another path)");
            anyhow::Error::from(Failure::new(Exit::Refused, text))
        }
        error => error.into(),
    })?;
    out.result(&restored, &json!({ "path": restored }))
}

/// `to` itself, or in it under its old name if it is a directory.
async fn restored_to(cluster: &Cluster, to: &str, entry: Option<TrashId>, path: &str) -> Result<String> {
    let Some(id) = entry else { return into_directory(cluster, to, base_name(path)?).await };
    let mut listing = cluster.trash();
    while let Some(entries) = listing.next_page().await? {
        if let Some(found) = entries.iter().find(|entry| entry.id == id) {
            return into_directory(cluster, to, base_name(&found.path)?).await;
        }
    }
    Err(ClientError::Master(MasterError::NotFound(id.to_string())).into())
}

async fn list_trash(cluster: &Cluster, out: Output) -> Result<()> {
    let mut rows = Vec::new();
    let mut listing = cluster.trash();
    while let Some(entries) = listing.next_page().await? {
        for entry in entries {
            if out.json {
                let kind = if entry.directory { "directory" } else { "file" };
                let value = json!({
                    "trash": entry.id.0, "path": entry.path, "deleted_ms": entry.deleted.0,
                    "expires_ms": entry.expires.0, "type": kind, "by": entry.by,
                });
                out.result("", &value)?;
            } else {
                let name = if entry.directory { format!("{}/", entry.path) } else { entry.path };
                rows.push(vec![
                    entry.id.0.to_string(),
                    output::time(entry.deleted),
                    output::time(entry.expires),
                    entry.by,
                    name,
                ]);
            }
        }
    }
    if out.json {
        return Ok(());
    }
    if rows.is_empty() {
        return out.say("The trash is empty.");
    }
    let header = ["NUMBER", "DELETED (UTC)", "GONE FOR GOOD AT", "BY", "PATH"];
    out.result(&output::table(&header, rows, &[0]), &Value::Null)
}

pub(crate) async fn chmod(cluster: &Cluster, args: ChmodArgs) -> Result<()> {
    for path in &args.paths.all {
        cluster.chmod(path, args.mode).await?;
    }
    Ok(())
}

pub(crate) async fn chown(cluster: &Cluster, args: ChownArgs) -> Result<()> {
    let (owner, group) = match args.owner.split_once(':') {
        Some((owner, group)) => (owner, group),
        None => (args.owner.as_str(), ""),
    };
    if owner.is_empty() && group.is_empty() {
        return Err(Failure::usage("give OWNER, OWNER:GROUP or :GROUP").into());
    }
    let some = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    for path in &args.paths.all {
        cluster.chown(path, some(owner), some(group)).await?;
    }
    Ok(())
}

async fn locate(cluster: &Cluster, path: &str, offset: u64, length: u64) -> Result<FilePlan> {
    match cluster.master(MasterRequest::Locate { path: path.to_owned(), offset, length }).await? {
        MasterReply::Located(plan) => Ok(plan),
        other => Err(anyhow::anyhow!("unexpected answer {other:?}")),
    }
}

pub(crate) async fn stat(cluster: &Cluster, out: Output, args: Paths) -> Result<()> {
    let id = cluster.status().await?.cluster;
    for path in &args.all {
        let status = cluster.stat(path).await?;
        let extents =
            if status.directory { Vec::new() } else { extents(cluster, path, status.length).await? };
        if out.json {
            let mut value = status_json(&status);
            value["chunks"] = extents.iter().map(|extent| extent_json(id, extent)).collect();
            out.result("", &value)?;
        } else {
            out.result(&stat_text(id, &status, &extents), &Value::Null)?;
        }
    }
    Ok(())
}

/// All extents of a file, plan by plan.
pub(crate) async fn extents(cluster: &Cluster, path: &str, length: u64) -> Result<Vec<ExtentPlan>> {
    let mut extents = Vec::new();
    let mut at = 0;
    while at < length {
        let plan = locate(cluster, path, at, length - at).await?;
        let Some(last) = plan.extents.last() else { break };
        at = last.file_offset + last.length;
        extents.extend(plan.extents);
    }
    Ok(extents)
}

fn extent_json(cluster: ClusterId, extent: &ExtentPlan) -> Value {
    let replicas: Vec<Value> = extent
        .replicas
        .iter()
        .map(|r| json!({ "server": r.server.0.to_string(), "address": r.address.0.as_ref(), "rack": r.rack }))
        .collect();
    json!({
        "index": extent.index, "file_offset": extent.file_offset, "length": extent.length,
        "chunk": extent.chunk.chunk.0, "uuid": ChunkUuid::new(cluster, extent.chunk.chunk).to_string(),
        "version": extent.chunk.version.0, "crc32": format!("{:08x}", extent.chunk.crc),
        "replicas": replicas,
    })
}

fn stat_text(cluster: ClusterId, status: &FileStatus, extents: &[ExtentPlan]) -> String {
    let content = if status.directory {
        format!("{} entries", status.length)
    } else {
        format!("{} bytes, crc32 {:08x}", status.length, status.crc)
    };
    let mut text = format!(
        "{}\n  {}  {}:{}  {content}  modified {}",
        status.path,
        output::mode(status.directory, status.mode),
        status.owner,
        status.group,
        output::time(status.modified),
    );
    if !status.directory {
        let chunk = output::size(status.chunk_bytes);
        text.push_str(&format!("\n  replication {}, chunks of {chunk}", status.replication));
    }
    if !extents.is_empty() {
        let rows = extents.iter().map(|extent| {
            let places: Vec<String> = extent.replicas.iter().map(|r| r.address.to_string()).collect();
            vec![
                extent.index.to_string(),
                extent.file_offset.to_string(),
                extent.length.to_string(),
                ChunkUuid::new(cluster, extent.chunk.chunk).to_string(),
                extent.chunk.version.to_string(),
                if places.is_empty() { "NONE LIVE".into() } else { places.join(" ") },
            ]
        });
        let header = ["  #", "OFFSET", "LENGTH", "CHUNK", "VERSION", "REPLICAS"];
        text.push('\n');
        text.push_str(&output::table(&header, rows.collect(), &[0, 1, 2]));
    }
    text
}

pub(crate) async fn checksum(cluster: &Cluster, out: Output, args: ChecksumArgs) -> Result<()> {
    let mut different = 0;
    for path in &args.paths.all {
        let status = cluster.stat(path).await?;
        if status.directory {
            return Err(Failure::usage(format!("{path}: is a directory; name files")).into());
        }
        let mut good = true;
        if args.verify {
            let bar = out.progress(path, Some(status.length));
            let crc = read_crc(cluster, path, &bar).await.with_context(|| format!("reading {path}"))?;
            drop(bar);
            good = crc == status.crc;
        }
        let text = format!(
            "{:08x}  {path}{}",
            status.crc,
            if good { "" } else { "  DIFFERS FROM THE STORED BYTES" }
        );
        let value = json!({
            "path": path, "crc32": format!("{:08x}", status.crc),
            "verified": if args.verify { Value::Bool(good) } else { Value::Null },
        });
        out.result(&text, &value)?;
        different += u32::from(!good);
    }
    if different > 0 {
        return Err(
            Failure::new(Exit::Failed, format!("{different} files differ from their checksums")).into()
        );
    }
    Ok(())
}

/// Reads a whole file and sums it.
pub(crate) async fn read_crc(cluster: &Cluster, path: &str, bar: &indicatif::ProgressBar) -> Result<u32> {
    let mut reader = cluster.open(path).await?;
    let mut hasher = crc32fast::Hasher::new();
    while let Some(bytes) = reader.next_bytes().await? {
        hasher.update(&bytes);
        bar.inc(bytes.len() as u64);
    }
    Ok(hasher.finalize())
}

pub(crate) async fn du(cluster: &Cluster, out: Output, args: PathsOrRoot) -> Result<()> {
    for path in &args.all {
        let status = cluster.stat(path).await?;
        let (mut bytes, mut files, mut directories) = (0, 0_u64, 0_u64);
        let mut pending = Vec::new();
        if status.directory {
            pending.push(path.clone());
        } else {
            (bytes, files) = (status.length, 1);
        }
        while let Some(directory) = pending.pop() {
            directories += 1;
            pages(cluster, &directory, |entries| {
                for entry in entries {
                    if entry.directory {
                        pending.push(join(&directory, &entry.path));
                    } else {
                        bytes += entry.length;
                        files += 1;
                    }
                }
                Ok(())
            })
            .await?;
        }
        let text = format!("{}  {files} files  {directories} directories  {path}", output::size(bytes));
        let value = json!({ "path": path, "bytes": bytes, "files": files, "directories": directories });
        out.result(&text, &value)?;
    }
    Ok(())
}
