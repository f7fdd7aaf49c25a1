//! A cluster of separate processes on loopback: what `chaos` kills and `bench` measures.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// One daemon, started from this very executable.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// `master` or `cs1`, `cs2`, …
    pub(crate) name: String,
    /// What execs it, if not this process itself.
    launcher: Vec<String>,
    arguments: Vec<String>,
    log: PathBuf,
    ports: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// A master whose directory is `dir/master`, on a port of its own that it keeps over restarts.
    pub(crate) fn master(dir: &Path, config: Option<&Path>) -> Result<Daemon> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::create_dir_all(dir.join("master"))?;
        let mut arguments: Vec<String> = vec!["daemon".into(), "master".into()];
        arguments.extend(["--data".into(), path(&dir.join("master"))?]);
        arguments.extend(["--listen".into(), format!("127.0.0.1:{port}")]);
        Daemon::new("master", arguments, dir, config)
    }

    /// Chunkserver number `index`, with its directory `dir/cs<index>`.
    pub(crate) fn chunkserver(dir: &Path, index: u16, master: &str, config: Option<&Path>) -> Result<Daemon> {
        let name = format!("cs{index}");
        std::fs::create_dir_all(dir.join(&name))?;
        let mut arguments: Vec<String> = vec!["daemon".into(), "chunkserver".into()];
        arguments.extend(["--data".into(), path(&dir.join(&name))?]);
        arguments.extend(["--listen".into(), "127.0.0.1:0".into(), "--master".into(), master.into()]);
        Daemon::new(&name, arguments, dir, config)
    }

    fn new(name: &str, mut arguments: Vec<String>, dir: &Path, config: Option<&Path>) -> Result<Daemon> {
        let ports = dir.join(format!("{name}.ports"));
        arguments.extend([
            "--end-with-parent".into(),
            std::process::id().to_string(),
            "--http-listen".into(),
            "127.0.0.1:0".into(),
            "--ports-file".into(),
            path(&ports)?,
        ]);
        if let Some(config) = config {
            arguments.extend(["--config".into(), path(config)?]);
        }
        let log = dir.join(format!("{name}.log"));
        Ok(Daemon { name: name.into(), launcher: Vec::new(), arguments, log, ports, child: None })
    }

    /// Keeps its chunks in another directory, before it is started.
    pub(crate) fn on_volume(self, volume: &Path) -> Result<Daemon> {
        Ok(self.with_argument("--data", &path(volume)?))
    }

    /// Has another program exec it, before it is started.
    pub(crate) fn launched_by(mut self, launcher: Vec<String>) -> Daemon {
        self.launcher = launcher;
        self
    }

    /// Sets an argument on its command line, before it is started.
    pub(crate) fn with_argument(mut self, name: &str, value: &str) -> Daemon {
        match self.arguments.iter().position(|argument| argument == name) {
            Some(at) => self.arguments[at + 1] = value.into(),
            None => self.arguments.extend([name.into(), value.into()]),
        }
        self
    }

    /// Adds to its command line, before it is started.
    pub(crate) fn with_flag(mut self, name: &str) -> Daemon {
        self.arguments.push(name.into());
        self
    }

    /// The address that the running process has bound.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        let text = std::fs::read_to_string(&self.ports)?;
        let address = text.lines().find_map(|line| line.strip_prefix("listen=")).unwrap_or_default();
        address.parse().with_context(|| format!("{}: {text:?} names no address", self.ports.display()))
    }

    /// The address given with `--listen`.
    pub(crate) fn listen(&self) -> &str {
        let at = self.arguments.iter().position(|a| a == "--listen").map_or(0, |i| i + 1);
        &self.arguments[at]
    }

    /// Whether its process lives.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The process id while it lives.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// Starts the process and waits until it has bound its ports.
    pub(crate) async fn start(&mut self) -> Result<()> {
        if self.ports.exists() {
            std::fs::remove_file(&self.ports)?;
        }
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        let program = std::env::current_exe()?;
        let mut command = match self.launcher.split_first() {
            Some((launcher, arguments)) => {
                let mut command = Command::new(launcher);
                command.args(arguments).arg(program);
                command
            }
            None => Command::new(program),
        };
        let child = command
            .args(&self.arguments)
            .env_remove("CAIRN_MASTER")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", self.name))?;
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.ports.exists() {
            if !self.is_running() {
                bail!("{} ended at its start; its log is {}", self.name, self.log.display());
            }
            if Instant::now() > deadline {
                bail!("{} did not start within 20 s; its log is {}", self.name, self.log.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// kill -9, and waits for the end; it may have ended before.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let is_running = self.is_running();
        if let Some(mut child) = self.child.take().filter(|_| is_running) {
            child.kill().await?;
        }
        Ok(())
    }

    /// The last line of its log: why it ended, if the command said so.
    pub(crate) fn last_words(&self) -> Result<String> {
        let log = std::fs::read_to_string(&self.log)?;
        Ok(log.lines().next_back().unwrap_or_default().to_owned())
    }

    /// Sends a signal to the process, if it lives.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match self.pid().and_then(|pid| Pid::from_raw(pid as i32)) {
            Some(pid) => kill_process(pid, signal).with_context(|| format!("signalling {}", self.name)),
            None => Ok(()),
        }
    }

    /// Asks the process to end in good order and waits for it; says with what code it ended, `None` after a signal.
    pub(crate) async fn shut_down(&mut self) -> Result<Option<i32>> {
        self.signal(Signal::TERM)?;
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let ended = tokio::time::timeout(Duration::from_secs(20), child.wait()).await;
        match ended {
            Ok(status) => Ok(status?.code()),
            Err(_) => {
                bail!("{} did not end within 20 s of SIGTERM; its log is {}", self.name, self.log.display())
            }
        }
    }

    /// Peak resident memory in bytes.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        peak_memory(self.pid()?)
    }
}

/// Peak resident memory of a process in bytes, from `/proc/PID/status`.
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

fn path(path: &Path) -> Result<String> {
    path.to_str().map(String::from).with_context(|| format!("{} is not UTF-8", path.display()))
}
