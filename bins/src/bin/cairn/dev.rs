//! `cairn dev`: a whole cluster in this process, on real sockets and real disks, to play with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bins::exit::{Exit, Failure};
use cairn_core::config::{ChunkserverConfig, MasterConfig};
use runtime_real::config::{ChunkserverOptions, MasterOptions};
use runtime_real::daemon::{ChunkserverDaemon, Handle, MasterDaemon};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::args::DevArgs;
use crate::output::Output;

pub(crate) async fn run(out: Output, args: DevArgs) -> Result<()> {
    runtime_real::log::init(runtime_real::log::LogFormat::Text, "warn");
    let temporary = tempfile::Builder::new().prefix("cairn-dev-").tempdir()?;
    let dir = match (&args.dir, args.ephemeral) {
        (_, true) => temporary.path().to_owned(),
        (Some(dir), false) => dir.clone(),
        (None, false) => default_dir()?,
    };
    let master = start_master(&dir, &args.listen).await?;
    let address = master.address().to_string();
    let mut servers = Vec::new();
    for index in 1..=args.chunkservers {
        servers.push(start_chunkserver(&dir, index, &address).await?);
    }
    for daemon in std::iter::once(&master).chain(&servers) {
        wait_ready(daemon).await?;
    }
    greet(out, &dir, &master, &servers)?;

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let failed = tokio::select! {
        biased;
        reason = first_failure(&master, &servers) => Some(reason),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    if let Some(reason) = failed {
        return Err(Failure::new(Exit::Usage, reason).into());
    }
    for server in servers {
        server.shutdown().await;
    }
    master.shutdown().await;
    Ok(())
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
        let hint = "if another cluster runs there, give --listen 127.0.0.1:0 for a free port";
        Failure::usage(format!("master: {error} ({hint})")).into()
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

async fn first_failure(master: &Handle, servers: &[Handle]) -> String {
    let mut waiting: Vec<std::pin::Pin<Box<dyn Future<Output = String> + Send + '_>>> =
        std::iter::once(master).chain(servers).map(|daemon| Box::pin(daemon.failed()) as _).collect();
    std::future::poll_fn(|context| {
        waiting
            .iter_mut()
            .map(|failed| failed.as_mut().poll(context))
            .find(std::task::Poll::is_ready)
            .unwrap_or(std::task::Poll::Pending)
    })
    .await
}

fn greet(out: Output, dir: &Path, master: &Handle, servers: &[Handle]) -> Result<()> {
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
    text.push_str(&format!(
        "\nIn another terminal:\n{export}  {program} put README.md /hello\n  {program} ls -l /\n  {program} cat /hello\n  {program} status\n\nCtrl-C ends it; what was stored stays."
    ));
    let addresses: Vec<String> = servers.iter().map(|server| server.address().to_string()).collect();
    let value = json!({
        "dir": dir.display().to_string(), "master": address, "master_http": http(master),
        "chunkservers": addresses, "chunkservers_http": servers.iter().map(http).collect::<Vec<_>>(),
    });
    if out.json { out.result("", &value) } else { out.result(&text, &value) }
}
