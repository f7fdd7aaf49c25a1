//! A chunkserver as a daemon.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use cairn_core::chunkserver::{Chunkserver, ChunkserverCall, ChunkserverCallReply, ChunkserverSetup};
use cairn_core::defect::Defects;
use cairn_core::id::Address;

use super::listen::{bind, bind_optional};
use super::{Boxed, Handle, Health, Hosted, Serving, StartError, ended};
use crate::config::{ChunkserverOptions, ConfigError};
use crate::connection::Budget;
use crate::directory::Kind;
use crate::disk::Disks;
use crate::entropy::{boot_id, process_id, random_u64};
use crate::environment::{self, Clock, Node};
use crate::grpc::Outgoing;
use crate::mailbox::{Mailbox, mailbox};
use crate::{data_plane, directory, http};

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
    options.validate()?;
    let volumes = u16::try_from(options.data.len()).map_err(|_| {
        StartError::Config(ConfigError::Value { key: "data", what: "too many directories".into() })
    })?;
    let directories =
        options.data.iter().map(|path| directory::lock(path, Kind::Volume)).collect::<Result<Vec<_>, _>>()?;
    if options.require_formatted {
        directories.iter().try_for_each(|directory| directory.require_formatted())?;
    }
    let any = options.insecure_any_interface;
    let (listener, address) = bind("listen", &options.listen, any).await?;
    let http = bind_optional("http_listen", &options.http_listen, any).await?;
    let setup = ChunkserverSetup {
        config: options.tuning.clone(),
        seed: random_u64(),
        boot: boot_id(),
        process: process_id(),
        address: Address::new(&advertised(&options, address)?),
        rack: options.rack.clone(),
        masters: options.masters.iter().map(|master| Address::new(master)).collect(),
        volumes,
        defects: Defects::none(),
    };
    let (mailbox, events) = mailbox();
    let done = mailbox.clone();
    let disks = Disks::start(
        &directories,
        options.disk_threads,
        Arc::new(move |op, result| done.disk_done(op, result)),
    )
    .map_err(|error| StartError::System { what: "starting disk threads", error })?;
    let budget = Budget::new(options.payload_bytes, options.payload_bytes_per_connection);
    let node = format!("chunkserver {}", setup.address);
    let environment = Node::new(
        node.clone(),
        Clock::start(),
        (mailbox.clone(), events),
        Some(Box::new(disks)),
        data_plane::dialer(mailbox.clone(), budget.clone()),
        Box::new(Outgoing::new(mailbox.clone())),
    );
    let machine = environment::run(Chunkserver::new(setup), environment);
    let hosted: Arc<dyn Hosted> = Arc::new(mailbox.clone());
    let accept = data_plane::accept(listener, mailbox, budget, options.connections);
    let mut tasks = vec![tokio::spawn(accept).abort_handle()];
    let http_address = http.map(|(listener, address)| {
        tasks.push(tokio::spawn(http::serve(listener, hosted.clone())).abort_handle());
        address
    });
    let http = Serving(http_address);
    super::warn_of_build(&node);
    tracing::info!(node, "data is served on {address}, {http}; volumes: {volumes}");
    Ok(Handle::new(address, http_address, hosted, ended(machine), tasks, directories))
}

/// Where others are told to dial this server.
fn advertised(options: &ChunkserverOptions, bound: SocketAddr) -> Result<String, StartError> {
    if !options.advertise.is_empty() {
        // A port of 0 stands for the one that was bound.
        return Ok(match options.advertise.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", bound.port()),
            None => options.advertise.clone(),
        });
    }
    if bound.ip().is_unspecified() {
        let what = format!(
            "needed, since others can't dial {bound}: the host:port under which they reach this server"
        );
        return Err(ConfigError::Value { key: "advertise", what }.into());
    }
    Ok(bound.to_string())
}
