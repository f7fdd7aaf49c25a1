//! The chaos monkey: a real cluster of separate processes under continuous upload, kill -9 at random, and at the end every
//! acknowledged file read back and compared. The same machines run in the simulator; this one proves the processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bins::exit::{Exit, Failure};
use bytes::Bytes;
use cairn_core::config::{ChunkserverConfig, ClientConfig, MasterConfig};
use cairn_core::error::{ClientError, MasterError};
use cairn_core::id::Durability;
use cairn_core::message::Identity;
use cairn_core::rng::Rng;
use runtime_real::client::Cluster;
use serde_json::json;
use tokio::sync::watch;

use crate::args::ChaosArgs;
use crate::health::is_healthy;
use crate::output::{self, Output};
use crate::processes::Daemon;

/// Uploads under way at once.
const UPLOADERS: u64 = 3;
/// Chunkservers that may be down at once: with three replicas and a quorum of two, more would only stop the load.
const DOWN_AT_ONCE: usize = 1;
/// Acknowledged bytes kept before the oldest files are verified and deleted.
const KEEP_BYTES: u64 = 1536 * 1024 * 1024;
/// How long a healed cluster may take to be fully replicated again.
const CONVERGENCE: Duration = Duration::from_secs(120);

/// What was promised for a path.
#[derive(Clone, Copy, Debug)]
struct Promise {
    length: u64,
    crc: u32,
}

#[derive(Debug, Default)]
struct Ledger {
    /// Files whose close was acknowledged.
    acknowledged: BTreeMap<String, Promise>,
    /// Files whose close or deletion has an unknown outcome: there, whole, or absent.
    unknown: BTreeMap<String, Promise>,
    uploads: u64,
    uploaded_bytes: u64,
    reads: u64,
    deleted: u64,
    failed: u64,
    lost: Vec<String>,
    corrupted: Vec<String>,
}

type Shared = Arc<Mutex<Ledger>>;

pub(crate) async fn run(out: Output, args: ChaosArgs) -> Result<()> {
    if !(args.minutes > 0.0 && args.minutes <= 24.0 * 60.0) {
        return Err(Failure::usage("--minutes takes a number above 0, up to 1440").into());
    }
    let temporary = tempfile::Builder::new().prefix("cairn-chaos-").tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    std::fs::create_dir_all(&dir).map_err(|error| Failure::usage(format!("{}: {error}", dir.display())))?;
    if std::fs::read_dir(&dir)?.next().is_some() {
        return Err(Failure::usage(format!(
            "{}: not empty; chaos starts a cluster of its own",
            dir.display()
        ))
        .into());
    }
    let (master_config, server_config) = write_configs(&dir)?;
    let mut cluster = Processes::start(&dir, &master_config, &server_config, args.chunkservers).await?;
    out.say(&format!(
        "chaos: 1 master, {} chunkservers under {}; seed {}, {} minutes",
        args.chunkservers,
        dir.display(),
        args.seed,
        args.minutes
    ))?;

    let ledger = Shared::default();
    let (stop, stopped) = watch::channel(false);
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for uploader in 0..UPLOADERS {
        let client = client(cluster.master.listen(), args.seed);
        tasks.spawn(upload_for_ever(client, args.seed, uploader, ledger.clone(), stopped.clone()));
    }
    tasks.spawn(read_for_ever(
        client(cluster.master.listen(), args.seed),
        args.seed,
        ledger.clone(),
        stopped.clone(),
    ));
    let end = started + Duration::from_secs_f64(args.minutes * 60.0);
    let monkey = cluster.storm(out, args.seed, end).await;
    // What is under way ends well, or badly, with everyone back: it would wait for a dead master until its deadline.
    let healed = cluster.heal().await;
    stop.send(true)?;
    while let Some(task) = tasks.join_next().await {
        task.context("a load task panicked")??;
    }
    let kills = monkey?;
    healed?;
    let report = judge(&cluster, args.seed, &ledger, started, kills).await?;
    cluster.stop().await?;
    let text = report.text();
    out.result(&text, &report.json(args.seed))?;
    if report.is_clean() {
        return Ok(());
    }
    let kept = temporary.keep();
    let place = args.dir.unwrap_or(kept);
    let message =
        format!("promises were broken; the cluster's directories and logs are kept in {}", place.display());
    Err(Failure::new(Exit::Failed, message).into())
}

/// Shorter time-outs than in production, so that a minute holds many deaths and repairs.
fn write_configs(dir: &Path) -> Result<(PathBuf, PathBuf)> {
    let master = MasterConfig {
        heartbeat_ms: 500,
        dead_after_ms: 3_000,
        block_report_ms: 5_000,
        lease_ms: 3_000,
        startup_grace_ms: 4_000,
        repair_delay_ms: 1_000,
        min_free_bytes: 64 * 1024 * 1024,
        chunk_bytes: 8 * 1024 * 1024,
        ..MasterConfig::default()
    };
    let server = ChunkserverConfig {
        reserve_bytes: 64 * 1024 * 1024,
        quarantine_ms: 5_000,
        reconnect_ms: 300,
        ..ChunkserverConfig::default()
    };
    let paths = (dir.join("master.yaml"), dir.join("chunkserver.yaml"));
    // JSON is YAML.
    std::fs::write(&paths.0, json!({ "tuning": master }).to_string())?;
    std::fs::write(&paths.1, json!({ "tuning": server }).to_string())?;
    Ok(paths)
}

fn client(master: &str, seed: u64) -> Cluster {
    let config = ClientConfig {
        request_timeout_ms: 2_000,
        read_timeout_ms: 2_000,
        append_timeout_ms: 4_000,
        operation_deadline_ms: 60_000,
        ..ClientConfig::default()
    };
    let user = Identity { user: format!("chaos{seed}"), groups: vec!["chaos".into()] };
    Cluster::builder().masters([master]).tuning(config).identity(user).connect()
}

struct Processes {
    master: Daemon,
    servers: Vec<Daemon>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Kills {
    servers: u64,
    master: u64,
}

impl Processes {
    async fn start(dir: &Path, master_config: &Path, server_config: &Path, count: u16) -> Result<Processes> {
        let mut master = Daemon::master(dir, Some(master_config))?;
        master.start().await?;
        let mut servers = Vec::new();
        for index in 1..=count {
            let mut server = Daemon::chunkserver(dir, index, master.listen(), Some(server_config))?;
            server.start().await?;
            servers.push(server);
        }
        let cluster = client(master.listen(), 0);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let ready = cluster.status().await.is_ok_and(|status| {
                status.servers.iter().filter(|server| server.live).count() == usize::from(count)
                    && !status.starting
            });
            if ready {
                break;
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "the cluster did not come up within 60 s; see {}",
                dir.display()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Processes { master, servers })
    }

    /// Kills and restarts until `end`. At most one chunkserver, and besides it the master, is down at a time.
    async fn storm(&mut self, out: Output, seed: u64, end: Instant) -> Result<Kills> {
        let mut rng = Rng::stream(seed, "monkey");
        let mut kills = Kills::default();
        let mut down: Vec<(Instant, usize)> = Vec::new();
        let mut master_back: Option<Instant> = None;
        let mut next = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = Instant::now();
            if master_back.is_some_and(|at| at <= now) {
                self.master.start().await?;
                master_back = None;
            }
            if let Some(at) = down.iter().position(|(at, _)| *at <= now) {
                let (_, server) = down.remove(at);
                self.servers[server].start().await?;
            }
            for index in 0..self.servers.len() {
                let expected_down = down.iter().any(|(_, server)| *server == index);
                anyhow::ensure!(
                    expected_down || self.servers[index].is_running(),
                    "{} ended by itself",
                    self.servers[index].name
                );
            }
            anyhow::ensure!(master_back.is_some() || self.master.is_running(), "the master ended by itself");
            if now < next {
                continue;
            }
            next = now + Duration::from_millis(rng.between(1_500, 5_000));
            let back = now + Duration::from_millis(rng.between(500, 6_000));
            if rng.chance(1, 5) && master_back.is_none() {
                self.master.kill().await?;
                master_back = Some(back);
                kills.master += 1;
                out.say("  kill -9 master")?;
            } else if down.len() < DOWN_AT_ONCE {
                let victim = rng.below(self.servers.len() as u64) as usize;
                self.servers[victim].kill().await?;
                down.push((back, victim));
                kills.servers += 1;
                out.say(&format!("  kill -9 {}", self.servers[victim].name))?;
            }
        }
        Ok(kills)
    }

    async fn heal(&mut self) -> Result<()> {
        if !self.master.is_running() {
            self.master.start().await?;
        }
        for server in &mut self.servers {
            if !server.is_running() {
                server.start().await?;
            }
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        for server in &mut self.servers {
            server.kill().await?;
        }
        self.master.kill().await
    }
}

/// The bytes of a file, piece by piece, from its seed.
fn pieces(seed: u64, length: u64) -> impl Iterator<Item = Bytes> {
    let mut rng = Rng::new(seed);
    let mut left = length;
    std::iter::from_fn(move || {
        let piece = left.min(256 * 1024) as usize;
        left -= piece as u64;
        (piece > 0).then(|| {
            let mut bytes = vec![0; piece];
            for word in bytes.chunks_mut(8) {
                let random = rng.u64().to_le_bytes();
                word.copy_from_slice(&random[..word.len()]);
            }
            Bytes::from(bytes)
        })
    })
}

async fn upload_for_ever(
    cluster: Cluster,
    seed: u64,
    uploader: u64,
    ledger: Shared,
    stopped: watch::Receiver<bool>,
) -> Result<()> {
    let mut rng = Rng::stream(seed, &format!("uploader {uploader}"));
    for number in 0_u64.. {
        if *stopped.borrow() {
            break;
        }
        let path = format!("/u{uploader}-{number:06}");
        let length = match rng.below(4) {
            0 => rng.below(100_000),
            1 => rng.below(8 * 1024 * 1024),
            _ => rng.between(8 * 1024 * 1024, 24 * 1024 * 1024),
        };
        let durability = if rng.chance(1, 2) { Durability::Sync } else { Durability::Async };
        let content = rng.u64();
        let mut hasher = crc32fast::Hasher::new();
        pieces(content, length).for_each(|piece| hasher.update(&piece));
        let promise = Promise { length, crc: hasher.finalize() };
        let result = upload(&cluster, &path, content, length, durability).await;
        let mut delete = None;
        {
            let mut ledger = ledger.lock().expect("no task panics with the ledger");
            ledger.uploads += 1;
            match result {
                Ok(()) => {
                    ledger.uploaded_bytes += length;
                    ledger.acknowledged.insert(path, promise);
                }
                Err(_) => {
                    ledger.failed += 1;
                    ledger.unknown.insert(path, promise);
                }
            }
            let kept: u64 = ledger.acknowledged.values().map(|promise| promise.length).sum();
            if kept > KEEP_BYTES
                && let Some((path, promise)) = ledger.acknowledged.pop_first()
            {
                ledger.unknown.insert(path.clone(), promise);
                delete = Some((path, promise));
            }
        }
        if let Some((path, promise)) = delete {
            check(&cluster, &path, promise, &ledger, false).await;
            let gone = cluster.delete(&path, false).await.is_ok();
            let mut ledger = ledger.lock().expect("no task panics with the ledger");
            if gone {
                ledger.unknown.remove(&path);
                ledger.deleted += 1;
            }
        }
    }
    Ok(())
}

async fn upload(
    cluster: &Cluster,
    path: &str,
    content: u64,
    length: u64,
    durability: Durability,
) -> Result<(), ClientError> {
    let mut writer = cluster.create(path).durability(durability).await?;
    for piece in pieces(content, length) {
        writer.write_bytes(piece).await?;
    }
    writer.close().await?;
    Ok(())
}

async fn read_for_ever(
    cluster: Cluster,
    seed: u64,
    ledger: Shared,
    stopped: watch::Receiver<bool>,
) -> Result<()> {
    let mut rng = Rng::stream(seed, "reader");
    while !*stopped.borrow() {
        let picked = {
            let ledger = ledger.lock().expect("no task panics with the ledger");
            let at = rng.below(ledger.acknowledged.len() as u64) as usize;
            ledger.acknowledged.iter().nth(at).map(|(path, promise)| (path.clone(), *promise))
        };
        match picked {
            Some((path, promise)) => check(&cluster, &path, promise, &ledger, false).await,
            None => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    Ok(())
}

/// Reads a file and compares. Wrong bytes are always a broken promise; an error is one only when `healed`. A file that was
/// deleted meanwhile, by the uploader that owns it, is none.
async fn check(cluster: &Cluster, path: &str, promise: Promise, ledger: &Shared, healed: bool) {
    let result = read(cluster, path).await;
    let mut ledger = ledger.lock().expect("no task panics with the ledger");
    ledger.reads += 1;
    let still_promised = ledger.acknowledged.contains_key(path);
    match result {
        Ok(found) if (found.length, found.crc) == (promise.length, promise.crc) => {}
        Ok(found) => ledger.corrupted.push(format!("{path}: {found:?} instead of {promise:?}")),
        Err(ClientError::Master(MasterError::NotFound(_))) if still_promised => {
            ledger.lost.push(format!("{path}: not found"));
        }
        Err(error) if healed => ledger.lost.push(format!("{path}: {error}")),
        Err(_) => {}
    }
}

async fn read(cluster: &Cluster, path: &str) -> Result<Promise, ClientError> {
    let mut reader = cluster.open(path).await?;
    let mut hasher = crc32fast::Hasher::new();
    let mut length = 0;
    while let Some(bytes) = reader.next_bytes().await? {
        hasher.update(&bytes);
        length += bytes.len() as u64;
    }
    Ok(Promise { length, crc: hasher.finalize() })
}

#[derive(Debug)]
struct Report {
    seconds: f64,
    kills: Kills,
    uploads: u64,
    files: usize,
    bytes: u64,
    uploaded_bytes: u64,
    unknown: usize,
    deleted: u64,
    failed: u64,
    reads: u64,
    lost: Vec<String>,
    corrupted: Vec<String>,
    unexpected: Vec<String>,
    replicated_after: Option<f64>,
}

/// After healing: full replication in time, every promise kept, nothing in the namespace that nobody wrote.
async fn judge(
    cluster: &Processes,
    seed: u64,
    ledger: &Shared,
    started: Instant,
    kills: Kills,
) -> Result<Report> {
    let client = client(cluster.master.listen(), seed);
    let healed = Instant::now();
    let mut replicated_after = None;
    while healed.elapsed() < CONVERGENCE {
        if client.status().await.is_ok_and(|status| {
            is_healthy(&status) && status.servers.iter().filter(|s| s.live).count() == cluster.servers.len()
        }) {
            replicated_after = Some(healed.elapsed().as_secs_f64());
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let promises = ledger.lock().expect("no task panics with the ledger").acknowledged.clone();
    for (path, promise) in &promises {
        check(&client, path, *promise, ledger, true).await;
    }
    let unknown = ledger.lock().expect("no task panics with the ledger").unknown.clone();
    for (path, promise) in &unknown {
        check_unknown(&client, path, *promise, ledger).await;
    }
    let mut unexpected = Vec::new();
    crate::namespace::pages(&client, "/", |entries| {
        for entry in entries {
            let path = format!("/{}", entry.path);
            if !promises.contains_key(&path) && !unknown.contains_key(&path) {
                unexpected.push(path);
            }
        }
        Ok(())
    })
    .await?;
    let mut ledger = ledger.lock().expect("no task panics with the ledger");
    Ok(Report {
        seconds: started.elapsed().as_secs_f64(),
        kills,
        uploads: ledger.uploads,
        files: promises.len(),
        bytes: promises.values().map(|promise| promise.length).sum(),
        uploaded_bytes: ledger.uploaded_bytes,
        unknown: unknown.len(),
        deleted: ledger.deleted,
        failed: ledger.failed,
        reads: ledger.reads,
        lost: std::mem::take(&mut ledger.lost),
        corrupted: std::mem::take(&mut ledger.corrupted),
        unexpected,
        replicated_after,
    })
}

/// A file with an unknown outcome may be absent; if it is there, it is whole.
async fn check_unknown(client: &Cluster, path: &str, promise: Promise, ledger: &Shared) {
    match client.stat(path).await {
        Err(ClientError::Master(MasterError::NotFound(_))) => {}
        _ => check(client, path, promise, ledger, true).await,
    }
}

impl Report {
    fn is_clean(&self) -> bool {
        self.lost.is_empty()
            && self.corrupted.is_empty()
            && self.unexpected.is_empty()
            && self.replicated_after.is_some()
            && self.files > 0
    }

    fn text(&self) -> String {
        let mut text = format!(
            "chaos: {:.0} s, kill -9 of {} chunkservers and {} masters\n  \
             {} uploads, {} failed; {} acknowledged in all, {} files ({}) at the end, {} deleted, {} with unknown outcome\n  \
             {} reads verified; lost {}, corrupted {}, unexpected {}\n  {}",
            self.seconds,
            self.kills.servers,
            self.kills.master,
            self.uploads,
            self.failed,
            output::size(self.uploaded_bytes),
            self.files,
            output::size(self.bytes),
            self.deleted,
            self.unknown,
            self.reads,
            self.lost.len(),
            self.corrupted.len(),
            self.unexpected.len(),
            match self.replicated_after {
                Some(seconds) => format!("fully replicated {seconds:.1} s after the last restart"),
                None => format!("NOT fully replicated within {} s", CONVERGENCE.as_secs()),
            },
        );
        let findings =
            [("LOST", &self.lost), ("CORRUPTED", &self.corrupted), ("UNEXPECTED", &self.unexpected)];
        for (kind, items) in findings {
            for item in items.iter().take(20) {
                text.push_str(&format!("\n  {kind} {item}"));
            }
        }
        text.push_str(if self.is_clean() { "\nclean" } else { "\nFAILED" });
        text
    }

    fn json(&self, seed: u64) -> serde_json::Value {
        json!({
            "seed": seed, "seconds": self.seconds, "uploads": self.uploads, "acknowledged_files": self.files,
            "acknowledged_bytes": self.bytes, "unknown": self.unknown, "failed": self.failed, "reads": self.reads,
            "kills": self.kills.servers, "master_kills": self.kills.master, "lost": self.lost,
            "corrupted": self.corrupted, "unexpected": self.unexpected,
            "fully_replicated": self.replicated_after.is_some(),
        })
    }
}
