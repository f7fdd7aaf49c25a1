//! A chunkserver as a daemon.

use std::future::Future;
use std::sync::Arc;

use cairn_core::chunkserver::{Chunkserver, ChunkserverCall, ChunkserverCallReply, ChunkserverSetup};
use cairn_core::defect::Defects;
use cairn_core::id::Address;

use super::{Boxed, Handle, Health, Hosted, StartError};
use crate::config::{ChunkserverOptions, listen_address};
use crate::entropy::{boot_id, process_id, random_u64};
use crate::environment::{self, Clock, Node};
use crate::mailbox::{Mailbox, mailbox};
use crate::node_parts;

/// Starts chunkservers.
#[derive(Debug)]
pub struct ChunkserverDaemon;

impl Hosted for Mailbox<Chunkserver> {
    fn health(&self) -> Boxed<Option<Health>> {
        let answer = self.call(ChunkserverCall::Metrics);
        Box::pin(async move {
            answer.await.ok().map(|ChunkserverCallReply::Metrics { metrics, ready }| (metrics, ready))
        })
    }

    fn shutdown(&self) {
        drop(self.call(ChunkserverCall::Shutdown));
    }

    fn stop(&self) {
        Mailbox::stop(self);
    }
}

impl ChunkserverDaemon {
    /// Starts a chunkserver in this process and returns once its ports are bound; it serves once [`Handle::ready`] says so.
    pub fn start(options: ChunkserverOptions) -> impl Future<Output = Result<Handle, StartError>> + Send {
        start(options)
    }
}

async fn start(options: ChunkserverOptions) -> Result<Handle, StartError> {
    let listen = listen_address("listen", &options.listen, options.insecure_any_interface)?;
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|error| StartError::Listen { address: listen, error })?;
    let address =
        listener.local_addr().map_err(|error| StartError::System { what: "bound address", error })?;
    let advertised =
        if options.advertise.is_empty() { address.to_string() } else { options.advertise.clone() };
    let clock = Clock::start();
    let setup = ChunkserverSetup {
        config: options.tuning,
        seed: random_u64(),
        boot: boot_id(),
        process: process_id(),
        address: Address::new(&advertised),
        rack: options.rack,
        masters: options.masters.iter().map(|master| Address::new(master)).collect(),
        volumes: options.data.len() as u16,
        defects: Defects::none(),
    };
    let (mailbox, events) = mailbox();
    let parts = node_parts::outgoing(&mailbox, None);
    let node = Node::new("chunkserver".into(), clock, (mailbox.clone(), events), None, parts.0, parts.1);
    let machine = environment::run(Chunkserver::new(setup), node);
    Ok(Handle::new(address, None, Arc::new(mailbox), machine, Vec::new(), Vec::new()))
}
