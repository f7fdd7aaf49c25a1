//! Chunkservers as the master sees them: registration, sessions, heartbeats, death, space and load.
//!
//! Invariant: at most one process of a server id has a session. A second process is kept waiting while the first still
//! speaks: if it speaks again, the newcomer is a duplicate (a copied directory) and is refused; if not, it was restarted.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::defect::{Defect, Defects};
use crate::id::{Address, BootId, ClusterId, Durability, Peer, ProcessId, ServerId, SessionId, VolumeId};
use crate::message::{Member, VolumeStatus};
use crate::reached;
use crate::time::{Span, Time};

/// A request for registration.
#[derive(Clone, Debug, Hash)]
pub(super) struct Registration {
    pub(super) peer: Peer,
    pub(super) server: ServerId,
    pub(super) cluster: Option<ClusterId>,
    pub(super) boot: BootId,
    pub(super) process: ProcessId,
    pub(super) address: Address,
    pub(super) rack: String,
    pub(super) volumes: Vec<VolumeStatus>,
}

/// A registered chunkserver.
#[derive(Clone, Debug, Hash)]
pub(super) struct Server {
    pub(super) address: Address,
    pub(super) rack: String,
    pub(super) boot: BootId,
    pub(super) process: ProcessId,
    pub(super) session: SessionId,
    /// The session's connection while it stands.
    pub(super) peer: Option<Peer>,
    pub(super) volumes: Vec<VolumeStatus>,
    pub(super) load: u32,
    pub(super) last_heard: Time,
    /// Heard of within the time after which a server is dead.
    pub(super) live: bool,
    /// Another process has asked to take its place: unless this one proves that it lives, it is over, and what it said of
    /// its replicas with it.
    doubted: Option<Doubt>,
}

/// Whether a process outlived the arrival of its successor. Its last words prove nothing: they may come late. What it
/// says after an answer that was given since then does.
#[derive(Clone, Debug, Hash)]
struct Doubt {
    /// When it was last heard, or the doubt began.
    heard: Time,
    /// The first heartbeat that was answered since then.
    witness: Option<u64>,
}

impl Doubt {
    fn since(now: Time) -> Doubt {
        Doubt { heard: now, witness: None }
    }
}

impl Server {
    /// Whether messages reach it now.
    pub(super) fn is_usable(&self) -> bool {
        self.live && self.peer.is_some()
    }

    /// Free bytes on its volumes, as reported.
    pub(super) fn free_bytes(&self) -> u64 {
        self.volumes.iter().fold(0, |sum, v| sum.saturating_add(v.free_bytes))
    }

    /// Capacity of its volumes, as reported.
    pub(super) fn total_bytes(&self) -> u64 {
        self.volumes.iter().fold(0, |sum, v| sum.saturating_add(v.total_bytes))
    }

    /// Whether what `member` promised still stands on this server.
    pub(super) fn stands(&self, member: &Member, durability: Durability) -> bool {
        self.volumes.iter().any(|v| v.volume == member.volume)
            && match durability {
                Durability::Sync => true,
                Durability::Async => self.boot == member.boot,
            }
    }
}

/// What a registration leads to.
#[derive(Clone, Debug, Hash)]
pub(super) enum Admission {
    /// Registered under this session; `replaced` is the connection of an older session.
    Admitted { session: SessionId, replaced: Option<Peer> },
    /// Another process of this server was heard of lately: wait until it speaks again or not.
    Held,
    /// Refused for good, and why.
    Refused(String),
}

/// All chunkservers heard of since the master's start.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Servers {
    map: BTreeMap<ServerId, Server>,
    /// Whose session a connection carries. On any other nothing but a registration is heard.
    by_peer: BTreeMap<Peer, ServerId>,
    /// Registrations held back.
    contenders: BTreeMap<ServerId, Registration>,
    epoch: u32,
    sessions: u32,
    defects: Defects,
}

impl Servers {
    pub(super) fn new(defects: Defects) -> Servers {
        Servers { defects, ..Servers::default() }
    }

    /// Begins the sessions of the master's start number `epoch`.
    pub(super) fn begin(&mut self, epoch: u32) {
        self.epoch = epoch;
    }

    pub(super) fn by_id(&self, server: ServerId) -> Option<&Server> {
        self.map.get(&server)
    }

    fn doubt(&mut self, now: Time, server: ServerId) {
        if let Some(entry) = self.map.get_mut(&server) {
            entry.doubted = Some(Doubt::since(now));
        }
    }

    /// Whether a server can be reached, and nobody says that its process is over.
    pub(super) fn vouches(&self, server: ServerId) -> bool {
        self.map.get(&server).is_some_and(|s| s.is_usable() && s.doubted.is_none())
    }

    /// The connection to a server, if it can be used now.
    pub(super) fn peer(&self, server: ServerId) -> Option<Peer> {
        self.map.get(&server).filter(|s| s.is_usable()).and_then(|s| s.peer.clone())
    }

    pub(super) fn by_peer(&self, peer: &Peer) -> Option<ServerId> {
        self.by_peer.get(peer).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ServerId, &Server)> {
        self.map.iter().map(|(id, server)| (*id, server))
    }

    /// Servers that can be reached now.
    pub(super) fn usable(&self) -> impl Iterator<Item = (ServerId, &Server)> {
        self.iter().filter(|(_, server)| server.is_usable())
    }

    /// Takes a registration.
    pub(super) fn register(&mut self, now: Time, cluster: ClusterId, asked: Registration) -> Admission {
        if let Some(foreign) = asked.cluster.filter(|c| *c != cluster) {
            return Admission::Refused(format!(
                "this chunkserver's volumes belong to {foreign}, this master serves {cluster}; point it at its own \
                 master, or give it empty volumes"
            ));
        }
        if let Some(old) = self.map.get(&asked.server) {
            let speaks = old.is_usable() && old.peer.as_ref() != Some(&asked.peer);
            if speaks && old.process != asked.process {
                reached!("servers.contender");
                // Asked again by the same process, nothing that was found out meanwhile is forgotten.
                if self.contenders.get(&asked.server).is_none_or(|known| known.process != asked.process) {
                    self.doubt(now, asked.server);
                }
                self.contenders.insert(asked.server, asked);
                return Admission::Held;
            }
        }
        self.admit(now, asked)
    }

    fn admit(&mut self, now: Time, asked: Registration) -> Admission {
        self.contenders.remove(&asked.server);
        self.doubt_replaced(now, &asked);
        self.sessions += 1;
        let session = SessionId(u64::from(self.epoch) << 32 | u64::from(self.sessions));
        let server = Server {
            address: asked.address,
            rack: asked.rack,
            boot: asked.boot,
            process: asked.process,
            session,
            peer: Some(asked.peer.clone()),
            volumes: asked.volumes,
            load: 0,
            last_heard: now,
            live: true,
            doubted: None,
        };
        let replaced = self.map.insert(asked.server, server).and_then(|old| old.peer);
        if let Some(peer) = &replaced {
            self.by_peer.remove(peer);
        }
        let replaced = replaced.filter(|peer| *peer != asked.peer);
        self.by_peer.insert(asked.peer, asked.server);
        Admission::Admitted { session, replaced }
    }

    /// Two servers can't live at one address: unless the other one speaks again, its disks were replaced.
    fn doubt_replaced(&mut self, now: Time, asked: &Registration) {
        if self.defects.has(Defect::ReplacedVouches) {
            return;
        }
        for (id, other) in &mut self.map {
            if *id != asked.server && other.live && other.address == asked.address {
                reached!("servers.replaced_while_live");
                other.doubted = Some(Doubt::since(now));
            }
        }
    }

    /// A server said something. Returns whether it was dead before: from now on it has to be buried again.
    pub(super) fn hear(&mut self, now: Time, server: ServerId) -> bool {
        let Some(entry) = self.map.get_mut(&server).filter(|entry| !entry.live) else { return false };
        entry.live = true;
        entry.last_heard = now;
        true
    }

    /// Takes a heartbeat, with its number and that of the latest one whose answer the server has. Returns a contender that is
    /// thereby a duplicate.
    pub(super) fn heartbeat(
        &mut self,
        now: Time,
        server: ServerId,
        volumes: Vec<VolumeStatus>,
        load: u32,
        (sequence, acked): (u64, u64),
    ) -> Option<Peer> {
        let entry = self.map.get_mut(&server)?;
        entry.last_heard = now;
        entry.volumes = volumes;
        entry.load = load;
        let doubt = entry.doubted.as_mut()?;
        doubt.heard = now;
        let proves = doubt.witness.is_some_and(|witness| acked >= witness);
        if proves || self.defects.has(Defect::LastWordsProve) {
            entry.doubted = None;
            return self.contenders.remove(&server).map(|asked| asked.peer);
        }
        doubt.witness = doubt.witness.or(Some(sequence));
        None
    }

    /// A connection ended. Returns the server whose session it carried.
    pub(super) fn lose(&mut self, peer: &Peer) -> Option<ServerId> {
        self.contenders.retain(|_, asked| asked.peer != *peer);
        let server = self.by_peer.remove(peer)?;
        if let Some(entry) = self.map.get_mut(&server).filter(|e| e.peer.as_ref() == Some(peer)) {
            entry.peer = None;
        }
        Some(server)
    }

    /// Contenders whose rival has been silent or gone for long enough; each is now admitted by [`Servers::readmit`].
    pub(super) fn ripe_contenders(&mut self, now: Time, patience: Span) -> Vec<Registration> {
        let map = &self.map;
        let ripe = |id: &ServerId| {
            map.get(id)
                .filter(|rival| rival.is_usable())
                .is_none_or(|rival| rival.doubted.as_ref().is_none_or(|doubt| now >= doubt.heard + patience))
        };
        let ids: Vec<ServerId> = self.contenders.keys().filter(|id| ripe(id)).copied().collect();
        ids.iter().filter_map(|id| self.contenders.remove(id)).collect()
    }

    /// Admits a contender whose rival fell silent.
    pub(super) fn readmit(&mut self, now: Time, asked: Registration) -> Admission {
        reached!("servers.contender_admitted");
        self.admit(now, asked)
    }

    /// Whether registrations are held back.
    pub(super) fn has_contenders(&self) -> bool {
        !self.contenders.is_empty()
    }

    /// Declares silent servers dead and returns them.
    pub(super) fn bury(&mut self, now: Time, dead_after: Span) -> Vec<ServerId> {
        let mut dead = Vec::new();
        for (id, server) in &mut self.map {
            if server.live && now >= server.last_heard + dead_after {
                server.live = false;
                dead.push(*id);
            }
        }
        dead
    }

    /// A dead server at whose address another one lives had its disks replaced: it will not come back as it was, and
    /// nobody needs to look for it. Returns connections that still stand: who lives after all must register.
    pub(super) fn forget_replaced(&mut self) -> Vec<Peer> {
        let live: BTreeSet<Address> =
            self.map.values().filter(|s| s.live).map(|s| s.address.clone()).collect();
        self.map.retain(|_, server| {
            let replaced = !server.live && live.contains(&server.address);
            if replaced {
                reached!("servers.replaced");
            }
            !replaced
        });
        let map = &self.map;
        let mut closed = Vec::new();
        self.by_peer.retain(|peer, server| {
            let known = map.contains_key(server);
            if !known {
                closed.push(peer.clone());
            }
            known
        });
        closed
    }

    /// When the next server will be dead if it stays silent.
    pub(super) fn next_death(&self, dead_after: Span) -> Option<Time> {
        self.map.values().filter(|s| s.live).map(|s| s.last_heard + dead_after).min()
    }

    /// Takes space off a volume until the next heartbeat tells the real figure.
    pub(super) fn reserve(&mut self, server: ServerId, volume: VolumeId, bytes: u64) {
        let volumes = self.map.get_mut(&server).map(|s| s.volumes.as_mut_slice()).unwrap_or_default();
        if let Some(entry) = volumes.iter_mut().find(|v| v.volume == volume) {
            entry.free_bytes = entry.free_bytes.saturating_sub(bytes);
        }
        if let Some(entry) = self.map.get_mut(&server) {
            entry.load = entry.load.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ConnId;
    use alloc::string::ToString;

    fn register(servers: &mut Servers, at: u64, server: u64, address: &str) {
        let asked = Registration {
            peer: Peer::Conn(ConnId(server)),
            server: ServerId(server),
            cluster: None,
            boot: BootId(server),
            process: ProcessId(server),
            address: Address::new(address),
            rack: "rack".to_string(),
            volumes: Vec::new(),
        };
        let admission = servers.register(Time(at), ClusterId(1), asked);
        assert!(matches!(admission, Admission::Admitted { .. }), "{admission:?}");
    }

    fn ids(servers: &Servers) -> Vec<u64> {
        servers.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn a_server_whose_successor_waits_vouches_for_nothing() {
        let asked = |peer, process| Registration {
            peer: Peer::Conn(ConnId(peer)),
            server: ServerId(1),
            cluster: None,
            boot: BootId(process),
            process: ProcessId(process),
            address: Address::new("a"),
            rack: "rack".to_string(),
            volumes: Vec::new(),
        };
        let beat = |servers: &mut Servers, at, sequence, acked| {
            servers.heartbeat(Time(at), ServerId(1), Vec::new(), 0, (sequence, acked))
        };
        let mut servers = Servers::default();
        servers.register(Time(0), ClusterId(1), asked(1, 1));
        assert!(servers.vouches(ServerId(1)));
        let held = servers.register(Time(10), ClusterId(1), asked(2, 2));
        assert!(matches!(held, Admission::Held));
        assert!(!servers.vouches(ServerId(1)));
        assert_eq!(beat(&mut servers, 12, 7, 6), None);
        assert_eq!(beat(&mut servers, 13, 8, 6), None);
        assert!(!servers.vouches(ServerId(1)), "it may have said both before it died");
        assert!(servers.ripe_contenders(Time(22), Span(10)).is_empty(), "it was heard a short time ago");
        assert_eq!(beat(&mut servers, 15, 9, 7), Some(Peer::Conn(ConnId(2))));
        assert!(servers.vouches(ServerId(1)), "it lives: the other was a copy of its directory");
        servers.register(Time(20), ClusterId(1), asked(3, 3));
        assert!(!servers.vouches(ServerId(1)));
        let ripe = servers.ripe_contenders(Time(30), Span(10));
        assert!(matches!(servers.readmit(Time(30), ripe[0].clone()), Admission::Admitted { .. }));
        assert!(servers.vouches(ServerId(1)));
    }

    #[test]
    fn a_server_whose_address_is_anothers_vouches_for_nothing_until_it_speaks() {
        let mut servers = Servers::default();
        register(&mut servers, 0, 1, "a");
        register(&mut servers, 0, 2, "b");
        register(&mut servers, 5, 3, "a");
        let vouch = |servers: &Servers| [1, 2, 3].map(|id| servers.vouches(ServerId(id)));
        assert_eq!(vouch(&servers), [false, true, true], "its disks may be gone");
        // Both were told to be reached at the same address.
        servers.heartbeat(Time(20), ServerId(1), Vec::new(), 0, (4, 3));
        servers.heartbeat(Time(30), ServerId(1), Vec::new(), 0, (5, 4));
        assert_eq!(vouch(&servers), [true, true, true]);
    }

    #[test]
    fn a_dead_server_is_forgotten_when_another_lives_at_its_address() {
        // The disks were replaced before the old server was taken for dead, or after.
        for replaced_first in [true, false] {
            let mut servers = Servers::default();
            register(&mut servers, 0, 1, "a");
            register(&mut servers, 0, 2, "b");
            if replaced_first {
                register(&mut servers, 5, 3, "a");
                assert_eq!(ids(&servers), [1, 2, 3]);
            }
            servers.heartbeat(Time(8), ServerId(2), Vec::new(), 0, (1, 0));
            assert_eq!(servers.bury(Time(11), Span(10)), [ServerId(1)]);
            if !replaced_first {
                assert_eq!(servers.forget_replaced(), []);
                assert_eq!(ids(&servers), [1, 2], "nobody took its place: operators still see it");
                register(&mut servers, 12, 3, "a");
            }
            assert_eq!(servers.forget_replaced(), [Peer::Conn(ConnId(1))]);
            assert_eq!(ids(&servers), [2, 3]);
        }
    }
}
