//! What carries packets between the parties: loopback, where the kernel can't tell them apart, or a switch, to which each
//! has a wire of its own.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::net::{TcpListener, TcpStream};

use super::party::{Party, owner};
use super::switch::{Switch, home, stand_in};
use crate::processes::Daemon;

/// Where the master listens in a namespace of its own. It must keep its port over restarts.
const MASTER_PORT: u16 = 7400;
/// Connections that may wait for a proxy.
const BACKLOG: u32 = 1024;

/// The one or the other.
#[derive(Debug)]
pub(super) enum Wires {
    Loopback,
    Switch(Switch),
}

impl Wires {
    /// What the report calls it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Wires::Loopback => "proxies",
            Wires::Switch(_) => "namespaces",
        }
    }

    /// Has the daemon of `party` live at that party's end of the wire.
    pub(super) fn settle(&self, party: Party, daemon: Daemon) -> Result<Daemon> {
        let Wires::Switch(switch) = self else { return Ok(daemon) };
        let port = if party == Party::Master { MASTER_PORT } else { 0 };
        Ok(daemon
            .launched_by(switch.entrance(party)?)
            .with_argument("--listen", &format!("{}:{port}", home(party)))
            // Nobody else is on this network.
            .with_flag("--insecure-any-interface"))
    }

    /// Where the proxy of `party` is reached.
    pub(super) async fn listener(&self, party: Party) -> std::io::Result<TcpListener> {
        match self {
            Wires::Loopback => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
            Wires::Switch(switch) => switch.sockets().bound(stand_in(party)).await?.listen(BACKLOG),
        }
    }

    /// Connects a proxy with `target` on behalf of `party`.
    pub(super) async fn dial(&self, party: Party, target: SocketAddr) -> std::io::Result<TcpStream> {
        match self {
            Wires::Loopback => TcpStream::connect(target).await,
            Wires::Switch(switch) => switch.sockets().bound(stand_in(party)).await?.connect(target).await,
        }
    }

    /// Whose connection a proxy has accepted: by its address, or by which of `processes` has the socket.
    pub(super) async fn sender(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
        processes: Vec<(Party, u32)>,
    ) -> Option<Party> {
        match self {
            Wires::Switch(switch) => switch.party_at(peer.ip()),
            Wires::Loopback => {
                // Looking through the tables takes milliseconds: not on a thread that others wait for.
                tokio::task::spawn_blocking(move || owner(peer, local, &processes)).await.ok()?
            }
        }
    }
}
