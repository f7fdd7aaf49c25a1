//! Everything that machines say to each other, by conversation.

mod control;
mod data;
mod display;
mod session;

pub use control::*;
pub use data::*;
pub use session::*;

use serde::{Deserialize, Serialize};

use crate::error::MasterError;
use crate::id::{ClientId, RequestId};

/// A message of any conversation. The first four travel by gRPC, the last two by data frames.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Client to master.
    MasterRequest {
        /// Who asks; with `request` it makes retries of changes harmless.
        client: ClientId,
        /// Numbered by the client; a retry repeats it.
        request: RequestId,
        /// As whom. Asserted by the client: there is no authentication yet.
        identity: Identity,
        /// What.
        body: MasterRequest,
    },
    /// Master to client.
    MasterReply {
        /// The request answered.
        request: RequestId,
        /// The answer.
        result: Result<MasterReply, MasterError>,
    },
    /// Chunkserver to master, on the session stream.
    FromServer(FromServer),
    /// Master to chunkserver, on the session stream.
    ToServer(ToServer),
    /// Client or chunkserver to chunkserver: writing a chunk.
    Append(AppendMessage),
    /// Client or chunkserver to chunkserver: reading a chunk.
    Read(ReadMessage),
}

impl From<FromServer> for Message {
    fn from(message: FromServer) -> Message {
        Message::FromServer(message)
    }
}

impl From<ToServer> for Message {
    fn from(message: ToServer) -> Message {
        Message::ToServer(message)
    }
}

impl From<AppendMessage> for Message {
    fn from(message: AppendMessage) -> Message {
        Message::Append(message)
    }
}

impl From<ReadMessage> for Message {
    fn from(message: ReadMessage) -> Message {
        Message::Read(message)
    }
}
