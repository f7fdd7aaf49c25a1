//! What goes wrong at the command line: one sentence that says what to do, and the documented exit code.

use std::process::{Output, Stdio};

use crate::cluster::{Dev, Done, Target, command};

#[test]
fn wrong_paths_and_names() {
    let dev = Dev::start();
    dev.cairn(&["mkdir", "-p", "/dir/sub"]).ok();
    dev.cairn_with(&["put", "-", "/file"], b"bytes").ok();
    let long = format!("/{}", "n".repeat(256));
    let mut said = String::new();
    let mut try_it = |arguments: &[&str]| {
        let done = dev.cairn(arguments);
        let (line, error) = (dev.scrub(&arguments.join(" ")), dev.scrub(done.err.trim_end()));
        said.push_str(&format!("{}\n  {} {error}\n", line.replace(&long, "/[256 bytes]"), done.code));
    };
    try_it(&["cat", "/nowhere"]);
    try_it(&["ls", "/nowhere"]);
    try_it(&["cat", "relative"]);
    try_it(&["stat", "/dir//sub"]);
    try_it(&["stat", "/dir/../file"]);
    try_it(&["mkdir", &long]);
    try_it(&["put", "/dev/null", &long]);
    try_it(&["cat", "/dir"]);
    try_it(&["ls", "/file/below"]);
    try_it(&["mkdir", "/no/parent"]);
    try_it(&["mkdir", "/dir"]);
    try_it(&["put", "/no/such/local", "/x"]);
    try_it(&["put", "-", "/no/parent"]);
    try_it(&["put", "-", "/dir"]);
    try_it(&["put", "-", "/new/"]);
    try_it(&["put", "--chunk-size", "1000", "-", "/x"]);
    try_it(&["put", "--replication", "2", "--quorum", "3", "-", "/x"]);
    try_it(&["get", "/file", "/no/such/local"]);
    try_it(&["get", "/dir", "local"]);
    try_it(&["mv", "/dir", "/dir/sub/x"]);
    try_it(&["mv", "/nowhere", "/x"]);
    try_it(&["mv", "/file", "/x/"]);
    try_it(&["rm", "/dir"]);
    try_it(&["rm", "-r", "/"]);
    try_it(&["checksum", "/dir"]);
    try_it(&["restore", "/never-was"]);
    try_it(&["restore", "4711"]);
    insta::assert_snapshot!(said);
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
    let said = alone(&["--master", "nonsense", "ls"], &[]).failed(2);
    insta::assert_snapshot!(said, @r#"cairn: masters: "nonsense" is not a master's address: give host:port"#);
    for address in ["http://127.0.0.1:7400", "127.0.0.1:70000"] {
        let said = alone(&["--master", address, "ls"], &[]).failed(2);
        assert!(said.contains("is not a master's address: give host:port"), "{said}");
    }
    alone(&["--timeout", "0", "ls"], &[]).failed(2);
}

#[test]
fn waiting_for_a_master_is_told() {
    // A listener that never answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let said = alone(&["--master", &address, "--timeout", "3", "ls"], &[]).failed(4);
    let note = format!("cairn: waiting for the master at {address}: no answer\n");
    assert!(said.starts_with(&note), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
    let said = alone(&["--master", &address, "--timeout", "3", "--quiet", "ls"], &[]).failed(4);
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn the_http_port_is_not_the_master() {
    let dev = Dev::start();
    let http = dev.greeting["master_http"].as_str().unwrap();
    let said = dev.cairn(&["--master", http, "ls"]).failed(1);
    assert_eq!(said, format!("cairn: protocol error: {http} is not a Cairn master's gRPC port"));
}

#[test]
fn completions_end_with_their_output() {
    let to = |stdout: Stdio| {
        let home = tempfile::tempdir().unwrap();
        let mut cairn = command(env!("CARGO_BIN_EXE_cairn"), home.path());
        let child =
            cairn.args(["completions", "bash"]).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        Done::of(child.wait_with_output().unwrap())
    };
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let said = to(full.into()).failed(1);
    assert_eq!(said, "cairn: No space left on device (os error 28)");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    to(writer.into()).ok();
}

#[test]
fn client_configurations() {
    let named = [("CAIRN_CONFIG", "/no/such/file.yaml")];
    insta::assert_snapshot!("a named configuration that is missing", alone(&["ls"], &named).failed(2));
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("client.yaml");
    std::fs::write(&config, "masters: [127.0.0.1:1]\nmaster: x\n").unwrap();
    let config = config.to_str().unwrap();
    let said = alone(&["ls"], &[("CAIRN_CONFIG", config)]).failed(2);
    insta::assert_snapshot!("a configuration with an unknown key", said.replace(config, "client.yaml"));
}

#[test]
fn usage() {
    for arguments in [
        &["frobnicate"][..],
        &["put", "only-one"],
        &["chmod", "999", "/x"],
        &["chown", ":", "/x"],
        &["chaos", "--minutes", "0"],
        &["chaos", "--network", "pigeons"],
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
fn dev_refuses_a_directory_of_something_else() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("photograph"), "").unwrap();
    let said = alone(&["dev", "--dir", home.path().to_str().unwrap()], &[]).failed(2);
    assert!(said.contains("photograph") && said.contains("name an empty directory"), "{said}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn a_second_dev_on_a_directory_is_told_so() {
    let dev = Dev::start();
    let dir = dev.greeting["dir"].as_str().unwrap();
    let said = alone(&["dev", "--dir", dir, "--listen", "127.0.0.1:0"], &[]).failed(2);
    assert!(
        said.contains("in use by another process") && said.contains("give --dir or --ephemeral"),
        "{said}"
    );
    assert!(!said.contains("--listen"), "{said}");
}

#[test]
fn help_names_every_command() {
    insta::assert_snapshot!(alone(&["--help"], &[("COLUMNS", "120")]).ok());
}
