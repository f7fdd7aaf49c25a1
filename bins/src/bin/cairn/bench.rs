//! `cairn bench`: what the file system does, beside what this machine can do at best, measured in the same run on a
//! temporary cluster of separate processes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bins::exit::Failure;
use bytes::Bytes;
use cairn_core::id::Durability;
use cairn_core::message::Identity;
use runtime_real::client::Cluster;
use serde_json::{Value, json};

use crate::args::{BenchArgs, StorageArgs};
use crate::ceiling;
use crate::output::{self, Output};
use crate::processes::{Daemon, peak_memory};

/// Chunkservers of the temporary cluster.
const SERVERS: u16 = 3;
/// Bytes of a small file.
const SMALL: usize = 4096;
/// Uploads of small files and directories under way at once.
const PARALLEL: u32 = 16;
/// Hot reads of the large file, of which the median counts. Odd.
const READ_ROUNDS: usize = 5;

struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    ceiling: Option<f64>,
}

pub(crate) async fn run(out: Output, args: BenchArgs) -> Result<()> {
    let temporary = match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir)
                .map_err(|error| Failure::usage(format!("{}: {error}", dir.display())))?;
            tempfile::Builder::new().prefix("cairn-bench-").tempdir_in(dir)?
        }
        None => tempfile::Builder::new().prefix("cairn-bench-").tempdir()?,
    };
    let dir = temporary.path();
    let mut daemons = start(dir).await?;
    let cluster = connect(daemons[0].listen()).await?;
    let mut figures = Vec::new();
    for durability in [Durability::Async, Durability::Sync] {
        if args.storage.durability.is_none_or(|only| Durability::from(only) == durability) {
            transfers(&cluster, dir, args.size.0, args.storage, durability, &mut figures)
                .await
                .context("large files")?;
        }
    }
    small_files(&cluster, dir, args.files, args.storage, &mut figures).await.context("small files")?;
    listing(&cluster, args.entries, &mut figures).await.context("listing")?;
    let mut memory: Vec<(String, u64)> =
        vec![("client".into(), peak_memory(std::process::id()).unwrap_or(0))];
    for daemon in &mut daemons {
        memory.push((daemon.name.clone(), daemon.peak_memory().unwrap_or(0)));
        daemon.kill().await?;
    }
    report(out, &figures, &memory)
}

async fn start(dir: &Path) -> Result<Vec<Daemon>> {
    let config = dir.join("chunkserver.yaml");
    // The temporary directory may be on a small file system; the reserve is not what is measured.
    std::fs::write(&config, json!({ "tuning": { "reserve_bytes": 64 * 1024 * 1024 } }).to_string())?;
    let mut daemons = vec![Daemon::master(dir, None)?];
    daemons[0].start().await?;
    for index in 1..=SERVERS {
        let mut server = Daemon::chunkserver(dir, index, daemons[0].listen(), Some(&config))?;
        server.start().await?;
        daemons.push(server);
    }
    Ok(daemons)
}

async fn connect(master: &str) -> Result<Cluster> {
    let identity = Identity { user: "bench".into(), groups: vec!["bench".into()] };
    let cluster = Cluster::builder().masters([master]).identity(identity).connect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while cluster.status().await?.servers.iter().filter(|server| server.live).count() < usize::from(SERVERS) {
        anyhow::ensure!(Instant::now() < deadline, "the chunkservers did not register within 60 s");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(cluster)
}

async fn transfers(
    cluster: &Cluster,
    dir: &Path,
    bytes: u64,
    storage: StorageArgs,
    durability: Durability,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let sync = durability == Durability::Sync;
    let ceilings = dir.join("ceiling");
    let relay = blocking({
        let dir = ceilings.clone();
        move || ceiling::relay(&dir, bytes, sync)
    })
    .await?;
    let path = format!("/bench-{}", durability);
    let piece = Bytes::from((0..1024 * 1024).map(|i| (i * 31 % 251) as u8).collect::<Vec<u8>>());
    let started = Instant::now();
    let mut writer = storage.apply(cluster.create(&path)).durability(durability).await?;
    let mut left = bytes;
    while left > 0 {
        let part = left.min(piece.len() as u64);
        writer.write_bytes(piece.slice(..part as usize)).await?;
        left -= part;
    }
    writer.close().await?;
    figures.push(Figure {
        name: format!("upload, RF {SERVERS}, {}", durability),
        value: bytes as f64 / started.elapsed().as_secs_f64(),
        unit: "B/s",
        ceiling: Some(relay),
    });

    hot_reads(cluster, &ceilings, &path, bytes, durability, figures).await?;
    cluster.delete(&path, false).await?;
    Ok(())
}

/// In turns with the ceiling, so that both see the same noise, among it the writing back of what was just uploaded.
async fn hot_reads(
    cluster: &Cluster,
    ceilings: &Path,
    path: &str,
    bytes: u64,
    durability: Durability,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    let file = blocking({
        let dir = ceilings.to_path_buf();
        move || ceiling::stream_file(&dir, bytes)
    })
    .await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..READ_ROUNDS {
        let source = file.clone();
        bare.push(blocking(move || ceiling::stream(&source, bytes)).await?);
        let mut reader = cluster.open(path).await?;
        let started = Instant::now();
        let mut read = 0;
        while let Some(bytes) = reader.next_bytes().await? {
            read += bytes.len() as u64;
        }
        anyhow::ensure!(read == bytes, "read {read} of {bytes} bytes");
        ours.push(bytes as f64 / started.elapsed().as_secs_f64());
    }
    std::fs::remove_file(file)?;
    figures.push(Figure {
        name: format!("hot read, {durability}"),
        value: median(ours),
        unit: "B/s",
        ceiling: Some(median(bare)),
    });
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn small_files(
    cluster: &Cluster,
    dir: &Path,
    count: u32,
    storage: StorageArgs,
    figures: &mut Vec<Figure>,
) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let dir = dir.join("ceiling");
    let best = blocking(move || ceiling::small_files(&dir, count, SMALL)).await?;
    cluster.mkdir("/small", true, 0o755).await?;
    let started = Instant::now();
    parallel(count, |number| {
        let cluster = cluster.clone();
        async move {
            let mut writer = storage.apply(cluster.create(format!("/small/{number:08}"))).await?;
            writer.write_bytes(Bytes::from(vec![7; SMALL])).await?;
            writer.close().await?;
            Ok(())
        }
    })
    .await?;
    figures.push(Figure {
        name: format!("create 4 KiB files, {PARALLEL} at once"),
        value: f64::from(count) / started.elapsed().as_secs_f64(),
        unit: "files/s",
        ceiling: Some(best),
    });
    Ok(())
}

async fn listing(cluster: &Cluster, entries: u32, figures: &mut Vec<Figure>) -> Result<()> {
    if entries == 0 {
        return Ok(());
    }
    cluster.mkdir("/names", true, 0o755).await?;
    let started = Instant::now();
    parallel(entries, |number| {
        let cluster = cluster.clone();
        async move {
            cluster.mkdir(format!("/names/{number:08}"), false, 0o755).await?;
            Ok(())
        }
    })
    .await?;
    let made = f64::from(entries) / started.elapsed().as_secs_f64();
    figures.push(Figure {
        name: format!("make directories, {PARALLEL} at once"),
        value: made,
        unit: "dirs/s",
        ceiling: None,
    });
    let started = Instant::now();
    let mut listed = 0;
    crate::namespace::pages(cluster, "/names", |page| {
        listed += page.len();
        Ok(())
    })
    .await?;
    anyhow::ensure!(listed == entries as usize, "listed {listed} of {entries}");
    figures.push(Figure {
        name: format!("list {entries} entries"),
        value: f64::from(entries) / started.elapsed().as_secs_f64(),
        unit: "entries/s",
        ceiling: None,
    });
    Ok(())
}

async fn parallel<F, T>(count: u32, work: F) -> Result<()>
where
    F: Fn(u32) -> T,
    T: Future<Output = Result<()>> + Send + 'static,
{
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..count {
        if number >= PARALLEL
            && let Some(done) = tasks.join_next().await
        {
            done??;
        }
        tasks.spawn(work(number));
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}

fn report(out: Output, figures: &[Figure], memory: &[(String, u64)]) -> Result<()> {
    let show = |value: f64, unit: &str| match unit {
        "B/s" => format!("{}/s", output::size(value as u64)),
        _ => format!("{value:.0} {unit}"),
    };
    let rows = figures.iter().map(|figure| {
        vec![
            figure.name.clone(),
            show(figure.value, figure.unit),
            figure.ceiling.map_or_else(|| "-".into(), |ceiling| show(ceiling, figure.unit)),
            figure
                .ceiling
                .map_or_else(|| "-".into(), |ceiling| format!("{:.0} %", figure.value / ceiling * 100.0)),
        ]
    });
    let mut text =
        output::table(&["", "CAIRN", "THIS MACHINE'S CEILING", "RATIO"], rows.collect(), &[1, 2, 3]);
    let peaks: Vec<String> =
        memory.iter().map(|(name, bytes)| format!("{name} {}", output::size(*bytes))).collect();
    text.push_str(&format!("\npeak memory: {}", peaks.join(", ")));
    let values: Vec<Value> = figures
        .iter()
        .map(|figure| {
            json!({
                "name": figure.name, "value": figure.value, "unit": figure.unit, "ceiling": figure.ceiling,
                "ratio": figure.ceiling.map(|ceiling| figure.value / ceiling),
            })
        })
        .collect();
    let memory: serde_json::Map<String, Value> =
        memory.iter().map(|(name, bytes)| (name.clone(), (*bytes).into())).collect();
    out.result(&text, &json!({ "figures": values, "peak_memory_bytes": memory }))
}
