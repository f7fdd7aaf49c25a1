//! Namespaces for a storm alone. Its mounts and its network exist in them and nowhere else, and the kernel takes them away
//! with the last process in them, however that ends: nothing is left to clean up after a kill, and two storms never meet.
//!
//! A process with threads can't make them for itself, so the program runs itself anew by `unshare`, which execs: the process
//! stays the same, and so do its signals and its exit code. A trial before finds out whether all that is needed is permitted.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use bins::exit::Failure;
use clap::{Args, ValueEnum};

use super::arena::Arena;
use super::party::Party;
use super::switch::Switch;

/// How parties are to be kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetworkArg {
    /// Namespaces where they are permitted, else proxies.
    #[default]
    Auto,
    /// Each party in a network namespace of its own; the kernel drops packets.
    Namespaces,
    /// Everybody on loopback; proxies hold back what is sent.
    Proxies,
}

/// What the program tells itself when it runs itself anew; nobody types these.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Told {
    /// Which namespaces this one was started from: of mounts, and of the network.
    #[arg(long, hide = true, value_name = "MNT,NET")]
    outside: Option<String>,
    /// Why there are no network namespaces, though they were wanted.
    #[arg(long, hide = true, value_name = "WHY", requires = "outside")]
    denied: Option<String>,
    /// Only find out whether what is needed is permitted.
    #[arg(long, hide = true, requires = "outside")]
    trial: bool,
}

/// What of a storm is invisible outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Enclosure {
    pub(super) mounts: bool,
    pub(super) network: bool,
    /// Why the network is not, though it was wanted.
    pub(super) denied: Option<String>,
}

const MOUNTS: &[&str] = &["--mount"];
const MOUNTS_AND_NETWORK: &[&str] = &["--mount", "--net"];
/// What makes anybody root among namespaces of his own, where that is permitted.
const AS_ROOT: &[&str] = &["--user", "--map-root-user"];

/// Returns inside, in the same process, or where namespaces are not permitted. `None`: this was a trial, which succeeded.
pub(super) async fn enter(wanted: NetworkArg, told: &Told) -> Result<Option<Enclosure>> {
    if let Some(outside) = &told.outside {
        let enclosure = Enclosure::seen_from(outside, told.denied.clone())?;
        if told.trial {
            try_out(&enclosure).await?;
            return Ok(None);
        }
        return Ok(Some(enclosure));
    }
    let mut denied = None;
    if wanted != NetworkArg::Proxies {
        match permitted(MOUNTS_AND_NETWORK).await {
            Ok(flags) => return Err(run_anew(&flags, None)),
            Err(why) if wanted == NetworkArg::Namespaces => return Err(refusal(&format!("{why:#}")).into()),
            Err(why) => denied = Some(format!("{why:#}")),
        }
    }
    match permitted(MOUNTS).await {
        Ok(flags) => Err(run_anew(&flags, denied.as_deref())),
        Err(_) => Ok(Some(Enclosure { denied, ..Enclosure::default() })),
    }
}

fn refusal(why: &str) -> Failure {
    Failure::usage(format!(
        "network namespaces are not permitted here ({why}): run this as root, or permit unprivileged user namespaces, and \
         have iproute2 and util-linux installed; or take --network proxies, which needs none of it"
    ))
}

impl Enclosure {
    fn seen_from(outside: &str, denied: Option<String>) -> Result<Enclosure> {
        let (mounts, network) = outside.split_once(',').context("--outside takes MNT,NET")?;
        Ok(Enclosure { mounts: namespace("mnt")? != mounts, network: namespace("net")? != network, denied })
    }
}

/// The identity of one of this process's namespaces.
fn namespace(kind: &str) -> Result<String> {
    let path = format!("/proc/self/ns/{kind}");
    let link = std::fs::read_link(&path).with_context(|| path)?;
    Ok(link.to_string_lossy().into_owned())
}

/// What `unshare` must be told for namespaces of these `kinds` in which a storm can take place.
async fn permitted(kinds: &[&'static str]) -> Result<Vec<&'static str>> {
    let plain = kinds.to_vec();
    let as_root = [AS_ROOT, kinds].concat();
    if !rustix::process::geteuid().is_root() {
        return attempt(&as_root).await.map(|()| as_root);
    }
    match attempt(&plain).await {
        Ok(()) => Ok(plain),
        // Root in a container may lack the right that it would have in a user namespace.
        Err(why) => attempt(&as_root).await.map(|()| as_root).map_err(|_| why),
    }
}

async fn attempt(flags: &[&str]) -> Result<()> {
    let mut trial = again(flags)?;
    trial.args(["chaos", "--trial", "--outside", &outside()?]);
    trial.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    run(trial.into()).await
}

async fn try_out(enclosure: &Enclosure) -> Result<()> {
    let mut arena = Arena::new(None, enclosure.mounts)?;
    arena.mount_small()?;
    if enclosure.network {
        let parties = vec![Party::Users, Party::Master];
        let switch = Switch::build(&arena.mount_names()?, parties).await?;
        let cut = [(Party::Users, Party::Master)];
        switch.drop_packets(&cut, &[]).await?;
        switch.drop_packets(&[], &cut).await?;
    }
    Ok(())
}

/// Continues inside; returns only why it can't.
fn run_anew(flags: &[&str], denied: Option<&str>) -> anyhow::Error {
    let exec = || -> Result<std::io::Error> {
        let mut program = again(flags)?;
        program.args(std::env::args_os().skip(1)).args(["--outside", &outside()?]);
        if let Some(why) = denied {
            program.args(["--denied", why]);
        }
        Ok(program.exec())
    };
    match exec() {
        Ok(error) => anyhow::Error::from(error).context("starting unshare"),
        Err(error) => error,
    }
}

fn outside() -> Result<String> {
    Ok(format!("{},{}", namespace("mnt")?, namespace("net")?))
}

/// This very program, in new namespaces.
fn again(flags: &[&str]) -> Result<Command> {
    let mut command = tool("unshare");
    command.args(flags).arg("--").arg(std::env::current_exe().context("own path")?);
    Ok(command)
}

/// A program of iproute2 or util-linux. Those for administrators are not on everybody's path.
pub(super) fn tool(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"));
    command
}

/// Runs a program to its end, which must be a good one; else the error is what it said.
pub(super) async fn run(mut command: tokio::process::Command) -> Result<()> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let child = command.kill_on_drop(true).spawn().with_context(|| format!("starting {name}"))?;
    verdict(&name, &child.wait_with_output().await?)
}

/// An error if a program ended badly: what it said.
pub(super) fn verdict(name: &str, output: &std::process::Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let own = format!("{name}: ");
    let lines: Vec<&str> = said
        .lines()
        .map(|line| line.trim().trim_start_matches(&own))
        .filter(|line| !line.is_empty())
        .collect();
    bail!("{name}: {}", if lines.is_empty() { output.status.to_string() } else { lines.join("; ") })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Tells a test that it runs inside.
    const INSIDE: &str = "CAIRN_TEST_INSIDE";

    /// Whether this process may mount what it likes and change its network. If not, the `test` of this name runs once more in
    /// one that may, where that is permitted.
    pub(in crate::chaos) fn in_namespaces(test: &str) -> bool {
        if std::env::var_os(INSIDE).is_some() {
            return true;
        }
        let kinds = MOUNTS_AND_NETWORK;
        let pair = ["ip", "link", "add", "name", "one", "type", "veth", "peer", "name", "other"];
        let flags = [kinds.to_vec(), [AS_ROOT, kinds].concat()].into_iter().find(|flags| {
            let tried = tool("unshare").args(flags).args(pair).stderr(Stdio::null()).status();
            tried.is_ok_and(|status| status.success())
        });
        let Some(flags) = flags else {
            skip();
            return false;
        };
        let mut again = again(&flags).unwrap();
        let output = again.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}{output:?}");
        false
    }

    #[expect(clippy::print_stderr, reason = "whoever runs the tests is to know what they did not prove")]
    fn skip() {
        eprintln!("skipped: network namespaces are not permitted here");
    }

    #[test]
    fn a_program_that_fails_is_named_with_what_it_said() {
        let shell = |script: &str| {
            let mut shell = tokio::process::Command::from(tool("sh"));
            shell.args(["-c", script]).stderr(Stdio::piped());
            shell
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let run = |script| runtime.block_on(run(shell(script))).map_err(|error| error.to_string());
        assert_eq!(run("true"), Ok(()));
        assert_eq!(run("echo 'sh: not permitted' >&2; exit 1"), Err("sh: not permitted".into()));
        assert_eq!(run("exit 3"), Err("sh: exit status: 3".into()));
    }
}
