//! A master or a chunkserver running in this process: what the daemons' binaries and `cairn dev` are made of.

mod chunkserver;
mod listen;
mod master;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cairn_core::defect::Defects;
use cairn_core::stats::Metrics;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};

use crate::config::ConfigError;
use crate::directory::DataDir;
use crate::environment::End;

pub use chunkserver::ChunkserverDaemon;
pub use master::MasterDaemon;

/// Cargo unites the features of what is built together, so a build of the whole workspace has daemons that are of no use.
fn warn_of_build(node: &str) {
    if Defects::CAN_BE_PLANTED {
        tracing::warn!(
            node,
            "this program was built together with the simulator and has its small limits; use what `cargo build --release -p bins` makes"
        );
    }
}

/// How long a graceful shutdown may take before the daemon is stopped as a crash would stop it, which loses nothing.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// Why a daemon can't start: one sentence that says what to do. Programs exit with code 2.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory is missing, no directory, or can't be written.
    #[error("data directory {}: {what}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// Another process uses the data directory.
    #[error("data directory {} is in use by another process; stop it first, or choose another directory", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}: {error}; stop what uses it, or choose another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// Something else in the operating system failed.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The operating system's word.
        error: std::io::Error,
    },
}

/// What a machine tells about itself: its figures, and whether it serves (else why not).
pub type Health = (Metrics, Result<(), String>);

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What [`Handle`] needs of a running machine of either kind.
pub(crate) trait Hosted: Send + Sync {
    /// Asks for figures; `None` when the machine has ended.
    fn health(&self) -> Boxed<Option<Health>>;
    /// Asks the machine to halt in good order.
    fn shutdown(&self);
    /// Ends it at once.
    fn stop(&self);
}

/// For the log: where `/health` and `/metrics` are.
struct Serving(Option<SocketAddr>);

impl std::fmt::Display for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(address) => write!(f, "/health and /metrics on {address}"),
            None => f.write_str("/health and /metrics nowhere"),
        }
    }
}

/// The end of a machine's task.
async fn ended(machine: JoinHandle<End>) -> End {
    machine.await.unwrap_or_else(|error| End::Halted {
        reason: format!("the machine broke one of its invariants: {error}"),
        failed: true,
    })
}

/// A running daemon. Dropping it stops the daemon at once, as a crash would; [`Handle::shutdown`] is the graceful way.
pub struct Handle {
    address: SocketAddr,
    http: Option<SocketAddr>,
    hosted: Arc<dyn Hosted>,
    ended: watch::Receiver<Option<End>>,
    tasks: Vec<AbortHandle>,
    /// Released last: the locks of the data directories.
    _directories: Vec<Arc<DataDir>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle({})", self.address)
    }
}

impl Handle {
    pub(crate) fn new(
        address: SocketAddr,
        http: Option<SocketAddr>,
        hosted: Arc<dyn Hosted>,
        machine: impl Future<Output = End> + Send + 'static,
        tasks: Vec<AbortHandle>,
        directories: Vec<Arc<DataDir>>,
    ) -> Handle {
        let (tell, ended) = watch::channel(None);
        tokio::spawn(async move {
            let end = machine.await;
            if let End::Halted { reason, failed: true } = &end {
                tracing::error!(alarm = true, "{reason}");
            }
            // Nobody may be waiting any more.
            let _ = tell.send(Some(end));
        });
        Handle { address, http, hosted, ended, tasks, _directories: directories }
    }

    /// The bound address: gRPC of a master, the data plane of a chunkserver.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The bound address of `/health` and `/metrics`.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Figures and readiness; `None` when the daemon has ended.
    pub async fn health(&self) -> Option<Health> {
        self.hosted.health().await
    }

    /// Waits until the daemon serves; false if it ended instead.
    pub async fn ready(&self) -> bool {
        loop {
            match self.health().await {
                None => return false,
                Some((_, Ok(()))) => return true,
                Some((_, Err(_))) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Waits until the daemon fails by itself, and says why. Pending for ever after a stop that was asked for.
    pub async fn failed(&self) -> String {
        let mut ended = self.ended.clone();
        loop {
            match &*ended.borrow_and_update() {
                Some(End::Halted { reason, failed: true }) => return reason.clone(),
                Some(_) => break,
                None => {}
            }
            if ended.changed().await.is_err() {
                break;
            }
        }
        std::future::pending().await
    }

    /// Ends the daemon in good order: everything acknowledged is durable, connections are closed, the directory unlocked.
    /// True if it halted by itself within ten seconds.
    pub async fn shutdown(self) -> bool {
        self.hosted.shutdown();
        let halted = self.wait_end(SHUTDOWN_LIMIT).await;
        self.stop().await;
        halted
    }

    /// Ends the daemon at once, as `kill -9` would, but releases its directory and ports before it returns.
    pub async fn kill(self) {
        self.stop().await;
    }

    async fn stop(&self) {
        self.hosted.stop();
        self.wait_end(SHUTDOWN_LIMIT).await;
        for task in &self.tasks {
            task.abort();
        }
        for task in &self.tasks {
            while !task.is_finished() {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn wait_end(&self, limit: Duration) -> bool {
        let mut ended = self.ended.clone();
        let end = tokio::time::timeout(limit, ended.wait_for(Option::is_some)).await;
        matches!(end, Ok(Ok(_)))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.hosted.stop();
        for task in &self.tasks {
            task.abort();
        }
    }
}
