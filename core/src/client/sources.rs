//! What all reads share: locations, and which chunkservers are busy or silent.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::action::Context;
use super::cache::LocationCache;
use crate::id::{CallId, ServerId};
use crate::message::ReplicaPlace;
use crate::time::Time;

/// Where bytes can be had.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) cache: LocationCache,
    last_read: u64,
    /// The call that waits for each read under way.
    owners: BTreeMap<u64, CallId>,
    /// Reads under way at each server.
    load: BTreeMap<ServerId, u32>,
    /// Servers that failed lately, and until when others go before them.
    suspects: BTreeMap<ServerId, Time>,
    /// Reads that had to go to another replica.
    pub(super) failovers: u64,
}

impl Sources {
    pub(super) fn new(cache_entries: u32) -> Sources {
        Sources {
            cache: LocationCache::new(cache_entries),
            last_read: 0,
            owners: BTreeMap::new(),
            load: BTreeMap::new(),
            suspects: BTreeMap::new(),
            failovers: 0,
        }
    }

    /// Who waits for a read; `None` for late and repeated answers.
    pub(super) fn owner(&self, read: u64) -> Option<CallId> {
        self.owners.get(&read).copied()
    }

    /// The replica to read from: not tried, not suspect if possible, the least busy one, else by lot.
    pub(super) fn choose(
        &self,
        cx: &mut Context<'_>,
        replicas: &[ReplicaPlace],
        tried: &[ServerId],
    ) -> Option<ReplicaPlace> {
        let rank = |replica: &ReplicaPlace| {
            let suspect = self.suspects.get(&replica.server).is_some_and(|until| *until > cx.now);
            (suspect, self.load.get(&replica.server).copied().unwrap_or(0))
        };
        let open = || replicas.iter().filter(|r| !tried.contains(&r.server));
        let best = open().map(rank).min()?;
        let equal: Vec<&ReplicaPlace> = open().filter(|r| rank(r) == best).collect();
        cx.rng.pick(&equal).map(|replica| (*replica).clone())
    }

    /// A read goes out; returns its number.
    pub(super) fn take_off(&mut self, call: CallId, replica: &ReplicaPlace) -> u64 {
        self.last_read += 1;
        self.owners.insert(self.last_read, call);
        *self.load.entry(replica.server).or_default() += 1;
        self.last_read
    }

    /// A read was answered or given up.
    pub(super) fn landed(&mut self, read: u64, replica: &ReplicaPlace) {
        if self.owners.remove(&read).is_none() {
            return;
        }
        if let Some(load) = self.load.get_mut(&replica.server) {
            *load -= 1;
            if *load == 0 {
                self.load.remove(&replica.server);
            }
        }
    }

    /// Reads under way, and servers that have some.
    pub(super) fn under_way(&self) -> (usize, usize) {
        (self.owners.len(), self.load.len())
    }

    /// Servers that failed lately.
    pub(super) fn suspects(&self) -> usize {
        self.suspects.len()
    }

    pub(super) fn suspect(&mut self, server: ServerId, until: Time) {
        self.suspects.insert(server, until);
    }

    pub(super) fn trust(&mut self, server: ServerId) {
        self.suspects.remove(&server);
    }
}
