//! Whatever a primary says is committed is in what the chunk is sealed as, and one process alone says so (invariant 14).

use std::collections::BTreeMap;

use cairn_core::id::{ChunkId, ChunkVersion, Peer, ProcessId};
use cairn_core::message::{AppendMessage, MasterReply, Message, SealedChunk, ToServer};

use crate::cluster::{Cluster, lock};
use crate::violation::Violations;

const NAME: &str = "commits";

#[derive(Default)]
struct Memory {
    /// What was said to be committed of a chunk's version, and by which process first.
    committed: BTreeMap<(ChunkId, ChunkVersion), (u64, String, ProcessId)>,
    sealed: BTreeMap<ChunkId, SealedChunk>,
}

impl Memory {
    fn on_committed(
        &mut self,
        server: &str,
        process: ProcessId,
        (chunk, version): (ChunkId, ChunkVersion),
        end: u64,
        violations: &Violations,
    ) {
        let first = (0, server.to_owned(), process);
        let (known, who, life) = self.committed.entry((chunk, version)).or_insert(first);
        *known = end.max(*known);
        if who != server || *life != process {
            violations.add(
                NAME,
                format!("{chunk} {version} is committed by {server} {process}, and was by {who} {life}"),
            );
        }
        self.compare(chunk, violations);
    }

    fn on_sealed(&mut self, sealed: &SealedChunk, violations: &Violations) {
        self.sealed.entry(sealed.chunk).or_insert(*sealed);
        self.compare(sealed.chunk, violations);
    }

    fn compare(&self, chunk: ChunkId, violations: &Violations) {
        let Some(sealed) = self.sealed.get(&chunk) else { return };
        for ((_, version), (end, who, _)) in
            self.committed.range((chunk, ChunkVersion(0))..(chunk, sealed.version))
        {
            if *end > sealed.length {
                violations.add(
                    NAME,
                    format!("{who} committed {end} bytes of {chunk} {version}, sealed are {}", sealed.length),
                );
            }
        }
    }
}

/// Follows what primaries say, whether or not it arrives, and what chunks are sealed as.
pub fn watch(cluster: &Cluster, violations: &Violations) {
    let memory = std::sync::Arc::new(std::sync::Mutex::new(Memory::default()));
    let (seen, found) = (memory.clone(), violations.clone());
    cluster.world.observe_sends(move |_, from, process, to: &Peer, message| {
        if let (Message::Append(AppendMessage::Committed { chunk, version, end, .. }), Peer::Conn(_)) =
            (message, to)
        {
            let mut memory = lock(&seen);
            memory.on_committed(from, process, (*chunk, *version), *end, &found);
        }
    });
    let found = violations.clone();
    cluster.world.observe_messages(move |_, _, _, message| match message {
        Message::MasterReply { result: Ok(MasterReply::Sealed(sealed)), .. }
        | Message::ToServer(ToServer::Seal { sealed, .. } | ToServer::Copy { sealed, .. }) => {
            let mut memory = lock(&memory);
            memory.on_sealed(sealed, &found);
        }
        _ => {}
    });
}
