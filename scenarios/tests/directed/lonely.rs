//! Chunkservers that have nobody but puppets: a master and a writer that say what no correct one says.

use bytes::Bytes;
use cairn_core::chunkserver::Chunkserver;
use cairn_core::defect::Defects;
use cairn_core::id::{Address, ChunkId, ChunkVersion, Durability, Incarnation, Peer, VolumeId, WriterId};
use cairn_core::message::{
    AppendMessage, FromServer, Grant, Member, Message, ReplicaState, SealedChunk, ToServer, Vote,
};
use cairn_core::payload::Payload;
use cairn_core::time::Span;
use runtime_sim::World;
use scenarios::cluster::{MASTER, options};

use super::puppet::{CLUSTER, Puppet};
use super::stage::shape;

/// A world with what a story starts in it.
pub(crate) fn world<Fut>(story: impl FnOnce(World) -> Fut + Send + 'static)
where
    Fut: Future<Output = ()> + 'static,
{
    if let Err(failure) = runtime_sim::run(1, options(&shape()), story).result {
        panic!("{failure}");
    }
}

/// Waits.
pub(crate) async fn pass(world: &World, ms: u64) {
    world.sleep(Span::from_ms(ms)).await;
}

/// Waits until something is so.
pub(crate) async fn until(world: &World, what: &str, condition: impl FnMut() -> bool) {
    assert!(world.eventually(Span::from_ms(30_000), condition).await, "never: {what}");
}

/// Chunkservers with two volumes under a master and a writer that are puppets.
pub(crate) struct Lonely {
    pub(crate) world: World,
}

impl Lonely {
    /// Starts two that are registered.
    pub(crate) async fn start(world: World, defects: Defects) -> Lonely {
        Puppet::start(&world, MASTER, true);
        Puppet::start(&world, "writer", false);
        for server in ["cs0", "cs1"] {
            world.start_chunkserver(server, "", 2, shape().chunkserver, &[MASTER], defects);
        }
        let lonely = Lonely { world };
        let ready = |server| lonely.world.inspect(server, Chunkserver::is_ready).unwrap_or_default();
        until(&lonely.world, "they are registered", || ready("cs0") && ready("cs1")).await;
        pass(&lonely.world, 500).await;
        lonely
    }

    /// A server as a member of a chunk on its first volume.
    pub(crate) fn member(&self, server: &str) -> Member {
        let (_, registration, session) =
            Puppet::server(&self.world, MASTER, server).expect("it is registered");
        let FromServer::Register { server, boot, process, volumes, .. } = registration else {
            panic!("{registration:?}")
        };
        Member { server, session, volume: volumes[0].volume, boot, process }
    }

    /// Its second volume.
    pub(crate) fn other_volume(&self, server: &str) -> VolumeId {
        match Puppet::server(&self.world, MASTER, server) {
            Some((_, FromServer::Register { volumes, .. }, _)) => volumes[1].volume,
            other => panic!("{other:?}"),
        }
    }

    /// Has the master give an order.
    pub(crate) async fn order(&self, server: &str, order: ToServer) {
        let (peer, ..) = Puppet::server(&self.world, MASTER, server).expect("it is registered");
        Puppet::say(&self.world, MASTER, peer, order).await;
        pass(&self.world, 300).await;
    }

    /// Opens `chunk` on one server alone and writes `bytes` into it.
    pub(crate) async fn write(&self, server: &str, chunk: u64, bytes: &[u8]) -> Grant {
        let grant = Grant {
            cluster: CLUSTER,
            chunk: ChunkId(chunk),
            version: ChunkVersion(1),
            members: vec![self.member(server)],
            addresses: vec![Address::new(server)],
            replication: 1,
            quorum: 1,
            durability: Durability::Sync,
            capacity: 1 << 20,
        };
        let to = || Peer::Dial(Address::new(server));
        let open = AppendMessage::Open { grant: grant.clone(), position: 0, writer: WriterId(7) };
        Puppet::say(&self.world, "writer", to(), open).await;
        let data = AppendMessage::Data {
            chunk: grant.chunk,
            version: grant.version,
            writer: WriterId(7),
            record: 1,
            committed: 0,
            payload: Payload::new(0, Bytes::copy_from_slice(bytes)),
        };
        Puppet::say(&self.world, "writer", to(), data).await;
        pass(&self.world, 300).await;
        grant
    }

    /// The order to fence what was granted; `volume`: another one than that of the grant.
    pub(crate) fn fence(&self, server: &str, grant: &Grant, volume: Option<VolumeId>) -> ToServer {
        let member = self.member(server);
        let volume = volume.unwrap_or(member.volume);
        let incarnation = Incarnation { volume, boot: member.boot, process: member.process };
        ToServer::Fence {
            chunk: grant.chunk,
            version: grant.version,
            incarnation,
            durability: grant.durability,
        }
    }

    /// The vote that the master got last.
    pub(crate) fn last_vote(&self) -> Option<Vote> {
        Puppet::heard(&self.world, MASTER).into_iter().rev().find_map(|message| match message {
            Message::FromServer(FromServer::Vote { vote, .. }) => Some(vote),
            _ => None,
        })
    }

    /// The state of a server's replica, if it has one.
    pub(crate) fn state(&self, server: &str, chunk: ChunkId) -> Option<ReplicaState> {
        let find = |machine: &Chunkserver| machine.replicas().find(|r| r.chunk == chunk).map(|r| r.state);
        self.world.inspect(server, find)?
    }
}

/// What a chunk that was open at version 1 is sealed as.
pub(crate) fn sealed(chunk: ChunkId, length: u64, crc: u32) -> SealedChunk {
    SealedChunk { chunk, version: ChunkVersion(2), length, crc }
}
