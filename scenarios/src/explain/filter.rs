//! The lines of a trace that concern a node, a chunk, a file or a client. What happens to the world stays in: it is why.

use cairn_core::id::ChunkId;
use runtime_sim::record::{Happening, Record, What};

use super::subject::{FileNumber, Subjects};

/// What to keep; everything that is `None` keeps all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of or with this node.
    pub node: Option<String>,
    /// Only about this chunk.
    pub chunk: Option<ChunkId>,
    /// Only about this file or directory.
    pub file: Option<String>,
    /// Only of or with this client.
    pub client: Option<usize>,
    /// Only from this simulated second on.
    pub from: Option<f64>,
    /// Only until this simulated second.
    pub until: Option<f64>,
}

/// What a filter can't find in a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// No such node.
    #[error("no node is called {name}; there are {}", known.join(", "))]
    Node {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The run never names the path.
    #[error("the run never names {0}; replay it without --file to see which paths it does")]
    File(String),
    /// The run never grants the chunk.
    #[error("the run has no {0}; replay it without --chunk to see which chunks it has")]
    Chunk(ChunkId),
}

impl Filter {
    /// Whether it keeps everything.
    pub fn is_empty(&self) -> bool {
        self.node.is_none()
            && self.chunk.is_none()
            && self.file.is_none()
            && self.client.is_none()
            && self.from.is_none()
            && self.until.is_none()
    }

    /// The lines of `trace` that pass.
    pub fn lines<'a>(
        &self,
        trace: &'a str,
        record: &Record,
        subjects: &Subjects,
    ) -> Result<impl Iterator<Item = &'a str>, Unknown> {
        let file = match &self.file {
            Some(path) => Some(subjects.file(path).ok_or_else(|| Unknown::File(path.clone()))?),
            None => None,
        };
        if let Some(chunk) = self.chunk
            && !subjects.about.iter().any(|about| about.chunk == Some(chunk))
        {
            return Err(Unknown::Chunk(chunk));
        }
        let mut nodes = Vec::new();
        for name in self.node.iter().cloned().chain(self.client.map(crate::cluster::client_name)) {
            let Some(node) = record.nodes.iter().position(|known| *known == name) else {
                return Err(Unknown::Node { name, known: record.nodes.clone() });
            };
            nodes.push(node as u16);
        }
        let kept: Vec<_> = (record.happenings.iter().zip(&subjects.about))
            .filter(|(happening, about)| {
                self.in_time(happening)
                    && (matches!(happening.what, What::World { .. } | What::Broken { .. })
                        || self.chunk.is_none_or(|chunk| about.chunk == Some(chunk))
                            && file.is_none_or(|file: FileNumber| about.files.contains(&Some(file)))
                            && nodes.iter().all(|node| concerns(happening, *node)))
            })
            .map(|(happening, _)| &trace[happening.line.clone()])
            .collect();
        Ok(kept.into_iter())
    }

    fn in_time(&self, happening: &Happening) -> bool {
        let at = happening.at.0 as f64 / 1e9;
        self.from.is_none_or(|from| at >= from) && self.until.is_none_or(|until| at <= until)
    }
}

/// Whether an event is of a node or between it and another.
fn concerns(happening: &Happening, node: u16) -> bool {
    let other = match &happening.what {
        What::Received { from, .. } => *from,
        What::Sent { to, .. } => *to,
        What::PeerLost { other } => *other,
        _ => None,
    };
    happening.node == Some(node) || other == Some(node)
}
