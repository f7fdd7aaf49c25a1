//! Who is registered with the present master, as the messages have it. Checkers of what a master may believe share it.

use std::collections::BTreeMap;

use cairn_core::id::{BootId, Incarnation, Peer, ProcessId, ServerId, VolumeId};
use cairn_core::message::{FromServer, Message, ToServer};

use crate::cluster::MASTER;

/// A server's session.
#[derive(Clone, Debug)]
pub(super) struct Session {
    peer: Peer,
    pub(super) boot: BootId,
    pub(super) process: ProcessId,
    pub(super) volumes: Vec<VolumeId>,
}

impl Session {
    /// The incarnation that the server has now for what it promised on `volume`, if it has that volume still.
    pub(super) fn incarnation(&self, volume: VolumeId) -> Option<Incarnation> {
        self.volumes.contains(&volume).then_some(Incarnation {
            volume,
            boot: self.boot,
            process: self.process,
        })
    }
}

/// The sessions of one process of the master.
#[derive(Debug, Default)]
pub(super) struct Registered {
    master: ProcessId,
    asked: BTreeMap<Peer, (ServerId, Session)>,
    pub(super) sessions: BTreeMap<ServerId, Session>,
}

impl Registered {
    /// Whether a message arrives at another process of the master: then nobody is registered, and nothing was said.
    pub(super) fn begins(&mut self, to: &str, process: ProcessId) -> bool {
        let begins = to == MASTER && process != self.master;
        if begins {
            *self = Registered { master: process, ..Registered::default() };
        }
        begins
    }

    /// Takes a message as it arrives; what a server tells the master within its session, and which server.
    pub(super) fn hear<'m>(
        &mut self,
        to: &str,
        peer: &Peer,
        message: &'m Message,
    ) -> Option<(ServerId, &'m FromServer)> {
        let Message::FromServer(told) = message else { return None };
        if to != MASTER {
            return None;
        }
        if let FromServer::Register { server, boot, process, volumes, .. } = told {
            let volumes = volumes.iter().map(|status| status.volume).collect();
            let session = Session { peer: peer.clone(), boot: *boot, process: *process, volumes };
            self.asked.insert(peer.clone(), (*server, session));
            return None;
        }
        Some((self.at(peer)?, told))
    }

    /// Takes a message that the master sends; the server whose session begins with it.
    pub(super) fn tell(&mut self, to: &Peer, message: &Message) -> Option<ServerId> {
        let Message::ToServer(ToServer::Registered { .. }) = message else { return None };
        let (server, session) = self.asked.get(to)?.clone();
        self.sessions.insert(server, session);
        Some(server)
    }

    /// The server at the other end of a connection.
    pub(super) fn at(&self, peer: &Peer) -> Option<ServerId> {
        self.sessions.iter().find(|(_, session)| session.peer == *peer).map(|(server, _)| *server)
    }
}
