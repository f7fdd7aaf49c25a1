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
        let names = volume.names.keys().cloned().collect::<Vec<_>>();
        let directories = names.iter().filter(|name| volume.is_dir(name)).map(|name| &**name);
        for directory in directories.chain([""]) {
            let listed: Vec<String> = volume
                .children(directory)
                .into_iter()
                .map(|entry| format!("{directory}/{}", entry.name).trim_start_matches('/').to_owned())
                .collect();
            let wanted: Vec<String> =
                names.iter().filter(|name| parent(name) == directory).map(|name| name.to_string()).collect();
            prop_assert_eq!(listed, wanted);
            for name in &names {
                prop_assert_eq!(is_in(name, directory), parent(name) == directory, "{} in {}", name, directory);
            }
        }
    }
}

/// A hand may take a file away whose name is in the cache only.
#[test]
fn what_a_hand_removed_no_sync_and_no_power_cut_brings_back() {
    for seed in 0..20 {
        let mut volume = Volume::new(DiskFaults::default());
        let (mut rng, mut counts) = (Rng::new(seed), FaultCounts::default());
        let mut hands = Hands { rng: &mut rng, counts: &mut counts, sync_lost: false, failed: None };
        let [staged, named] = ["staged", "named"].map(|name| DiskPath::new(0, name));
        volume.put_by_hand("named", b"old");
        let write = DiskRequest::Write {
            path: staged.clone(),
            offset: 0,
            data: vec![b"new"[..].into()],
            create: true,
        };
        volume.execute(write, 0, &mut hands).unwrap();
        volume.execute(DiskRequest::Sync(staged.clone()), volume.mark(), &mut hands).unwrap();
        if seed % 2 == 0 {
            volume.execute(DiskRequest::SyncDir(DiskPath::new(0, "")), volume.mark(), &mut hands).unwrap();
        }
        volume.execute(DiskRequest::Rename { from: staged, to: named }, 0, &mut hands).unwrap();
        assert!(volume.remove_by_hand("named"));
        if seed % 4 < 2 {
            volume.execute(DiskRequest::SyncDir(DiskPath::new(0, "")), volume.mark(), &mut hands).unwrap();
        }
        volume.cut_power(&mut rng, &mut counts);
        assert_eq!(volume.files().count(), 0, "seed {seed}");
    }
}
