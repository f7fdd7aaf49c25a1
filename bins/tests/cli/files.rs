//! Bytes in, the same bytes out.

use std::path::Path;

use crate::cluster::{Dev, Done, Target, eventually, noise};

#[test]
fn a_file_of_several_chunks_comes_back_whole_and_in_parts() {
    let dev = Dev::start();
    let bytes = noise(1, 3 * 1024 * 1024 + 12_345);
    let source = dev.local("source", &bytes);
    let put = dev.cairn(&["put", "--json", "--chunk-size", "1MiB", &source, "/file"]).json();
    assert_eq!(put[0]["length"], bytes.len());
    assert_eq!(put[0]["crc32"], format!("{:08x}", crc32fast::hash(&bytes)));

    let copy = dev.home().join("copy");
    dev.cairn(&["get", "/file", copy.to_str().unwrap()]).ok();
    assert!(std::fs::read(&copy).unwrap() == bytes, "the copy differs");
    assert!(dev.cairn(&["cat", "/file"]).bytes() == bytes, "cat differs");

    // A range over the border of two chunks, one to the end, one beyond it.
    let mib = 1024 * 1024;
    let range = dev.cairn(&["cat", "/file", "--offset", "1048570", "--length", "12"]).bytes();
    assert_eq!(range, bytes[mib - 6..mib + 6]);
    let tail = dev.cairn(&["cat", "/file", "--offset", &(3 * mib).to_string()]).bytes();
    assert_eq!(tail, bytes[3 * mib..]);
    assert!(dev.cairn(&["cat", "/file", "--offset", "999999999"]).bytes().is_empty());

    // Two replicas acknowledge a write; the third may take a moment longer.
    dev.cairn(&["status", "--wait"]).ok();
    let stat = dev.cairn(&["stat", "--json", "/file"]).json();
    let chunks = stat[0]["chunks"].as_array().unwrap();
    let lengths: Vec<u64> = chunks.iter().map(|chunk| chunk["length"].as_u64().unwrap()).collect();
    assert_eq!(lengths, [mib as u64, mib as u64, mib as u64, 12_345]);
    assert!(chunks.iter().all(|chunk| chunk["replicas"].as_array().unwrap().len() == 3), "{chunks:?}");

    let checksum = dev.cairn(&["checksum", "--verify", "/file"]).ok();
    assert_eq!(checksum, format!("{:08x}  /file\n", crc32fast::hash(&bytes)));
    assert!(dev.cairn(&["fsck"]).ok().contains("as they should be"));
}

#[test]
fn chunk_files_of_one_volume_in_order_are_the_file() {
    let dev = Dev::start();
    let bytes = noise(2, 2 * 1024 * 1024 + 777);
    dev.cairn_with(&["put", "--chunk-size", "512KiB", "-", "/file"], &bytes).ok();
    dev.cairn(&["status", "--wait"]).ok();
    let stat = dev.cairn(&["stat", "--json", "/file"]).json();
    let volume = Path::new(dev.greeting["dir"].as_str().unwrap()).join("chunkserver-2/chunks");
    let mut joined = Vec::new();
    for chunk in stat[0]["chunks"].as_array().unwrap() {
        let low_byte = chunk["chunk"].as_u64().unwrap() & 0xff;
        let name = format!("{low_byte:02x}/chunk-{}", chunk["uuid"].as_str().unwrap());
        joined.extend(std::fs::read(volume.join(&name)).unwrap_or_else(|error| panic!("{name}: {error}")));
    }
    assert!(joined == bytes, "the chunk files differ from the file");
}

#[test]
fn standard_input_and_output() {
    let dev = Dev::start();
    for (name, length) in [("/empty", 0), ("/one", 1), ("/many", 300_000)] {
        let bytes = noise(3, length);
        dev.cairn_with(&["put", "-", name], &bytes).ok();
        assert!(dev.cairn(&["get", name, "-"]).bytes() == bytes, "{name} differs");
    }
    assert_eq!(dev.cairn(&["cat", "/one", "/empty", "/one"]).bytes().len(), 2);
    // A reader that goes away is no failure.
    let mut cut = dev.cairn_command(&["cat", "/many"]);
    let mut child = cut.stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn nothing_is_overwritten_unasked() {
    let dev = Dev::start();
    let first = dev.local("first", b"first");
    let second = dev.local("second", b"second");
    dev.cairn(&["put", &first, "/file"]).ok();
    let refused = dev.cairn(&["put", &second, "/file"]).failed(3);
    insta::assert_snapshot!(refused, @"cairn: /file: already exists (use -f to replace a file)");
    assert_eq!(dev.cairn(&["cat", "/file"]).ok(), "first");
    dev.cairn(&["put", "-f", &second, "/file"]).ok();
    assert_eq!(dev.cairn(&["cat", "/file"]).ok(), "second");
    // What was replaced is in the trash.
    dev.cairn(&["restore", "/file", "--to", "/old"]).ok();
    assert_eq!(dev.cairn(&["cat", "/old"]).ok(), "first");

    let refused = dev.cairn(&["get", "/file", &first]).failed(3);
    insta::assert_snapshot!(dev.scrub(&refused), @"cairn: [home]/first: already exists (use -f to overwrite)");
    assert_eq!(std::fs::read(&first).unwrap(), b"first");
    dev.cairn(&["get", "-f", "/file", &first]).ok();
    assert_eq!(std::fs::read(&first).unwrap(), b"second");
}

#[test]
fn trees_go_in_and_out() {
    let dev = Dev::start();
    let tree = dev.home().join("tree");
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::create_dir_all(tree.join("empty")).unwrap();
    for (name, bytes) in [("top", noise(4, 10)), ("a/one", noise(5, 100_000)), ("a/b/two", Vec::new())] {
        std::fs::write(tree.join(name), bytes).unwrap();
    }
    let tree = tree.to_str().unwrap();
    let refused = dev.cairn(&["put", tree, "/tree"]).failed(2);
    insta::assert_snapshot!(dev.scrub(&refused), @"cairn: [home]/tree: is a directory (use -r)");
    dev.cairn(&["put", "-r", tree, "/tree"]).ok();
    // Into a directory that is there, with and without a slash at its end.
    dev.cairn(&["mkdir", "/into/"]).ok();
    dev.cairn(&["put", "-r", tree, "/into/"]).ok();
    dev.cairn(&["put", "-p", &format!("{tree}/top"), "/new/deep/"]).ok();
    assert_eq!(dev.cairn(&["ls", "/into/tree/a/"]).ok(), "b/\none\n");
    assert_eq!(dev.cairn(&["ls", "/new/deep"]).ok(), "top\n");
    assert!(dev.cairn(&["du", "/into"]).ok().contains("3 files  5 directories  /into"));

    let back = dev.home().join("back");
    dev.cairn(&["get", "-r", "/into/tree", back.to_str().unwrap()]).ok();
    for name in ["top", "a/one", "a/b/two"] {
        let (original, copy) = (Path::new(tree).join(name), back.join(name));
        assert!(std::fs::read(original).unwrap() == std::fs::read(copy).unwrap(), "{name} differs");
    }
    assert!(back.join("empty").is_dir());
}

#[test]
fn the_longest_names_come_back() {
    let dev = Dev::start();
    let name = "n".repeat(255);
    dev.cairn_with(&["put", "-", &format!("/{name}")], b"bytes").ok();
    dev.cairn(&["get", &format!("/{name}"), "."]).ok();
    let local = dev.home().join(&name);
    assert_eq!(std::fs::read(&local).unwrap(), b"bytes");
    // It is as readable for others as any new file.
    std::fs::write(dev.home().join("other"), b"").unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions();
    assert_eq!(mode(&local), mode(&dev.home().join("other")));
}

#[test]
fn a_file_does_not_take_the_place_of_a_directory() {
    let dev = Dev::start();
    dev.cairn_with(&["put", "-", "/file"], b"bytes").ok();
    let inner = dev.home().join("target/file");
    std::fs::create_dir_all(&inner).unwrap();
    let refused = dev.cairn(&["get", "-f", "/file", "target"]).failed(3);
    insta::assert_snapshot!(refused, @"cairn: target/file: is a directory; a file can't take its place");
    assert_eq!(std::fs::read_dir(inner.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn one_bad_entry_of_a_tree_does_not_stop_the_others() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let dev = Dev::start();
    let tree = dev.home().join("tree");
    std::fs::create_dir_all(tree.join("sub")).unwrap();
    std::fs::write(tree.join("a"), b"a").unwrap();
    std::fs::write(tree.join("sub/z"), b"z").unwrap();
    symlink("/no/such/file", tree.join("dangling")).unwrap();
    symlink(".", tree.join("loop")).unwrap();
    symlink("a", tree.join("named")).unwrap();
    // Links are left out with a note.
    let said = dev.cairn(&["put", "-r", "tree", "/links"]).ok();
    assert_eq!(said.matches("left out, a symbolic link").count(), 3, "{said}");
    assert_eq!(dev.cairn(&["ls", "/links", "/links/sub"]).ok(), "/links:\na\nsub/\n/links/sub:\nz\n");
    // Named, they are followed.
    dev.cairn(&["put", "tree/named", "/named"]).ok();
    assert_eq!(dev.cairn(&["cat", "/named"]).ok(), "a");
    // `.` is the directory itself, whether it needs a name or not.
    let in_tree =
        |arguments: &[&str]| Done::of(dev.cairn_command(arguments).current_dir(&tree).output().unwrap());
    in_tree(&["put", "-r", ".", "/dot"]).ok();
    in_tree(&["mkdir", "/into"]).ok();
    in_tree(&["put", "-r", ".", "/into"]).ok();
    assert_eq!(
        dev.cairn(&["ls", "/dot", "/into", "/into/tree"]).ok(),
        "/dot:\na\nsub/\n/into:\ntree/\n/into/tree:\na\nsub/\n"
    );

    std::fs::write(tree.join(std::ffi::OsStr::from_bytes(b"bad-\xff")), b"").unwrap();
    let said = dev.cairn(&["put", "-r", "tree", "/rest"]).failed(1);
    assert!(said.contains("has no name in UTF-8"), "{said}");
    assert!(said.ends_with("cairn: 1 of 8 entries were not stored; see above"), "{said}");
    assert_eq!(dev.cairn(&["ls", "/rest", "/rest/sub"]).ok(), "/rest:\na\nsub/\n/rest/sub:\nz\n");
    let said = dev.cairn(&["put", "tree/a", "tree/none", "tree/sub/z", "/into"]).failed(1);
    assert!(said.ends_with("cairn: 1 of 3 entries were not stored; see above"), "{said}");
    assert_eq!(dev.cairn(&["cat", "/into/a", "/into/z"]).ok(), "az");
}

#[test]
fn more_replicas_than_chunkservers_are_noted() {
    let dev = Dev::start();
    let asked = &["put", "--json", "--replication", "4", "-", "/file"];
    let done = dev.cairn_with(asked, b"bytes");
    assert!(done.err.contains("/file: 4 replicas were asked for, 3 chunkservers are live"), "{}", done.err);
    assert_eq!(done.json()[0]["replicas_lacking"], 1);
    let quiet = dev.cairn_with(&["put", "--quiet", "--replication", "4", "-", "/quiet"], b"bytes");
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
    let enough = dev.cairn_with(&["put", "--json", "-", "/enough"], b"bytes");
    assert_eq!(enough.err, "");
    assert_eq!(enough.json()[0]["replicas_lacking"], 0);

    // Nothing repairs that: waiting has an end, and the headline says what is missing.
    eventually("the master has started", || {
        let status = dev.cairn(&["status", "--json"]).json().remove(0);
        (status["health"] == "degraded").then_some(())
    });
    let waited = dev.cairn(&["status", "--wait", "--timeout", "1"]);
    let text = String::from_utf8(waited.out.clone()).unwrap();
    assert!(
        text.contains(
            "DEGRADED: 2 chunks below their replication factor; it takes 4 chunkservers, 3 are live"
        ),
        "{text}"
    );
    assert!(waited.failed(4).contains("not fully replicated after"));
}

#[test]
fn a_cluster_ends_at_ctrl_c_and_keeps_its_files() {
    let dev = Dev::start();
    let bytes = noise(6, 200_000);
    dev.cairn_with(&["put", "-", "/kept"], &bytes).ok();
    let (code, home) = dev.interrupt();
    assert_eq!(code, 0, "{}", std::fs::read_to_string(home.path().join("dev.log")).unwrap_or_default());
    let dev = Dev::start_in(home);
    assert!(dev.cairn(&["cat", "/kept"]).bytes() == bytes, "the file differs");
    dev.cairn_with(&["put", "-f", "-", "/kept"], b"and written again").ok();
    assert_eq!(dev.cairn(&["cat", "/kept"]).ok(), "and written again");
}
