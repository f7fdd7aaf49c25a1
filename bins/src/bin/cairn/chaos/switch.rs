//! A network of the kernel's: a namespace for each party, joined by a pair of virtual Ethernet devices with the one in which
//! the proxies listen and dial, the switch. Nobody forwards packets: whoever talks to another party talks to its proxy.
//!
//! ```text
//!   home of A                      switch                       home of B
//!   198.18.a.2 ─── to-A 198.18.a.1      198.18.b.1 to-B ─── 198.18.b.2
//!                        stand-ins 198.19.0.a, 198.19.0.b
//! ```
//!
//! B's proxy listens on B's stand-in, and dials B's home from A's stand-in on behalf of A. So all packets from A to B are
//! those from A's home to B's stand-in and from A's stand-in to B's home, and no others. A cut makes the namespace at which
//! they *arrive* drop them in silence, by a routing rule: where they leave, their sender would be told.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::enclosure::{run, tool, verdict};
use super::party::Party;
use super::sockets::Sockets;

/// The namespace in the middle.
const SWITCH: &str = "switch";
/// A party's end of its wire.
const WIRE: &str = "wire";
/// Rules that drop come before the one that delivers what is addressed to the namespace itself.
const PRIORITY_DROP: u32 = 50;
const PRIORITY_LOCAL: u32 = 100;
/// What is not addressed to the switch itself goes nowhere, even if this machine is set to forward packets.
const PRIORITY_FOREIGN: u32 = 101;
/// Where all homes are.
const HOMES: &str = "198.18.0.0/16";

/// The network. Its namespaces end with the processes in them once the names are unmounted.
#[derive(Debug)]
pub(super) struct Switch {
    /// Where namespaces have their names.
    names: PathBuf,
    parties: Vec<Party>,
    sockets: Sockets,
}

/// The address of a party's process.
pub(super) fn home(party: Party) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, number(party), 2)
}

/// The address that stands in for a party in the switch.
pub(super) fn stand_in(party: Party) -> Ipv4Addr {
    Ipv4Addr::new(198, 19, 0, number(party))
}

/// The switch's end of a party's wire.
fn gateway(party: Party) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, number(party), 1)
}

fn number(party: Party) -> u8 {
    match party {
        Party::Users => 1,
        Party::Master => 2,
        Party::Server(index) => 3 + index as u8,
    }
}

/// The link-layer address of an end of a party's wire.
fn hardware(party: Party, end: u8) -> String {
    format!("02:00:00:00:{:02x}:{end:02x}", number(party))
}

impl Switch {
    /// Wires `parties` up; users stay in this process's namespace, which must be one for this storm alone. `names` is an empty
    /// directory on a file system that can be unmounted with what is mounted in it.
    pub(super) async fn build(names: &Path, parties: Vec<Party>) -> Result<Switch> {
        let daemons = parties.iter().filter(|party| **party != Party::Users).map(Party::to_string);
        for name in daemons.chain([SWITCH.into()]) {
            File::create(names.join(&name))?;
            let mut namespace = command("unshare", names);
            namespace.arg(format!("--net=./{name}")).args(["ip", "link", "set", "lo", "up"]);
            run(namespace).await?;
        }
        let mut middle: Vec<String> =
            parties.iter().flat_map(|party| middle(*party)).chain(rules()).collect();
        middle.push(format!("rule add pref {PRIORITY_FOREIGN} from {HOMES} blackhole"));
        let mut batches = vec![Batch { at: Some(SWITCH.into()), lines: middle }];
        batch(names, std::mem::take(&mut batches)).await?;
        batches.extend(parties.iter().map(|party| Batch { at: namespace_of(*party), lines: end(*party) }));
        batch(names, batches).await?;
        let sockets = Sockets::within(&names.join(SWITCH))?;
        Ok(Switch { names: names.to_owned(), parties, sockets })
    }

    /// Where proxies listen and dial.
    pub(super) fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// What launches a program in the namespace of `party`. It execs: the process is the program's.
    pub(super) fn entrance(&self, party: Party) -> Result<Vec<String>> {
        let path = self.names.join(party.to_string());
        let path = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
        Ok(vec!["nsenter".into(), format!("--net={path}"), "--".into()])
    }

    /// Whose home it is.
    pub(super) fn party_at(&self, address: IpAddr) -> Option<Party> {
        self.parties.iter().copied().find(|party| IpAddr::V4(home(*party)) == address)
    }

    /// From now on packets of the pairs `begin` (from, to) get lost, and those of `end` do not any more.
    pub(super) async fn drop_packets(&self, begin: &[(Party, Party)], end: &[(Party, Party)]) -> Result<()> {
        let mut lines: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
        for (verb, pairs) in [("add", begin), ("delete", end)] {
            for (from, to) in pairs {
                let mut rule = |at, source, target| {
                    let line =
                        format!("rule {verb} pref {PRIORITY_DROP} from {source} to {target} blackhole");
                    lines.entry(at).or_default().push(line);
                };
                rule(Some(SWITCH.into()), home(*from), stand_in(*to));
                rule(namespace_of(*to), stand_in(*from), home(*to));
            }
        }
        batch(&self.names, lines.into_iter().map(|(at, lines)| Batch { at, lines }).collect()).await
    }
}

/// Users live in this process's namespace, which has no other name.
fn namespace_of(party: Party) -> Option<String> {
    (party != Party::Users).then(|| party.to_string())
}

/// The wire of a party, as the switch has it. Neighbours are known from the start: a request for one would be dropped with
/// what a rule drops, and nobody else would find it either.
fn middle(party: Party) -> Vec<String> {
    let (near, far) = (hardware(party, 1), hardware(party, 2));
    let namespace =
        namespace_of(party).map_or_else(|| std::process::id().to_string(), |name| format!("./{name}"));
    vec![
        format!(
            "link add name to-{party} address {near} type veth peer name {WIRE} address {far} netns {namespace}"
        ),
        format!("address add {}/30 dev to-{party}", gateway(party)),
        format!("address add {}/32 dev lo", stand_in(party)),
        format!("link set dev to-{party} up"),
        format!("neighbour add {} lladdr {far} dev to-{party} nud permanent", home(party)),
    ]
}

/// The other end.
fn end(party: Party) -> Vec<String> {
    let mut lines = vec![
        "link set dev lo up".into(),
        format!("address add {}/30 dev {WIRE}", home(party)),
        format!("link set dev {WIRE} up"),
        format!("neighbour add {} lladdr {} dev {WIRE} nud permanent", gateway(party), hardware(party, 1)),
        format!("route add default via {}", gateway(party)),
    ];
    lines.extend(rules());
    lines
}

/// Makes room for rules before the one that the kernel has first.
fn rules() -> [String; 2] {
    [format!("rule add pref {PRIORITY_LOCAL} lookup local"), "rule delete pref 0 lookup local".into()]
}

/// Lines for `ip` in a namespace; without a name in this process's own.
struct Batch {
    at: Option<String>,
    lines: Vec<String>,
}

/// Runs them side by side.
async fn batch(names: &Path, batches: Vec<Batch>) -> Result<()> {
    let mut running: Vec<Child> = Vec::new();
    for Batch { at, lines } in batches {
        let mut ip = match at {
            Some(name) => {
                let mut enter = command("nsenter", names);
                enter.arg(format!("--net=./{name}")).arg("ip");
                enter
            }
            None => command("ip", names),
        };
        ip.args(["-batch", "-"]).stdin(Stdio::piped());
        let mut child = ip.spawn().context("starting ip")?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ended early tells why below.
            let _ = stdin.write_all(format!("{}\n", lines.join("\n")).as_bytes()).await;
        }
        running.push(child);
    }
    for child in running {
        verdict("ip", &child.wait_with_output().await?)?;
    }
    Ok(())
}

/// Names of namespaces are told relative to `names`: a path could have blanks in it.
fn command(name: &str, names: &Path) -> Command {
    let mut command = Command::from(tool(name));
    command.current_dir(names).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;
    use crate::chaos::arena::Arena;
    use crate::chaos::enclosure::tests::in_namespaces;

    /// Longer than the first attempts to send again take.
    const SILENCE: Duration = Duration::from_millis(700);
    const MASTER: Party = Party::Master;
    const USERS: Party = Party::Users;

    /// Says back what it hears, on every connection.
    async fn echo(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    }

    async fn hears(stream: &mut TcpStream, byte: u8) -> bool {
        tokio::time::timeout(SILENCE, stream.read_u8()).await.is_ok_and(|heard| heard.unwrap() == byte)
    }

    async fn talks(stream: &mut TcpStream) -> bool {
        stream.write_u8(1).await.unwrap();
        hears(stream, 1).await
    }

    /// Nothing but silence answers a new connection.
    async fn is_silent(dial: impl Future<Output = std::io::Result<TcpStream>>) -> bool {
        tokio::time::timeout(SILENCE, dial).await.is_err()
    }

    /// The users' process is at home in this test's own namespace; the master's sockets are made in its one.
    #[tokio::test(flavor = "multi_thread")]
    async fn packets_of_a_cut_get_lost_without_a_word_and_are_sent_again_when_it_heals() {
        if !in_namespaces(
            "chaos::switch::tests::packets_of_a_cut_get_lost_without_a_word_and_are_sent_again_when_it_heals",
        ) {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut arena = Arena::new(Some(&dir.path().join("a name with blanks")), true).unwrap();
        let names = arena.mount_names().unwrap();
        let parties = vec![USERS, MASTER, Party::Server(0)];
        let switch = Switch::build(&names, parties).await.unwrap();
        let masters = Sockets::within(&names.join("master")).unwrap();
        let listen = async |socket: std::io::Result<TcpSocket>| {
            let listener = socket.unwrap().listen(8).unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(echo(listener));
            address
        };
        // What a proxy of the master would do for users, and who dials it.
        let behind = listen(masters.bound(home(MASTER)).await).await;
        let proxy = listen(switch.sockets().bound(stand_in(MASTER)).await).await;
        let dial = async || switch.sockets().bound(stand_in(USERS)).await?.connect(behind).await;
        let mut leg = TcpStream::connect(proxy).await.unwrap();
        let mut other_leg = dial().await.unwrap();
        assert_eq!(leg.local_addr().unwrap().ip(), home(USERS));
        assert_eq!(switch.party_at(leg.local_addr().unwrap().ip()), Some(USERS));
        assert!(talks(&mut leg).await && talks(&mut other_leg).await);

        assert!(is_silent(TcpStream::connect(behind)).await, "there is a way around the proxy");

        // What users say gets lost on both legs, and what they are told: for the whole of a connection, or of a new one.
        for cut in [(USERS, MASTER), (MASTER, USERS)] {
            switch.drop_packets(&[cut], &[]).await.unwrap();
            assert!(!talks(&mut leg).await && !talks(&mut other_leg).await, "{cut:?}");
            assert!(is_silent(TcpStream::connect(proxy)).await && is_silent(dial()).await, "{cut:?}");
            switch.drop_packets(&[], &[cut]).await.unwrap();
            assert_eq!((leg.read_u8().await.unwrap(), other_leg.read_u8().await.unwrap()), (1, 1));
        }

        // One direction alone: what comes the other way is heard. Third parties hear both.
        let third = switch.sockets().bound(stand_in(Party::Server(0))).await.unwrap();
        let mut third = third.connect(behind).await.unwrap();
        let listener = masters.bound(home(MASTER)).await.unwrap().listen(8).unwrap();
        let address = listener.local_addr().unwrap();
        let far = switch.sockets().bound(stand_in(USERS)).await.unwrap().connect(address);
        let (far, near) = tokio::join!(far, listener.accept());
        let (mut far, mut near) = (far.unwrap(), near.unwrap().0);
        switch.drop_packets(&[(USERS, MASTER)], &[]).await.unwrap();
        near.write_u8(5).await.unwrap();
        assert!(hears(&mut far, 5).await);
        far.write_u8(6).await.unwrap();
        assert!(!hears(&mut near, 6).await);
        assert!(talks(&mut third).await);
        switch.drop_packets(&[], &[(USERS, MASTER)]).await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), 6);

        // A rule that is not there can't be deleted, and `ip` says so.
        let refused = switch.drop_packets(&[], &[(USERS, MASTER)]).await.unwrap_err().to_string();
        assert!(refused.starts_with("ip: RTNETLINK answers: No such file"), "{refused}");
    }
}
