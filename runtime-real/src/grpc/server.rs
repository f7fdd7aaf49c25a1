//! The master's services: unary calls, session streams, health, reflection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use cairn_core::error::MasterError;
use cairn_core::id::{ConnId, Peer};
use cairn_core::message::{MasterReply, Message};
use cairn_core::wire::control::{self, MAX_CONTROL_BYTES, Rpc};
use cairn_core::wire::proto;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::service::master_server::{Master, MasterServer};
use super::service::master_session_server::{MasterSession, MasterSessionServer};
use super::{DEADLINE, Inbox, KEEPALIVE, MAX_REQUEST_BYTES};

/// Calls under way at once, in all; more are refused as busy before the machine sees them.
const MAX_CALLS: usize = 16_384;
/// Calls under way at once on one connection; more wait with their sender.
const MAX_CALLS_PER_CONNECTION: u32 = 1_024;
/// Messages waiting for one chunkserver; one that falls further behind loses its session.
const MAX_QUEUED: usize = 65_536;

/// Serves `listener` until `stop`, then lets the calls under way end. The health service tells what `ready` does.
pub(crate) async fn serve<I: Inbox>(
    listener: TcpListener,
    inbox: I,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) -> io::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    let names = [MasterServer::<Calls<I>>::NAME, MasterSessionServer::<Sessions<I>>::NAME];
    let serves = *ready.borrow();
    tell_health(&health, names, serves).await;
    let report = tokio::spawn(report_health(health, names, ready));
    let _end_with_this = AbortOnDrop(report.abort_handle());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(io::Error::other)?;
    let calls = Calls { inbox: inbox.clone(), free: Arc::new(Semaphore::new(MAX_CALLS)) };
    let sessions = Sessions { inbox, stop: stop.clone() };
    Server::builder()
        .max_concurrent_streams(MAX_CALLS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(health_service)
        .add_service(reflection)
        .add_service(MasterServer::new(calls).max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(MasterSessionServer::new(sessions).max_decoding_message_size(MAX_CONTROL_BYTES))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop.cancelled_owned(),
        )
        .await
        .map_err(io::Error::other)
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps the told health what `ready` says.
async fn report_health(
    health: HealthReporter,
    services: [&'static str; 2],
    mut ready: watch::Receiver<bool>,
) {
    loop {
        let serves = *ready.borrow_and_update();
        tell_health(&health, services, serves).await;
        if ready.changed().await.is_err() {
            return;
        }
    }
}

/// Sets the health of each service, and under the empty name that of the server as a whole.
async fn tell_health(health: &HealthReporter, services: [&'static str; 2], serves: bool) {
    let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
    for name in services.into_iter().chain([""]) {
        health.set_service_status(name, status).await;
    }
}

/// Tells the machine that a connection is over, however its future ends.
struct Conn<I: Inbox> {
    inbox: I,
    id: ConnId,
}

impl<I: Inbox> Drop for Conn<I> {
    fn drop(&mut self) {
        self.inbox.lost(Peer::Conn(self.id));
    }
}

struct Calls<I> {
    inbox: I,
    free: Arc<Semaphore>,
}

impl<I: Inbox> Calls<I> {
    async fn unary<R: Rpc>(&self, request: R) -> Response<R::Reply> {
        let result = match request.into_message() {
            Ok(message) => self.ask(message).await,
            Err(error) => Err(MasterError::Protocol(error.to_string())),
        };
        Response::new(R::reply_to_proto(&result))
    }

    async fn ask(&self, message: Message) -> Result<MasterReply, MasterError> {
        let Ok(_place) = self.free.try_acquire() else {
            return Err(MasterError::Busy("too many requests are under way".into()));
        };
        let (reply, answer) = oneshot::channel();
        let mut reply = Some(reply);
        let id = self.inbox.new_conn(Box::new(move |message| {
            if let Message::MasterReply { result, .. } = message
                && let Some(reply) = reply.take()
            {
                // The asker may have gone away.
                let _ = reply.send(result);
            }
        }));
        let conn = Conn { inbox: self.inbox.clone(), id };
        self.inbox.message(Peer::Conn(conn.id), message);
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(MasterError::Unavailable("it is shutting down".into())),
            Err(_) => Err(MasterError::Unavailable(format!("no answer within {} s", DEADLINE.as_secs()))),
        }
    }
}

macro_rules! calls {
    ($($rpc:ident($request:ident) -> $reply:ident;)*) => {
        #[tonic::async_trait]
        impl<I: Inbox> Master for Calls<I> {
            $(async fn $rpc(
                &self,
                request: Request<proto::$request>,
            ) -> Result<Response<proto::$reply>, Status> {
                Ok(self.unary(request.into_inner()).await)
            })*
        }
    };
}

calls! {
    mkdir(MkdirRequest) -> MkdirReply;
    list(ListRequest) -> ListReply;
    stat(StatRequest) -> StatReply;
    chmod(ChmodRequest) -> ChmodReply;
    chown(ChownRequest) -> ChownReply;
    rename(RenameRequest) -> RenameReply;
    delete(DeleteRequest) -> DeleteReply;
    list_trash(ListTrashRequest) -> ListTrashReply;
    restore(RestoreRequest) -> RestoreReply;
    begin_upload(BeginUploadRequest) -> BeginUploadReply;
    assign_chunk(AssignChunkRequest) -> AssignChunkReply;
    seal_chunk(SealChunkRequest) -> SealChunkReply;
    keep_upload(KeepUploadRequest) -> KeepUploadReply;
    complete_upload(CompleteUploadRequest) -> CompleteUploadReply;
    abort_upload(AbortUploadRequest) -> AbortUploadReply;
    get_chunk_location(GetChunkLocationRequest) -> GetChunkLocationReply;
    report_bad_replica(ReportBadReplicaRequest) -> ReportBadReplicaReply;
    get_cluster_status(GetClusterStatusRequest) -> GetClusterStatusReply;
    fsck(FsckRequest) -> FsckReply;
}

struct Sessions<I> {
    inbox: I,
    stop: CancellationToken,
}

type ToServers = Pin<Box<dyn Stream<Item = Result<proto::ToServer, Status>> + Send>>;

#[tonic::async_trait]
impl<I: Inbox> MasterSession for Sessions<I> {
    type RegisterDataNodeStream = ToServers;

    async fn register_data_node(
        &self,
        request: Request<Streaming<proto::FromServer>>,
    ) -> Result<Response<ToServers>, Status> {
        let incoming = request.into_inner();
        let (queue, outgoing) = mpsc::channel(MAX_QUEUED);
        let over = self.stop.child_token();
        // The machine closes the connection by dropping the sink: what is queued still goes out, the guard ends the other
        // direction. When that one ends first, the machine is told and drops the sink.
        let closed = over.clone().drop_guard();
        let id = self.inbox.new_conn(session_sink(queue, closed));
        let conn = Conn { inbox: self.inbox.clone(), id };
        tokio::spawn(receive(incoming, conn, over.clone()));
        // A client that goes away drops this stream, and with it the other direction.
        let gone = over.drop_guard();
        let stream = ReceiverStream::new(outgoing).map(move |message| {
            let _ = &gone;
            Ok(message)
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

fn session_sink(queue: mpsc::Sender<proto::ToServer>, closed: DropGuard) -> super::Sink {
    let mut open = Some((queue, closed));
    Box::new(move |message| {
        let Message::ToServer(message) = message else { return };
        if let Some((queue, _)) = &open
            && queue.try_send(control::to_server_to_proto(&message)).is_err()
        {
            tracing::warn!("chunkserver does not keep up with its orders: closing its session");
            open = None;
        }
    })
}

async fn receive<I: Inbox>(
    mut incoming: Streaming<proto::FromServer>,
    conn: Conn<I>,
    over: CancellationToken,
) {
    let _both = over.clone().drop_guard();
    loop {
        let message = tokio::select! {
            biased;
            () = over.cancelled() => return,
            message = incoming.message() => message,
        };
        match message {
            Ok(Some(message)) => match control::from_server_from_proto(message) {
                Ok(message) => conn.inbox.message(Peer::Conn(conn.id), Message::FromServer(message)),
                Err(error) => {
                    tracing::warn!("chunkserver's message is refused, its session closed: {error}");
                    return;
                }
            },
            Ok(None) => return,
            Err(status) => {
                tracing::debug!("chunkserver's session ended: {status}");
                return;
            }
        }
    }
}
