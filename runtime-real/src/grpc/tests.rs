//! Both ends over loopback, with an inbox in the machine's place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_core::error::MasterError;
use cairn_core::id::{
    Address, BootId, ClientId, ClusterId, ConnId, Peer, ProcessId, RequestId, ServerId, SessionId, TrashId,
};
use cairn_core::message::{FromServer, Identity, MasterReply, MasterRequest, Message, ToServer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Inbox, Outgoing, Sink, serve};

#[derive(Debug, PartialEq)]
enum Event {
    Message(Peer, Message),
    Lost(Peer),
}

/// Writes down what it is told; keeps sinks as a node does.
#[derive(Clone)]
struct Recorder {
    events: mpsc::UnboundedSender<Event>,
    sinks: Arc<Mutex<HashMap<ConnId, Sink>>>,
}

impl Inbox for Recorder {
    fn message(&self, from: Peer, message: Message) {
        let _ = self.events.send(Event::Message(from, message));
    }

    fn lost(&self, peer: Peer) {
        if let Peer::Conn(conn) = &peer {
            self.sinks.lock().unwrap().remove(conn);
        }
        let _ = self.events.send(Event::Lost(peer));
    }

    fn new_conn(&self, sink: Sink) -> ConnId {
        let mut sinks = self.sinks.lock().unwrap();
        let conn = ConnId(sinks.keys().map(|conn| conn.0).max().unwrap_or(0) + 1);
        sinks.insert(conn, sink);
        conn
    }
}

impl Recorder {
    fn new() -> (Recorder, mpsc::UnboundedReceiver<Event>) {
        let (events, received) = mpsc::unbounded_channel();
        (Recorder { events, sinks: Arc::default() }, received)
    }

    fn send(&self, to: &Peer, message: Message) {
        let Peer::Conn(conn) = to else { panic!("{to} did not connect to us") };
        (self.sinks.lock().unwrap().get_mut(conn).expect("connection is open"))(message);
    }

    fn close(&self, peer: &Peer) {
        let Peer::Conn(conn) = peer else { panic!("{peer} did not connect to us") };
        self.sinks.lock().unwrap().remove(conn);
    }
}

async fn next(events: &mut mpsc::UnboundedReceiver<Event>) -> Event {
    tokio::time::timeout(Duration::from_secs(20), events.recv()).await.expect("in time").expect("open")
}

struct Master {
    recorder: Recorder,
    events: mpsc::UnboundedReceiver<Event>,
    address: Address,
    ready: watch::Sender<bool>,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn master() -> Master {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::new(&listener.local_addr().unwrap().to_string());
    let (recorder, events) = Recorder::new();
    let stop = CancellationToken::new();
    let (ready, told) = watch::channel(true);
    let served = tokio::spawn(serve(listener, recorder.clone(), told, stop.clone()));
    Master { recorder, events, address, ready, stop, served }
}

fn request(number: u64, body: MasterRequest) -> Message {
    Message::MasterRequest {
        client: ClientId(7),
        request: RequestId(number),
        identity: Identity { user: "ann".into(), groups: vec!["staff".into()] },
        body,
    }
}

fn register() -> Message {
    Message::FromServer(FromServer::Register {
        server: ServerId(1),
        cluster: None,
        boot: BootId(2),
        process: ProcessId(3),
        address: Address::new("here:1"),
        rack: "r".into(),
        volumes: vec![],
    })
}

fn registered() -> Message {
    Message::ToServer(ToServer::Registered {
        cluster: ClusterId(1),
        session: SessionId(1),
        heartbeat_ms: 1,
        block_report_ms: 2,
    })
}

#[tokio::test]
async fn a_request_is_answered_on_its_own_connection() {
    let mut master = master().await;
    let (inbox, mut answers) = Recorder::new();
    let mut outgoing = Outgoing::new(inbox);
    let asked = request(1, MasterRequest::Stat { path: "/a".into() });
    outgoing.send(master.address.clone(), asked.clone());
    let Event::Message(peer, message) = next(&mut master.events).await else { panic!("a message first") };
    assert_eq!(message, asked);
    let result = Err(MasterError::NotFound("/a".into()));
    master.recorder.send(&peer, Message::MasterReply { request: RequestId(1), result: result.clone() });
    let from = Peer::Dial(master.address.clone());
    let reply = Message::MasterReply { request: RequestId(1), result };
    assert_eq!(next(&mut answers).await, Event::Message(from, reply));
    assert_eq!(next(&mut master.events).await, Event::Lost(peer));
    assert!(master.recorder.sinks.lock().unwrap().is_empty());
}

#[tokio::test]
async fn many_requests_share_a_connection_and_keep_their_answers() {
    let mut master = master().await;
    let (inbox, mut answers) = Recorder::new();
    let mut outgoing = Outgoing::new(inbox);
    for number in 1..=200 {
        outgoing.send(
            master.address.clone(),
            request(number, MasterRequest::Delete { path: "/a".into(), recursive: false }),
        );
    }
    let mut left = 200;
    while left > 0 {
        // Between the requests come the ends of answered ones.
        if let Event::Message(peer, Message::MasterRequest { request, .. }) = next(&mut master.events).await {
            answer(&master.recorder, &peer, request, Ok(MasterReply::Trashed(TrashId(request.0 * 10))));
            left -= 1;
        }
    }
    for _ in 0..200 {
        let Event::Message(_, Message::MasterReply { request, result }) = next(&mut answers).await else {
            panic!("only replies come")
        };
        assert_eq!(result, Ok(MasterReply::Trashed(TrashId(request.0 * 10))));
    }
}

fn answer(recorder: &Recorder, peer: &Peer, request: RequestId, result: Result<MasterReply, MasterError>) {
    recorder.send(peer, Message::MasterReply { request, result });
}

#[tokio::test]
async fn a_master_that_is_not_there_is_unavailable() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (inbox, mut answers) = Recorder::new();
    let mut outgoing = Outgoing::new(inbox);
    for address in [unused.to_string().as_str(), "not an address"] {
        outgoing.send(Address::new(address), request(1, MasterRequest::ClusterStatus));
        let Event::Message(_, Message::MasterReply { result, .. }) = next(&mut answers).await else {
            panic!("a reply comes")
        };
        assert!(matches!(result, Err(MasterError::Unavailable(_) | MasterError::Protocol(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_closed_call_and_a_wrong_reply_are_errors() {
    let mut master = master().await;
    let (inbox, mut answers) = Recorder::new();
    let mut outgoing = Outgoing::new(inbox);
    outgoing.send(master.address.clone(), request(1, MasterRequest::ClusterStatus));
    let Event::Message(peer, _) = next(&mut master.events).await else { panic!("a message first") };
    master.recorder.close(&peer);
    let Event::Message(_, Message::MasterReply { result, .. }) = next(&mut answers).await else {
        panic!("a reply")
    };
    assert!(matches!(result, Err(MasterError::Unavailable(_))), "{result:?}");
    assert_eq!(next(&mut master.events).await, Event::Lost(peer));

    outgoing.send(master.address.clone(), request(2, MasterRequest::ClusterStatus));
    let Event::Message(peer, _) = next(&mut master.events).await else { panic!("a message first") };
    answer(&master.recorder, &peer, RequestId(2), Ok(MasterReply::Done));
    let Event::Message(_, Message::MasterReply { result, .. }) = next(&mut answers).await else {
        panic!("a reply")
    };
    assert!(matches!(result, Err(MasterError::Protocol(_))), "{result:?}");
}

#[tokio::test]
async fn a_session_carries_both_directions_until_the_master_closes_it() {
    let mut master = master().await;
    let (inbox, mut told) = Recorder::new();
    let mut outgoing = Outgoing::new(inbox);
    let dialled = Peer::Dial(master.address.clone());
    let heartbeat = |sequence| {
        Message::FromServer(FromServer::Heartbeat { sequence, acked: 0, volumes: vec![], load: 0 })
    };

    // What is left over from an earlier session opens none.
    outgoing.send(master.address.clone(), heartbeat(9));
    outgoing.send(master.address.clone(), register());
    for sequence in 1..=3 {
        outgoing.send(master.address.clone(), heartbeat(sequence));
    }
    let Event::Message(peer, first) = next(&mut master.events).await else { panic!("a message first") };
    assert_eq!(first, register());
    master.recorder.send(&peer, registered());
    assert_eq!(next(&mut told).await, Event::Message(dialled.clone(), registered()));
    for sequence in 1..=3 {
        assert_eq!(next(&mut master.events).await, Event::Message(peer.clone(), heartbeat(sequence)));
    }

    // What is queued when the master closes still arrives.
    let refused = Message::ToServer(ToServer::Refused { reason: "no".into() });
    master.recorder.send(&peer, refused.clone());
    master.recorder.close(&peer);
    assert_eq!(next(&mut told).await, Event::Message(dialled.clone(), refused));
    assert_eq!(next(&mut told).await, Event::Lost(dialled.clone()));
    assert_eq!(next(&mut master.events).await, Event::Lost(peer.clone()));

    // The next registration is a new session.
    outgoing.send(master.address.clone(), register());
    let Event::Message(again, first) = next(&mut master.events).await else { panic!("a message first") };
    assert_eq!(first, register());
    outgoing.close(&master.address);
    assert_eq!(next(&mut told).await, Event::Lost(dialled));
    assert_eq!(next(&mut master.events).await, Event::Lost(again));
}

#[tokio::test]
async fn stopping_ends_sessions_and_the_service() {
    let mut master = master().await;
    let (inbox, mut told) = Recorder::new();
    let mut outgoing = Outgoing::new(inbox);
    outgoing.send(master.address.clone(), register());
    let Event::Message(peer, _) = next(&mut master.events).await else { panic!("a message first") };
    master.stop.cancel();
    assert_eq!(next(&mut told).await, Event::Lost(Peer::Dial(master.address.clone())));
    assert_eq!(next(&mut master.events).await, Event::Lost(peer));
    let served = tokio::time::timeout(Duration::from_secs(20), master.served).await.expect("in time");
    served.unwrap().unwrap();

    // One failed connection is one loss.
    outgoing.send(master.address.clone(), register());
    assert_eq!(next(&mut told).await, Event::Lost(Peer::Dial(master.address)));
}

#[tokio::test]
async fn health_follows_readiness_and_reflection_answers() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
    };

    let master = master().await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", master.address)).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut watched = Vec::new();
    for service in ["cairn.v1.Master", "cairn.v1.MasterSession", ""] {
        let asked = HealthCheckRequest { service: service.into() };
        let mut answers = HealthClient::new(channel.clone()).watch(asked).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.status, ServingStatus::Serving as i32, "{service}");
        watched.push(answers);
    }
    master.ready.send_replace(false);
    for mut answers in watched {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.status, ServingStatus::NotServing as i32);
    }
    let asked = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("cairn.v1.Master.Mkdir".into())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(asked))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
}

#[tokio::test]
async fn an_unreachable_master_is_told_in_the_systems_words() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (inbox, mut answers) = Recorder::new();
    Outgoing::new(inbox)
        .send(Address::new(&free.to_string()), request(1, MasterRequest::Stat { path: "/a".into() }));
    let Event::Message(_, Message::MasterReply { result: Err(error), .. }) = next(&mut answers).await else {
        panic!("no answer");
    };
    assert_eq!(error.to_string(), "master unavailable: Connection refused (os error 111)");
}
