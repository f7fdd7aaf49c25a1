//! The conversation with the master: registration, heartbeats, the lease.

use alloc::collections::VecDeque;
use alloc::format;

use super::Chunkserver;
use super::identity::Identity;
use super::volume::VolumeState;
use crate::config::ms;
use crate::defect::Defect;
use crate::disk::{DiskError, DiskResult};
use crate::id::{ClusterId, Peer, SessionId};
use crate::machine::Level;
use crate::message::{FromServer, ToServer};
use crate::reached;
use crate::time::{Span, Time};

/// Heartbeats without an answer after which the connection counts as lost.
const SILENT_HEARTBEATS: u64 = 5;
/// The share of the lease that is used: the rest is for clocks that drift.
const LEASE_TENTHS: u64 = 9;

/// Where the conversation is.
#[derive(Clone, Debug, Default, Hash)]
enum Phase {
    /// Recovery is not done.
    #[default]
    Closed,
    /// Register at this time.
    Idle(Time),
    /// Registered at this time, no answer yet.
    Asked(Time),
    Open(SessionId),
}

/// The session.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Session {
    phase: Phase,
    /// Which of the masters.
    master: usize,
    heartbeat: Span,
    block_report: Span,
    next_heartbeat: Time,
    next_report: Time,
    sequence: u64,
    /// When unanswered heartbeats were sent.
    sent: VecDeque<(u64, Time)>,
    last_heard: Time,
    lease: Option<Time>,
}

impl Session {
    pub(super) fn id(&self) -> Option<SessionId> {
        match self.phase {
            Phase::Open(id) => Some(id),
            _ => None,
        }
    }

    /// When something is due.
    pub(super) fn wake(&self, timeout: Span) -> Option<Time> {
        match self.phase {
            Phase::Closed => None,
            Phase::Idle(at) => Some(at),
            Phase::Asked(at) => Some(at + timeout),
            Phase::Open(_) => Some(self.next_heartbeat.min(self.next_report)),
        }
    }
}

impl Chunkserver {
    /// Until when this server may commit as a primary.
    pub fn lease_until(&self) -> Option<Time> {
        self.session.lease
    }

    pub(super) fn master_peer(&self) -> Option<Peer> {
        let masters = &self.setup.masters;
        masters.get(self.session.master % masters.len().max(1)).cloned().map(Peer::Dial)
    }

    /// Recovery is done: start to talk.
    pub(super) fn open_session(&mut self) {
        self.session.phase = Phase::Idle(self.now);
        self.session_due();
    }

    /// Sends within a session; without one the message is void, since the next registration reports everything.
    pub(super) fn tell_master(&mut self, message: FromServer) {
        if self.session.id().is_some()
            && let Some(master) = self.master_peer()
        {
            self.out.send(master, message);
        }
    }

    fn register_timeout(&self) -> Span {
        ms(self.setup.config.reconnect_ms.saturating_mul(5))
    }

    pub(super) fn session_wake(&self) -> Option<Time> {
        self.session.wake(self.register_timeout())
    }

    pub(super) fn session_due(&mut self) {
        let now = self.now;
        match self.session.phase {
            Phase::Idle(at) if at <= now => self.register(),
            Phase::Asked(at) if at + self.register_timeout() <= now => self.hang_up(),
            Phase::Open(_) => {
                let patience = Span(self.session.heartbeat.0.saturating_mul(SILENT_HEARTBEATS));
                if now.since(self.session.last_heard) > patience {
                    reached!("session.master_silent");
                    return self.hang_up();
                }
                if self.session.next_heartbeat <= now {
                    self.send_heartbeat();
                }
                if self.session.next_report <= now {
                    self.session.next_report = now + self.session.block_report;
                    self.start_report();
                }
            }
            _ => {}
        }
    }

    fn register(&mut self) {
        let Some(master) = self.master_peer() else { return };
        self.session.phase = Phase::Asked(self.now);
        let register = FromServer::Register {
            server: self.server,
            cluster: Some(self.cluster).filter(|c| c.0 != 0),
            boot: self.setup.boot,
            process: self.setup.process,
            address: self.setup.address.clone(),
            rack: self.setup.rack.clone(),
            volumes: self.volume_statuses(),
        };
        self.out.send(master, register);
    }

    /// Gives the connection up and tries the next master after a pause.
    fn hang_up(&mut self) {
        if let Some(peer) = self.master_peer() {
            self.out.push(crate::machine::Effect::Close { peer });
        }
        self.session_lost();
    }

    fn session_lost(&mut self) {
        if matches!(self.session.phase, Phase::Closed) {
            return;
        }
        let pause = ms(self.setup.config.reconnect_ms);
        let jitter = Span(self.rng.below(pause.0 / 2 + 1));
        // The lease stays: it was given by time, and a master that went away keeps its word.
        self.session.phase = Phase::Idle(self.now + pause + jitter);
        self.session.master = (self.session.master + 1) % self.setup.masters.len().max(1);
        self.session.sent.clear();
    }

    pub(super) fn on_master_lost(&mut self, peer: &Peer) {
        let talking = matches!(self.session.phase, Phase::Asked(_) | Phase::Open(_));
        if talking && self.master_peer().as_ref() == Some(peer) {
            self.session_lost();
        }
    }

    /// Dispatches what the master says. Others have no say.
    pub(super) fn on_to_server(&mut self, from: &Peer, message: ToServer) {
        if self.master_peer().as_ref() != Some(from) {
            self.out.note(Level::Warn, format!("{from} is not the master; its order is ignored"));
            return;
        }
        self.session.last_heard = self.now;
        match message {
            ToServer::Registered { cluster, session, heartbeat_ms, block_report_ms } => {
                self.on_registered(cluster, session, heartbeat_ms, block_report_ms);
            }
            ToServer::Refused { reason } => {
                let text = format!("the master at {from} refused this chunkserver: {reason}");
                self.out.halt(text, true);
            }
            _ if self.session.id().is_none() => {}
            ToServer::HeartbeatAck { sequence, lease_ms } => self.on_heartbeat_ack(sequence, lease_ms),
            ToServer::RequestReport => self.start_report(),
            ToServer::Verify { chunk, version } => self.on_verify(chunk, version),
            order => self.on_order(order),
        }
    }

    fn on_registered(&mut self, cluster: ClusterId, session: SessionId, heartbeat_ms: u64, report_ms: u64) {
        if !matches!(self.session.phase, Phase::Asked(_)) {
            return;
        }
        if self.cluster.0 != 0 && self.cluster != cluster {
            let (ours, theirs) = (self.cluster, cluster);
            let text = format!(
                "this chunkserver's volumes belong to {ours}, the master to {theirs}; give it the right master, or empty data directories"
            );
            return self.out.halt(text, true);
        }
        self.cluster = cluster;
        let now = self.now;
        self.session.phase = Phase::Open(session);
        self.session.heartbeat = ms(heartbeat_ms.max(1));
        self.session.block_report = ms(report_ms.max(1));
        self.session.next_report = now + self.session.block_report;
        self.session.last_heard = now;
        self.session.sequence = 0;
        self.session.sent.clear();
        self.report_number = 0;
        self.out.note(Level::Info, format!("registered with {cluster} as {}, {session}", self.server));
        self.send_heartbeat();
        self.start_report();
    }

    /// Volumes that were formatted before this server knew its cluster become part of it.
    fn adopt_volumes(&mut self) {
        let cluster = self.cluster;
        for index in 0..self.setup.volumes {
            let volume = self.volume_mut(index);
            if volume.is_ready() && volume.identity.cluster.0 == 0 && volume.adopting.is_none() {
                volume.adopting = Some(Identity { cluster, ..volume.identity }.write(index));
                self.adopt_step(index, None);
            }
        }
    }

    /// Steps of writing the cluster's id into a volume's identity; chunks are taken only afterwards.
    pub(super) fn adopt_step(&mut self, index: u16, result: Option<DiskResult>) {
        let cluster = self.cluster;
        let gives_up = self.setup.defects.has(Defect::FullIdentityFails);
        let volume = self.volume_mut(index);
        let Some(script) = volume.adopting.as_mut() else { return };
        let checked = result.map_or(Ok(()), |result| script.check(&result));
        match (checked, script.next()) {
            (Err(DiskError::NoSpace), _) if !gives_up => {
                reached!("session.identity_waits");
                volume.adopting = None;
                let text = format!("volume {index} is full: it takes no chunks until there is space");
                self.out.note(Level::Warn, text);
            }
            (Err(error), _) => self.fail_volume(index, "its identity can't be written", &error),
            (Ok(()), Some(request)) => self.out.disk(request, super::out::Then::Adopt { volume: index }),
            (Ok(()), None) => {
                volume.adopting = None;
                volume.identity.cluster = cluster;
                if self.session.id().is_some() {
                    self.send_heartbeat();
                }
            }
        }
    }

    fn send_heartbeat(&mut self) {
        let now = self.now;
        self.poll_space();
        self.adopt_volumes();
        let session = &mut self.session;
        let acked = session.sent.front().map_or(session.sequence, |(unanswered, _)| unanswered - 1);
        session.sequence += 1;
        session.next_heartbeat = now + session.heartbeat;
        session.sent.push_back((session.sequence, now));
        if session.sent.len() > 64 {
            session.sent.pop_front();
        }
        let sequence = session.sequence;
        let load = (self.open.len() + self.reads.len()) as u32;
        let volumes = self.volume_statuses();
        self.tell_master(FromServer::Heartbeat { sequence, acked, volumes, load });
    }

    fn on_heartbeat_ack(&mut self, sequence: u64, lease_ms: u64) {
        while let Some((number, sent)) = self.session.sent.pop_front_if(|(number, _)| *number <= sequence) {
            if number == sequence {
                let from = if self.setup.defects.has(Defect::LeaseFromAnswer) { self.now } else { sent };
                let until = from + Span(ms(lease_ms).0 / 10 * LEASE_TENTHS);
                self.session.lease = self.session.lease.max(Some(until));
            }
        }
    }

    /// Why this server does not serve, if it does not.
    pub(super) fn readiness(&self) -> Result<(), alloc::string::String> {
        if self.volumes.iter().any(|v| v.state == VolumeState::Starting) {
            return Err("recovering its volumes".into());
        }
        if let Some(VolumeState::Failed(why)) =
            self.volumes.iter().map(|v| &v.state).find(|s| **s != VolumeState::Ready)
        {
            return Err(why.clone());
        }
        self.session.id().map(|_| ()).ok_or_else(|| "not registered with a master".into())
    }
}
