//! A chunk's versions only grow, and what a chunk was sealed as never changes (invariant 4).

use std::collections::BTreeMap;

use cairn_core::id::{ChunkId, ChunkVersion};
use cairn_core::master::Master;
use cairn_core::message::{MasterReply, Message, SealedChunk, ToServer};

use crate::cluster::Cluster;
use crate::violation::Violations;

const NAME: &str = "versions";

#[derive(Default)]
struct Memory {
    granted: BTreeMap<ChunkId, ChunkVersion>,
    sealed: BTreeMap<ChunkId, SealedChunk>,
}

impl Memory {
    fn on_sealed(&mut self, sealed: &SealedChunk, violations: &Violations) {
        let first = self.sealed.entry(sealed.chunk).or_insert(*sealed);
        if first != sealed {
            violations.add(NAME, format!("sealed as {first:?}, and again as {sealed:?}"));
        }
        if let Some(granted) = self.granted.get(&sealed.chunk)
            && *granted >= sealed.version
        {
            violations.add(
                NAME,
                format!("{} was granted at {granted} and sealed at {}", sealed.chunk, sealed.version),
            );
        }
    }
}

/// Follows every grant and seal, and the log's index.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let mut memory = Memory::default();
    let found = violations.clone();
    cluster.world.observe_messages(move |_, _, _, message| match message {
        Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. } => {
            let last = memory.granted.entry(grant.chunk).or_insert(grant.version);
            // An answer may be overtaken by a later one: versions are compared with what was sealed, not with each other.
            *last = grant.version.max(*last);
            if let Some(sealed) = memory.sealed.get(&grant.chunk)
                && grant.version > sealed.version
            {
                found.add(NAME, format!("{} was granted at {} after {sealed:?}", grant.chunk, grant.version));
            }
        }
        Message::MasterReply { result: Ok(MasterReply::Sealed(sealed)), .. }
        | Message::ToServer(ToServer::Seal { sealed, .. } | ToServer::Copy { sealed, .. }) => {
            memory.on_sealed(sealed, &found);
        }
        _ => {}
    });
    let found = violations.clone();
    let mut applied = 0;
    let mut was_ready = false;
    cluster.world.observe_master(move |_, master: &Master| {
        let ready = master.is_ready();
        // While a master recovers it has applied less; once it serves, everything that was ever applied must be in.
        if ready {
            let now = master.applied_index();
            if now < applied {
                found.add(
                    NAME,
                    format!("the log went back from {applied} to {now}; ready before: {was_ready}"),
                );
            }
            applied = now;
        }
        was_ready = ready;
    });
}
