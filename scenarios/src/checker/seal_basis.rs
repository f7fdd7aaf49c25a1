//! A seal rests on enough votes that stand (invariant 36): M − W + 1 of the M members that were granted have voted no more than
//! what is sealed, under an incarnation that is still there, and min(W, 2) of the members hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cairn_core::id::{ChunkId, ChunkVersion, ServerId};
use cairn_core::message::{FromServer, Grant, MasterReply, Message, ToServer, Vote};

use super::registered::{Registered, Session};
use crate::cluster::{Cluster, MASTER, lock};
use crate::violation::Violations;

const NAME: &str = "seal-basis";

/// Grants that are remembered; older chunks have been settled long since.
const GRANTS_KEPT: usize = 4_096;

/// A version of a chunk.
type Version = (ChunkId, ChunkVersion);

#[derive(Debug, Default)]
struct Memory {
    /// What outlives a master: its log has it.
    grants: BTreeMap<Version, Grant>,
    registered: Registered,
    /// Lengths that members voted and still stand by.
    votes: BTreeMap<Version, BTreeMap<ServerId, u64>>,
    /// Those that stood when the master decided.
    decided: BTreeMap<Version, BTreeMap<ServerId, u64>>,
}

impl Memory {
    fn on_vote(&mut self, server: ServerId, told: &FromServer) {
        let FromServer::Vote { chunk, version, incarnation, vote } = told else { return };
        let what = (*chunk, *version);
        let Some(grant) = self.grants.get(&what) else { return };
        let Some(member) = grant.members.iter().find(|member| member.server == server) else { return };
        let votes = self.votes.entry(what).or_default();
        let length = match vote {
            Vote::Prefix { length, .. } if *length <= grant.capacity => Some(*length),
            Vote::Absent => Some(0),
            _ => None,
        };
        match length.filter(|_| member.incarnation().stands(grant.durability, *incarnation)) {
            // A shorter one never takes a longer one back.
            Some(length) => {
                let known = votes.entry(server).or_default();
                *known = length.max(*known);
            }
            None => drop(votes.remove(&server)),
        }
    }

    /// A server's session begins: what it voted under an incarnation that is gone counts no more.
    fn on_session(&mut self, server: ServerId) {
        let Memory { grants, registered, votes, .. } = self;
        let session = &registered.sessions[&server];
        for (what, votes) in votes {
            if !grants.get(what).is_some_and(|grant| stands(grant, server, session)) {
                votes.remove(&server);
            }
        }
    }

    /// The master has decided: says what is wrong with that.
    fn on_decided(&mut self, (chunk, version): Version) -> Option<String> {
        let what = (chunk, version);
        let votes = self.votes.get(&what).cloned().unwrap_or_default();
        let (count, needed) = (votes.len(), needed(self.grants.get(&what)?));
        self.decided.insert(what, votes);
        (count < needed).then(|| {
            format!("{chunk} {version} is being sealed on {count} votes that stand, {needed} are needed")
        })
    }

    /// The log has it: the same with what was decided.
    fn on_sealed(&mut self, (chunk, version): Version, length: u64) -> Option<String> {
        let what = (chunk, version);
        let (grant, votes) = (self.grants.get(&what)?, self.decided.get(&what)?);
        let (contained, needed) = (votes.values().filter(|vote| **vote <= length).count(), needed(grant));
        let (holders, safe) =
            (votes.values().filter(|vote| **vote >= length).count(), usize::from(grant.quorum.min(2)));
        if contained < needed {
            return Some(format!(
                "{chunk} {version} is sealed at {length} bytes: of the votes {votes:?} {needed} must be in that"
            ));
        }
        (length > 0 && holders < safe).then(|| {
            format!(
                "{chunk} {version} is sealed at {length} bytes: of the voters {votes:?} {safe} must have them"
            )
        })
    }
}

/// Votes that a seal needs.
fn needed(grant: &Grant) -> usize {
    (grant.members.len() + 1).saturating_sub(usize::from(grant.quorum))
}

fn stands(grant: &Grant, server: ServerId, session: &Session) -> bool {
    let member = grant.members.iter().find(|member| member.server == server);
    member.is_some_and(|member| {
        let now = session.incarnation(member.volume);
        now.is_some_and(|now| member.incarnation().stands(grant.durability, now))
    })
}

/// Counts votes as the master hears them, and looks at what it decides.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let memory: Arc<Mutex<Memory>> = Arc::default();
    let heard = memory.clone();
    cluster.world.observe_arrivals(move |to, process, peer, message| {
        let memory = &mut *lock(&heard);
        if memory.registered.begins(to, process) {
            memory.votes.clear();
            memory.decided.clear();
        }
        if let Some((server, told)) = memory.registered.hear(to, peer, message) {
            memory.on_vote(server, told);
        }
    });
    let (told, found) = (memory.clone(), violations.clone());
    cluster.world.observe_sends(move |_, from, _, to, message| {
        if from != MASTER {
            return;
        }
        let memory = &mut *lock(&told);
        match message {
            Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. } => {
                memory.grants.insert((grant.chunk, grant.version), grant.clone());
                if memory.grants.len() > GRANTS_KEPT {
                    memory.grants.pop_first();
                }
            }
            Message::ToServer(ToServer::Seal { base, sealed }) => {
                if let Some(text) = memory.on_sealed((sealed.chunk, *base), sealed.length) {
                    found.add(NAME, text);
                }
            }
            message => {
                if let Some(server) = memory.registered.tell(to, message) {
                    memory.on_session(server);
                }
            }
        }
    });
    let violations = violations.clone();
    let mut deciding: BTreeSet<Version> = BTreeSet::new();
    cluster.world.observe_master(move |_, master| {
        if deciding.is_empty() && master.decided_seals().next().is_none() {
            return;
        }
        let now: BTreeSet<Version> = master.decided_seals().collect();
        for what in now.difference(&deciding) {
            if let Some(text) = lock(&memory).on_decided(*what) {
                violations.add(NAME, text);
            }
        }
        deciding = now;
    });
}
