//! SIGINT and SIGTERM. Most commands end by being dropped; one that has something to put in order first is told.

use std::pin::pin;
use std::time::Duration;

use anyhow::Result;
use bins::exit::{Exit, Failure};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long anything that is put in order after a failure or a signal may take.
pub(crate) const GRACE: Duration = Duration::from_secs(3);

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Failure {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Failure::new(Exit::Interrupted, "interrupted"),
            _ = self.terminate.recv() => Failure::new(Exit::Terminated, "terminated"),
        }
    }
}

/// A signal ends `work` by dropping it, so that its processes and temporary files go too.
pub(crate) async fn dropped(work: impl Future<Output = Result<()>>) -> Result<()> {
    let mut signals = Signals::new()?;
    tokio::select! {
        biased;
        end = signals.next() => Err(end.into()),
        result = work => result,
    }
}

/// A signal tells `work`, which then has [`GRACE`] to end by itself. A second signal does not wait for that.
pub(crate) async fn told<F>(work: impl FnOnce(Stop) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let mut signals = Signals::new()?;
    let (tell, stop) = watch::channel(false);
    let mut work = pin!(work(Stop(stop)));
    let end = tokio::select! {
        biased;
        end = signals.next() => end,
        result = &mut work => return result,
    };
    tell.send_replace(true);
    tokio::select! {
        biased;
        again = signals.next() => Err(again.into()),
        // How it ended does not matter any more: the signal is the reason.
        _ = tokio::time::timeout(GRACE, work) => Err(end.into()),
    }
}

/// Whether a command was told to end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Fails once it was.
    pub(crate) fn check(&self) -> Result<()> {
        if *self.0.borrow() { Err(stopped().into()) } else { Ok(()) }
    }

    /// Runs `work` until it ends or the command is told to.
    pub(crate) async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let mut told = self.0.clone();
        tokio::select! {
            biased;
            Ok(_) = told.wait_for(|told| *told) => Err(stopped().into()),
            result = work => result,
        }
    }
}

fn stopped() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted")
}
