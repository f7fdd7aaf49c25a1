//! A connection to a cluster: one client machine on a task of its own, shared by all clones.

use std::sync::Arc;
use std::time::Duration;

use cairn_core::client::{Caller, Client, ClientRequest, ClientResponse, ClientSetup};
use cairn_core::config::ClientConfig;
use cairn_core::defect::Defects;
use cairn_core::error::ClientError;
use cairn_core::id::Address;
use cairn_core::message::{Identity, MasterReply, MasterRequest};

use super::{FileReader, Result, identity, writer::CreateFile};
use crate::config::ClientOptions;
use crate::connection::Budget;
use crate::data_plane;
use crate::entropy::random_u64;
use crate::environment::{self, Clock, Node};
use crate::grpc::{Outgoing, Silence};
use crate::mailbox::{Mailbox, mailbox};

/// A cluster, ready to be used. Clones share one client and its connections; they close when the last clone and the last
/// open file are gone.
#[derive(Clone, Debug)]
pub struct Cluster {
    client: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    mailbox: Mailbox<Client>,
    config: ClientConfig,
    silence: Silence,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.mailbox.stop();
    }
}

/// Settings of a [`Cluster`] to be. From [`Cluster::builder`].
#[derive(Clone, Debug)]
pub struct ClusterBuilder {
    options: ClientOptions,
    identity: Option<Identity>,
}

impl ClusterBuilder {
    /// Replaces all settings.
    pub fn options(mut self, options: ClientOptions) -> ClusterBuilder {
        self.options = options;
        self
    }

    /// The masters, each `host:port`.
    pub fn masters<S: Into<String>>(mut self, masters: impl IntoIterator<Item = S>) -> ClusterBuilder {
        self.options.masters = masters.into_iter().map(Into::into).collect();
        self
    }

    /// As whom; otherwise the user of this process.
    pub fn identity(mut self, identity: Identity) -> ClusterBuilder {
        self.identity = Some(identity);
        self
    }

    /// The machine's settings: timeouts, windows, defaults of new files.
    pub fn tuning(mut self, tuning: ClientConfig) -> ClusterBuilder {
        self.options.tuning = tuning;
        self
    }

    /// Starts the client. Connections are made by the first operation that needs them.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(self) -> Cluster {
        let options = self.options;
        let identity = self.identity.unwrap_or_else(|| identity::of(&options));
        let setup = ClientSetup {
            config: options.tuning.clone(),
            seed: random_u64(),
            identity,
            masters: options.masters.iter().map(|master| Address::new(master)).collect(),
            defects: Defects::none(),
        };
        let (mailbox, events) = mailbox();
        let outgoing = Outgoing::new(mailbox.clone());
        let silence = outgoing.silence();
        let node = Node::new(
            "client".into(),
            Clock::start(),
            (mailbox.clone(), events),
            None,
            data_plane::dialer(mailbox.clone(), Budget::unlimited()),
            Box::new(outgoing),
        );
        // Its end shows in the mailbox: a client machine that halted answers every later call with `Closed`.
        drop(environment::run(Client::new(setup), node));
        Cluster { client: Arc::new(Handle { mailbox, config: options.tuning, silence }) }
    }
}

impl Cluster {
    /// A client of the cluster with these masters, each `host:port`, with default settings and as the user of this process.
    ///
    /// Connections are made by the first operation that needs them.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect<S: Into<String>>(masters: impl IntoIterator<Item = S>) -> Cluster {
        Cluster::builder().masters(masters).connect()
    }

    /// A client with other settings.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder { options: ClientOptions::default(), identity: None }
    }

    /// Starts a new file; await the result for its [`FileWriter`](super::FileWriter).
    pub fn create(&self, path: impl Into<String>) -> CreateFile {
        CreateFile::new(self.clone(), path.into())
    }

    /// Opens a file for reading. What is read is the file of this moment, even if it is replaced meanwhile.
    pub async fn open(&self, path: impl Into<String>) -> Result<FileReader> {
        match self.call(ClientRequest::Open { path: path.into() }).await? {
            ClientResponse::Opened { handle, length } => Ok(FileReader::new(self.clone(), handle, length)),
            other => unreachable!("{other:?} in answer to Open"),
        }
    }

    /// The settings in use.
    pub fn tuning(&self) -> &ClientConfig {
        &self.client.config
    }

    /// Asks the master itself, retrying until it answers: for what has no method of its own.
    pub async fn master(&self, request: MasterRequest) -> Result<MasterReply> {
        match self.call(ClientRequest::Master(request)).await? {
            ClientResponse::Master(reply) => Ok(reply),
            other => unreachable!("{other:?} in answer to a master request"),
        }
    }

    /// The master asked last, and why it does not answer, when nothing has been answered for `patience` though it was asked.
    pub fn silent_for(&self, patience: Duration) -> Option<(Address, String)> {
        self.client.silence.after(patience)
    }

    /// Puts the request into the machine's mailbox at once, before anything is awaited.
    pub(super) fn start(
        &self,
        request: ClientRequest,
    ) -> tokio::sync::oneshot::Receiver<Result<ClientResponse>> {
        self.client.mailbox.call(request)
    }
}

/// The machine's own calls, for what drives any client, real or simulated.
impl Caller for Cluster {
    async fn call(&self, request: ClientRequest) -> Result<ClientResponse> {
        self.start(request).await.unwrap_or(Err(ClientError::Closed))
    }
}
