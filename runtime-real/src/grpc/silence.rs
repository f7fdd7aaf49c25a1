//! For how long masters have left requests unanswered: what a user who waits wants to know.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cairn_core::error::MasterError;
use cairn_core::id::Address;
use cairn_core::message::MasterReply;

/// Shared by whoever asks masters and whoever tells the user of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Silence {
    pending: Arc<Mutex<Option<Pending>>>,
}

#[derive(Debug)]
struct Pending {
    since: Instant,
    address: Address,
    reason: String,
}

impl Silence {
    fn with<T>(&self, act: impl FnOnce(&mut Option<Pending>) -> T) -> T {
        act(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request is on its way to the master at `address`.
    pub(super) fn asked(&self, address: &Address) {
        self.with(|pending| {
            pending.get_or_insert_with(|| Pending {
                since: Instant::now(),
                address: address.clone(),
                reason: "no answer".into(),
            });
        });
    }

    /// Any answer ends the silence, except one after which the request is repeated: that is its reason.
    pub(super) fn answered(&self, address: &Address, result: &Result<MasterReply, MasterError>) {
        self.with(|pending| match result {
            Err(MasterError::Unavailable(reason) | MasterError::Busy(reason)) => {
                if let Some(pending) = pending {
                    (pending.address, pending.reason) = (address.clone(), reason.clone());
                }
            }
            _ => *pending = None,
        });
    }

    /// The master asked last and why it does not answer, once that has lasted for `patience`.
    pub(crate) fn after(&self, patience: Duration) -> Option<(Address, String)> {
        self.with(|pending| {
            let pending = pending.as_ref().filter(|pending| pending.since.elapsed() >= patience)?;
            Some((pending.address.clone(), pending.reason.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_ends_the_silence() {
        let (silence, address) = (Silence::default(), Address::new("a:1"));
        assert_eq!(silence.after(Duration::ZERO), None);
        silence.asked(&address);
        assert_eq!(silence.after(Duration::ZERO), Some((address.clone(), "no answer".into())));
        silence.answered(&address, &Err(MasterError::Unavailable("refused".into())));
        silence.asked(&address);
        assert_eq!(silence.after(Duration::ZERO), Some((address.clone(), "refused".into())));
        assert_eq!(silence.after(Duration::from_secs(3600)), None);
        silence.answered(&address, &Err(MasterError::NotFound("/x".into())));
        assert_eq!(silence.after(Duration::ZERO), None);
    }
}
