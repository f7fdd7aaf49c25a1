use proptest::prelude::*;

use super::*;

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
