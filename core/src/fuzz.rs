//! Hostile bytes: one entry for each decoder, with what must hold whatever the bytes are.
//!
//! The coverage-guided fuzzer in `fuzz/` calls these, and so does an ordinary test with the corpus that it found. An
//! entry panics if a decoder panics, or if what it accepted doesn't come back the same when it is written again.
//! Checksums would keep a fuzzer out of everything behind them, so the first byte of an input also chooses whether the
//! right checksum is put in first.

use alloc::vec::Vec;

use crate::log::{FileHeader, GroupWriter, HEADER_BYTES, LogDamage, Scan, ScanEnd};
use crate::master::{command::Command, identity};
use crate::wire::{control, frame};

/// A decoder's name and entry.
pub type Target = (&'static str, fn(&[u8]));

/// Every decoder of bytes that come from a network or a disk.
pub const TARGETS: [Target; 8] = [
    ("frame", frame),
    ("control", control),
    ("log_scan", log_scan),
    ("log_damage", log_damage),
    ("journal", journal),
    ("volume_files", volume_files),
    ("master_identity", master_identity),
    ("command", command),
];

pub use crate::chunkserver::fuzz::{journal, volume_files};

/// A frame of the data plane.
pub fn frame(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 && bytes.len() >= frame::PREFIX_BYTES {
        let start = [b'C', b'R', b'N', b'1', 1, bytes[5] % 20, 0, 0];
        bytes[..8].copy_from_slice(&start);
        let header = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
        let header = header.min(bytes.len() - frame::PREFIX_BYTES);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..16]);
        crc.update(&bytes[frame::PREFIX_BYTES..frame::PREFIX_BYTES + header]);
        bytes[16..20].copy_from_slice(&crc.finalize().to_le_bytes());
    }
    if let Ok(message) = frame::decode(&bytes) {
        let (head, payload) = frame::encode(&message).expect("a frame that was read can be written");
        assert_eq!(frame::decode_parts(&head, payload), Ok(message));
    }
}

/// A message of the control plane.
pub fn control(input: &[u8]) {
    if let Ok(message) = control::decode_control(input) {
        let bytes = control::encode_control(&message).expect("a message that was read can be written");
        assert_eq!(control::decode_control(&bytes), Ok(message));
    }
}

/// The bytes of a log file, after its header: read at once and in pieces, which must make no difference.
pub fn log_scan(input: &[u8]) {
    let _ = FileHeader::decode(input).map(|header| assert_eq!(header.encode()[..], input[..36]));
    let Some((&piece, bytes)) = input.split_first() else { return };
    let bytes = with_checksums(bytes);
    let whole = scanned([bytes.as_slice()].into_iter());
    let pieces = scanned(bytes.chunks(usize::from(piece) + 1));
    assert_eq!(whole, pieces, "pieces of {} bytes", usize::from(piece) + 1);
}

type Records = Vec<(u64, u8, Vec<u8>)>;

fn scanned<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Records, Result<ScanEnd, LogDamage>) {
    let mut scan = Scan::new(0);
    let mut records = Vec::new();
    for piece in pieces {
        scan.feed(piece);
        records.extend(core::iter::from_fn(|| scan.next_record()));
    }
    let end = scan.finish();
    records.extend(core::iter::from_fn(|| scan.next_record()));
    (records, end)
}

/// Reads `input` as records without checksums, and puts them in, until something is no record.
fn with_checksums(mut input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(head) = input.get(..5) {
        let length = usize::from(head[1]);
        let Some(payload) = input.get(5..5 + length) else { break };
        let offset = HEADER_BYTES + bytes.len() as u64;
        bytes.extend_from_slice(&[head[0], head[1], 0, 0, 0]);
        bytes.extend_from_slice(payload);
        // Every fifth checksum or so is wrong.
        let wrong = u32::from(head[2] % 5 == 1);
        bytes.extend_from_slice(&(crate::log::record_crc(offset, head[0], payload) ^ wrong).to_le_bytes());
        input = &input[5 + length..];
    }
    bytes.extend_from_slice(input);
    bytes
}

/// A log that was written as the machines write it, then cut or damaged in one place: no record may be invented or
/// changed, damage below a durable end must be told from a tear, and a hole from what a process leaves that dies.
pub fn log_damage(input: &[u8]) {
    let Some((how, script)) = input.split_first_chunk::<4>() else { return };
    let log = Written::new(script);
    let whole = scanned([log.bytes.as_slice()].into_iter());
    assert_eq!(whole.0, log.records, "a sound log is read whole");
    assert!(whole.1.is_ok_and(|end| end.torn == 0), "a sound log is not torn: {:?}", whole.1);

    let at = usize::from(u16::from_le_bytes([how[1], how[2]])) % log.bytes.len();
    let mut bytes = log.bytes.clone();
    let cut = how[0] & 1 == 0;
    if cut {
        bytes.truncate(at);
    } else {
        bytes[at] ^= how[3].max(1);
    }
    let (records, end) = scanned([bytes.as_slice()].into_iter());
    let sound = log.ends.iter().take_while(|(end, _)| *end <= at).count();
    let bad = HEADER_BYTES + sound.checked_sub(1).map_or(0, |last| log.ends[last].0) as u64;
    let kept = log.ends[..sound].iter().filter(|(_, group)| group.is_none()).count();
    assert_eq!(records[..], log.records[..kept], "exactly what lies before byte {at} is read");
    let later = &log.ends[sound + 1..];
    let witnessed = later.iter().any(|(_, group)| group.is_some_and(|durable| durable > bad));
    match end {
        Err(damage) => {
            assert!(!cut && witnessed, "{damage} was reported, but nothing shows that it was durable");
            assert_eq!(damage.offset, bad);
        }
        Ok(end) => {
            assert!(cut || !witnessed, "damage at {bad} was taken for a torn tail: {end:?}");
            assert_eq!(end.valid_end, bad);
            // A process that dies cuts a log. A length that grew beyond its end looks the same.
            let grew = (1..5).contains(&(HEADER_BYTES + at as u64 - bad));
            assert!(if cut { !end.holed } else { end.holed || grew }, "byte {at}, cut: {cut}: {end:?}");
        }
    }
}

/// A log of a few groups.
struct Written {
    bytes: Vec<u8>,
    records: Records,
    /// Where each record ends, and what it says is durable if it is a group header.
    ends: Vec<(usize, Option<u64>)>,
}

impl Written {
    fn new(script: &[u8]) -> Written {
        let mut log = Written { bytes: Vec::new(), records: Vec::new(), ends: Vec::new() };
        let mut durable = HEADER_BYTES;
        for group in script.chunks(7).take(20) {
            let start = HEADER_BYTES + log.bytes.len() as u64;
            // The group before this one was synced, or not yet.
            durable = if group[0] & 1 == 1 { start } else { durable };
            let mut writer = GroupWriter::new(start, durable, log.records.len() as u64);
            log.ends.push((log.bytes.len() + writer.len(), Some(durable)));
            for &byte in &group[1..] {
                let payload = alloc::vec![byte; usize::from(byte % 40)];
                let index = writer.push(byte | 1, &payload);
                log.ends.push((log.bytes.len() + writer.len(), None));
                log.records.push((index, byte | 1, payload));
            }
            log.bytes.extend_from_slice(&writer.finish());
        }
        if log.ends.is_empty() {
            let mark = GroupWriter::new(HEADER_BYTES, HEADER_BYTES, 0);
            log.ends.push((mark.len(), Some(HEADER_BYTES)));
            log.bytes = mark.finish();
        }
        log
    }
}

/// A master's identity: as it is, or with its checksum put right.
pub fn master_identity(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 && bytes.len() == identity::BYTES {
        let (content, crc) = bytes.split_at_mut(identity::BYTES - 4);
        crc.copy_from_slice(&crc32fast::hash(content).to_le_bytes());
    }
    if let Ok(cluster) = identity::decode(&bytes) {
        assert_eq!(identity::encode(cluster), bytes, "one identity has one encoding");
    }
}

/// A record of the master's log.
pub fn command(input: &[u8]) {
    let Some((&op, payload)) = input.split_first() else { return };
    let op = if op & 0x80 == 0 { op } else { Command::OPS[usize::from(op) % Command::OPS.len()] };
    if let Ok(command) = Command::decode(op, payload) {
        assert_eq!(command.encode(), (op, payload.to_vec()), "one change has one encoding");
    }
}

#[cfg(test)]
mod tests {
    use super::TARGETS;

    #[test]
    fn the_corpus_holds() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in TARGETS {
            let folder = corpus.join(name);
            let files: alloc::vec::Vec<_> = std::fs::read_dir(&folder).expect(name).collect();
            assert!(files.len() >= 5, "{name} has a corpus");
            for file in files {
                let path = file.expect(name).path();
                let bytes = std::fs::read(&path).expect("a corpus file can be read");
                let outcome = std::panic::catch_unwind(|| target(&bytes));
                assert!(outcome.is_ok(), "{} breaks {name}", path.display());
            }
        }
    }
}
