//! Outgoing control messages: a client's calls to masters, a chunkserver's session with one.

use std::collections::HashMap;
use std::sync::Arc;

use cairn_core::error::MasterError;
use cairn_core::id::{Address, Peer, RequestId};
use cairn_core::message::{FromServer, MasterReply, Message};
use cairn_core::wire::control::{self, MAX_CONTROL_BYTES, Rpc};
use cairn_core::wire::proto::{self, master_request::Body};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::reach::Reach;
use super::silence::Silence;
use super::{DEADLINE, Inbox, KEEPALIVE};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The server gives up first, and says why.
const CALL_TIMEOUT: Duration = DEADLINE.saturating_add(Duration::from_secs(3));
/// Messages waiting for the master; a session that falls further behind is given up.
const MAX_QUEUED: usize = 16_384;
/// What tonic says of an answer in plain HTTP.
const NO_GRPC: &str = "grpc-status header missing";
const SESSION_PATH: &str = "/cairn.v1.MasterSession/RegisterDataNode";

/// One node's outgoing control messages. Dropped, it ends its sessions.
pub(crate) struct Outgoing<I> {
    inbox: I,
    channels: HashMap<Address, Channel>,
    sessions: HashMap<Address, Session>,
    reach: HashMap<Address, Arc<Reach>>,
    silence: Silence,
}

struct Session {
    queue: mpsc::Sender<proto::FromServer>,
    /// Cancelled before the machine is told that the session ended.
    over: CancellationToken,
    _end_when_dropped: DropGuard,
}

impl<I: Inbox> Outgoing<I> {
    /// Nothing is connected until something is sent.
    pub(crate) fn new(inbox: I) -> Outgoing<I> {
        Outgoing {
            inbox,
            channels: HashMap::new(),
            sessions: HashMap::new(),
            reach: HashMap::new(),
            silence: Silence::default(),
        }
    }

    /// For how long its requests have gone without an answer.
    pub(crate) fn silence(&self) -> Silence {
        self.silence.clone()
    }

    /// Sends a request or session message to the node at `address`. Must be called on the tokio runtime.
    pub(crate) fn send(&mut self, address: Address, message: Message) {
        match message {
            Message::MasterRequest { request, .. } => self.call(address, request, &message),
            Message::FromServer(message) => self.tell(address, message),
            message => tracing::error!("a message that nobody is dialled for: {message}"),
        }
    }

    /// Ends the session with `address`: the machine closed it.
    pub(crate) fn close(&mut self, address: &Address) {
        self.sessions.remove(address);
    }

    fn call(&mut self, address: Address, request: RequestId, message: &Message) {
        let Message::MasterRequest { client, identity, body, .. } = message else { return };
        let proto = control::request_to_proto(*client, request, identity, body);
        let inbox = self.inbox.clone();
        let channel = match self.channels.get(&address) {
            Some(channel) => Ok(channel.clone()),
            None => channel(&address),
        };
        if let Ok(channel) = &channel {
            self.channels.insert(address.clone(), channel.clone());
        }
        let silence = self.silence.clone();
        silence.asked(&address);
        tokio::spawn(async move {
            let answered = match channel {
                Ok(channel) => ask(channel, proto).await,
                Err(status) => Err(failure(&status)),
            };
            let result = answered.map_err(|error| match error {
                MasterError::Protocol(text) if text.contains(NO_GRPC) => {
                    MasterError::Protocol(format!("{address} is not a Cairn master's gRPC port"))
                }
                error => error,
            });
            silence.answered(&address, &result);
            inbox.message(Peer::Dial(address), Message::MasterReply { request, result });
        });
    }

    fn tell(&mut self, address: Address, message: FromServer) {
        let starts = matches!(message, FromServer::Register { .. });
        if self.sessions.get(&address).is_some_and(|session| session.over.is_cancelled()) {
            self.sessions.remove(&address);
        }
        if !self.sessions.contains_key(&address) {
            // Anything else is left over from a session whose end the machine has yet to hear of.
            if !starts {
                return;
            }
            let reach = self.reach.entry(address.clone()).or_default().clone();
            self.sessions.insert(address.clone(), dial(address.clone(), self.inbox.clone(), reach));
        }
        let queue = &self.sessions[&address].queue;
        if queue.try_send(control::from_server_to_proto(&message)).is_err() {
            tracing::warn!("master at {address} does not keep up: ending the session");
            self.sessions.remove(&address);
        }
    }
}

/// A connection that is made when it is first used, and again when it broke.
fn channel(address: &Address) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Status::invalid_argument(format!("{address} is not an address: {error}")))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_lazy())
}

async fn ask(channel: Channel, request: proto::MasterRequest) -> Result<MasterReply, MasterError> {
    macro_rules! dispatch {
        ($($rpc:ident),*) => {
            match request.body {
                $(Some(Body::$rpc(request)) => unary(channel, request).await,)*
                None => Err(MasterError::Protocol("empty request".into())),
            }
        };
    }
    dispatch!(
        Mkdir,
        List,
        Stat,
        Chmod,
        Chown,
        Rename,
        Delete,
        ListTrash,
        Restore,
        BeginUpload,
        AssignChunk,
        SealChunk,
        KeepUpload,
        CompleteUpload,
        AbortUpload,
        GetChunkLocation,
        ReportBadReplica,
        GetClusterStatus,
        Fsck
    )
}

async fn unary<R: Rpc>(channel: Channel, request: R) -> Result<MasterReply, MasterError> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_CONTROL_BYTES);
    let call = async {
        grpc.ready().await.map_err(|error| Status::unavailable(root_cause(&error)))?;
        let codec: ProstCodec<R, R::Reply> = ProstCodec::default();
        grpc.unary(Request::new(request), PathAndQuery::from_static(R::PATH), codec).await
    };
    let reply = match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(reply)) => reply.into_inner(),
        Ok(Err(status)) => return Err(failure(&status)),
        Err(_) => {
            return Err(MasterError::Unavailable(format!("no answer within {} s", CALL_TIMEOUT.as_secs())));
        }
    };
    R::reply_from_proto(reply).unwrap_or_else(|error| Err(MasterError::Protocol(error.to_string())))
}

/// What a transport's failure means to the machine.
fn failure(status: &Status) -> MasterError {
    let text = match std::error::Error::source(status) {
        Some(cause) => root_cause(cause),
        None => status.message().to_owned(),
    };
    match status.code() {
        Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => MasterError::Protocol(text),
        _ => MasterError::Unavailable(text),
    }
}

/// The operating system's word, or whatever else began it: each layer above repeats the one below.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.last().map_or_else(String::new, ToString::to_string)
}

fn dial<I: Inbox>(address: Address, inbox: I, reach: Arc<Reach>) -> Session {
    let (queue, messages) = mpsc::channel(MAX_QUEUED);
    let over = CancellationToken::new();
    let session = Session { queue, over: over.clone(), _end_when_dropped: over.clone().drop_guard() };
    tokio::spawn(async move {
        let peer = Peer::Dial(address.clone());
        let ended = tokio::select! {
            biased;
            () = over.cancelled() => None,
            ended = converse(&address, messages, &inbox, &reach) => Some(ended),
        };
        match ended {
            Some(Err(status)) => reach.failed(&address, &failure(&status).to_string()),
            Some(Ok(())) => reach.failed(&address, "it ended the session"),
            None => {} // as this node wished
        }
        over.cancel();
        inbox.lost(peer);
    });
    session
}

/// One session, from its first message to its end.
async fn converse<I: Inbox>(
    address: &Address,
    messages: mpsc::Receiver<proto::FromServer>,
    inbox: &I,
    reach: &Reach,
) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel(address)?).max_decoding_message_size(MAX_CONTROL_BYTES);
    grpc.ready().await.map_err(|error| Status::unavailable(root_cause(&error)))?;
    let codec: ProstCodec<proto::FromServer, proto::ToServer> = ProstCodec::default();
    let request = Request::new(ReceiverStream::new(messages));
    let mut incoming =
        grpc.streaming(request, PathAndQuery::from_static(SESSION_PATH), codec).await?.into_inner();
    while let Some(message) = incoming.message().await? {
        reach.heard(address);
        let message = control::to_server_from_proto(message)
            .map_err(|error| Status::invalid_argument(format!("master's message is refused: {error}")))?;
        inbox.message(Peer::Dial(address.clone()), Message::ToServer(message));
    }
    Ok(())
}
