//! `cairn dev`: a whole cluster in this process, on real sockets and real disks, to play with.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context, Result};
use bins::exit::{Exit, Failure};
use cairn_core::config::{ChunkserverConfig, MasterConfig};
use runtime_real::client::Cluster;
use runtime_real::config::{ChunkserverOptions, MasterOptions};
use runtime_real::daemon::{ChunkserverDaemon, Handle, MasterDaemon, StartError};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::DevArgs;
use crate::output::Output;

pub(crate) async fn run(out: Output, args: DevArgs) -> Result<()> {
    runtime_real::log::init(runtime_real::log::LogFormat::Text, "warn")
        .map_err(|error| Failure::usage(error.to_string()))?;
    let temporary =
        args.ephemeral.then(|| tempfile::Builder::new().prefix("cairn-dev-").tempdir()).transpose()?;
    let dir = match (&temporary, &args.dir) {
        (Some(temporary), _) => temporary.path().to_owned(),
        (None, Some(dir)) => dir.clone(),
        (None, None) => default_dir()?,
    };
    check_dir(&dir)?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut cluster = None;
    let failed = tokio::select! {
        biased;
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        failed = serve(out, &dir, &args, &mut cluster) => Some(failed),
    };
    if let Some(Running { master, servers }) = cluster {
        for server in servers {
            server.shutdown().await;
        }
        master.shutdown().await;
    }
    failed.map_or(Ok(()), Err)
}

struct Running {
    master: Handle,
    servers: Vec<Handle>,
}

/// Starts a cluster, says so, and returns why it failed, if it does.
async fn serve(out: Output, dir: &Path, args: &DevArgs, cluster: &mut Option<Running>) -> anyhow::Error {
    let master = match start_master(dir, &args.listen).await {
        Ok(master) => master,
        Err(error) => return error,
    };
    let cluster = cluster.insert(Running { master, servers: Vec::new() });
    match bring_up(cluster, dir, args).await.and_then(|()| greet(out, dir, args, cluster)) {
        Ok(()) => Failure::new(Exit::Usage, first_failure(cluster).await).into(),
        Err(error) => error,
    }
}

/// Starts the chunkservers and waits until the master can place chunks on all of them.
async fn bring_up(cluster: &mut Running, dir: &Path, args: &DevArgs) -> Result<()> {
    let address = cluster.master.address().to_string();
    for index in 1..=args.chunkservers {
        cluster.servers.push(start_chunkserver(dir, index, &address).await?);
    }
    for daemon in std::iter::once(&cluster.master).chain(&cluster.servers) {
        wait_ready(daemon).await?;
    }
    let client = Cluster::connect([address]);
    let registered = async {
        while client.status().await?.servers.iter().filter(|server| server.live).count()
            < cluster.servers.len()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::select! {
        biased;
        reason = first_failure(cluster) => Err(Failure::new(Exit::Usage, reason).into()),
        registered = registered => registered,
    }
}

fn default_dir() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("cairn/dev"))
        .ok_or_else(|| {
            Failure::usage("neither XDG_DATA_HOME nor HOME is set; give --dir or --ephemeral").into()
        })
}

/// Refuses a directory with anything in it that `cairn dev` does not make.
fn check_dir(dir: &Path) -> Result<()> {
    let fault = |what: String| Failure::usage(format!("{}: {what}", dir.display()));
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|error| fault(error.to_string()))?,
    };
    for entry in entries {
        let name = entry.map_err(|error| fault(error.to_string()))?.file_name();
        let name = name.to_string_lossy();
        if name != "master" && name != "lost+found" && !name.starts_with("chunkserver-") {
            let what = format!("has {name:?} in it, which is not of `cairn dev`; name an empty directory");
            return Err(fault(what).into());
        }
    }
    Ok(())
}

fn make(dir: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&dir).map_err(|error| Failure::usage(format!("{}: {error}", dir.display())))?;
    Ok(dir)
}

async fn start_master(dir: &Path, listen: &str) -> Result<Handle> {
    let options = MasterOptions {
        data: make(dir.join("master"))?,
        listen: listen.to_owned(),
        http_listen: "127.0.0.1:0".into(),
        // A playground restarts often and should be usable at once.
        tuning: MasterConfig {
            startup_grace_ms: 3_000,
            block_report_ms: 10_000,
            min_free_bytes: 64 * 1024 * 1024,
            ..MasterConfig::default()
        },
        ..MasterOptions::default()
    };
    MasterDaemon::start(options).await.map_err(|error| {
        let hint = match error {
            StartError::Listen { .. } => {
                " (if another cluster runs there, give --listen 127.0.0.1:0 for a free port)"
            }
            StartError::Locked { .. } => " (if another `cairn dev` runs there, give --dir or --ephemeral)",
            _ => "",
        };
        Failure::usage(format!("master: {error}{hint}")).into()
    })
}

async fn start_chunkserver(dir: &Path, index: u16, master: &str) -> Result<Handle> {
    let options = ChunkserverOptions {
        data: vec![make(dir.join(format!("chunkserver-{index}")))?],
        listen: "127.0.0.1:0".into(),
        http_listen: "127.0.0.1:0".into(),
        masters: vec![master.to_owned()],
        rack: format!("rack-{index}"),
        tuning: ChunkserverConfig { reserve_bytes: 256 * 1024 * 1024, ..ChunkserverConfig::default() },
        ..ChunkserverOptions::default()
    };
    ChunkserverDaemon::start(options)
        .await
        .map_err(|error| Failure::usage(format!("chunkserver {index}: {error}")).into())
}

async fn wait_ready(daemon: &Handle) -> Result<()> {
    let failed = tokio::select! {
        biased;
        reason = daemon.failed() => reason,
        ready = daemon.ready() => {
            if ready {
                return Ok(());
            }
            daemon.failed().await
        }
    };
    Err(Failure::new(Exit::Usage, failed).into())
}

async fn first_failure(cluster: &Running) -> String {
    let mut waiting: Vec<Pin<Box<dyn Future<Output = String> + Send + '_>>> =
        std::iter::once(&cluster.master)
            .chain(&cluster.servers)
            .map(|daemon| Box::pin(daemon.failed()) as _)
            .collect();
    std::future::poll_fn(|context| {
        waiting
            .iter_mut()
            .map(|failed| failed.as_mut().poll(context))
            .find(Poll::is_ready)
            .unwrap_or(Poll::Pending)
    })
    .await
}

fn greet(out: Output, dir: &Path, args: &DevArgs, cluster: &Running) -> Result<()> {
    let Running { master, servers } = cluster;
    let address = master.address().to_string();
    let http =
        |daemon: &Handle| daemon.http_address().map_or_else(String::new, |address| address.to_string());
    let mut text = format!(
        "Cairn is up: 1 master, {} chunkservers, in {}\n  master         {address}   http://{}/health\n",
        servers.len(),
        dir.display(),
        http(master)
    );
    for (index, server) in servers.iter().enumerate() {
        text.push_str(&format!(
            "  chunkserver {}  {}   http://{}/health\n",
            index + 1,
            server.address(),
            http(server)
        ));
    }
    let program = std::env::current_exe().context("own path")?;
    let program =
        if std::env::var_os("CARGO").is_some() { program.display().to_string() } else { "cairn".into() };
    let export = if address == "127.0.0.1:7400" {
        String::new()
    } else {
        format!("  export CAIRN_MASTER={address}\n")
    };
    let after = if args.ephemeral { "what was stored goes with it" } else { "what was stored stays" };
    text.push_str(&format!(
        "\nIn another terminal:\n{export}  {program} put README.md /hello\n  {program} ls -l /\n  {program} cat /hello\n  {program} status\n\nCtrl-C ends it; {after}."
    ));
    let addresses: Vec<String> = servers.iter().map(|server| server.address().to_string()).collect();
    let value = json!({
        "dir": dir.display().to_string(), "master": address, "master_http": http(master),
        "chunkservers": addresses, "chunkservers_http": servers.iter().map(http).collect::<Vec<_>>(),
    });
    if out.json { out.result("", &value) } else { out.result(&text, &value) }
}
