//! Settling an open chunk's length: fence, votes, completion, the logged decision (chunk protocol, rules 1 to 9, 16, 20).
//!
//! The decision itself is pure, in `ballot.rs`. A task lives while someone waits for it; votes are durable promises of the
//! voters, so one vote in a task's life is enough. Nothing here truncates or deletes: it only asks.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::Master;
use super::ballot::{Ballot, Decision, decide};
use super::catalog::OpenChunk;
use super::command::Change;
use super::machine::Fx;
use crate::config::ms;
use crate::defect::Defect;
use crate::error::MasterError;
use crate::id::{ChunkId, ChunkVersion, ClientId, Incarnation, Peer, RequestId, ServerId, UploadId};
use crate::machine::Level;
use crate::message::{Identity, MasterReply, ReplicaReport, ReplicaState, SealedChunk, ToServer, Vote};
use crate::reached;
use crate::time::{Span, Time};

/// Orders without an answer are repeated after so long.
const REPEAT: Span = Span::from_ms(2_000);

/// The vote of a member that has nothing of the chunk.
const ABSENT: Ballot = Ballot::Prefix { length: 0, crc: 0 };

/// Someone who asked for the seal.
#[derive(Clone, Debug, Hash)]
pub(super) struct Waiter {
    pub(super) peer: Peer,
    asked: (ClientId, RequestId),
    deadline: Time,
}

/// A chunk being sealed.
#[derive(Clone, Debug, Hash)]
pub(super) struct SealTask {
    version: ChunkVersion,
    grant: OpenChunk,
    started: Time,
    /// What each member answered, in the grant's order.
    votes: Vec<Option<Ballot>>,
    /// When each member was last asked for something.
    asked: BTreeMap<usize, Time>,
    /// The decision is on its way into the log, with these holders.
    proposed: Option<Vec<usize>>,
    conflict: bool,
    pub(super) waiters: Vec<Waiter>,
    /// When to look at it again.
    pub(super) wake: Time,
}

impl SealTask {
    pub(super) fn is_decided(&self) -> bool {
        self.proposed.is_some()
    }

    pub(super) fn version(&self) -> ChunkVersion {
        self.version
    }

    /// Whatever a server was asked, it is asked again.
    fn forget_asked(&mut self, server: ServerId) {
        let members = &self.grant.members;
        self.asked.retain(|&i, _| members[i % members.len()].server != server);
    }
}

impl Master {
    #[expect(clippy::too_many_arguments, reason = "the request's fields")]
    pub(super) fn on_seal_chunk(
        &mut self,
        now: Time,
        from: Peer,
        asked: (ClientId, RequestId),
        identity: &Identity,
        upload: UploadId,
        chunk: ChunkId,
        version: ChunkVersion,
        fx: &mut Fx,
    ) {
        let found = self.catalog.writable_upload(identity, upload).and_then(|entry| {
            let listed = entry.chunks.contains(&chunk);
            self.catalog.chunk(chunk).filter(|_| listed).ok_or(MasterError::ChunkNotOpen(chunk))
        });
        let entry = match found {
            Ok(entry) => entry,
            Err(error) => return self.reply(from, asked.1, Err(error), fx),
        };
        if let Some(sealed) = entry.sealed(chunk) {
            return self.reply(from, asked.1, Ok(MasterReply::Sealed(sealed)), fx);
        }
        let Some(grant) = entry.open().filter(|_| entry.version == version).cloned() else {
            return self.reply(from, asked.1, Err(MasterError::ChunkNotOpen(chunk)), fx);
        };
        let latest = now + ms(self.config.seal_timeout_ms);
        let members = grant.members.len();
        let task = self.seals.entry(chunk).or_insert_with(|| SealTask {
            version,
            grant,
            started: now,
            votes: alloc::vec![None; members],
            asked: BTreeMap::new(),
            proposed: None,
            conflict: false,
            waiters: Vec::new(),
            wake: now,
        });
        // Sent again, a request waits no longer than when it came first: else it would never be told that the quorum is lost.
        let deadline = task.waiters.iter().filter(|w| w.asked == asked).map(|w| w.deadline).min();
        task.waiters.retain(|w| w.peer != from || w.asked != asked);
        task.waiters.push(Waiter { peer: from, asked, deadline: deadline.unwrap_or(latest) });
        if self.defects.has(Defect::NonMembersVote) {
            self.ask_non_members(chunk, fx);
        }
        self.advance_seal(now, chunk, fx);
    }

    pub(super) fn advance_due_seals(&mut self, now: Time, fx: &mut Fx) {
        let due: Vec<ChunkId> =
            self.seals.iter().filter(|(_, task)| now >= task.wake).map(|(chunk, _)| *chunk).collect();
        for chunk in due {
            self.advance_seal(now, chunk, fx);
        }
    }

    /// A member's server came or went.
    pub(super) fn advance_seals_of(&mut self, now: Time, server: ServerId, fx: &mut Fx) {
        for chunk in self.seals_of(server) {
            self.advance_seal(now, chunk, fx);
        }
    }

    /// A server is there again: what it was asked before may be lost.
    pub(super) fn fence_again(&mut self, now: Time, server: ServerId, fx: &mut Fx) {
        for chunk in self.seals_of(server) {
            if let Some(task) = self.seals.get_mut(&chunk) {
                task.forget_asked(server);
                let Some(now) = self.servers.by_id(server) else { continue };
                // What did not count may have been for a while only: a failed volume, a disk that was not mounted.
                for (vote, member) in task.votes.iter_mut().zip(&task.grant.members) {
                    let stands = now.stands(member, task.grant.durability)
                        || self.defects.has(Defect::VoteOutlivesIncarnation);
                    if member.server == server && !(stands && matches!(vote, Some(Ballot::Prefix { .. }))) {
                        reached!("seal.asked_anew");
                        *vote = None;
                    }
                }
            }
            self.advance_seal(now, chunk, fx);
        }
    }

    fn seals_of(&self, server: ServerId) -> Vec<ChunkId> {
        let has = |task: &SealTask| task.grant.members.iter().any(|m| m.server == server);
        self.seals.iter().filter(|(_, task)| has(task)).map(|(chunk, _)| *chunk).collect()
    }

    pub(super) fn on_vote(
        &mut self,
        now: Time,
        server: ServerId,
        chunk: ChunkId,
        version: ChunkVersion,
        incarnation: Incarnation,
        vote: Vote,
        fx: &mut Fx,
    ) {
        let any = self.defects.has(Defect::AnyIncarnationVotes);
        let Some(task) = self.seals.get_mut(&chunk).filter(|task| task.version == version) else { return };
        let member = task.grant.members.iter().position(|m| m.server == server);
        let Some(i) = member.or(self.defects.has(Defect::NonMembersVote).then_some(0)) else { return };
        let granted = task.grant.members[i].incarnation();
        let stands = any || member.is_none() || granted.stands(task.grant.durability, incarnation);
        if stands && vote == Vote::OtherIncarnation && task.votes[i] == Some(ABSENT) {
            // It voted for a chunk that it had not, registered anew, and has forgotten the vote with its journal.
            task.votes[i] = None;
            task.forget_asked(server);
            return self.advance_seal(now, chunk, fx);
        }
        let ballot = match vote {
            Vote::Prefix { length, .. } if length > task.grant.capacity => {
                reached!("seal.vote_too_long");
                Ballot::Void
            }
            Vote::Prefix { length, crc } if stands => Ballot::Prefix { length, crc },
            Vote::Absent if stands => ABSENT,
            Vote::OtherIncarnation if any => Ballot::Prefix { length: 0, crc: 0 },
            Vote::Prefix { .. } | Vote::Absent | Vote::OtherIncarnation => {
                reached!("seal.other_incarnation");
                Ballot::Void
            }
            Vote::Damaged => {
                reached!("seal.damaged_vote");
                Ballot::Void
            }
            Vote::Superseded { .. } => {
                reached!("seal.superseded_vote");
                Ballot::Void
            }
        };
        // A later answer never takes back a longer prefix that is already promised.
        let shrinks = match (task.votes[i], ballot) {
            (Some(Ballot::Prefix { length: had, .. }), Ballot::Prefix { length, .. }) => length < had,
            _ => false,
        };
        if shrinks {
            reached!("seal.vote_shrinks");
        } else {
            task.votes[i] = Some(ballot);
        }
        self.advance_seal(now, chunk, fx);
    }

    /// What is known of each member now.
    fn ballots(&self, task: &SealTask) -> Vec<Ballot> {
        let any = self.defects.has(Defect::AnyIncarnationVotes);
        let ballot = |(member, vote): (&crate::message::Member, &Option<Ballot>)| {
            if let Some(ballot) = vote {
                return *ballot;
            }
            match self.servers.by_id(member.server) {
                Some(server) if !server.is_usable() => Ballot::Away,
                Some(server) if any || server.stands(member, task.grant.durability) => Ballot::Waiting,
                Some(_) => Ballot::Void,
                None => Ballot::Away,
            }
        };
        task.grant.members.iter().zip(&task.votes).map(ballot).collect()
    }

    fn advance_seal(&mut self, now: Time, chunk: ChunkId, fx: &mut Fx) {
        let Some(task) = self.seals.get(&chunk) else { return };
        if task.proposed.is_some() && !self.defects.has(Defect::SealAgain) {
            return;
        }
        let ballots = self.ballots(task);
        let grace_end = task.started + ms(self.config.seal_grace_ms);
        let decision = decide(&ballots, task.grant.quorum, now >= grace_end, self.defects);
        self.ask_for_votes(now, chunk, &ballots, fx);
        let (needed, answered) = match decision {
            Decision::Seal { length, crc, holders } => {
                return self.propose_seal(now, chunk, length, crc, holders);
            }
            Decision::Complete { length, crc, holders, short } => {
                reached!("seal.complete_short_voter");
                // All that is missing are durable holders of the longest prefix.
                self.ask_to_complete(now, chunk, (length, crc), &holders, &short, fx);
                (2, holders.len() as u8)
            }
            Decision::Conflict { length } => {
                self.note_conflict(chunk, length, fx);
                (ballots.len() as u8, 0)
            }
            Decision::Wait { needed, answered } => {
                (needed.max(answered + u8::from(answered >= needed)), answered)
            }
        };
        self.give_up_waiters(now, chunk, needed, answered, fx);
        let Some(task) = self.seals.get_mut(&chunk) else { return };
        let deadlines = task.waiters.iter().map(|w| w.deadline);
        let grace = (grace_end > now).then_some(grace_end);
        task.wake = deadlines.chain(grace).chain([now + REPEAT]).min().unwrap_or(now + REPEAT);
    }

    fn ask_for_votes(&mut self, now: Time, chunk: ChunkId, ballots: &[Ballot], fx: &mut Fx) {
        let Some(task) = self.seals.get_mut(&chunk) else { return };
        for (i, member) in task.grant.members.iter().enumerate() {
            let due = task.asked.get(&i).is_none_or(|at| now >= *at + REPEAT);
            if ballots[i] != Ballot::Waiting || !due {
                continue;
            }
            let Some(peer) = self.servers.peer(member.server) else { continue };
            task.asked.insert(i, now);
            let fence = ToServer::Fence {
                chunk,
                version: task.version,
                incarnation: member.incarnation(),
                durability: task.grant.durability,
            };
            fx.send(peer, fence);
        }
    }

    /// Planted defect: whoever is not a member is asked, too (rule 1).
    fn ask_non_members(&self, chunk: ChunkId, fx: &mut Fx) {
        let Some(task) = self.seals.get(&chunk) else { return };
        for (id, server) in self.servers.usable() {
            let (Some(peer), Some(volume)) = (self.servers.peer(id), server.volumes.first()) else {
                continue;
            };
            if task.grant.members.iter().all(|m| m.server != id) {
                let (version, durability) = (task.version, task.grant.durability);
                let incarnation =
                    Incarnation { volume: volume.volume, boot: server.boot, process: server.process };
                fx.send(peer, ToServer::Fence { chunk, version, incarnation, durability });
            }
        }
    }

    fn ask_to_complete(
        &mut self,
        now: Time,
        chunk: ChunkId,
        (length, crc): (u64, u32),
        holders: &[usize],
        short: &[usize],
        fx: &mut Fx,
    ) {
        let Some(task) = self.seals.get_mut(&chunk) else { return };
        let members = &task.grant.members;
        let sources: Vec<_> = holders
            .iter()
            .filter_map(|&i| self.servers.by_id(members[i].server))
            .filter(|server| server.is_usable())
            .map(|server| server.address.clone())
            .collect();
        for &i in short {
            // Voters are numbered apart from those asked to vote, so that the order follows the vote at once.
            let key = members.len() + i;
            let due = task.asked.get(&key).is_none_or(|at| now >= *at + REPEAT);
            let Some(peer) = self.servers.peer(members[i].server).filter(|_| due && !sources.is_empty())
            else {
                continue;
            };
            task.asked.insert(key, now);
            let complete = ToServer::Complete {
                chunk,
                version: task.version,
                incarnation: members[i].incarnation(),
                length,
                crc,
                sources: sources.clone(),
            };
            fx.send(peer, complete);
        }
    }

    fn propose_seal(&mut self, now: Time, chunk: ChunkId, length: u64, crc: u32, holders: Vec<usize>) {
        let Some(task) = self.seals.get_mut(&chunk) else { return };
        let version = task.version;
        task.proposed = Some(holders);
        task.wake = Time(u64::MAX);
        self.propose(now, Change::SealChunk { chunk, version, length, crc });
    }

    fn note_conflict(&mut self, chunk: ChunkId, length: u64, fx: &mut Fx) {
        let Some(task) = self.seals.get_mut(&chunk) else { return };
        if !core::mem::replace(&mut task.conflict, true) {
            reached!("seal.conflict");
            fx.note(
                Level::Alarm,
                format!("replicas of {chunk} differ within their first {length} bytes: it is not sealed"),
            );
        }
    }

    fn give_up_waiters(&mut self, now: Time, chunk: ChunkId, needed: u8, answered: u8, fx: &mut Fx) {
        let Some(task) = self.seals.get_mut(&chunk) else { return };
        let (late, rest): (Vec<Waiter>, Vec<Waiter>) =
            core::mem::take(&mut task.waiters).into_iter().partition(|w| now >= w.deadline);
        task.waiters = rest;
        if task.waiters.is_empty() {
            self.seals.remove(&chunk);
        }
        for waiter in late {
            reached!("seal.quorum_lost");
            let error = MasterError::QuorumLost { chunk, needed, answered };
            self.reply(waiter.peer, waiter.asked.1, Err(error), fx);
        }
    }

    /// The decision is in the log: everyone is told, and the holders count as readable until they report.
    pub(super) fn on_chunk_sealed(&mut self, now: Time, sealed: SealedChunk, fx: &mut Fx) {
        let chunk = sealed.chunk;
        self.repair.delay(chunk, now + ms(self.config.repair_delay_ms));
        let expected = self.expected(chunk);
        self.locations.refresh(chunk, expected);
        let Some(task) = self.seals.remove(&chunk) else { return };
        for i in task.proposed.unwrap_or_default() {
            let member = &task.grant.members[i];
            let report = ReplicaReport {
                chunk,
                volume: member.volume,
                version: task.version,
                length: sealed.length,
                crc: 0,
                state: ReplicaState::Fenced,
            };
            if self.servers.by_id(member.server).is_some_and(|server| server.live) {
                self.locations.set(member.server, report, expected);
            }
        }
        for member in &task.grant.members {
            if let Some(peer) = self.servers.peer(member.server) {
                fx.send(peer, ToServer::Seal { base: task.version, sealed });
            }
        }
        for waiter in task.waiters {
            self.reply(waiter.peer, waiter.asked.1, Ok(MasterReply::Sealed(sealed)), fx);
        }
    }

    /// The log refused the seal, or the chunk is gone.
    pub(super) fn fail_seal(&mut self, chunk: ChunkId, error: &MasterError, fx: &mut Fx) {
        for waiter in self.seals.remove(&chunk).map(|task| task.waiters).unwrap_or_default() {
            reached!("seal.chunk_gone");
            self.reply(waiter.peer, waiter.asked.1, Err(error.clone()), fx);
        }
    }
}
