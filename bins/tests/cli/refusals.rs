//! What goes wrong at the command line: one sentence that says what to do, and the documented exit code.

use std::process::Output;

use crate::cluster::{Dev, Done, Target, command};

#[test]
fn wrong_paths_and_names() {
    let dev = Dev::start();
    dev.cairn(&["mkdir", "-p", "/dir/sub"]).ok();
    dev.cairn_with(&["put", "-", "/file"], b"bytes").ok();
    let long = format!("/{}", "n".repeat(256));
    let said = |arguments: &[&str], code: i32| dev.scrub(&dev.cairn(arguments).failed(code));

    insta::assert_snapshot!(said(&["cat", "/nowhere"], 2), @"");
    insta::assert_snapshot!(said(&["ls", "/nowhere"], 2), @"");
    insta::assert_snapshot!(said(&["cat", "relative"], 2), @"");
    insta::assert_snapshot!(said(&["stat", "/dir//sub"], 2), @"");
    insta::assert_snapshot!(said(&["stat", "/dir/../file"], 2), @"");
    insta::assert_snapshot!(said(&["mkdir", &long], 2), @"");
    insta::assert_snapshot!(said(&["cat", "/dir"], 2), @"");
    insta::assert_snapshot!(said(&["ls", "/file/below"], 2), @"");
    insta::assert_snapshot!(said(&["mkdir", "/no/parent"], 2), @"");
    insta::assert_snapshot!(said(&["put", "/no/such/local", "/x"], 2), @"");
    insta::assert_snapshot!(said(&["put", "-", "/no/parent"], 2), @"");
    insta::assert_snapshot!(said(&["put", "-", "/dir"], 2), @"");
    insta::assert_snapshot!(said(&["put", "-", "/new/"], 2), @"");
    insta::assert_snapshot!(said(&["get", "/file", "/no/such/local"], 2), @"");
    insta::assert_snapshot!(said(&["get", "/dir", "local"], 2), @"");
    insta::assert_snapshot!(said(&["mv", "/dir", "/dir/sub/x"], 2), @"");
    insta::assert_snapshot!(said(&["checksum", "/dir"], 2), @"");
    insta::assert_snapshot!(said(&["restore", "/never-was"], 2), @"");
    insta::assert_snapshot!(said(&["put", "--chunk-size", "1000", "-", "/x"], 2), @"");

    insta::assert_snapshot!(said(&["mkdir", "/dir"], 3), @"");
    insta::assert_snapshot!(said(&["rm", "/dir"], 3), @"");
    insta::assert_snapshot!(said(&["mv", "/file", "/dir/sub/../x"], 2), @"");
}

fn alone(arguments: &[&str], set: &[(&str, &str)]) -> Done {
    let home = tempfile::tempdir().unwrap();
    let mut cairn = command(env!("CARGO_BIN_EXE_cairn"), home.path());
    let output: Output = cairn.args(arguments).envs(set.iter().copied()).output().unwrap();
    let mut done = Done::of(output);
    done.err = done.err.replace(home.path().to_str().unwrap(), "[home]");
    done
}

#[test]
fn a_cluster_that_is_not_there() {
    // The port of a listener that has gone.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let said = alone(&["--master", &address, "--timeout", "1", "ls"], &[]).failed(4);
    assert!(said.contains("unavailable") || said.contains("timed out"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    insta::assert_snapshot!(alone(&["--master", "nonsense", "ls"], &[]).failed(2), @"");
}

#[test]
fn client_configurations() {
    let named = [("CAIRN_CONFIG", "/no/such/file.yaml")];
    insta::assert_snapshot!(alone(&["ls"], &named).failed(2), @"");
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("client.yaml");
    std::fs::write(&config, "masters: [127.0.0.1:1]\nmaster: x\n").unwrap();
    let config = config.to_str().unwrap();
    let said = alone(&["ls"], &[("CAIRN_CONFIG", config)]).failed(2);
    insta::assert_snapshot!(said.replace(config, "client.yaml"), @"");
}

#[test]
fn usage() {
    for arguments in [
        &["frobnicate"][..],
        &["put", "only-one"],
        &["chmod", "999", "/x"],
        &["chown", ":", "/x"],
        &["chaos", "--minutes", "0"],
        &["dev", "--chunkservers", "0"],
    ] {
        alone(arguments, &[]).failed(2);
    }
    let version = format!("cairn {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(alone(&["--version"], &[]).ok(), version);
    for shell in ["bash", "zsh", "fish"] {
        assert!(alone(&["completions", shell], &[]).ok().contains("checksum"), "{shell}");
    }
}

#[test]
fn help_names_every_command() {
    insta::assert_snapshot!(alone(&["--help"], &[("COLUMNS", "120")]).ok());
}
