//! Sockets in another network namespace. A socket stays in the namespace of the thread that made it, whoever uses it: one
//! thread lives there and makes them for all.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

/// An address to bind, and whom to give the socket.
type Order = (Ipv4Addr, oneshot::Sender<io::Result<TcpSocket>>);

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Sockets {
    orders: mpsc::Sender<Order>,
}

impl Sockets {
    /// In the namespace that has its name at `path`.
    pub(super) fn within(path: &Path) -> Result<Sockets> {
        let namespace = File::open(path).with_context(|| path.display().to_string())?;
        let (orders, ordered) = mpsc::channel::<Order>();
        let (moved, has_moved) = mpsc::channel();
        std::thread::Builder::new().name("sockets".into()).spawn(move || {
            let there = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
            let is_there = there.is_ok();
            // Whoever asked waits for it, or is gone.
            let _ = moved.send(there);
            if is_there {
                for (address, reply) in ordered {
                    let _ = reply.send(bound(address));
                }
            }
        })?;
        has_moved.recv().context("the thread that makes sockets ended")?.context("entering a namespace")?;
        Ok(Sockets { orders })
    }

    /// A TCP socket bound to a free port of `address`.
    pub(super) async fn bound(&self, address: Ipv4Addr) -> io::Result<TcpSocket> {
        let (reply, made) = oneshot::channel();
        self.orders.send((address, reply)).map_err(io::Error::other)?;
        made.await.map_err(io::Error::other)?
    }
}

fn bound(address: Ipv4Addr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((address, 0)))?;
    Ok(socket)
}
