//! What of a master decides how it goes on: states with the same hash behave alike, but for random choices of servers.

use core::hash::{Hash, Hasher};

use super::Master;

impl Hash for Master {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Master {
            config: _,
            wall: _,
            defects: _,
            rng: _,
            phase,
            started: _,
            log,
            catalog,
            servers,
            locations,
            seals,
            repair,
            collect,
            uploads,
            waiters,
            refused,
            early,
            last_recovered,
            next_tick,
            requests: _,
        } = self;
        (phase, log, catalog, servers, locations, seals, repair).hash(state);
        (collect, uploads, waiters, refused, early, last_recovered, next_tick).hash(state);
    }
}
