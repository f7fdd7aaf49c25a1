//! Log lines of a process: for people, or as JSON.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::config::ConfigError;

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
///
/// # Errors
/// The filter is not one.
pub fn init(format: LogFormat, filter: &str) -> Result<(), ConfigError> {
    let filter = match std::env::var("CAIRN_LOG") {
        Ok(filter) => parse("CAIRN_LOG", &filter)?,
        Err(_) => parse("log_filter", filter)?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // An error means that a subscriber is set already, by the program that hosts this library: its choice stands.
    let _ = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

fn parse(key: &'static str, filter: &str) -> Result<EnvFilter, ConfigError> {
    EnvFilter::builder().parse(filter).map_err(|error| ConfigError::Value {
        key,
        what: format!(
            "{filter:?} is no filter ({error}); give a level such as info, or warn,runtime_real=debug"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_filter_is_refused() {
        for filter in ["info", "warn,runtime_real=debug", "", "off"] {
            assert!(parse("log_filter", filter).is_ok(), "{filter}");
        }
        for filter in ["(((", "runtime_real=loud"] {
            let said = parse("log_filter", filter).unwrap_err().to_string();
            assert!(said.starts_with("log_filter: ") && said.contains(filter), "{said}");
        }
    }
}
