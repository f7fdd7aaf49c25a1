//! Entries of [`crate::fuzz`] for what a volume holds.

use alloc::vec::Vec;

use super::identity::Identity;
use super::journal::{Record, Replay};
use super::sidecar::{Sidecar, whole_crc};
use crate::codec;
use crate::id::BootId;
use crate::payload::BLOCK_BYTES;

/// A journal's records in order: `length (2) | payload` each. The snapshot that replaces them must add up to the same.
pub fn journal(mut input: &[u8]) {
    let mut replay = Replay::default();
    while let Some((length, rest)) = input.split_first_chunk::<2>() {
        let (payload, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        input = rest;
        if let Ok(record) = Record::decode(payload) {
            assert_eq!(record.encode().1, payload, "one record has one encoding");
            replay.apply(record);
        }
    }
    let records = replay.records();
    let mut again = Replay::default();
    for record in records.iter().chain(&records).cloned() {
        again.apply(record);
    }
    assert_eq!(again.records(), records, "a snapshot adds up to what it was taken of, twice over too");
}

/// A sidecar or a volume's identity: as it is, with its checksum put right, or made of the input's numbers.
pub fn volume_files(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    match mode % 5 {
        0 => {}
        1 if bytes.len() >= 16 => put_right(&mut bytes, b"CAIRNSUM", 1),
        2 if bytes.len() == 40 => put_right(&mut bytes, b"CAIRNVOL", 1),
        3 if bytes.len() >= 16 => {
            put_right(&mut bytes, b"CAIRNSUM", 1);
            let body = bytes[12..bytes.len() - 4].to_vec();
            if let Ok(sidecar) = codec::decode::<Sidecar, 65_536>(&body) {
                let unsynced = (mode >= 128).then_some(BootId(u64::from(mode)));
                bytes = Sidecar { unsynced, ..sound(sidecar) }.encode();
                assert!(Sidecar::decode(&bytes).is_ok(), "a sound sidecar is accepted");
            }
        }
        4 if bytes.len() >= 24 => put_right(&mut bytes, b"CAIRNSUM", 2),
        _ => return,
    }
    if let Ok(sidecar) = Sidecar::decode(&bytes) {
        assert_eq!(sidecar.encode(), bytes, "one sidecar has one encoding");
    }
    if let Ok(identity) = Identity::decode(&bytes) {
        assert_eq!(identity.encode(), bytes, "one identity has one encoding");
    }
}

fn put_right(bytes: &mut [u8], magic: &[u8; 8], version: u32) {
    bytes[..8].copy_from_slice(magic);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let end = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&crc.to_le_bytes());
}

/// With the length and the checksum that its blocks have.
fn sound(sidecar: Sidecar) -> Sidecar {
    let mut sound = sidecar;
    let blocks: Vec<u32> = sound.blocks.iter().copied().take(64).collect();
    let last = if blocks.is_empty() { 0 } else { sound.sealed.length % BLOCK_BYTES + 1 };
    sound.sealed.length = (blocks.len() as u64).saturating_sub(1) * BLOCK_BYTES + last;
    sound.sealed.crc = whole_crc(&blocks, sound.sealed.length).unwrap_or(0);
    sound.blocks = blocks;
    sound
}
