//! The way up: READY flows towards the primary, which commits what W members hold and its lease allows.

use alloc::vec::Vec;

use super::Chunkserver;
use crate::defect::Defect;
use crate::error::ChunkError;
use crate::id::{ChunkId, ChunkVersion, Peer, ServerId};
use crate::message::AppendMessage;
use crate::reached;

impl Chunkserver {
    /// Everything below `end` is as durable here as the grant demands.
    pub(super) fn on_ready(&mut self, chunk: ChunkId, generation: u64, end: u64) {
        let Some(replica) = self.replicas.get_mut(&chunk).filter(|r| r.generation == generation) else {
            return;
        };
        let Some(unsealed) = replica.unsealed.as_mut() else { return };
        let position = usize::from(unsealed.position);
        let Some(stream) = unsealed.stream.as_mut().filter(|s| !s.stopped) else { return };
        stream.ends[position] = stream.ends[position].max(end);
        self.pass_ready(chunk);
    }

    /// [`AppendMessage::Ready`] from the next member.
    pub(super) fn on_ready_below(
        &mut self,
        from: &Peer,
        chunk: ChunkId,
        version: ChunkVersion,
        ends: &[u64],
    ) {
        let Some(replica) = self.replicas.get_mut(&chunk).filter(|r| r.version == version) else { return };
        let Some(unsealed) = replica.unsealed.as_mut() else { return };
        let below = usize::from(unsealed.position) + 1;
        let Some(stream) = unsealed.stream.as_mut() else { return };
        // A member that is in trouble itself still passes on what others hold.
        if (stream.stopped && below == 1) || stream.downstream.as_ref() != Some(from) {
            return;
        }
        let staged = stream.staged_end;
        for (known, told) in stream.ends[below..].iter_mut().zip(ends) {
            *known = (*known).max((*told).min(staged));
        }
        self.pass_ready(chunk);
    }

    fn pass_ready(&mut self, chunk: ChunkId) {
        let window = self.setup.config.append_window_bytes;
        let leased = self.lease_until().is_some_and(|until| self.now < until)
            || self.setup.defects.has(Defect::LeaseIgnored);
        let Some(replica) = self.replicas.get_mut(&chunk) else { return };
        let version = replica.version;
        let Some(unsealed) = replica.unsealed.as_mut() else { return };
        let position = unsealed.position;
        let quorum = usize::from(unsealed.grant.quorum);
        let Some(stream) = unsealed.stream.as_mut() else { return };
        if position == 0 && stream.stopped {
            return;
        }
        if position > 0 {
            let mut ends = stream.ends[usize::from(position)..].to_vec();
            if self.setup.defects.has(Defect::ReadyForOthers) {
                let own = ends[0];
                ends.fill(own);
            }
            let upstream = stream.upstream.clone();
            return self.out.send(upstream, AppendMessage::Ready { chunk, version, ends });
        }
        let mut ends: Vec<u64> = stream.ends.clone();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        let short = usize::from(self.setup.defects.has(Defect::CommitBelowQuorum) && quorum > 1);
        let mut end = ends[quorum - 1 - short];
        if self.setup.defects.has(Defect::CommitOwnEnd) {
            end = stream.ends[0];
        }
        // Pacing: the writer's window opens only as far as the slowest member can follow, so that none is overrun while all
        // are well. With trouble below, the quorum alone counts.
        let paced = ends[ends.len() - 1].saturating_add(window / 2);
        if !stream.trouble_below && paced < end {
            let whole = stream.uncommitted.iter().take_while(|(_, at)| *at <= paced).last();
            end = whole.map_or(stream.committed, |(_, at)| *at);
        }
        let everywhere = ends[ends.len() - 1].min(end.max(stream.committed));
        // The writer waits for the slowest member before it has a chunk sealed, so that none is cut short.
        let caught_up = everywhere == stream.committed && everywhere > stream.everywhere;
        if end <= stream.committed && !caught_up {
            return;
        }
        if !leased {
            reached!("append.lease_expired");
            return self.fail_stream(chunk, ChunkError::LeaseExpired(chunk));
        }
        stream.committed = end.max(stream.committed);
        stream.everywhere = everywhere;
        let end = stream.committed;
        while let Some((record, _)) = stream.uncommitted.pop_front_if(|(_, at)| *at <= end) {
            stream.committed_record = record;
        }
        let (to, record) = (stream.upstream.clone(), stream.committed_record);
        self.out.send(to, AppendMessage::Committed { chunk, version, end, record, everywhere });
    }

    /// A record came again: what is committed is said again, and no more than that (rule 10).
    pub(super) fn acknowledge_again(&mut self, chunk: ChunkId) {
        let early = self.setup.defects.has(Defect::AckDuplicateEarly);
        let Some(replica) = self.replicas.get_mut(&chunk) else { return };
        let version = replica.version;
        let Some(unsealed) = replica.unsealed.as_mut() else { return };
        let position = usize::from(unsealed.position);
        let Some(stream) = unsealed.stream.as_mut() else { return };
        let to = stream.upstream.clone();
        let message = if position > 0 {
            AppendMessage::Ready { chunk, version, ends: stream.ends[position..].to_vec() }
        } else if early {
            AppendMessage::Committed {
                chunk,
                version,
                end: stream.staged_end,
                record: stream.next_record - 1,
                everywhere: stream.everywhere,
            }
        } else {
            AppendMessage::Committed {
                chunk,
                version,
                end: stream.committed,
                record: stream.committed_record,
                everywhere: stream.everywhere,
            }
        };
        self.out.send(to, message);
    }

    /// [`AppendMessage::Failed`] from the next member: the writer has to know. Others go on towards the quorum.
    pub(super) fn on_failed_below(
        &mut self,
        from: &Peer,
        chunk: ChunkId,
        version: ChunkVersion,
        server: ServerId,
        error: ChunkError,
    ) {
        let Some(replica) = self.replicas.get_mut(&chunk).filter(|r| r.version == version) else { return };
        let Some(unsealed) = replica.unsealed.as_mut() else { return };
        let next = unsealed.grant.members.get(usize::from(unsealed.position) + 1).map(|m| m.server);
        let Some(stream) = unsealed.stream.as_mut() else { return };
        if stream.downstream.as_ref() != Some(from) {
            return;
        }
        if next == Some(server) {
            stream.passing = false;
        }
        stream.trouble_below = true;
        let upstream = stream.upstream.clone();
        self.out.send(upstream, AppendMessage::Failed { chunk, version, server, error });
        self.pass_ready(chunk);
    }

    /// A connection of the data plane ended: streams from it stop, streams to it go on without it.
    pub(super) fn on_stream_peer_lost(&mut self, peer: &Peer) {
        for chunk in self.open.iter().copied().collect::<Vec<ChunkId>>() {
            let Some(replica) = self.replicas.get_mut(&chunk) else { continue };
            let version = replica.version;
            let Some(unsealed) = replica.unsealed.as_mut() else { continue };
            let below = unsealed.grant.members.get(usize::from(unsealed.position) + 1).map(|m| m.server);
            let Some(stream) = unsealed.stream.as_mut() else { continue };
            if stream.upstream == *peer && !stream.stopped {
                reached!("append.upstream_lost");
                let quiet = stream.stop();
                if quiet {
                    self.on_quiet(chunk);
                }
            } else if stream.downstream.as_ref() == Some(peer)
                && let Some(server) = below
            {
                reached!("append.downstream_lost");
                stream.downstream = None;
                stream.trouble_below = true;
                let upstream = stream.upstream.clone();
                let error = ChunkError::ReplicaLost { chunk, server };
                let message = AppendMessage::Failed { chunk, version, server, error };
                self.out.send(upstream, message);
                self.pass_ready(chunk);
            }
        }
    }
}
