//! Commands on names, what they print, and the keys that `docs/cli.md` promises.

use serde_json::Value;

use crate::cluster::{Dev, Target};

/// The command's JSON keys, sorted; its first line's.
fn keys(value: &Value) -> String {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys.join(" ")
}

#[test]
fn a_life_of_names() {
    let dev = Dev::start();
    dev.cairn(&["mkdir", "-p", "/a/b/c", "/d"]).ok();
    dev.cairn(&["mkdir", "-p", "/a/b/c"]).ok();
    dev.cairn_with(&["put", "-", "/a/file"], b"12345").ok();
    assert_eq!(dev.cairn(&["ls"]).ok(), "a/\nd/\n");
    assert_eq!(dev.cairn(&["ls", "/a", "/d"]).ok(), "/a:\nb/\nfile\n/d:\n");

    dev.cairn(&["mv", "/a/file", "/d"]).ok();
    dev.cairn(&["mv", "/a/b", "/moved"]).ok();
    assert_eq!(dev.cairn(&["ls", "/moved/"]).ok(), "c/\n");
    dev.cairn(&["chmod", "640", "/d/file"]).ok();
    dev.cairn(&["chown", "ann:staff", "/d/file"]).ok();
    let long = dev.cairn(&["ls", "-l", "/d"]).ok();
    let words: Vec<&str> = long.split_whitespace().collect();
    assert_eq!(words[..6], ["-rw-r-----", "ann", "staff", "3", "5", "B"], "{long}");
    assert_eq!(words.last(), Some(&"file"));

    dev.cairn(&["rm", "/d/file"]).ok();
    assert_eq!(dev.cairn(&["ls", "/d"]).ok(), "");
    dev.cairn(&["rm", "-f", "/d/file"]).ok();
    assert!(dev.cairn(&["restore"]).ok().contains("/d/file"));
    assert_eq!(dev.cairn(&["restore", "/d/file"]).ok(), "/d/file\n");
    assert_eq!(dev.cairn(&["cat", "/d/file"]).ok(), "12345");
    assert_eq!(dev.cairn(&["restore"]).ok(), "The trash is empty.\n");

    let trashed = dev.cairn(&["rm", "-r", "--json", "/d"]).json();
    let number = trashed[0]["trash"].to_string();
    assert_eq!(dev.cairn(&["restore", &number, "--to", "/e"]).ok(), "/e\n");
    assert_eq!(dev.cairn(&["cat", "/e/file"]).ok(), "12345");

    // A taken name can be given way to; a directory is restored into, as `mv` does.
    dev.cairn(&["rm", "/e/file"]).ok();
    dev.cairn_with(&["put", "-", "/e/file"], b"newer").ok();
    let refused = dev.cairn(&["restore", "/e/file"]).failed(3);
    let expected = "cairn: /e/file: already exists (use --to PATH to bring it back to another path)";
    assert_eq!(refused, expected);
    assert_eq!(dev.cairn(&["restore", "/e/file", "--to", "/moved/"]).ok(), "/moved/file\n");
    let trashed = dev.cairn(&["rm", "--json", "/moved/file"]).json();
    let number = trashed[0]["trash"].to_string();
    assert_eq!(dev.cairn(&["restore", &number, "--to", "/moved/c"]).ok(), "/moved/c/file\n");
}

#[test]
fn modes_are_kept_and_checked() {
    let dev = Dev::start();
    dev.cairn(&["mkdir", "-m", "750", "/private"]).ok();
    dev.cairn_with(&["put", "-", "/private/file"], b"secret").ok();
    let bob = |arguments: &[&str]| {
        let mut all = vec!["--user", "bob"];
        all.extend(arguments);
        dev.cairn(&all)
    };
    let refused = bob(&["cat", "/private/file"]).failed(3);
    insta::assert_snapshot!(refused, @"cairn: /private: permission denied (needs search permission)");
    bob(&["--groups", "root", "cat", "/private/file"]).ok();
    let refused = bob(&["--groups", "root", "mkdir", "/private/mine"]).failed(3);
    insta::assert_snapshot!(refused, @"cairn: /private: permission denied (needs write and search permission)");
    // The root directory is everyone's, its entries are their owners'.
    bob(&["mkdir", "/mine"]).ok();
    let refused = dev.cairn(&["--user", "eve", "rm", "-r", "/mine"]).failed(3);
    let expected = "cairn: /mine: permission denied (needs ownership, since its directory is sticky)";
    assert_eq!(refused, expected);
}

#[test]
fn listings_come_in_pages() {
    let dev = Dev::start();
    let names: Vec<String> = (0..1_234).map(|number| format!("/many/{number:04}")).collect();
    let mut arguments = vec!["mkdir", "/many"];
    arguments.extend(names.iter().map(String::as_str));
    dev.cairn(&arguments).ok();
    let listed = dev.cairn(&["ls", "/many"]).ok();
    assert!(listed.lines().map(|line| format!("/many/{}", line.trim_end_matches('/'))).eq(names));
}

#[test]
fn json_keys_are_the_documented_ones() {
    let dev = Dev::start();
    dev.cairn(&["mkdir", "/dir"]).ok();
    let source = dev.local("source", b"bytes");
    let target = dev.home().join("target");
    let run = |arguments: &[&str]| {
        let mut all = vec!["--json"];
        all.extend(arguments);
        keys(&dev.cairn(&all).json()[0])
    };
    let file = "chunk_bytes crc32 extents group id length mode modified_ms owner path replication type";
    let put = "chunk_bytes crc32 extents group id length mode modified_ms owner path replicas_lacking replication type";
    assert_eq!(run(&["put", &source, "/dir/file"]), put);
    assert_eq!(run(&["ls", "/dir"]), file);
    assert_eq!(
        run(&["stat", "/dir/file"]),
        "chunk_bytes chunks crc32 extents group id length mode modified_ms owner path replication type"
    );
    let stat = dev.cairn(&["--json", "stat", "/dir/file"]).json();
    let chunk = &stat[0]["chunks"][0];
    assert_eq!(keys(chunk), "chunk crc32 file_offset index length replicas uuid version");
    assert_eq!(keys(&chunk["replicas"][0]), "address rack server");
    assert_eq!(run(&["get", "/dir/file", target.to_str().unwrap()]), "length path target");
    assert_eq!(run(&["checksum", "/dir/file"]), "crc32 path verified");
    assert_eq!(run(&["du", "/dir"]), "bytes directories files path");
    assert_eq!(run(&["df"]), "free_bytes servers total_bytes");
    assert_eq!(run(&["rm", "/dir/file"]), "path trash");
    assert_eq!(run(&["restore"]), "by deleted_ms expires_ms path trash type");
    assert_eq!(run(&["restore", "/dir/file"]), "path");
    assert_eq!(
        run(&["status"]),
        "chunks cluster dead_after_ms directories files health log_bytes log_full log_index missing open_chunks over_replicated repairs \
         servers starting trash under_replicated uploads uptime_ms"
    );
    let status = dev.cairn(&["--json", "status"]).json();
    assert_eq!(
        keys(&status[0]["servers"][0]),
        "address connected free_bytes last_heartbeat_ms live rack replicas server total_bytes volumes"
    );
    // Random ids are strings: as numbers they could be beyond 2^53.
    let server = &status[0]["servers"][0];
    for id in [
        &status[0]["cluster"],
        &server["server"],
        &server["volumes"][0]["volume"],
        &chunk["replicas"][0]["server"],
    ] {
        assert!(id.as_str().is_some_and(|id| id.parse::<u64>().is_ok()), "{id}");
    }
    assert_eq!(keys(&dev.greeting), "chunkservers chunkservers_http dir master master_http");
    dev.cairn(&["status", "--wait"]).ok();
    assert_eq!(dev.cairn(&["--json", "fsck"]).ok(), "");
}

#[test]
fn health_and_metrics_are_served() {
    use std::io::{Read, Write};
    let dev = Dev::start();
    let get = |address: &str, path: &str| {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let servers = dev.greeting["chunkservers_http"].as_array().unwrap();
    for address in std::iter::once(&dev.greeting["master_http"]).chain(servers) {
        let address = address.as_str().unwrap();
        assert!(get(address, "/health").starts_with("HTTP/1.1 200"), "{}", get(address, "/health"));
        assert!(get(address, "/metrics").contains("# TYPE cairn_"), "{}", get(address, "/metrics"));
    }
}
