//! Bytes rot, files vanish.

use cairn_core::error::ChunkError;
use cairn_core::message::{FromServer, Message, ReadMessage, ReplicaState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use scenarios::workload::operation::{Operation, Outcome, Storage};

use super::stage::{CHUNK, content, shape, storage, tell, tell_on};

#[test]
fn a_flipped_bit_is_reported_never_served_and_repaired() {
    let mut quiet = shape();
    // Nobody but the reader looks for damage.
    quiet.chunkserver.scrub_bytes_per_second = 0;
    quiet.servers.truncate(3);
    tell_on(31, quiet, true, |stage| async move {
        let file = content(1, CHUNK);
        stage.put("/f", file).await;
        stage.until_whole().await;
        let corrupt = Arc::new(AtomicU32::new(0));
        let seen = corrupt.clone();
        stage.world.observe_messages(move |_, _, _, message| {
            if let Message::Read(ReadMessage::Reply { result: Err(ChunkError::DataCorrupt { .. }), .. }) =
                message
            {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (server, volume, path, length) = stage.some_replica();
        assert!(stage.world.flip_bit(&server, volume, &path, length * 4));
        for _ in 0..50 {
            stage.expect("/f", file).await;
            if corrupt.load(Ordering::Relaxed) > 0 {
                break;
            }
        }
        assert!(corrupt.load(Ordering::Relaxed) > 0, "the bad replica was never read");
        stage.until("the damage is gone", || stage.world.damage_standing().is_empty()).await;
        stage.expect("/f", file).await;
    });
}

#[test]
fn the_scrubber_finds_what_nobody_reads() {
    tell(32, |stage| async move {
        stage.put("/f", content(1, 3 * CHUNK)).await;
        stage.until_whole().await;
        let (server, volume, path, _) = stage.some_replica();
        assert!(stage.world.flip_bit(&server, volume, &path, 12_345));
        stage.until("the damage is gone", || stage.world.damage_standing().is_empty()).await;
        stage.until_whole().await;
        stage.expect("/f", content(1, 3 * CHUNK)).await;
    });
}

#[test]
fn a_chunk_file_removed_by_hand_is_noticed_and_replaced() {
    tell(33, |stage| async move {
        stage.put("/f", content(1, 2 * CHUNK)).await;
        stage.until_whole().await;
        let (server, volume, path, _) = stage.some_replica();
        assert!(stage.world.remove_file(&server, volume, &path));
        stage.until_whole().await;
        stage.expect("/f", content(1, 2 * CHUNK)).await;
    });
}

#[test]
fn a_chunk_file_cut_short_by_hand_is_noticed_and_replaced() {
    tell(34, |stage| async move {
        stage.put("/f", content(1, CHUNK)).await;
        stage.until_whole().await;
        let (server, volume, path, length) = stage.some_replica();
        assert!(stage.world.truncate_file(&server, volume, &path, length - 1));
        stage.until_whole().await;
        stage.expect("/f", content(1, CHUNK)).await;
    });
}

#[test]
fn a_wiped_volume_comes_back_as_another_one_and_is_filled_again() {
    let mut three = shape();
    three.servers.truncate(3);
    tell_on(35, three, true, |stage| async move {
        stage.put("/f", content(1, 4 * CHUNK)).await;
        stage.until_whole().await;
        stage.world.kill("cs1");
        stage.world.wipe_volume("cs1", 0);
        stage.world.restart("cs1");
        stage.until_whole().await;
        assert!(!stage.cluster.chunk_files("cs1").is_empty());
        stage.expect("/f", content(1, 4 * CHUNK)).await;
    });
}

#[test]
fn garbled_frames_end_a_connection_and_never_become_wrong_bytes() {
    tell(36, |stage| async move {
        let link = runtime_sim::Link { corrupt_per_million: 50_000, ..Default::default() };
        for server in stage.cluster.server_names() {
            stage.world.set_link("client0", &server, link);
            stage.world.set_link(&server, "client0", link);
        }
        let file = content(1, 4 * CHUNK);
        stage.put("/f", file).await;
        stage.expect("/f", file).await;
        stage.world.heal_all();
    });
}

#[test]
fn a_chunk_that_grows_during_a_block_report_is_not_taken_for_damaged() {
    let mut busy = shape();
    busy.disk_slow_factor = 40;
    busy.master.block_report_ms = 20;
    tell_on(37, busy, true, |stage| async move {
        let damaged = Arc::new(AtomicU32::new(0));
        let seen = damaged.clone();
        stage.world.observe_messages(move |_, _, _, message| {
            if let Message::FromServer(FromServer::ReplicaChanged(replica)) = message
                && replica.state == ReplicaState::Damaged
            {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        // Relaxed and small: a chunk is READY before a list of all directories ends.
        let storage = Storage { chunk_bytes: 8_192, relaxed: true, ..storage() };
        let file = content(1, 300 * 8_192);
        let (path, piece) = ("/f".to_owned(), 8_192);
        let put = Operation::Put { path, content: file, replace: false, piece, storage };
        let outcome = stage.perform(&put).await;
        assert!(matches!(outcome, Outcome::Stored { .. }), "{outcome:?}");
        assert_eq!(damaged.load(Ordering::Relaxed), 0, "healthy replicas were called damaged");
        stage.expect("/f", file).await;
    });
}
