//! The daemons of a storm, each a process of its own behind its proxy.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cairn_core::config::ClientConfig;
use cairn_core::message::Identity;
use runtime_real::client::Cluster;
use rustix::process::Signal;
use workload::checker::health;

use super::arena::Arena;
use super::network::Network;
use super::party::Party;
use super::volume::Volume;
use super::wires::Wires;
use crate::processes::Daemon;

/// A blank cluster must serve within this time.
const START_WITHIN: Duration = Duration::from_secs(60);

/// The daemons and the network between them.
pub(super) struct Processes {
    pub(super) network: Network,
    master: Daemon,
    /// Where users find the master.
    master_address: String,
    servers: Vec<Server>,
}

struct Server {
    daemon: Daemon,
    address: String,
    volume: Volume,
}

impl Processes {
    /// Starts a blank cluster on `wires`. The last chunkserver keeps its chunks on `small`, if there is such a place.
    pub(super) async fn start(
        arena: &Arena,
        wires: Wires,
        small: Option<&Path>,
        count: u16,
        seed: u64,
        undelete_ms: u64,
    ) -> Result<Processes> {
        let (master_config, server_config) = arena.configure(undelete_ms)?;
        let mut network = Network::new(wires, seed);
        let master_address = network.open(Party::Master).await?.to_string();
        let master = Daemon::master(arena.dir(), Some(&master_config))?;
        let master = network.wires().settle(Party::Master, master)?;
        let mut servers = Vec::new();
        for index in 1..=count {
            let party = Party::Server(usize::from(index) - 1);
            let address = network.open(party).await?.to_string();
            let daemon = Daemon::chunkserver(arena.dir(), index, &master_address, Some(&server_config))?;
            let volume = arena.volume(&daemon.name, small.filter(|_| index == count))?;
            let daemon = daemon
                .on_volume(volume.place())?
                .with_argument("--advertise", &address)
                .with_argument("--rack", &format!("rack-{}", index.div_ceil(2)));
            servers.push(Server { daemon: network.wires().settle(party, daemon)?, address, volume });
        }
        let mut cluster = Processes { network, master, master_address, servers };
        for party in cluster.parties() {
            cluster.up(party).await?;
        }
        cluster.until_ready().await?;
        Ok(cluster)
    }

    async fn until_ready(&self) -> Result<()> {
        let client = self.client();
        let deadline = Instant::now() + START_WITHIN;
        loop {
            let status = health::status(&client).await.map_err(anyhow::Error::msg)?;
            match health::worries(&status, self.servers.len()) {
                Ok(()) => return Ok(()),
                Err(worry) => {
                    let seconds = START_WITHIN.as_secs();
                    anyhow::ensure!(Instant::now() < deadline, "not ready within {seconds} s: {worry}");
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A new client, as its own process would have it.
    pub(super) fn client(&self) -> Cluster {
        client(&self.master_address)
    }

    /// Where users find the master.
    pub(super) fn master_address(&self) -> &str {
        &self.master_address
    }

    /// All daemons.
    pub(super) fn parties(&self) -> Vec<Party> {
        std::iter::once(Party::Master).chain((0..self.servers.len()).map(Party::Server)).collect()
    }

    /// The volumes, in order of their servers: the address that the master knows, and where the bytes are.
    pub(super) fn volumes(&self) -> Vec<(String, PathBuf)> {
        self.servers.iter().map(|server| (server.address.clone(), server.volume.disk())).collect()
    }

    /// Where the bytes of a chunkserver are.
    pub(super) fn disk(&self, server: usize) -> PathBuf {
        self.servers[server].volume.disk()
    }

    /// The directory of a chunkserver.
    pub(super) fn volume(&mut self, server: usize) -> &mut Volume {
        &mut self.servers[server].volume
    }

    fn daemon(&mut self, party: Party) -> &mut Daemon {
        match party {
            Party::Server(index) => &mut self.servers[index].daemon,
            Party::Master | Party::Users => &mut self.master,
        }
    }

    /// kill -9.
    pub(super) async fn down(&mut self, party: Party) -> Result<()> {
        self.network.locate(party, None);
        self.daemon(party).kill().await
    }

    /// Starts a process that is down.
    pub(super) async fn up(&mut self, party: Party) -> Result<()> {
        let daemon = self.daemon(party);
        if !daemon.is_running() {
            daemon.start().await?;
            let place = daemon.address()?;
            let pid = daemon.pid().context("a process that has just been started")?;
            self.network.locate(party, Some((place, pid)));
        }
        Ok(())
    }

    /// SIGSTOP or SIGCONT.
    pub(super) fn signal(&mut self, party: Party, signal: Signal) -> Result<()> {
        self.daemon(party).signal(signal)
    }

    /// Processes other than those `expected` to be down that have ended by themselves.
    pub(super) fn fallen(&mut self, expected: &[Party]) -> Vec<Party> {
        let mut parties = self.parties();
        parties.retain(|party| !expected.contains(party) && !self.daemon(*party).is_running());
        parties
    }

    /// Whether a chunkserver that ended by itself did so because it found no disk at its start.
    pub(super) fn found_no_disk(&mut self, party: Party) -> Result<bool> {
        Ok(self.daemon(party).last_words()?.starts_with("cairn: none of the volumes can be used"))
    }

    /// kill -9 to everybody, whatever state they are in.
    pub(super) async fn kill_all(&mut self) -> Result<()> {
        for party in self.parties() {
            self.down(party).await?;
        }
        Ok(())
    }

    /// SIGTERM to everybody; says who did not end with code 0.
    pub(super) async fn shut_down(&mut self) -> Result<(), String> {
        for party in self.parties().into_iter().rev() {
            match self.daemon(party).shut_down().await {
                Ok(Some(0)) => {}
                Ok(code) => return Err(format!("{party} ended with {code:?} after SIGTERM")),
                Err(error) => return Err(format!("{error:#}")),
            }
        }
        Ok(())
    }
}

/// A client of the master behind `address`, with time-outs shorter than in production.
pub(super) fn client(address: &str) -> Cluster {
    let config = ClientConfig {
        request_timeout_ms: 1_500,
        operation_deadline_ms: 12_000,
        read_timeout_ms: 1_000,
        append_timeout_ms: 2_500,
        keep_upload_ms: 1_500,
        frame_bytes: 128 * 1024,
        write_window_bytes: 2 * 1024 * 1024,
        ..ClientConfig::default()
    };
    let identity = Identity { user: "chaos".into(), groups: vec!["chaos".into()] };
    Cluster::builder().masters([address]).tuning(config).identity(identity).connect()
}
