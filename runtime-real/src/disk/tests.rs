use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use cairn_core::disk::{DiskOk, Entry};

use super::*;

struct Bench {
    disks: Disks,
    ended: mpsc::Receiver<(OpId, DiskResult)>,
    next: u64,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let (tell, ended) = mpsc::channel();
        let tell = Mutex::new(tell);
        let done: Done = Arc::new(move |op, result| tell.lock().unwrap().send((op, result)).unwrap());
        let disks = Disks::start(&[DataDir::unlocked(directory.path())], 3, done).unwrap();
        Bench { disks, ended, next: 0, directory }
    }

    fn run(&mut self, request: DiskRequest) -> DiskResult {
        self.next += 1;
        let op = OpId(self.next);
        self.disks.submit(&mut vec![(op, request)]);
        let (ended, result) = self.ended.recv_timeout(Duration::from_secs(10)).expect("answered");
        assert_eq!(ended, op);
        result
    }

    fn write(&mut self, name: &str, offset: u64, data: &[&'static [u8]], create: bool) -> DiskResult {
        let data = data.iter().map(|bytes| Bytes::from_static(bytes)).collect();
        self.run(DiskRequest::Write { path: at(name), offset, data, create })
    }

    fn read(&mut self, name: &str, offset: u64, length: u32) -> Vec<u8> {
        match self.run(DiskRequest::Read { path: at(name), offset, length }) {
            Ok(DiskOk::Data(payload)) => {
                assert!(payload.is_intact() && payload.offset == offset);
                payload.bytes.to_vec()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn at(name: &str) -> DiskPath {
    DiskPath::new(0, name)
}

#[test]
fn files_are_written_read_renamed_and_removed() {
    let mut bench = Bench::new();
    assert_eq!(bench.run(DiskRequest::MakeDir(at("a/b"))), Ok(DiskOk::Done));
    assert_eq!(bench.run(DiskRequest::MakeDir(at("a/b"))), Ok(DiskOk::Done));
    assert_eq!(bench.write("a/b/f", 2, &[b"", b"one", b"", b"two", b""], true), Ok(DiskOk::Done));
    assert_eq!(bench.read("a/b/f", 0, 100), b"\0\0onetwo");
    assert_eq!(bench.read("a/b/f", 3, 2), b"ne");
    assert_eq!(bench.read("a/b/f", 99, 2), b"");
    assert_eq!(bench.run(DiskRequest::Sync(at("a/b/f"))), Ok(DiskOk::Done));
    assert_eq!(bench.run(DiskRequest::SyncDir(at("a/b"))), Ok(DiskOk::Done));
    assert_eq!(bench.run(DiskRequest::Truncate { path: at("a/b/f"), length: 4 }), Ok(DiskOk::Done));
    let entry = Entry { name: "f".into(), length: 4, directory: false };
    assert_eq!(bench.run(DiskRequest::List(at("a/b"))), Ok(DiskOk::Entries(vec![entry])));
    // The target's descriptor is in the cache: after the rename the name must mean the new file.
    assert_eq!(bench.write("a/g", 0, &[b"old"], true), Ok(DiskOk::Done));
    assert_eq!(bench.run(DiskRequest::Rename { from: at("a/b/f"), to: at("a/g") }), Ok(DiskOk::Done));
    assert_eq!(bench.read("a/g", 0, 100), b"\0\0on");
    assert_eq!(
        bench.run(DiskRequest::Read { path: at("a/b/f"), offset: 0, length: 1 }),
        Err(DiskError::NotFound)
    );
    assert_eq!(bench.run(DiskRequest::Remove(at("a/g"))), Ok(DiskOk::Done));
    assert_eq!(bench.run(DiskRequest::Remove(at("a/g"))), Err(DiskError::NotFound));
    assert_eq!(bench.write("a/g", 0, &[b"x"], false), Err(DiskError::NotFound));
    assert!(matches!(bench.run(DiskRequest::Space { volume: 0 }), Ok(DiskOk::Space { total: 1.., .. })));
}

/// The directory is renamed and another made in its place, as an unmount leaves an empty mount point.
#[test]
fn nothing_is_made_in_a_directory_that_took_the_place_of_the_first() {
    let mut bench = Bench::new();
    let place = bench.directory.path().to_owned();
    let away = tempfile::tempdir().unwrap();
    let moved = away.path().join("volume");
    assert_eq!(bench.run(DiskRequest::MakeDir(at("a"))), Ok(DiskOk::Done));
    std::fs::rename(&place, &moved).unwrap();
    std::fs::create_dir(&place).unwrap();
    assert_eq!(bench.run(DiskRequest::MakeDir(at("b/c"))), Ok(DiskOk::Done));
    assert_eq!(bench.write("a/f", 0, &[b"one"], true), Ok(DiskOk::Done));
    assert_eq!(bench.run(DiskRequest::Rename { from: at("a/f"), to: at("b/g") }), Ok(DiskOk::Done));
    assert_eq!(bench.run(DiskRequest::SyncDir(at(""))), Ok(DiskOk::Done));
    assert_eq!(bench.read("b/g", 0, 10), b"one");
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
    assert_eq!(std::fs::read(moved.join("b/g")).unwrap(), b"one");
    let Err(DiskError::Io(why)) = bench.run(DiskRequest::Space { volume: 0 }) else { panic!("measured") };
    assert!(why.contains("unmounted or replaced"), "{why}");

    std::fs::remove_dir_all(&moved).unwrap();
    let Err(DiskError::Io(why)) = bench.write("a/h", 0, &[b"x"], true) else { panic!("written") };
    assert!(why.contains("unmounted or replaced"), "{why}");
    assert!(bench.run(DiskRequest::MakeDir(at("d"))).is_err());
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn a_file_in_the_way_of_a_directory_is_an_error() {
    let mut bench = Bench::new();
    assert_eq!(bench.write("f", 0, &[b"x"], true), Ok(DiskOk::Done));
    assert!(bench.run(DiskRequest::MakeDir(at("f"))).is_err());
    assert!(bench.run(DiskRequest::MakeDir(at("f/g"))).is_err());
}

#[test]
fn large_reads_come_in_the_length_asked_for() {
    let mut bench = Bench::new();
    let bytes: &'static [u8] = Vec::leak((0..1 << 20).map(|i: u32| (i % 251) as u8).collect());
    assert_eq!(bench.write("f", 0, &[bytes], true), Ok(DiskOk::Done));
    for (offset, length) in [(0, 1 << 20), (5, 300_000), (1 << 19, 1 << 20), (65_536, 131_072)] {
        let end = bytes.len().min(offset + length);
        assert!(bench.read("f", offset as u64, length as u32) == bytes[offset..end], "{offset} {length}");
    }
}

#[test]
fn paths_outside_and_volumes_that_are_not_there_are_refused() {
    let mut bench = Bench::new();
    assert!(matches!(bench.write("../f", 0, &[b"x"], true), Err(DiskError::Io(_))));
    assert!(matches!(bench.run(DiskRequest::Space { volume: 1 }), Err(DiskError::Io(_))));
}

#[test]
fn waiting_syncs_of_one_file_share_a_call_and_others_stay() {
    let sync = |name| DiskRequest::Sync(at(name));
    let mut waiting: VecDeque<_> = [
        (OpId(2), sync("a")),
        (OpId(3), sync("b")),
        (OpId(4), DiskRequest::SyncDir(at("a"))),
        (OpId(5), sync("a")),
    ]
    .into();
    assert_eq!(same_sync(&mut waiting, &sync("a")), [OpId(2), OpId(5)]);
    assert_eq!(waiting.len(), 2);
    assert!(same_sync(&mut waiting, &DiskRequest::List(at("b"))).is_empty());
}

#[test]
fn a_file_has_one_writer_at_a_time_and_others_go_ahead() {
    let write = |name| DiskRequest::Write { path: at(name), offset: 0, data: Vec::new(), create: true };
    let mut queue = Queue::default();
    queue.waiting.extend([(OpId(1), write("a")), (OpId(2), write("a")), (OpId(3), write("b"))]);
    assert_eq!(queue.next().map(|(op, _)| op), Some(OpId(1)));
    assert_eq!(queue.next().map(|(op, _)| op), Some(OpId(3)));
    assert_eq!(queue.next(), None);
    queue.writing.clear();
    assert_eq!(queue.next().map(|(op, _)| op), Some(OpId(2)));
}

#[test]
fn many_writes_to_one_file_all_end() {
    let mut bench = Bench::new();
    let mut batch: Vec<_> = (0..200)
        .map(|i| {
            let data = vec![Bytes::from(vec![i as u8; 100])];
            (OpId(i), DiskRequest::Write { path: at("f"), offset: i * 100, data, create: true })
        })
        .collect();
    bench.disks.submit(&mut batch);
    for _ in 0..200 {
        let (_, result) = bench.ended.recv_timeout(Duration::from_secs(10)).expect("answered");
        assert_eq!(result, Ok(DiskOk::Done));
    }
    bench.next = 200;
    let back = bench.read("f", 0, 20_000);
    assert!(back.iter().enumerate().all(|(i, byte)| usize::from(*byte) == i / 100));
}
