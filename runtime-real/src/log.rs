//! Log lines of a process: for people, or as JSON.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line for each event.
    #[default]
    Text,
    /// One JSON object for each event.
    Json,
}

/// Sends this process's log to standard error. `filter` is in `tracing`'s syntax (`info`, `runtime_real=debug`); the
/// variable `CAIRN_LOG` overrides it. A second call changes nothing.
pub fn init(format: LogFormat, filter: &str) {
    let filter = std::env::var("CAIRN_LOG").unwrap_or_else(|_| filter.to_owned());
    let filter = EnvFilter::builder().parse_lossy(filter);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // An error means that a subscriber is set already, by the program that hosts this library: its choice stands.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
