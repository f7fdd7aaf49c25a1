//! Talking with chunkservers: registration, heartbeats, reports.

use alloc::format;

use super::Master;
use super::locations::{Expected, is_base};
use super::machine::{Fx, Phase};
use super::servers::{Admission, Registration};
use super::{catalog::Catalog, expected};
use crate::config::ms;
use crate::defect::Defect;
use crate::id::{ChunkId, ChunkVersion, Peer, ServerId};
use crate::machine::{Effect, Level};
use crate::message::{DropReason, FromServer, ReplicaReport, ReplicaState, ToServer, VolumeStatus};
use crate::reached;
use crate::time::Time;

impl Master {
    pub(super) fn on_server_message(&mut self, now: Time, from: Peer, message: FromServer, fx: &mut Fx) {
        if let FromServer::Register { server, cluster, boot, process, address, rack, volumes } = message {
            let asked = Registration { peer: from, server, cluster, boot, process, address, rack, volumes };
            return self.on_register(now, asked, fx);
        }
        let Some(server) = self.servers.by_peer(&from) else { return };
        if self.servers.hear(now, server) {
            self.on_revived(now, server, fx);
        }
        match message {
            FromServer::Register { .. } => {}
            FromServer::Heartbeat { sequence, acked, volumes, load } => {
                self.on_heartbeat(now, server, from, (sequence, acked), volumes, load, fx);
            }
            FromServer::BlockReport { report, replicas, last } => {
                let catalog = &self.catalog;
                let expected = |chunk| expected(catalog, chunk);
                self.locations.report_part(server, report, &replicas, last, expected);
                for replica in &replicas {
                    self.judge_replica(server, replica, fx);
                }
            }
            FromServer::ReplicaChanged(replica) => self.on_replica_changed(server, &replica, fx),
            FromServer::Vote { chunk, version, incarnation, vote } => {
                self.on_vote(now, server, chunk, version, incarnation, vote, fx);
            }
            FromServer::CopyDone { target, error } => self.on_copy_done(now, server, target, error, fx),
            FromServer::DropDone { chunk, version, dropped } => {
                self.locations.drop_answered(server, chunk);
                if dropped {
                    self.locations.dropped(server, chunk, version, self.expected(chunk));
                } else {
                    reached!("collect.drop_refused");
                    fx.note(
                        Level::Warn,
                        format!("{server} refused to drop {chunk} {version}: it has advanced"),
                    );
                }
            }
        }
    }

    pub(super) fn on_register(&mut self, now: Time, asked: Registration, fx: &mut Fx) {
        if self.phase == Phase::Starting {
            self.early.retain(|other| other.peer != asked.peer);
            self.early.push(asked);
            return;
        }
        let admission = self.servers.register(now, self.log.cluster(), asked.clone());
        self.take_admission(now, &asked, admission, fx);
    }

    fn take_admission(&mut self, now: Time, asked: &Registration, admission: Admission, fx: &mut Fx) {
        let server = asked.server;
        match admission {
            Admission::Held => {
                fx.note(
                    Level::Info,
                    format!("{server} registers again while its old process may still live"),
                );
            }
            Admission::Refused(reason) => {
                reached!("servers.refused");
                fx.note(Level::Warn, format!("{server} at {} refused: {reason}", asked.address));
                fx.send(asked.peer.clone(), ToServer::Refused { reason });
            }
            Admission::Admitted { session, replaced } => {
                if let Some(peer) = replaced {
                    fx.push(Effect::Close { peer });
                }
                let catalog = &self.catalog;
                let has = |volume| asked.volumes.iter().any(|v| v.volume == volume);
                self.locations.new_session(server, has, |chunk| expected(catalog, chunk));
                self.forget_replaced_servers(fx);
                fx.note(Level::Info, format!("{server} at {} registered as {session}", asked.address));
                fx.send(
                    asked.peer.clone(),
                    ToServer::Registered {
                        cluster: self.log.cluster(),
                        session,
                        heartbeat_ms: self.config.heartbeat_ms,
                        block_report_ms: self.config.block_report_ms,
                    },
                );
                self.copies_lost_with(now, server);
                self.fence_again(now, server, fx);
            }
        }
    }

    /// Admits servers that were restarted: their old process was not heard of again.
    pub(super) fn admit_contenders(&mut self, now: Time, fx: &mut Fx) {
        if !self.servers.has_contenders() {
            return;
        }
        for asked in self.servers.ripe_contenders(now, ms(self.config.heartbeat_ms * 2)) {
            let admission = self.servers.readmit(now, asked.clone());
            self.take_admission(now, &asked, admission, fx);
        }
    }

    fn on_heartbeat(
        &mut self,
        now: Time,
        server: ServerId,
        from: Peer,
        (sequence, acked): (u64, u64),
        volumes: alloc::vec::Vec<VolumeStatus>,
        load: u32,
        fx: &mut Fx,
    ) {
        let duplicate = self.servers.heartbeat(now, server, volumes, load, (sequence, acked));
        if let Some(peer) = duplicate {
            reached!("servers.duplicate");
            let reason = format!(
                "{server} is already running elsewhere: each chunkserver needs data directories of its own; stop the \
                 other process or remove the copied directory"
            );
            fx.note(Level::Alarm, reason.clone());
            fx.send(peer, ToServer::Refused { reason });
        }
        fx.send(from, ToServer::HeartbeatAck { sequence, lease_ms: self.config.lease_ms });
    }

    /// A server that was taken for dead speaks on its old connection.
    fn on_revived(&mut self, now: Time, server: ServerId, fx: &mut Fx) {
        reached!("servers.revived");
        fx.note(Level::Info, format!("{server} is heard of again"));
        self.ask_for_report(server, fx);
        self.fence_again(now, server, fx);
    }

    fn ask_for_report(&self, server: ServerId, fx: &mut Fx) {
        if let Some(peer) = self.servers.peer(server) {
            fx.send(peer, ToServer::RequestReport);
        }
    }

    fn on_replica_changed(&mut self, server: ServerId, replica: &ReplicaReport, fx: &mut Fx) {
        let expected = self.expected(replica.chunk);
        if replica.state == ReplicaState::Gone {
            // A server has at most one replica of a chunk, and may not know on which volume it was.
            self.locations.dropped(server, replica.chunk, ChunkVersion(u32::MAX), expected);
            return;
        }
        if replica.state == ReplicaState::Damaged {
            // Of a chunk that was sealed without it, a replica may just have fallen behind: nothing is wrong with its disk.
            let left_behind = expected.is_some_and(|(sealed, _)| replica.version < sealed.version);
            let (level, what) = match left_behind {
                true => (Level::Info, "of no use any more, as its own log says"),
                false => (Level::Warn, "damaged"),
            };
            fx.note(level, format!("{server} reports its replica of {} {what}", replica.chunk));
        }
        self.locations.set(server, *replica, expected);
        self.judge_replica(server, replica, fx);
    }

    /// Orders what a reported replica needs: to be sealed, or to go because its chunk is gone.
    fn judge_replica(&mut self, server: ServerId, replica: &ReplicaReport, fx: &mut Fx) {
        let chunk = replica.chunk;
        if chunk >= self.catalog.next_chunk() {
            reached!("collect.unknown_chunk");
            fx.note(
                Level::Alarm,
                format!(
                    "{server} has {chunk}, which the log never gave out: it goes into quarantine for good"
                ),
            );
            return self.collect.queue(server, replica, DropReason::Unknown);
        }
        let lost = self.defects.has(Defect::CollectOpenChunks);
        let known = self.catalog.chunk(chunk).filter(|entry| !lost || entry.open().is_none());
        let Some(entry) = known else {
            return self.collect.queue(server, replica, DropReason::Reclaimed);
        };
        let unsealed = matches!(replica.state, ReplicaState::Open | ReplicaState::Fenced);
        match entry.sealed(chunk) {
            Some(sealed) if unsealed && is_base(replica.version, sealed) => {
                if let Some(peer) = self.servers.peer(server) {
                    fx.send(peer, ToServer::Seal { base: replica.version, sealed });
                }
            }
            Some(_) => {}
            None if replica.state == ReplicaState::Sealed || replica.version > entry.version => {
                let text = format!(
                    "{server} has {chunk} {:?} at {}, the log has it open at {}: not touched",
                    replica.state, replica.version, entry.version
                );
                fx.note(Level::Alarm, text);
            }
            None => {}
        }
    }

    pub(super) fn on_peer_lost(&mut self, now: Time, peer: &Peer, fx: &mut Fx) {
        self.early.retain(|asked| asked.peer != *peer);
        for task in self.seals.values_mut() {
            task.waiters.retain(|waiter| waiter.peer != *peer);
        }
        let Some(server) = self.servers.lose(peer) else { return };
        fx.note(Level::Info, format!("connection to {server} lost"));
        self.copies_lost_with(now, server);
        if self.is_ready() {
            self.admit_contenders(now, fx);
            self.advance_seals_of(now, server, fx);
        }
    }

    pub(super) fn bury_silent_servers(&mut self, now: Time, fx: &mut Fx) {
        let dead = self.servers.bury(now, ms(self.config.dead_after_ms));
        for &server in &dead {
            reached!("servers.dead");
            let replicas = self.locations.held_by(server);
            fx.note(
                Level::Warn,
                format!("{server} is dead: silent for too long; it had {replicas} replicas"),
            );
            let catalog: &Catalog = &self.catalog;
            self.locations.server_died(server, |chunk: ChunkId| -> Expected { expected(catalog, chunk) });
            self.copies_lost_with(now, server);
            self.advance_seals_of(now, server, fx);
        }
        if !dead.is_empty() {
            self.forget_replaced_servers(fx);
        }
    }

    /// Whose directory was replaced under its address has another server's identity now.
    fn forget_replaced_servers(&mut self, fx: &mut Fx) {
        for peer in self.servers.forget_replaced() {
            fx.push(Effect::Close { peer });
        }
        let servers = &self.servers;
        self.locations.forget_leavers(|server| servers.by_id(server).is_none());
    }
}
