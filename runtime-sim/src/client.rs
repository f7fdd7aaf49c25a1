//! A program's view of its client.

use cairn_core::client::{Caller, ClientRequest, ClientResult};
use cairn_core::error::ClientError;

use crate::world::World;

/// Calls a client machine. Outlives the client's process: after a restart it calls the new one.
#[derive(Clone, Debug)]
pub struct ClientHandle {
    pub(crate) world: World,
    pub(crate) name: String,
}

impl ClientHandle {
    /// The client's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Asks, and waits for the answer; [`ClientError::Closed`] if the client's process is not there or dies.
    pub async fn call(&self, request: ClientRequest) -> ClientResult {
        self.world.call(&self.name, request).await.unwrap_or(Err(ClientError::Closed))
    }
}

impl Caller for ClientHandle {
    async fn call(&self, request: ClientRequest) -> ClientResult {
        ClientHandle::call(self, request).await
    }
}
