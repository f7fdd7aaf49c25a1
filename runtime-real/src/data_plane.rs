//! Connections of the data plane: those that are accepted, and those that are dialled on demand.

use std::sync::Arc;
use std::time::Duration;

use cairn_core::id::Peer;
use cairn_core::machine::Machine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use crate::connection::{self, Broken, Budget};
use crate::environment::Dialer;
use crate::mailbox::{Mailbox, Sink};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// After a failure to accept (no descriptors left), the next attempt waits so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until aborted; at most `most` at once, later ones wait unaccepted.
pub(crate) async fn accept<M>(listener: TcpListener, mailbox: Mailbox<M>, budget: Budget, most: u32)
where
    M: Machine + 'static,
    M::Request: Send,
    M::Response: Send,
{
    let places = Arc::new(Semaphore::new(most.max(1) as usize));
    let mut connections = tokio::task::JoinSet::new();
    while let Ok(place) = places.clone().acquire_owned().await {
        while connections.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!("can't accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (mailbox, budget) = (mailbox.clone(), budget.clone());
        connections.spawn(async move {
            let (queue, waiting) = mpsc::unbounded_channel();
            let peer = Peer::Conn(mailbox.new_conn(sink(queue)));
            let deliver = |message| mailbox.message(peer.clone(), message);
            let end = connection::serve(stream, waiting, &budget, deliver).await;
            match end {
                Ok(()) | Err(Broken::Closed) => tracing::debug!("{peer} from {from} ended"),
                Err(broken) => tracing::warn!("{peer} from {from}: {broken}"),
            }
            mailbox.lost(peer);
            drop(place);
        });
    }
}

/// Dials for `mailbox`'s node. What is sent while the connection is being made waits for it.
pub(crate) fn dialer<M>(mailbox: Mailbox<M>, budget: Budget) -> Dialer
where
    M: Machine + 'static,
    M::Request: Send,
    M::Response: Send,
{
    Box::new(move |address, link| {
        let (queue, waiting) = mpsc::unbounded_channel();
        let (mailbox, budget) = (mailbox.clone(), budget.clone());
        tokio::spawn(async move {
            let connect = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&*address.0)).await;
            let end = match connect {
                Ok(Ok(stream)) => {
                    let peer = Peer::Dial(address.clone());
                    let deliver = |message| mailbox.message(peer.clone(), message);
                    connection::serve(stream, waiting, &budget, deliver).await
                }
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err(Broken::Stuck),
            };
            if let Err(broken) = end {
                tracing::debug!("connection to {address}: {broken}");
            }
            mailbox.link_lost(address, link);
        });
        sink(queue)
    })
}

fn sink(queue: mpsc::UnboundedSender<cairn_core::message::Message>) -> Sink {
    Box::new(move |message| {
        // A connection that has ended takes nothing: the machine hears of its end separately.
        let _ = queue.send(message);
    })
}
