//! What must hold once everything is well again: the simulator's checkers over the wire, and the files on all disks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use cairn_core::id::{ChunkUuid, ClusterId};
use cairn_core::message::ExtentPlan;
use runtime_real::client::Cluster;
use workload::checker::{health, namespace};
use workload::content::Content;
use workload::generate::home;
use workload::operation::{Operation, Outcome};
use workload::perform::perform;
use workload::violation::Violations;

use super::cluster::Processes;
use super::damage::files_below;
use super::users::User;

/// How long a cluster may take to become whole: expiry of uploads, death, repair, and scrubbing of everything.
pub(super) const WHOLE_WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What a check came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checked {
    pub(super) files: usize,
    pub(super) bytes: u64,
    pub(super) replicas: usize,
    /// Seconds until everything was whole.
    pub(super) after: f64,
}

/// Waits until every chunk is at its goal and the master says so, compares everything that can be read with what may be
/// there, and reads every replica of every file from the disks.
pub(super) async fn whole(cluster: &Processes, users: &mut [User], violations: &Violations) -> Checked {
    let start = Instant::now();
    let client = cluster.client();
    let volumes = cluster.volumes();
    if let Err(text) = until(start, || healthy(&client, volumes.len())).await {
        violations.add("convergence", text);
        return Checked::default();
    }
    for user in &mut *users {
        namespace::check(&client, user.number, &mut user.model, violations).await;
        user.model.nothing_under_way();
    }
    let files: Vec<(String, Content)> = users.iter().flat_map(|user| user.model.certain_files()).collect();
    let mut checked = Checked { files: files.len(), ..Checked::default() };
    checked.bytes = files.iter().map(|(_, content)| u64::from(content.length)).sum();
    match until(start, || replicas(&client, &volumes, &files)).await {
        Ok(replicas) => checked.replicas = replicas,
        Err(text) => violations.add("replication", text),
    }
    checked.after = start.elapsed().as_secs_f64();
    checked
}

/// Repeats `check` until it succeeds or the time since `start` is over.
async fn until<T, F: Future<Output = Result<T, String>>>(
    start: Instant,
    check: impl Fn() -> F,
) -> Result<T, String> {
    loop {
        match check().await {
            Err(text) if start.elapsed() > WHOLE_WITHIN => {
                return Err(format!("{} s after healing: {text}", WHOLE_WITHIN.as_secs()));
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            done => return done,
        }
    }
}

/// What an operator sees: `status` and `fsck`.
async fn healthy(client: &Cluster, servers: usize) -> Result<(), String> {
    health::worries(&health::status(client).await?, servers)?;
    let mut scan = client.fsck();
    while let Some(findings) = scan.next_page().await.map_err(|error| error.to_string())? {
        if let Some(finding) = findings.first() {
            return Err(format!("fsck: {finding:?}"));
        }
    }
    Ok(())
}

/// Reads every replica of `files` from the disks; says how many there are.
async fn replicas(
    client: &Cluster,
    volumes: &[(String, PathBuf)],
    files: &[(String, Content)],
) -> Result<usize, String> {
    let cluster = health::status(client).await?.cluster;
    let mut found = 0;
    for (path, content) in files {
        let status = client.stat(path).await.map_err(|error| format!("{path}: {error}"))?;
        let goal = usize::from(status.replication).min(volumes.len());
        let length = u64::from(content.length);
        let extents = crate::namespace::extents(client, path, length);
        for extent in extents.await.map_err(|error| format!("{path}: {error:#}"))? {
            let compare = || compare(cluster, volumes, *content, &extent, goal);
            let good = tokio::task::block_in_place(compare);
            found += good.map_err(|text| format!("{path}, {}: {text}", extent.chunk.chunk))?;
        }
    }
    Ok(found)
}

/// Compares all replicas of a chunk, which must be on the very servers that the master names.
fn compare(
    cluster: ClusterId,
    volumes: &[(String, PathBuf)],
    content: Content,
    extent: &ExtentPlan,
    goal: usize,
) -> Result<usize, String> {
    let id = extent.chunk.chunk;
    let name = format!("chunks/{:02x}/chunk-{}", id.0 & 0xff, ChunkUuid::new(cluster, id));
    let wanted = content.bytes(extent.file_offset, extent.length);
    let mut holders = Vec::new();
    for (address, volume) in volumes {
        let Ok(bytes) = std::fs::read(volume.join(&name)) else { continue };
        let (start, end) = (extent.chunk_offset as usize, (extent.chunk_offset + extent.length) as usize);
        if bytes.len() as u64 != extent.chunk.length || bytes.get(start..end) != Some(&wanted[..]) {
            return Err(format!("the replica in {} is not what was written", volume.display()));
        }
        holders.push(address.as_str());
    }
    let mut named: Vec<&str> = extent.replicas.iter().map(|replica| &*replica.address.0).collect();
    named.sort_unstable();
    holders.sort_unstable();
    if holders != named || holders.len() != goal {
        return Err(format!("the master names {named:?}, disks of {holders:?} have it, the goal is {goal}"));
    }
    Ok(holders.len())
}

/// Deletes everything that a user has.
pub(super) async fn delete_home(client: &Cluster, user: &mut User, violations: &Violations) {
    let operation = Operation::Delete { path: home(user.number), recursive: true };
    let outcome = perform(client, &operation).await;
    if let Outcome::Failed(error) | Outcome::Unknown(error) = &outcome {
        violations.add("progress", format!("{operation:?} in peace: {error}"));
    }
    if let Err(text) = user.model.learn(&operation, &outcome) {
        violations.add("namespace", text);
    }
}

/// Once everything is deleted and `undelete` is over, no disk holds a chunk any more. The chunkservers `keepers`, whose
/// journals rotted, keep for an operator what no journal describes.
pub(super) async fn empty(
    cluster: &Processes,
    undelete: Duration,
    keepers: &BTreeSet<usize>,
    violations: &Violations,
) {
    let client = cluster.client();
    let volumes = cluster.volumes();
    tokio::time::sleep(undelete).await;
    if let Err(text) = until(Instant::now(), || nothing_left(&client, &volumes, keepers)).await {
        violations.add("leaks", text);
    }
}

async fn nothing_left(
    client: &Cluster,
    volumes: &[(String, PathBuf)],
    keepers: &BTreeSet<usize>,
) -> Result<(), String> {
    let status = health::status(client).await?;
    let left = [("files", status.files), ("entries of the trash", status.trash), ("chunks", status.chunks)];
    if let Some((what, count)) = left.iter().find(|(_, count)| *count > 0) {
        return Err(format!("the catalog keeps {count} {what}"));
    }
    for (server, (_, volume)) in volumes.iter().enumerate() {
        for place in ["chunks", "staging", "quarantine"] {
            let mut files = files_below(&volume.join(place));
            files.retain(|file| !(keepers.contains(&server) && file.extension() == Some("keep".as_ref())));
            if let Some(file) = files.first() {
                return Err(format!("{} is left over", file.display()));
            }
        }
    }
    Ok(())
}
