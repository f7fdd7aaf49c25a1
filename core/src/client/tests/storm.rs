//! Any storm of failures: what is closed can be read back, and is what was written.

use std::vec::Vec;

use proptest::prelude::*;

use super::bytes;
use super::cluster::{Cluster, Fate};
use crate::client::{ClientRequest, ClientResponse};
use crate::error::{ChunkError, ClientError, MasterError};
use crate::id::{ChunkId, ServerId};
use crate::message::Message;

fn fate(draw: u8, message: &Message) -> Fate {
    let of_master = matches!(message, Message::MasterRequest { .. });
    match draw {
        0 => Fate::Lost,
        1 => Fate::Unanswered,
        2 => Fate::Broken,
        3 => Fate::BrokenAfter,
        4 => Fate::Twice,
        5 if of_master => Fate::Refused(MasterError::Unavailable("storm".into())),
        6 if of_master => Fate::Misreported(MasterError::Unavailable("storm".into())),
        7 if of_master => Fate::Refused(MasterError::Busy("storm".into())),
        5 => Fate::Failed(ChunkError::ReplicaLost { chunk: ChunkId(1), server: ServerId(2) }),
        6 => Fate::Failed(ChunkError::Busy("storm".into())),
        7 => Fate::Failed(ChunkError::DataCorrupt { chunk: ChunkId(1), offset: 0 }),
        _ => Fate::Fine,
    }
}

fn storm(draws: Vec<u8>) -> impl FnMut(&crate::id::Address, &Message) -> Fate + 'static {
    let mut draws = draws.into_iter();
    move |_, message| fate(draws.next().unwrap_or(u8::MAX), message)
}

/// So many failures may take longer than a writer's patience.
const HARSH: usize = 20;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_file_read_back_is_the_file_written(
        sizes in proptest::collection::vec(0_usize..90, 1..12),
        writing in proptest::collection::vec(0_u8..24, 0..120),
        reading in proptest::collection::vec(0_u8..24, 0..60),
        keeps in 0_usize..=100,
        cache in 1_u32..4,
    ) {
        let is_harsh = writing.iter().filter(|draw| **draw < 8).count() >= HARSH;
        let config = crate::config::ClientConfig { cache_entries: cache, ..Cluster::config() };
        let mut cluster = Cluster::new(config, storm(writing));
        cluster.seal_keeps = keeps;
        let data = bytes(sizes.iter().sum());
        let handle = cluster.create("/a");
        let mut at = 0;
        let mut writes = Vec::new();
        for size in sizes {
            let part = ::bytes::Bytes::copy_from_slice(&data[at..at + size]);
            at += size;
            writes.push(cluster.call(ClientRequest::Write { handle, data: part }));
        }
        for call in writes {
            match cluster.settle(call) {
                Err(ClientError::WriteRefused(_)) if is_harsh => return Ok(()),
                outcome => prop_assert_eq!(outcome, Ok(ClientResponse::Done)),
            }
        }
        match cluster.ask(ClientRequest::Close { handle }) {
            Ok(ClientResponse::Status(status)) => prop_assert_eq!(status.length, data.len() as u64),
            Err(ClientError::WriteRefused(_)) if is_harsh => return Ok(()),
            other => prop_assert!(false, "close: {:?}", other),
        }
        prop_assert_eq!(&cluster.stored("/a"), &data);
        cluster.script = std::boxed::Box::new(storm(reading));
        prop_assert_eq!(cluster.get("/a"), Ok(data));
    }
}
