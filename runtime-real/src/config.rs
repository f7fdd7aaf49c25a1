//! Settings of the three roles: a YAML file each, every key optional, unknown keys refused.
//!
//! `configs/` has a commented example of each with the defaults written out.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use cairn_core::config::{ChunkserverConfig, ClientConfig, MasterConfig, SettingError};
use cairn_core::payload::MAX_PAYLOAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::log::LogFormat;

/// A master's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MasterOptions {
    /// Directory of the master's log. It must exist.
    pub data: PathBuf,
    /// Refuse a blank directory instead of making a new cluster in it: the mount may be missing.
    pub require_formatted: bool,
    /// Where gRPC is served: `host:port`; port 0 takes a free one.
    pub listen: String,
    /// Where `/health` and `/metrics` are served; empty: nowhere.
    pub http_listen: String,
    /// Allow listening on other interfaces than loopback. There is no authentication yet: whoever reaches the port is root.
    pub insecure_any_interface: bool,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines appear, in `tracing`'s filter syntax.
    pub log_filter: String,
    /// Threads for disk operations.
    pub disk_threads: u16,
    /// The machine's own settings.
    pub tuning: MasterConfig,
}

impl Default for MasterOptions {
    fn default() -> Self {
        MasterOptions {
            data: "/var/lib/cairn/master".into(),
            require_formatted: false,
            listen: "127.0.0.1:7400".into(),
            http_listen: "127.0.0.1:7401".into(),
            insecure_any_interface: false,
            log_format: LogFormat::Text,
            log_filter: "info".into(),
            disk_threads: 2,
            tuning: MasterConfig::default(),
        }
    }
}

/// A chunkserver's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkserverOptions {
    /// One directory for each disk. They must exist.
    pub data: Vec<PathBuf>,
    /// Refuse blank directories instead of making new volumes in them: the mount may be missing.
    pub require_formatted: bool,
    /// Where the data plane is served: `host:port`; port 0 takes a free one.
    pub listen: String,
    /// Where clients and other servers dial this one; empty: the address that `listen` was bound to.
    pub advertise: String,
    /// Where `/health` and `/metrics` are served; empty: nowhere.
    pub http_listen: String,
    /// The masters: `host:port`.
    pub masters: Vec<String>,
    /// Servers of one rack fail together: replicas are spread over racks.
    pub rack: String,
    /// Allow listening on other interfaces than loopback. There is no authentication yet: whoever reaches the port can read
    /// and write every chunk.
    pub insecure_any_interface: bool,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines appear, in `tracing`'s filter syntax.
    pub log_filter: String,
    /// Threads for disk operations, for each data directory.
    pub disk_threads: u16,
    /// Bytes of payloads in memory that came over all connections, at the most.
    pub payload_bytes: u64,
    /// The same for one connection.
    pub payload_bytes_per_connection: u64,
    /// Inbound connections at the most.
    pub connections: u32,
    /// The machine's own settings.
    pub tuning: ChunkserverConfig,
}

impl Default for ChunkserverOptions {
    fn default() -> Self {
        ChunkserverOptions {
            data: vec!["/var/lib/cairn/chunkserver".into()],
            require_formatted: false,
            listen: "127.0.0.1:7410".into(),
            advertise: String::new(),
            http_listen: "127.0.0.1:7411".into(),
            masters: vec!["127.0.0.1:7400".into()],
            rack: "default".into(),
            insecure_any_interface: false,
            log_format: LogFormat::Text,
            log_filter: "info".into(),
            disk_threads: 4,
            payload_bytes: 256 * 1024 * 1024,
            payload_bytes_per_connection: 64 * 1024 * 1024,
            connections: 4096,
            tuning: ChunkserverConfig::default(),
        }
    }
}

/// The settings that both daemons have. Views of the one or the other: YAML files with unknown keys refused can't nest them.
#[derive(Debug)]
pub struct CommonOptions<'a> {
    /// Refuse blank directories.
    pub require_formatted: &'a mut bool,
    /// Where `/health` and `/metrics` are served.
    pub http_listen: &'a mut String,
    /// Allow listening on other interfaces than loopback.
    pub insecure_any_interface: &'a mut bool,
    /// How log lines look.
    pub log_format: &'a mut LogFormat,
    /// Which log lines appear.
    pub log_filter: &'a mut String,
}

macro_rules! common_options {
    ($($options:ty),*) => {
        $(impl $options {
            /// What it has in common with the other daemon.
            pub fn common(&mut self) -> CommonOptions<'_> {
                CommonOptions {
                    require_formatted: &mut self.require_formatted,
                    http_listen: &mut self.http_listen,
                    insecure_any_interface: &mut self.insecure_any_interface,
                    log_format: &mut self.log_format,
                    log_filter: &mut self.log_filter,
                }
            }
        })*
    };
}

common_options!(MasterOptions, ChunkserverOptions);

/// A client's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientOptions {
    /// The masters: `host:port`.
    pub masters: Vec<String>,
    /// As whom; empty: the user of this process. Asserted, not proven: there is no authentication yet.
    pub user: String,
    /// Groups of `user`; the first owns what the user creates. Empty: those of the user of this process.
    pub groups: Vec<String>,
    /// The machine's own settings.
    pub tuning: ClientConfig,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            masters: vec!["127.0.0.1:7400".into()],
            user: String::new(),
            groups: Vec::new(),
            tuning: ClientConfig::default(),
        }
    }
}

/// Why settings can't be used; one sentence with the file, the place and what is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read {}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The operating system's word.
        error: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {what}", file.display())]
    Parse {
        /// The file.
        file: PathBuf,
        /// Line, column and what is wrong.
        what: String,
    },
    /// A value makes no sense.
    #[error("{key}: {what}")]
    Value {
        /// The key.
        key: &'static str,
        /// What is wrong and what to do.
        what: String,
    },
    /// A machine can't work with a setting.
    #[error("tuning: {0}")]
    Tuning(#[from] SettingError),
}

impl MasterOptions {
    /// Reads a YAML file.
    pub fn load(file: &Path) -> Result<MasterOptions, ConfigError> {
        load(file)
    }

    /// Refuses settings that no master can work with.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        Ok(self.tuning.validate()?)
    }
}

impl ChunkserverOptions {
    /// Reads a YAML file.
    pub fn load(file: &Path) -> Result<ChunkserverOptions, ConfigError> {
        load(file)
    }

    /// Refuses settings that no chunkserver can work with.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.data.is_empty() {
            return Err(fault("data", "name at least one directory"));
        }
        check_masters(&self.masters)?;
        if self.connections == 0 {
            return Err(fault("connections", "is 0; it must be at least 1"));
        }
        Ok(self.tuning.validate(MAX_PAYLOAD)?)
    }
}

impl ClientOptions {
    /// Reads a YAML file.
    pub fn load(file: &Path) -> Result<ClientOptions, ConfigError> {
        load(file)
    }

    /// Refuses settings that no client can work with.
    ///
    /// # Errors
    /// One sentence that names the first of them.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check_masters(&self.masters)?;
        Ok(self.tuning.validate()?)
    }

    /// Reads the first file that is there: `$CAIRN_CONFIG` (which must be), `~/.config/cairn/client.yaml`,
    /// `/etc/cairn/client.yaml`; without any, the defaults.
    pub fn find() -> Result<ClientOptions, ConfigError> {
        if let Some(named) = std::env::var_os("CAIRN_CONFIG").filter(|name| !name.is_empty()) {
            return load(Path::new(&named));
        }
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".config/cairn/client.yaml"));
        home.into_iter()
            .chain([PathBuf::from("/etc/cairn/client.yaml")])
            .find(|file| file.exists())
            .map_or_else(|| Ok(ClientOptions::default()), |file| load(&file))
    }
}

fn load<T: DeserializeOwned>(file: &Path) -> Result<T, ConfigError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| ConfigError::Read { file: file.to_owned(), error })?;
    parse(file, &text)
}

fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, ConfigError> {
    // A file of comments alone is a document without a value: all defaults.
    let empty =
        text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---");
    serde_saphyr::from_str(if empty { "{}" } else { text })
        .map_err(|error| ConfigError::Parse { file: file.to_owned(), what: sentence(&error.to_string()) })
}

/// The first line of the parser's message, without the excerpt of the file that follows.
fn sentence(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn fault(key: &'static str, what: impl Into<String>) -> ConfigError {
    ConfigError::Value { key, what: what.into() }
}

fn check_masters(masters: &[String]) -> Result<(), ConfigError> {
    if masters.is_empty() {
        return Err(fault("masters", "name at least one master (host:port)"));
    }
    match masters.iter().find(|master| !is_host_and_port(master)) {
        Some(bad) => Err(fault("masters", format!("{bad:?} is not a master's address: give host:port"))),
        None => Ok(()),
    }
}

/// Whether `address` has the form that can be dialled; an IPv6 address is in brackets.
fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let named = |host: &str| {
        !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = bracketed.map_or_else(|| named(host), |host| host.parse::<std::net::Ipv6Addr>().is_ok());
    host && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Finds the socket address of `listen` and refuses interfaces other than loopback, unless they are allowed.
pub(crate) fn listen_address(key: &'static str, listen: &str, any: bool) -> Result<SocketAddr, ConfigError> {
    let fault = |what: String| fault(key, what);
    let address = listen
        .to_socket_addrs()
        .map_err(|error| fault(format!("{listen:?} is not host:port ({error})")))?
        .next()
        .ok_or_else(|| fault(format!("{listen:?} has no address")))?;
    if !any && !address.ip().is_loopback() {
        return Err(fault(format!(
            "{listen} is not a loopback address, and there is no authentication yet; set insecure_any_interface: true \
             (--insecure-any-interface) only on a network where everyone may read and write everything"
        )));
    }
    Ok(address)
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

impl std::str::FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("{other:?} is neither text nor json")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example<T: DeserializeOwned>(name: &str) -> T {
        load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name))
            .expect("the example parses")
    }

    #[test]
    fn examples_spell_out_the_defaults() {
        assert_eq!(example::<MasterOptions>("master.yaml"), MasterOptions::default());
        assert_eq!(example::<ChunkserverOptions>("chunkserver.yaml"), ChunkserverOptions::default());
        assert_eq!(example::<ClientOptions>("client.yaml"), ClientOptions::default());
    }

    #[test]
    fn a_file_of_comments_means_the_defaults() {
        let parsed: MasterOptions = parse(Path::new("m.yaml"), "# nothing\n\n").expect("parses");
        assert_eq!(parsed, MasterOptions::default());
    }

    #[test]
    fn an_unknown_key_is_named_with_file_and_line() {
        let text = "listen: 127.0.0.1:1\nlisten_htp: x\n";
        let error = parse::<MasterOptions>(Path::new("m.yaml"), text).expect_err("refused").to_string();
        assert!(error.starts_with("m.yaml: "), "{error}");
        assert!(error.contains("listen_htp") && error.contains('2'), "{error}");
    }

    #[test]
    fn masters_are_named_by_host_and_port() {
        for good in ["127.0.0.1:7400", "localhost:1", "cs-1.rack_2.example:65535", "[::1]:7400"] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "localhost:",
            "localhost:0",
            "localhost:65536",
            ":7400",
            "::1:7400",
            "[::1]",
            "[x]:7400",
            "http://localhost:7400",
            "localhost:7400/",
            "localhost:+7",
            "a b:7400",
            "u@h:7400",
        ] {
            assert!(!is_host_and_port(bad), "{bad}");
            let options = ChunkserverOptions { masters: vec![bad.into()], ..ChunkserverOptions::default() };
            let said = options.validate().unwrap_err().to_string();
            assert!(said.starts_with("masters: ") && said.contains(&format!("{bad:?}")), "{said}");
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let mut master = MasterOptions::default();
        master.validate().unwrap();
        master.tuning.log_segment_bytes = 0;
        let said = master.validate().unwrap_err().to_string();
        assert_eq!(said, "tuning: log_segment_bytes is 0; it must be at least 1024");

        let defaults = ChunkserverOptions::default();
        defaults.validate().unwrap();
        for (bad, name) in [
            (ChunkserverOptions { data: Vec::new(), ..defaults.clone() }, "data"),
            (ChunkserverOptions { masters: Vec::new(), ..defaults.clone() }, "masters"),
            (ChunkserverOptions { connections: 0, ..defaults.clone() }, "connections"),
            (
                ChunkserverOptions {
                    tuning: ChunkserverConfig { append_window_bytes: 4096, ..ChunkserverConfig::default() },
                    ..defaults.clone()
                },
                "tuning: append_window_bytes",
            ),
        ] {
            let said = bad.validate().unwrap_err().to_string();
            assert!(said.starts_with(name), "{said}");
        }

        let mut client = ClientOptions::default();
        client.validate().unwrap();
        client.tuning.quorum = 9;
        assert!(client.validate().unwrap_err().to_string().contains("quorum is 9"));
    }

    #[test]
    fn durability_is_written_as_the_flag_is_and_as_it_was() {
        use cairn_core::id::Durability;
        for (word, meant) in [
            ("sync", Durability::Sync),
            ("Sync", Durability::Sync),
            ("async", Durability::Async),
            ("Async", Durability::Async),
        ] {
            let text = format!("tuning:\n  durability: {word}\n");
            let parsed: ClientOptions = parse(Path::new("c.yaml"), &text).expect("parses");
            assert_eq!(parsed.tuning.durability, meant);
        }
    }

    #[test]
    fn only_loopback_unless_allowed() {
        assert!(listen_address("listen", "127.0.0.1:0", false).is_ok());
        assert!(listen_address("listen", "[::1]:0", false).is_ok());
        let refused = listen_address("listen", "0.0.0.0:7400", false).expect_err("refused").to_string();
        assert!(refused.contains("insecure_any_interface"), "{refused}");
        assert!(listen_address("listen", "0.0.0.0:7400", true).is_ok());
        assert!(listen_address("listen", "nonsense", true).is_err());
    }
}
