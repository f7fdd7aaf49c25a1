use proptest::prelude::*;

use super::*;
use cairn_core::disk::DiskPath;
use cairn_core::rng::Rng;

use crate::disk::Hands;

proptest! {
    #[test]
    fn a_directory_has_the_entries_whose_parent_it_is(
        paths in proptest::collection::btree_set("[ab.0-]{1,2}(/[ab.0-]{1,2}){0,3}", 0..120),
    ) {
        let mut volume = Volume::new(DiskFaults::default());
        for path in &paths {
            volume.put_by_hand(path, path.as_bytes());
        }
        let mut names = paths.clone();
        for path in &paths {
            names.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        }
        let directories = names.iter().filter(|name| volume.is_dir(name)).map(|name| &**name);
        for directory in directories.chain([""]) {
            let listed: Vec<String> = volume
                .children(directory)
                .into_iter()
                .map(|entry| format!("{directory}/{}", entry.name).trim_start_matches('/').to_owned())
                .collect();
            let wanted: Vec<String> =
                names.iter().filter(|name| parent(name) == directory).cloned().collect();
            prop_assert_eq!(listed, wanted);
            for name in &names {
                let what = NameWhat::Make { name: Arc::from(name.as_str()), node: Node::Directory };
                let touches = NameChange::new(1, what).touches(directory, names::bit(directory));
                prop_assert_eq!(touches, parent(name) == directory, "{} in {}", name, directory);
            }
        }
    }
}

/// A write from a file's beginning.
pub(super) fn write(name: &str, bytes: &'static [u8]) -> DiskRequest {
    DiskRequest::Write { path: DiskPath::new(0, name), offset: 0, data: vec![bytes.into()], create: true }
}

/// Carries a request out at once.
pub(super) fn perform(volume: &mut Volume, rng: &mut Rng, request: DiskRequest) -> DiskResult {
    let mut hands = Hands { rng, counts: &mut FaultCounts::default(), sync_lost: false, failed: None };
    let mark = volume.mark();
    volume.execute(request, mark, &mut hands)
}

/// A hand may take a file away whose name is in the cache only.
#[test]
fn what_a_hand_removed_no_sync_and_no_power_cut_brings_back() {
    let path = |name| DiskPath::new(0, name);
    for seed in 0..20 {
        let mut volume = Volume::new(DiskFaults::default());
        let mut rng = Rng::new(seed);
        let sync_names = |volume: &mut Volume, rng: &mut Rng| {
            perform(volume, rng, DiskRequest::SyncDir(path(""))).unwrap();
        };
        volume.put_by_hand("named", b"old");
        perform(&mut volume, &mut rng, write("staged", b"new")).unwrap();
        perform(&mut volume, &mut rng, DiskRequest::Sync(path("staged"))).unwrap();
        if seed % 2 == 0 {
            sync_names(&mut volume, &mut rng);
        }
        let rename = DiskRequest::Rename { from: path("staged"), to: path("named") };
        perform(&mut volume, &mut rng, rename).unwrap();
        assert!(volume.remove_by_hand("named"));
        if seed % 4 < 2 {
            sync_names(&mut volume, &mut rng);
        }
        volume.cut_power(&mut rng, &mut FaultCounts::default());
        assert_eq!(volume.list_all().len(), 0, "seed {seed}");
    }
}

/// Two renames, and the directory between them is synced last: there is nothing in it any more.
#[test]
fn a_name_that_was_passed_on_does_not_come_back_with_its_directory() {
    let path = |name: &str| DiskPath::new(0, name);
    let rename = |from, to| DiskRequest::Rename { from: path(from), to: path(to) };
    for first in ["to", "between"] {
        let mut volume = Volume::new(DiskFaults::default());
        let mut rng = Rng::new(1);
        volume.put_by_hand("from/file", b"bytes");
        for directory in ["between", "to"] {
            perform(&mut volume, &mut rng, DiskRequest::MakeDir(path(directory))).unwrap();
        }
        perform(&mut volume, &mut rng, DiskRequest::SyncDir(path(""))).unwrap();
        perform(&mut volume, &mut rng, rename("from/file", "between/file")).unwrap();
        perform(&mut volume, &mut rng, rename("between/file", "to/file")).unwrap();
        for directory in [first, "between", "to", "from"] {
            perform(&mut volume, &mut rng, DiskRequest::SyncDir(path(directory))).unwrap();
        }
        volume.cut_power(&mut rng, &mut FaultCounts::default());
        let left: Vec<String> = volume.list_all().into_iter().map(|(name, _)| name).collect();
        assert_eq!(left, ["to/file"], "{first} is synced first");
    }
}

/// One that is completed later stays at risk, and is the next one's.
#[test]
fn a_sync_of_a_directory_covers_what_was_completed_when_it_was_issued() {
    let path = |name: &str| DiskPath::new(0, name);
    let mut rng = Rng::new(1);
    let mut volume = Volume::new(DiskFaults::default());
    let mut hands =
        Hands { rng: &mut rng, counts: &mut FaultCounts::default(), sync_lost: false, failed: None };
    let sync = |volume: &mut Volume, mark, hands: &mut Hands<'_>| {
        volume.execute(DiskRequest::SyncDir(path("")), mark, hands).unwrap();
    };
    let is_durable = |volume: &Volume| ["early", "late"].map(|name| volume.durable(name).is_some());
    volume.execute(write("early", b"1"), 0, &mut hands).unwrap();
    let mark = volume.mark();
    volume.execute(write("late", b"2"), 0, &mut hands).unwrap();
    sync(&mut volume, mark, &mut hands);
    assert_eq!(is_durable(&volume), [true, false]);
    let mark = volume.mark();
    sync(&mut volume, mark, &mut hands);
    assert_eq!(is_durable(&volume), [true, true]);
}

#[test]
fn a_file_is_let_go_when_no_name_stands_for_it_any_more() {
    let path = |name: &str| DiskPath::new(0, name);
    let (mut volume, mut rng) = (Volume::new(DiskFaults::default()), Rng::new(1));
    perform(&mut volume, &mut rng, write("stays", b"here")).unwrap();
    for round in 0..1000 {
        perform(&mut volume, &mut rng, write("passes", b"by")).unwrap();
        let request = if round % 2 == 0 {
            DiskRequest::Remove(path("passes"))
        } else {
            DiskRequest::Rename { from: path("passes"), to: path("stays") }
        };
        perform(&mut volume, &mut rng, request).unwrap();
        perform(&mut volume, &mut rng, DiskRequest::SyncDir(path(""))).unwrap();
    }
    assert!(volume.files.count() < 100, "{} files are kept for one name", volume.files.count());
    assert_eq!(volume.with_cached("stays", |bytes| bytes.to_vec()), Some(b"by".to_vec()));
}

/// What a reader got is what the file was then, whoever shares its bytes.
#[test]
fn what_was_read_does_not_change_with_the_file() {
    static OLD: [u8; 8192] = [1; 8192];
    let (mut volume, mut rng) = (Volume::new(DiskFaults::default()), Rng::new(1));
    let path = || DiskPath::new(0, "file");
    perform(&mut volume, &mut rng, write("file", &OLD)).unwrap();
    for synced in [false, true] {
        if synced {
            perform(&mut volume, &mut rng, DiskRequest::Sync(path())).unwrap();
        }
        let read = DiskRequest::Read { path: path(), offset: 1, length: 8192 };
        let Ok(DiskOk::Data(data)) = perform(&mut volume, &mut rng, read) else { panic!("it can be read") };
        perform(&mut volume, &mut rng, write("file", b"new")).unwrap();
        assert_eq!(data.bytes, OLD[1..]);
        perform(&mut volume, &mut rng, write("file", &OLD)).unwrap();
    }
}
