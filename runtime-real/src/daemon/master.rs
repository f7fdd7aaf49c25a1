//! The master as a daemon.

use std::future::Future;
use std::sync::Arc;

use cairn_core::defect::Defects;
use cairn_core::master::{Master, MasterCall, MasterCallReply, MasterSetup};

use super::{Boxed, Handle, Health, Hosted, StartError};
use crate::config::{MasterOptions, listen_address};
use crate::entropy::random_u64;
use crate::environment::{self, Clock, Node};
use crate::mailbox::{Mailbox, mailbox};
use crate::node_parts;

/// Starts masters.
#[derive(Debug)]
pub struct MasterDaemon;

impl Hosted for Mailbox<Master> {
    fn health(&self) -> Boxed<Option<Health>> {
        let answer = self.call(MasterCall::Metrics);
        Box::pin(async move {
            answer.await.ok().map(|MasterCallReply::Metrics { metrics, ready }| (metrics, ready))
        })
    }

    fn shutdown(&self) {
        drop(self.call(MasterCall::Shutdown));
    }

    fn stop(&self) {
        Mailbox::stop(self);
    }
}

impl MasterDaemon {
    /// Starts a master in this process and returns once its ports are bound; it serves once [`Handle::ready`] says so.
    pub fn start(options: MasterOptions) -> impl Future<Output = Result<Handle, StartError>> + Send {
        start(options)
    }
}

async fn start(options: MasterOptions) -> Result<Handle, StartError> {
    let listen = listen_address("listen", &options.listen, options.insecure_any_interface)?;
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|error| StartError::Listen { address: listen, error })?;
    let address =
        listener.local_addr().map_err(|error| StartError::System { what: "bound address", error })?;
    let clock = Clock::start();
    let setup = MasterSetup {
        config: options.tuning,
        seed: random_u64(),
        wall: clock.wall(),
        defects: Defects::none(),
    };
    let (mailbox, events) = mailbox();
    let parts = node_parts::outgoing(&mailbox, None);
    let node = Node::new("master".into(), clock, (mailbox.clone(), events), None, parts.0, parts.1);
    let machine = environment::run(Master::new(setup), node);
    Ok(Handle::new(address, None, Arc::new(mailbox), machine, Vec::new(), Vec::new()))
}
