//! Binding a daemon's ports.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::StartError;
use crate::config::listen_address;

/// Binds `listen`, given under the key `key`; other interfaces than loopback only if `any`.
pub(super) async fn bind(
    key: &'static str,
    listen: &str,
    any: bool,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let wanted = listen_address(key, listen, any)?;
    // tokio sets SO_REUSEADDR: a restarted daemon gets its port back although old connections linger.
    let bound = async {
        let listener = TcpListener::bind(wanted).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|error| StartError::Listen { address: wanted, error })
}

/// The same for an address that may be left empty, for none.
pub(super) async fn bind_optional(
    key: &'static str,
    listen: &str,
    any: bool,
) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    if listen.is_empty() { Ok(None) } else { bind(key, listen, any).await.map(Some) }
}
