//! What the log says of a master that can't be reached: the first failure, one a minute while it lasts, and the end of it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cairn_core::id::Address;
use tokio::time::Instant;

/// Failures in between are told at DEBUG.
const EVERY: Duration = Duration::from_secs(60);

/// Over all sessions with one master.
#[derive(Debug, Default)]
pub(super) struct Reach(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    warned: Option<Instant>,
    /// A warning stands that the master is away.
    away: bool,
}

impl Reach {
    /// A session ended, or there was none.
    pub(super) fn failed(&self, address: &Address, why: &str) {
        if self.is_news() {
            tracing::warn!("no session with the master at {address}: {why}; trying again");
        } else {
            tracing::debug!("no session with the master at {address}: {why}");
        }
    }

    /// The master was heard in a session.
    pub(super) fn heard(&self, address: &Address) {
        if self.is_back() {
            tracing::info!("the master at {address} is back");
        }
    }

    fn is_news(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let news = state.warned.is_none_or(|warned| now >= warned + EVERY);
        if news {
            *state = State { warned: Some(now), away: true };
        }
        news
    }

    fn is_back(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_news_once_a_minute_and_a_return_once_after_it() {
        let reach = Reach::default();
        assert!(!reach.is_back(), "it was never away");
        assert!(reach.is_news());
        tokio::time::advance(EVERY - Duration::from_secs(1)).await;
        assert!(!reach.is_news());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(reach.is_news());
        assert!(reach.is_back());
        assert!(!reach.is_back());
        // A connection that comes and goes fills no log either.
        assert!(!reach.is_news());
        assert!(!reach.is_back());
    }
}
