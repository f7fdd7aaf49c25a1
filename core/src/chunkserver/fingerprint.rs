//! What of a chunkserver decides how it goes on. States with the same hash behave alike, up to the names that they will give
//! to operations, jobs, generations and reads: numbers that only grow, so that no future one meets one that is in use.

use core::hash::{Hash, Hasher};

use super::Chunkserver;

impl Hash for Chunkserver {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Chunkserver {
            setup,
            rng: _,
            now,
            started,
            stopping,
            shutdown_syncs,
            next_housekeeping,
            out,
            server,
            cluster,
            session,
            volumes,
            recoveries,
            replicas,
            open,
            tombstones,
            jobs,
            pulls,
            reads,
            reads_of,
            tables,
            scrubbers,
            checks,
            scan,
            report_number,
            changes: _,
            changed_at,
            purges,
            losers,
            generation: _,
            next_job: _,
            next_read: _,
            next_key: _,
            damage_found: _,
            damaged_journals: _,
            scrubbed_bytes: _,
            flushed: _,
            second_replicas: _,
        } = self;
        (setup.boot, setup.process, now, started, stopping, shutdown_syncs, next_housekeeping).hash(state);
        out.under_way().for_each(|then| then.hash(state));
        (server, cluster, session, volumes, recoveries, replicas, open, tombstones).hash(state);
        (jobs, pulls, reads, reads_of, tables, scrubbers, checks, report_number, purges).hash(state);
        losers.hash(state);
        scan.hash(state);
        if let Some(scan) = scan {
            changed_at.iter().for_each(|(chunk, at)| (chunk, scan.is_before(*at)).hash(state));
        }
    }
}
