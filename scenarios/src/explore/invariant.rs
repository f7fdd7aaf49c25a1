//! What must hold in every state. Numbers in brackets are those of `docs/invariants.md`.

use std::collections::HashMap;
use std::sync::Arc;

use cairn_core::id::{ChunkId, Durability};
use cairn_core::message::ReplicaState;

use super::fingerprint::Direct;
use super::node::Node;
use super::state::{MASTER, State};
use super::step::Explorer;
use super::writer::content;
use crate::cluster::SIDECAR;

/// The chunk that every scope is about: the first that the master gives out.
pub(super) const CHUNK: ChunkId = ChunkId(1);

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Broken {
    /// Which.
    pub invariant: &'static str,
    /// With the numbers that broke it.
    pub text: String,
}

/// What servers would still have after the worst, by node state.
#[derive(Default)]
pub(super) struct Holdings(HashMap<u32, Option<Arc<[u8]>>, Direct>);

fn broken(invariant: &'static str, text: String) -> Option<Broken> {
    Some(Broken { invariant, text })
}

impl Explorer {
    /// Length and checksum that the master's log has the chunk sealed at, if the master is up.
    pub(super) fn logged(&self, state: &State) -> Option<(u32, u32)> {
        let sealed = self.world.node(state.nodes[MASTER]).master()?.catalog().sealed(CHUNK)?;
        Some((sealed.length as u32, sealed.crc))
    }

    /// The bytes that a server still promises after a power cut that keeps nothing unsynced (under `async`: after a kill).
    fn holding(&self, holdings: &mut Holdings, state: &State, server: usize) -> Option<Arc<[u8]>> {
        let number = state.nodes[server];
        if let Some(held) = holdings.0.get(&number) {
            return held.clone();
        }
        let node = self.world.node(number);
        let bare = if node.is_down() {
            Node::clone(node)
        } else {
            node.bare(self.scope.durability == Durability::Sync)
        };
        let (back, _) = bare.restarted(self.world.maker, &self.world.names[server].0);
        let held = self.promised(&back);
        holdings.0.insert(number, held.clone());
        held
    }

    /// What a recovered server would vote with.
    fn promised(&self, node: &Node) -> Option<Arc<[u8]>> {
        let replica = node.server()?.replicas().find(|r| r.chunk == CHUNK)?;
        if replica.state == ReplicaState::Damaged {
            return None;
        }
        let bytes = match node.disk.find(&self.chunk_files).iter().find(|name| !name.ends_with(SIDECAR)) {
            Some(name) => node.disk.contents(name)?,
            None => &[],
        };
        Some(Arc::from(bytes.get(..replica.ready as usize)?))
    }

    /// The first promise that is broken.
    pub(super) fn check(&self, holdings: &mut Holdings, state: &State) -> Option<Broken> {
        let acked: Vec<(u8, u64)> = self.acknowledged(state).collect();
        if acked.len() > 1 {
            let text = format!(
                "writers {} and {} were both told that their bytes are at offset 0",
                acked[0].0, acked[1].0
            );
            return broken("one primary, one stream (4)", text);
        }
        for (writer, end) in acked {
            let bytes = content(writer, end);
            let holds = |held: &[u8]| held.starts_with(&bytes);
            let held = self.holders(holdings, state, holds);
            let wanted = self.scope.quorum.saturating_sub(state.lost);
            if held < wanted {
                let text =
                    format!("{end} bytes were acknowledged; {held} members hold them durably, {wanted} must");
                return broken("acknowledged bytes are durable on W members (3)", text);
            }
        }
        self.check_seal(holdings, state)
    }

    fn acknowledged<'a>(&'a self, state: &'a State) -> impl Iterator<Item = (u8, u64)> + 'a {
        let writers =
            state.nodes[self.servers() + 1..].iter().filter_map(|number| self.world.node(*number).writer());
        writers.filter(|writer| writer.acked > 0).map(|writer| (writer.number, writer.acked))
    }

    fn holders(&self, holdings: &mut Holdings, state: &State, holds: impl Fn(&[u8]) -> bool) -> u8 {
        let mut count = 0;
        for server in 1..=self.servers() {
            count += u8::from(self.holding(holdings, state, server).is_some_and(|held| holds(&held)));
        }
        count
    }

    fn check_seal(&self, holdings: &mut Holdings, state: &State) -> Option<Broken> {
        let first = state.sealed;
        if first.is_some() && !self.world.node(state.nodes[MASTER]).is_down() && self.logged(state) != first {
            let text = format!("it was settled as {first:?}, the log now says {:?}", self.logged(state));
            return broken("what a chunk was sealed as never changes (4)", text);
        }
        for number in &state.nodes[self.servers() + 1..] {
            let told = self.world.node(*number).writer().and_then(|writer| writer.sealed());
            if let Some(told) = told.filter(|told| Some((told.length as u32, told.crc)) != first) {
                return broken(
                    "what a writer was told is what was logged (4)",
                    format!("told {told:?}, logged {first:?}"),
                );
            }
        }
        let sealed = first.map(|(length, crc)| (u64::from(length), crc));
        if let Some(odd) = self.odd_replica(state, sealed) {
            return Some(odd);
        }
        let (length, crc) = sealed?;
        for (writer, end) in self.acknowledged(state) {
            if end > length || crc != crc32fast::hash(&content(writer, length)) {
                let text = format!(
                    "{end} bytes of writer {writer} were acknowledged, the chunk is sealed at {length}"
                );
                return broken("acknowledged bytes are in what was sealed (1)", text);
            }
        }
        let wanted = if length == 0 {
            0
        } else {
            self.scope.quorum.min(2).saturating_sub(state.lost - state.lost_early)
        };
        let same = |held: &[u8]| held.get(..length as usize).is_some_and(|held| crc32fast::hash(held) == crc);
        let held = self.holders(holdings, state, same);
        if held < wanted {
            let text = format!("{length} bytes were sealed; {held} members hold them durably, {wanted} must");
            return broken("what was sealed is durable on min(W, 2) members (5)", text);
        }
        None
    }

    /// Whether the process that runs is the one that the grant names.
    fn was_granted_to(&self, state: &State, server: usize, node: &Node) -> bool {
        let writer = self.world.node(state.nodes[self.servers() + 1]).writer();
        let grant = writer.and_then(|writer| writer.grant.as_ref());
        let place = self.members.iter().position(|member| *member == server);
        let member = grant.zip(place).and_then(|(grant, place)| grant.members.get(place));
        member.is_none_or(|member| member.process == node.process())
    }

    /// A replica that is not what the log and the grant say.
    fn odd_replica(&self, state: &State, sealed: Option<(u64, u32)>) -> Option<Broken> {
        for server in 1..=self.servers() {
            let node = self.world.node(state.nodes[server]);
            let replica = node.server().and_then(|s| s.replicas().find(|r| r.chunk == CHUNK));
            let Some(replica) = replica else { continue };
            if replica.state == ReplicaState::Open && !self.was_granted_to(state, server, node) {
                let text =
                    format!("{} accepts appends again after its restart: {replica:?}", self.name(server));
                return broken("an open replica never outlives its process (rule 4)", text);
            }
            if replica.state != ReplicaState::Sealed {
                continue;
            }
            if Some((replica.ready, replica.crc)) != sealed {
                let text = format!("{} has {replica:?}, logged is {sealed:?}", self.name(server));
                return broken("sealed replicas are identical (5)", text);
            }
            let file = node.disk.find(&self.chunk_files).into_iter().find(|name| !name.ends_with(SIDECAR));
            let bytes = file.and_then(|name| node.disk.contents(&name)).unwrap_or_default();
            if state.lost == 0
                && (bytes.len() as u64 != replica.ready || crc32fast::hash(bytes) != replica.crc)
            {
                let text = format!(
                    "{} is sealed at {} bytes, its file has others",
                    self.name(server),
                    replica.ready
                );
                return broken("sealed replicas are identical (5)", text);
            }
        }
        None
    }
}
