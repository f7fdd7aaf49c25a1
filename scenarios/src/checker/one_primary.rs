//! At most one server can commit in a version of a chunk: the primary of its grant (invariant 19).

use std::collections::BTreeMap;

use cairn_core::id::{ChunkId, ChunkVersion, ServerId};
use cairn_core::message::{AppendMessage, MasterReply, Message};

use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "one-primary";

#[derive(Default)]
struct Memory {
    /// The primary of each version, as granted.
    granted: BTreeMap<(ChunkId, ChunkVersion), ServerId>,
    /// Which node was opened as the primary of a version, or committed in it.
    acting: BTreeMap<(ChunkId, ChunkVersion), String>,
}

impl Memory {
    fn on_grant(&mut self, what: (ChunkId, ChunkVersion), primary: ServerId) -> Result<(), String> {
        let first = *self.granted.entry(what).or_insert(primary);
        if first == primary {
            return Ok(());
        }
        Err(format!("{} {} was granted to {first} as its primary, and then to {primary}", what.0, what.1))
    }

    fn on_act(&mut self, what: (ChunkId, ChunkVersion), node: &str) -> Result<(), String> {
        let first = self.acting.entry(what).or_insert_with(|| node.to_owned());
        if first == node {
            return Ok(());
        }
        Err(format!("{first} and {node} both act as the primary of {} {}", what.0, what.1))
    }
}

/// Follows every grant, every opening of a pipeline and every commit.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let violations = violations.clone();
    let mut memory = Memory::default();
    cluster.world.observe_messages(move |_, from, to, message| {
        let result = match message {
            Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. } => match grant.members.first()
            {
                Some(primary) => memory.on_grant((grant.chunk, grant.version), primary.server),
                None => Err(format!("{} was granted to nobody", grant.chunk)),
            },
            Message::Append(AppendMessage::Open { grant, position: 0, .. }) => {
                memory.on_act((grant.chunk, grant.version), to)
            }
            Message::Append(AppendMessage::Committed { chunk, version, .. }) => {
                memory.on_act((*chunk, *version), from)
            }
            _ => Ok(()),
        };
        if let Err(text) = result {
            violations.add(NAME, text);
        }
    });
}
