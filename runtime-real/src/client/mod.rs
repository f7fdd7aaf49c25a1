//! The client library.
//!
//! ```no_run
//! use runtime_real::client::Cluster;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = Cluster::connect(["127.0.0.1:7400"]);
//! cluster.mkdir("/reports", true, 0o755).await?;
//!
//! let mut file = cluster.create("/reports/today").replication(2).await?;
//! file.write_all(b"all well\n").await?;
//! let status = file.close().await?; // only now it becomes visible, all at once
//! assert_eq!(status.length, 9);
//!
//! let mut text = String::new();
//! cluster.open("/reports/today").await?.read_to_string(&mut text).await?;
//! assert_eq!(text, "all well\n");
//! # Ok(())
//! # }
//! ```
//!
//! Every method retries by itself until `operation_deadline_ms` has passed; what it returns then is final, a
//! [`ClientError`] that says what to do.

mod cluster;
mod identity;
mod namespace;
mod reader;
mod writer;

pub use cairn_core::error::{ClientError, MasterError};
pub use cairn_core::id::Durability;
pub use cairn_core::message::{ClusterStatus, FileStatus, Finding, Identity, TrashEntry};
pub use cluster::{Cluster, ClusterBuilder};
pub use identity::current as current_identity;
pub use namespace::{FsckScan, Listing, TrashListing};
pub use reader::FileReader;
pub use writer::{CreateFile, FileWriter};

/// What client operations return.
pub type Result<T> = std::result::Result<T, ClientError>;

fn io_error(error: ClientError) -> std::io::Error {
    use std::io::ErrorKind;
    let kind = match &error {
        ClientError::Master(MasterError::NotFound(_)) => ErrorKind::NotFound,
        ClientError::Master(MasterError::AlreadyExists(_)) => ErrorKind::AlreadyExists,
        ClientError::Master(MasterError::PermissionDenied { .. }) => ErrorKind::PermissionDenied,
        ClientError::Timeout(_) => ErrorKind::TimedOut,
        ClientError::Stale(_) => ErrorKind::StaleNetworkFileHandle,
        ClientError::BadHandle | ClientError::Closed => ErrorKind::BrokenPipe,
        _ => ErrorKind::Other,
    };
    std::io::Error::new(kind, error)
}
