//! Where to look first: the event, the chunk and the file that a broken promise speaks of.

use std::collections::BTreeMap;

use cairn_core::id::ChunkId;
use cairn_core::message::{AppendMessage, FromServer, Message, ReadMessage, ToServer};
use runtime_sim::record::{HappeningId, Record, What};

use super::chronicle::Chronicle;
use super::subject::{FileNumber, Subjects, chunks_in};

/// Checkers that speak of the cluster as a whole.
const OF_ALL: [&str; 5] = ["bounds", "convergence", "health", "leaks", "replication"];

/// What a page shows at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Focus {
    /// Where the promise was found broken, or the run's last event.
    pub event: HappeningId,
    /// The chunk concerned.
    pub chunk: Option<ChunkId>,
    /// The file concerned.
    pub file: Option<FileNumber>,
}

impl Focus {
    /// Of the first broken promise; of a run that held, what had most trouble.
    pub fn of(record: &Record, subjects: &Subjects, chronicle: &Chronicle) -> Focus {
        let broken = record.happenings.iter().enumerate().find_map(|(id, happening)| match &happening.what {
            What::Broken { text, checker } => Some((id as HappeningId, text, checker)),
            _ => None,
        });
        let trouble = trouble(record, subjects);
        let worst = |among: &[ChunkId]| {
            // The latest among equals: what failed is more often new than old.
            among.iter().copied().max_by_key(|chunk| (trouble.get(chunk).copied().unwrap_or(0), *chunk))
        };
        let Some((event, text, checker)) = broken else {
            let chunk = worst(&trouble.keys().copied().collect::<Vec<_>>());
            let file = chunk.and_then(|chunk| subjects.chunks.get(&chunk)?.first().copied());
            return Focus { event: record.happenings.len().saturating_sub(1) as HappeningId, chunk, file };
        };
        let file = subjects.file_in(text);
        let named = chunks_in(text);
        let chunk = match file {
            _ if !named.is_empty() => worst(&named),
            None if OF_ALL.contains(&checker.as_str()) => chronicle.unsettled(event),
            Some(file) => worst(&subjects.chunks_of(file, event)),
            None => {
                record.happenings[event as usize].cause.and_then(|cause| subjects.about[cause as usize].chunk)
            }
        };
        let file = file.or_else(|| chunk.and_then(|chunk| subjects.chunks.get(&chunk)?.first().copied()));
        Focus { event, chunk, file }
    }
}

/// How often each chunk went through something out of the ordinary.
fn trouble(record: &Record, subjects: &Subjects) -> BTreeMap<ChunkId, u32> {
    let mut all: BTreeMap<ChunkId, u32> = BTreeMap::new();
    for (happening, about) in record.happenings.iter().zip(&subjects.about) {
        let Some(chunk) = about.chunk else { continue };
        let weight = match &happening.what {
            What::Sent { message, .. } => weight(message),
            What::DiskEnded { result: Err(_), .. } | What::World { .. } => 3,
            _ => 0,
        };
        *all.entry(chunk).or_default() += weight;
    }
    all
}

fn weight(message: &Message) -> u32 {
    match message {
        Message::ToServer(ToServer::Fence { .. } | ToServer::Complete { .. }) => 2,
        Message::ToServer(ToServer::Copy { .. } | ToServer::Drop { .. } | ToServer::Verify { .. })
        | Message::FromServer(FromServer::Vote { .. })
        | Message::Append(AppendMessage::Failed { .. }) => 1,
        Message::Read(ReadMessage::Reply { result: Err(_), .. }) => 2,
        _ => 0,
    }
}
