//! The log's two promises: what was durable comes back or is reported as damage; a torn tail is cut.

use super::*;
use alloc::vec::Vec;
use proptest::prelude::*;

fn log(groups: &[Vec<Vec<u8>>]) -> (Vec<u8>, Vec<u64>) {
    let mut file = Vec::new();
    let mut starts = Vec::new();
    let (mut index, mut end) = (7, HEADER_BYTES);
    for records in groups {
        let mut group = GroupWriter::new(end, end, index);
        for record in records {
            index = group.push(1, record) + 1;
        }
        starts.push(end);
        file.extend(group.finish());
        end = HEADER_BYTES + file.len() as u64;
    }
    (file, starts)
}

fn scan(file: &[u8], step: usize) -> (Vec<Vec<u8>>, Result<ScanEnd, LogDamage>) {
    let mut scan = Scan::new(7);
    let mut records = Vec::new();
    for part in file.chunks(step.max(1)) {
        scan.feed(part);
        records.extend(core::iter::from_fn(|| scan.next_record()).map(|(_, _, payload)| payload));
    }
    let end = scan.finish();
    records.extend(core::iter::from_fn(|| scan.next_record()).map(|(_, _, payload)| payload));
    (records, end)
}

fn groups() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let record = proptest::collection::vec(any::<u8>(), 0..60);
    proptest::collection::vec(proptest::collection::vec(record, 0..5), 1..6)
}

proptest! {
    #[test]
    fn what_was_written_comes_back(groups in groups(), step in 1_usize..200) {
        let (file, _) = log(&groups);
        let (records, end) = scan(&file, step);
        prop_assert_eq!(records, groups.concat());
        prop_assert_eq!(end.unwrap().valid_end, HEADER_BYTES + file.len() as u64);
    }

    #[test]
    fn a_cut_file_keeps_a_prefix(groups in groups(), cut in 0.0..1.0_f64, step in 1_usize..200) {
        let (file, _) = log(&groups);
        let kept = &file[..(file.len() as f64 * cut) as usize];
        let (records, end) = scan(kept, step);
        let end = end.unwrap();
        prop_assert!(groups.concat().starts_with(&records));
        prop_assert_eq!(end.valid_end + end.torn, HEADER_BYTES + kept.len() as u64);
        prop_assert!(!end.holed, "a process that dies leaves this");
    }

    #[test]
    fn a_flipped_bit_below_the_last_group_is_damage(groups in groups(), place in 0.0..1.0_f64, bit in 0_u32..8, step in 1_usize..200) {
        let (mut file, starts) = log(&groups);
        let at = (file.len() as f64 * place) as usize;
        file[at] ^= 1_u8 << bit;
        let (records, end) = scan(&file, step);
        let last = *starts.last().unwrap();
        if HEADER_BYTES + (at as u64) < last {
            let damage = end.unwrap_err();
            prop_assert!(damage.offset <= HEADER_BYTES + at as u64);
        } else {
            let end = end.unwrap();
            prop_assert!(end.torn > 0);
            // A record that seems to go on after the end of the file is what a process leaves that dies.
            let length = end.valid_end + 1..end.valid_end + 5;
            prop_assert!(end.holed || length.contains(&(HEADER_BYTES + at as u64)));
        }
        prop_assert!(groups.concat().starts_with(&records));
    }

    #[test]
    fn no_bytes_make_the_scan_panic(file in proptest::collection::vec(any::<u8>(), 0..500), step in 1_usize..100) {
        let _ = scan(&file, step);
        let _ = FileHeader::decode(&file);
    }
}

#[test]
fn an_unsynced_hole_below_an_unsynced_group_is_a_torn_tail() {
    // Two groups were written after byte `durable`, neither synced; the disk kept only the second.
    let mut first = GroupWriter::new(HEADER_BYTES, HEADER_BYTES, 7);
    first.push(1, b"lost");
    let mut file = first.finish();
    let start = HEADER_BYTES + file.len() as u64;
    let mut second = GroupWriter::new(start, HEADER_BYTES, 8);
    second.push(1, b"kept");
    file.fill(0);
    file.extend(second.finish());
    let (records, end) = scan(&file, 64);
    assert!(records.is_empty());
    let end = end.unwrap();
    assert_eq!((end.valid_end, end.holed), (HEADER_BYTES, true));
}

#[test]
fn the_header_is_the_documented_bytes() {
    let header = FileHeader { kind: LogKind::Journal, owner: 0x0102_0304_0506_0708, first_index: 9 };
    let hex: alloc::string::String = header.encode().iter().map(|b| alloc::format!("{b:02x}")).collect();
    assert_eq!(hex, "434149524e4c4f470100000001000000080706050403020109000000000000001169f7a9");
    assert_eq!(FileHeader::decode(&header.encode()), Ok(header));
}
