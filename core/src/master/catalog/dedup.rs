//! Exactly once: the outcomes of recent requests, so that a retry gets the first answer and changes nothing.
//!
//! Bounded: 64 outcomes for each of [`DEDUP_CLIENTS`] clients. The one that was quiet for the longest part of the log goes first.
//! A request at or below the ones that a client's window has dropped is refused, since it may have been applied.
//!
//! The catalog has one such table for what the log carried out. A refusal that never reached the log has its own, volatile
//! one in the master: a connection ends with the process, so nothing that an earlier master refused comes to a later one
//! but what its client still waits for.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::hash::{Hash, Hasher};

use crate::error::MasterError;
use crate::id::{ClientId, RequestId};
use crate::limits::DEDUP_CLIENTS;
use crate::message::MasterReply;

const OUTCOMES: usize = 64;

/// What a request led to.
pub(in crate::master) type Outcome = Result<MasterReply, MasterError>;

#[derive(Clone, Debug, Default)]
struct Window {
    last_used: u64,
    /// The highest request that was dropped.
    floor: RequestId,
    outcomes: BTreeMap<RequestId, Box<Outcome>>,
}

/// The table of outcomes.
#[derive(Clone, Debug, Default)]
pub(in crate::master) struct Dedup {
    clients: BTreeMap<ClientId, Window>,
    by_use: BTreeMap<u64, ClientId>,
}

impl Dedup {
    pub(in crate::master) fn recall(&self, client: ClientId, request: RequestId) -> Option<Outcome> {
        let window = self.clients.get(&client)?;
        match window.outcomes.get(&request) {
            Some(outcome) => Some((**outcome).clone()),
            None if request <= window.floor => Some(Err(MasterError::Unavailable(
                "the request is too old to tell whether it was carried out".into(),
            ))),
            None => None,
        }
    }

    /// The newest request of a client whose outcome was forgotten.
    pub(in crate::master) fn floor(&self, client: ClientId) -> Option<RequestId> {
        self.clients.get(&client).map(|window| window.floor)
    }

    /// How many clients are remembered, and how many places the order of use has.
    pub(in crate::master) fn table_sizes(&self) -> [(&'static str, usize); 2] {
        [("clients", self.clients.len()), ("clients by use", self.by_use.len())]
    }

    /// Remembers an outcome. `index` counts commands: the order of use.
    pub(in crate::master) fn remember(
        &mut self,
        client: ClientId,
        request: RequestId,
        outcome: Outcome,
        index: u64,
    ) {
        let window = self.clients.entry(client).or_default();
        self.by_use.remove(&window.last_used);
        window.last_used = index;
        self.by_use.insert(index, client);
        window.outcomes.insert(request, Box::new(outcome));
        if window.outcomes.len() > OUTCOMES
            && let Some((dropped, _)) = window.outcomes.pop_first()
        {
            window.floor = window.floor.max(dropped);
        }
        if self.clients.len() > DEDUP_CLIENTS
            && let Some((_, quiet)) = self.by_use.pop_first()
        {
            self.clients.remove(&quiet);
        }
    }
}

impl Hash for Dedup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.by_use.hash(state);
        for (client, window) in &self.clients {
            (client, window.floor).hash(state);
            for (request, outcome) in &window.outcomes {
                (request, outcome).hash(state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TrashId;

    fn reply(n: u64) -> Outcome {
        Ok(MasterReply::Trashed(TrashId(n)))
    }

    #[test]
    fn the_last_outcomes_of_a_client_are_remembered_and_older_ones_refused() {
        let mut dedup = Dedup::default();
        for n in 1..=100 {
            dedup.remember(ClientId(7), RequestId(n), reply(n), n);
        }
        assert_eq!(dedup.recall(ClientId(7), RequestId(100)), Some(reply(100)));
        assert_eq!(dedup.recall(ClientId(7), RequestId(37)), Some(reply(37)));
        assert!(matches!(dedup.recall(ClientId(7), RequestId(36)), Some(Err(MasterError::Unavailable(_)))));
        assert_eq!(dedup.recall(ClientId(7), RequestId(101)), None);
        assert_eq!(dedup.recall(ClientId(8), RequestId(1)), None);
    }

    #[test]
    fn the_client_quiet_for_longest_is_forgotten() {
        let mut dedup = Dedup::default();
        for n in 0..DEDUP_CLIENTS as u64 {
            dedup.remember(ClientId(n), RequestId(1), reply(n), n + 1);
        }
        dedup.remember(ClientId(0), RequestId(2), reply(0), 10_000);
        dedup.remember(ClientId(9_999), RequestId(1), reply(0), 10_001);
        assert_eq!(dedup.clients.len(), DEDUP_CLIENTS);
        assert_eq!(dedup.recall(ClientId(1), RequestId(1)), None);
        assert_eq!(dedup.recall(ClientId(0), RequestId(1)), Some(reply(0)));
        assert_eq!(dedup.by_use.len(), DEDUP_CLIENTS);
    }
}
