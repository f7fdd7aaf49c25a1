//! What the counterexamples are told with: production master and chunkservers in the simulated world, and a writer that
//! speaks for itself, so that each record, retry and late message is sent when the story says so.

use std::future::Future;

use bytes::Bytes;
use cairn_core::chunkserver::{Chunkserver, ReplicaView};
use cairn_core::config::MasterConfig;
use cairn_core::defect::{Defect, Defects};
use cairn_core::error::MasterError;
use cairn_core::id::{Address, ChunkId, ClientId, Durability, Peer, RequestId, UploadId, WriterId};
use cairn_core::message::{
    AppendMessage, Grant, Identity, MasterReply, MasterRequest, Message, SealedChunk, StorageOptions,
};
use cairn_core::payload::Payload;
use cairn_core::time::Span;
use runtime_sim::{DiskFaults, Options, TraceMode, World};
use scenarios::cluster::{MASTER, options};
use scenarios::mutants::STORIES;

use super::super::puppet::Puppet;
use super::super::stage::shape;

const WRITER: &str = "writer";

/// What a story finds out: the promise that was broken, in words.
pub(crate) type Told = Result<(), String>;

/// A cluster with a writer.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) world: World,
    upload: UploadId,
}

/// Tells the story of a rule on correct machines, which must keep their promise, and on machines with each of the rule's
/// defects, which must break it: else the story proves nothing.
pub(crate) fn forced_by<F, Fut>(rule: &str, (replicas, quorum): (u8, u8), story: F)
where
    F: Fn(Rig) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Told> + 'static,
{
    let (correct, trace) = tell(Defects::none(), replicas, quorum, story.clone());
    assert_eq!(correct, Ok(()), "the correct machines\n{trace}");
    let defects: Vec<Defect> = STORIES.iter().filter(|(_, story)| *story == rule).map(|(d, _)| *d).collect();
    assert!(!defects.is_empty(), "no defect takes {rule} away");
    for defect in &defects {
        let (broken, trace) = tell(Defects::one(*defect), replicas, quorum, story.clone());
        assert!(broken.is_err(), "{trace}\n{} must break the promise of this story", defect.name());
    }
}

fn tell<F, Fut>(defects: Defects, replicas: u8, quorum: u8, story: F) -> (Told, String)
where
    F: FnOnce(Rig) -> Fut + Send + 'static,
    Fut: Future<Output = Told> + 'static,
{
    let options = Options { trace: TraceMode::Full, ..options(&shape()) };
    let outcome = runtime_sim::run(1, options, move |world| async move {
        let rig = Rig::start(world, defects, replicas, quorum).await;
        story(rig).await
    });
    let told = outcome.result.unwrap_or_else(|failure| panic!("{}\n{failure}", outcome.trace));
    (told, outcome.trace)
}

impl Rig {
    async fn start(world: World, defects: Defects, replicas: u8, quorum: u8) -> Rig {
        let shape = shape();
        // Nothing happens by itself: no death, no repair, no expiry within a story.
        let config = MasterConfig {
            dead_after_ms: 300_000,
            repair_delay_ms: 300_000,
            upload_expiry_ms: 300_000,
            seal_timeout_ms: 20_000,
            lease_ms: 5_000,
            ..shape.master.clone()
        };
        world.start_master(MASTER, config, defects);
        for server in ["cs0", "cs1", "cs2"] {
            world.start_chunkserver(server, "", 2, shape.chunkserver.clone(), &[MASTER], defects);
        }
        Puppet::start(&world, WRITER, false);
        let mut rig = Rig { world, upload: UploadId(0) };
        rig.until_ready(3).await;
        let options = StorageOptions {
            replication: replicas,
            quorum,
            chunk_bytes: 1 << 20,
            durability: Durability::Sync,
        };
        let begin = MasterRequest::BeginUpload { path: "/f".into(), replace: false, mode: 0o644, options };
        rig.upload = match rig.ask(begin).await {
            Ok(MasterReply::Upload { upload, .. }) => upload,
            other => panic!("{other:?}"),
        };
        rig
    }

    /// Waits until the master counts so many live servers, with a moment for leases.
    pub(crate) async fn until_ready(&self, servers: usize) {
        for _ in 0..1_000 {
            if let Ok(MasterReply::Cluster(status)) = self.ask(MasterRequest::ClusterStatus).await
                && status.servers.iter().filter(|s| s.live).count() >= servers
                && !status.starting
            {
                return self.pass(500).await;
            }
            self.pass(50).await;
        }
        panic!("the cluster does not start");
    }

    /// Asks the master, and waits for the answer.
    pub(crate) async fn ask(&self, body: MasterRequest) -> Result<MasterReply, MasterError> {
        let request = self.begin_to_ask(body).await;
        let mut answer = None;
        self.until("an answer of the master", || {
            answer = self.answer(request);
            answer.is_some()
        })
        .await;
        answer.expect("it was waited for")
    }

    async fn begin_to_ask(&self, body: MasterRequest) -> RequestId {
        let request = RequestId(self.world.now().0);
        let identity = Identity { user: "root".into(), groups: vec!["root".into()] };
        let message = Message::MasterRequest { client: ClientId(7), request, identity, body };
        self.say(MASTER, message).await;
        self.pass(1).await;
        request
    }

    fn answer(&self, asked: RequestId) -> Option<Result<MasterReply, MasterError>> {
        Puppet::heard(&self.world, WRITER).into_iter().find_map(|message| match message {
            Message::MasterReply { request, result } if request == asked => Some(result),
            _ => None,
        })
    }

    /// The writer says something.
    pub(crate) async fn say(&self, to: &str, message: impl Into<Message>) {
        Puppet::say(&self.world, WRITER, Peer::Dial(Address::new(to)), message).await;
    }

    /// The grant of the file's first chunk.
    pub(crate) async fn grant(&self) -> Grant {
        match self.ask(MasterRequest::OpenChunk { upload: self.upload, ordinal: 0, avoid: Vec::new() }).await
        {
            Ok(MasterReply::Grant(grant)) => grant,
            other => panic!("{other:?}"),
        }
    }

    /// Opens a chunk at its primary, which passes it on.
    pub(crate) async fn open(&self, grant: &Grant) {
        let open = AppendMessage::Open { grant: grant.clone(), position: 0, writer: WriterId(7) };
        self.say(&member(grant, 0), open).await;
        self.pass(20).await;
    }

    /// Sends a record to the primary, and gives it time.
    pub(crate) async fn append(&self, grant: &Grant, record: u64, offset: u64, bytes: &[u8]) {
        self.send_record(grant, record, offset, bytes).await;
        self.pass(200).await;
    }

    /// Only sends it.
    pub(crate) async fn send_record(&self, grant: &Grant, record: u64, offset: u64, bytes: &[u8]) {
        let (chunk, version, writer) = (grant.chunk, grant.version, WriterId(7));
        let payload = Payload::new(offset, Bytes::copy_from_slice(bytes));
        let data = AppendMessage::Data { chunk, version, writer, record, committed: 0, payload };
        self.say(&member(grant, 0), data).await;
    }

    /// What the writer was told is committed: bytes, and the last record.
    pub(crate) fn committed(&self) -> (u64, u64) {
        let told = Puppet::heard(&self.world, WRITER).into_iter().filter_map(|message| match message {
            Message::Append(AppendMessage::Committed { end, record, .. }) => Some((end, record)),
            _ => None,
        });
        told.max().unwrap_or_default()
    }

    /// Asks for the seal without waiting for it.
    pub(crate) async fn begin_to_seal(&self, grant: &Grant) -> RequestId {
        let (upload, chunk, version) = (self.upload, grant.chunk, grant.version);
        self.begin_to_ask(MasterRequest::SealChunk { upload, chunk, version }).await
    }

    /// What the chunk was sealed as, if that was told within `ms`.
    pub(crate) async fn sealed_within(&self, asked: RequestId, ms: u64) -> Option<SealedChunk> {
        let mut answer = None;
        self.world
            .eventually(Span::from_ms(ms), || {
                answer = self.answer(asked);
                answer.is_some()
            })
            .await;
        match answer {
            Some(Ok(MasterReply::Sealed(sealed))) => Some(sealed),
            _ => None,
        }
    }

    /// Has the chunk sealed, if that is possible within ten seconds.
    pub(crate) async fn seal(&self, grant: &Grant) -> Option<SealedChunk> {
        let asked = self.begin_to_seal(grant).await;
        self.sealed_within(asked, 10_000).await
    }

    /// A replica as its server has it.
    pub(crate) fn replica(&self, server: &str, chunk: ChunkId) -> Option<ReplicaView> {
        let find = |machine: &Chunkserver| machine.replicas().find(|r| r.chunk == chunk);
        self.world.inspect(server, find)?
    }

    /// Where a server keeps a chunk: volume and path.
    pub(crate) fn file(&self, server: &str, chunk: ChunkId) -> (u16, String) {
        let mut names = (0..2).flat_map(|volume| {
            self.world.files(server, volume).into_iter().map(move |(path, _)| (volume, path))
        });
        names
            .find(|(_, path)| scenarios::cluster::chunk_of(path) == Some(chunk))
            .unwrap_or_else(|| panic!("{server} has no file of {chunk}"))
    }

    /// How many servers would still have these bytes of a chunk after losing power now.
    pub(crate) fn durable_holders(&self, chunk: ChunkId, bytes: &[u8]) -> usize {
        let holds = |server: &&str| {
            (0..2).any(|volume| {
                self.world.files(server, volume).iter().any(|(path, _)| {
                    scenarios::cluster::chunk_of(path) == Some(chunk)
                        && self.world.durable_file(server, volume, path).is_some_and(|b| b.starts_with(bytes))
                })
            })
        };
        ["cs0", "cs1", "cs2"].iter().filter(|server| holds(server)).count()
    }

    /// Cuts the network between two nodes, in both directions.
    pub(crate) fn cut(&self, a: &str, b: &str) {
        self.world.partition(&[a], &[b]);
    }

    /// A node's disks become so many times slower.
    pub(crate) fn slow_disks(&self, node: &str, volumes: u16, factor: u32) {
        for volume in 0..volumes {
            let faults = DiskFaults { slow_factor: factor, ..DiskFaults::default() };
            self.world.set_disk_faults(node, volume, faults);
        }
    }

    /// Starts a server that is down, and waits until it has a session.
    pub(crate) async fn restart(&self, server: &str) {
        self.world.restart(server);
        self.until("it is registered", || {
            self.world.inspect(server, Chunkserver::is_ready).unwrap_or_default()
        })
        .await;
        self.pass(500).await;
    }

    /// Waits.
    pub(crate) async fn pass(&self, ms: u64) {
        self.world.sleep(Span::from_ms(ms)).await;
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        assert!(self.world.eventually(Span::from_ms(30_000), condition).await, "never: {what}");
    }
}

/// The name of a member's server.
pub(crate) fn member(grant: &Grant, place: usize) -> String {
    grant.addresses[place].0.to_string()
}

/// The promise that most stories are about: what the writer was told is committed is in the seal.
pub(crate) fn kept(rig: &Rig, sealed: Option<SealedChunk>) -> Told {
    let (end, _) = rig.committed();
    match sealed {
        Some(sealed) if sealed.length < end => {
            Err(format!("{end} bytes were acknowledged, the chunk was sealed at {}", sealed.length))
        }
        _ => Ok(()),
    }
}
