//! Marks: rare branches by name, so that a sweep can show that it reached them. See `docs/invariants.md`.

use core::sync::atomic::{AtomicU64, Ordering};

/// Every mark, sorted by mechanism. `reached!` with a name that is not here does not compile.
pub const MARKS: &[&str] = &[
    "append.disk_error",
    "append.disk_full",
    "append.downstream_lost",
    "append.duplicate_record",
    "append.file_gone",
    "append.gap",
    "append.lease_expired",
    "append.open_of_another_session",
    "append.opened_twice",
    "append.sync_error",
    "append.tombstone_refused",
    "append.upstream_lost",
    "append.window_full",
    "catalog.reclaim_goes_on",
    "catalog.retry_applied",
    "catalog.sealed_before",
    "chunkserver.journal_kept",
    "chunkserver.journal_rewritten",
    "chunkserver.journal_without_space",
    "chunkserver.sealed_while_leaving",
    "chunkserver.volume_failed",
    "client.append_failed",
    "client.append_timed_out",
    "client.bad_replica_reported",
    "client.file_replaced_while_read",
    "client.primary_lost",
    "client.read_failed_over",
    "client.read_located_anew",
    "client.read_peer_lost",
    "client.read_timed_out",
    "client.request_gave_up",
    "client.request_timed_out",
    "client.resumed_above_committed",
    "client.resumed_below_sent",
    "client.write_refused",
    "client.write_refused_for_now",
    "collect.drop_refused",
    "collect.excess",
    "collect.order_withdrawn",
    "collect.unknown_chunk",
    "complete.absent_member",
    "complete.other_bytes",
    "copy.here_already",
    "copy.other_bytes",
    "copy.read_back_differs",
    "copy.replaces_replica",
    "drop.absent",
    "drop.failed",
    "drop.kept_for_good",
    "drop.refused",
    "drop.waits_for_stream",
    "fence.absent",
    "fence.asked_again",
    "fence.damaged",
    "fence.other_incarnation",
    "fence.other_volume",
    "fence.superseded",
    "fence.sync_failed",
    "fence.syncs_staged",
    "fence.tombstone_known",
    "fence.waits_for_stream",
    "flush.full",
    "flush.inherited",
    "flush.put_off",
    "flush.sync_failed",
    "flush.written_again",
    "grants.fewer_than_wanted",
    "grants.members_unknown_yet",
    "grants.not_enough_servers",
    "grants.repeated",
    "locations.leaving",
    "locations.unreported",
    "losers.forgotten_first",
    "losers.needed",
    "oplog.damage",
    "oplog.disk_error",
    "oplog.full",
    "oplog.mark",
    "oplog.rotate",
    "oplog.torn_segment_header",
    "oplog.torn_tail",
    "pull.source_busy",
    "pull.source_failed",
    "quarantine.not_purged",
    "quarantine.purged",
    "read.busy",
    "read.corrupt",
    "read.moved",
    "recovery.bad_block",
    "recovery.copied_volume",
    "recovery.cut_to_seal",
    "recovery.cut_unpromised",
    "recovery.damaged_journal",
    "recovery.dropped_before_forgotten",
    "recovery.failed",
    "recovery.foreign_file",
    "recovery.foreign_volume",
    "recovery.identity_damaged",
    "recovery.identity_missing",
    "recovery.journal_holed",
    "recovery.journal_kept",
    "recovery.note_of_nothing",
    "recovery.orphan",
    "recovery.quarantine_left",
    "recovery.seal_unreadable",
    "recovery.sealed_before_forgotten",
    "recovery.sealed_damaged",
    "recovery.sealed_since",
    "recovery.short_replica",
    "recovery.sidecar_damaged",
    "recovery.sidecar_unreadable",
    "recovery.staging_left",
    "recovery.stale_journal",
    "recovery.tail_unreadable",
    "recovery.torn_journal",
    "recovery.two_replicas",
    "recovery.unsynced_seal_lost",
    "repair.copy",
    "repair.copy_failed",
    "repair.target_lost",
    "repair.timeout",
    "report.found_missing",
    "requests.recalled",
    "requests.refusal_recalled",
    "requests.retried_under_way",
    "requests.upload_expired",
    "requests.verify_bad_replica",
    "scrub.found_damage",
    "scrub.found_sound",
    "scrub.only_cached",
    "scrub.sidecar_readable_again",
    "seal.absent",
    "seal.asked_anew",
    "seal.chunk_gone",
    "seal.complete_short_voter",
    "seal.conflict",
    "seal.cut_in_block",
    "seal.damaged_vote",
    "seal.empty",
    "seal.file_cut_short",
    "seal.file_gone",
    "seal.not_at_base",
    "seal.other_bytes",
    "seal.other_incarnation",
    "seal.put_off",
    "seal.quorum_lost",
    "seal.short_replica",
    "seal.superseded_vote",
    "seal.sync_failed",
    "seal.vote_shrinks",
    "seal.vote_too_long",
    "seal.waits_for_stream",
    "servers.contender",
    "servers.contender_admitted",
    "servers.dead",
    "servers.duplicate",
    "servers.refused",
    "servers.replaced",
    "servers.replaced_while_live",
    "servers.revived",
    "session.identity_waits",
    "session.master_silent",
];

/// Marks that no sweep can reach, because what leads there breaks a promise that storms keep (a peer that lies, a damaged
/// log, a master that lost what it had logged, a copied data directory) or a protocol that writers do not speak yet. Each is
/// reached by a directed story.
pub const DIRECTED: &[&str] = &[
    "append.gap",
    "catalog.retry_applied",
    "catalog.sealed_before",
    "collect.unknown_chunk",
    "complete.other_bytes",
    "drop.kept_for_good",
    "fence.other_volume",
    "fence.superseded",
    "oplog.damage",
    "recovery.copied_volume",
    "recovery.foreign_file",
    "recovery.foreign_volume",
    "recovery.identity_damaged",
    "recovery.identity_missing",
    "seal.conflict",
    "seal.file_cut_short",
    "seal.other_bytes",
    "seal.superseded_vote",
    "seal.vote_shrinks",
    "seal.vote_too_long",
    "servers.duplicate",
    "servers.refused",
];

/// How often each mark was reached in this process; all zero without the feature `marks`.
pub static COUNTS: [AtomicU64; MARKS.len()] = [const { AtomicU64::new(0) }; MARKS.len()];

/// The place of `name` in [`MARKS`].
///
/// # Panics
/// At compile time, when used by `reached!` with an unknown name.
pub const fn index(name: &str) -> usize {
    let mut i = 0;
    while i < MARKS.len() {
        if same(MARKS[i].as_bytes(), name.as_bytes()) {
            return i;
        }
        i += 1;
    }
    panic!("unknown mark: add it to MARKS")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Counts one passage. Called by `reached!`.
#[inline]
pub fn count(index: usize) {
    if cfg!(feature = "marks") {
        COUNTS[index].fetch_add(1, Ordering::Relaxed);
    }
}

/// Marks a rare branch as reached: `reached!("seal.complete_short_voter")`. Costs nothing without the feature `marks`.
#[macro_export]
macro_rules! reached {
    ($name:literal) => {{
        const INDEX: usize = $crate::mark::index($name);
        $crate::mark::count(INDEX);
    }};
}
