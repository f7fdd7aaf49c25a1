//! The master as a daemon.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use cairn_core::defect::Defects;
use cairn_core::master::{Master, MasterCall, MasterCallReply, MasterSetup};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listen::{bind, bind_optional};
use super::{Boxed, Handle, Health, Hosted, Serving, StartError, ended};
use crate::config::MasterOptions;
use crate::connection::Budget;
use crate::directory::{DataDir, Kind};
use crate::disk::Disks;
use crate::entropy::random_u64;
use crate::environment::{self, Clock, End, Node};
use crate::grpc::{self, Outgoing};
use crate::mailbox::{Mailbox, mailbox};
use crate::{data_plane, directory, http};

/// How often the gRPC health service asks the machine whether it serves.
const READINESS_EVERY: Duration = Duration::from_millis(500);

/// How often the data directory is looked for.
const DIRECTORY_EVERY: Duration = Duration::from_secs(1);

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
    options.validate()?;
    let directory = directory::lock(&options.data, Kind::Master)?;
    if options.require_formatted {
        directory.require_formatted()?;
    }
    let any = options.insecure_any_interface;
    let (listener, address) = bind("listen", &options.listen, any).await?;
    let http = bind_optional("http_listen", &options.http_listen, any).await?;
    let clock = Clock::start();
    let setup = MasterSetup {
        config: options.tuning,
        seed: random_u64(),
        wall: clock.wall(),
        defects: Defects::none(),
    };
    let (mailbox, events) = mailbox();
    let done = mailbox.clone();
    let disks = Disks::start(
        std::slice::from_ref(&directory),
        options.disk_threads,
        Arc::new(move |op, result| done.disk_done(op, result)),
    )
    .map_err(|error| StartError::System { what: "starting disk threads", error })?;
    let node = Node::new(
        "master".into(),
        clock,
        (mailbox.clone(), events),
        Some(Box::new(disks)),
        data_plane::dialer(mailbox.clone(), Budget::unlimited()),
        Box::new(Outgoing::new(mailbox.clone())),
    );
    let machine = environment::run(Master::new(setup), node);
    let hosted: Arc<dyn Hosted> = Arc::new(mailbox.clone());
    let stop = CancellationToken::new();
    let mut tasks = Vec::new();
    let (tell, ready) = watch::channel(false);
    tasks.push(tokio::spawn(serve_grpc(listener, mailbox, ready, stop)).abort_handle());
    tasks.push(tokio::spawn(watch_readiness(hosted.clone(), tell)).abort_handle());
    let http_address = http.map(|(listener, address)| {
        tasks.push(tokio::spawn(http::serve(listener, hosted.clone())).abort_handle());
        address
    });
    super::warn_of_build("master");
    tracing::info!(node = "master", "gRPC is served on {address}, {}", Serving(http_address));
    let machine = while_there(machine, directory.clone(), hosted.clone());
    Ok(Handle::new(address, http_address, hosted, machine, tasks, vec![directory]))
}

/// How the machine ends: by itself, or because its directory went away.
async fn while_there(machine: JoinHandle<End>, directory: Arc<DataDir>, hosted: Arc<dyn Hosted>) -> End {
    let mut machine = std::pin::pin!(ended(machine));
    let gone = async {
        loop {
            tokio::time::sleep(DIRECTORY_EVERY).await;
            if let Err(error) = directory.check() {
                return error;
            }
        }
    };
    let gone = tokio::select! {
        biased;
        end = &mut machine => return end,
        gone = gone => gone,
    };
    hosted.stop();
    machine.await;
    End::Halted {
        reason: format!("the master's log is out of reach: {gone}; then start the master again"),
        failed: true,
    }
}

async fn serve_grpc(
    listener: TcpListener,
    mailbox: Mailbox<Master>,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    // Aborting this task ends the connections' tasks too.
    let _stop = stop.clone().drop_guard();
    if let Err(error) = grpc::serve(listener, mailbox, ready, stop).await {
        tracing::error!("gRPC: {error}");
    }
}

/// Tells whether the machine serves, as `/health` does; until it has ended.
async fn watch_readiness(hosted: Arc<dyn Hosted>, ready: watch::Sender<bool>) {
    while let Some((_, serves)) = hosted.health().await {
        ready.send_if_modified(|was| std::mem::replace(was, serves.is_ok()) != serves.is_ok());
        tokio::time::sleep(READINESS_EVERY).await;
    }
    ready.send_replace(false);
}
