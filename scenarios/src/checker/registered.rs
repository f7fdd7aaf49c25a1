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

/// What a message was to the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A server says it within its session.
    From(ServerId),
    /// A server that asks to be registered, or one whose session is over, or no server.
    Nobody,
    /// Nothing: it went to somebody else.
    NotTheMaster,
}

/// The sessions of one process of the master.
#[derive(Debug, Default)]
pub(super) struct Registered {
    master: ProcessId,
    asked: BTreeMap<Peer, (ServerId, Session)>,
    pub(super) sessions: BTreeMap<ServerId, Session>,
}

impl Registered {
    /// Whether this is another process of the master: then nobody is registered, and nothing was said.
    pub(super) fn begins(&mut self, process: ProcessId) -> bool {
        let begins = process != self.master;
        if begins {
            *self = Registered { master: process, ..Registered::default() };
        }
        begins
    }

    /// Takes a message as it arrives.
    pub(super) fn hear(&mut self, to: &str, peer: &Peer, message: &Message) -> Heard {
        if to != MASTER {
            return Heard::NotTheMaster;
        }
        let Message::FromServer(told) = message else { return Heard::Nobody };
        if let FromServer::Register { server, boot, process, volumes, .. } = told {
            let volumes = volumes.iter().map(|status| status.volume).collect();
            let session = Session { peer: peer.clone(), boot: *boot, process: *process, volumes };
            self.asked.insert(peer.clone(), (*server, session));
            return Heard::Nobody;
        }
        let speaker = self.sessions.iter().find(|(_, session)| session.peer == *peer);
        speaker.map_or(Heard::Nobody, |(server, _)| Heard::From(*server))
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
