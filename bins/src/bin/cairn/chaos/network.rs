//! The network between the parties: a proxy before every daemon, which delays, breaks or garbles what passes between two of
//! them. A cut is the switch's, which loses packets, or the proxy's, which holds back what it got.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use cairn_core::rng::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::party::Party;
use super::wires::Wires;

/// Bytes passed on at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Something wrong with the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nothing passes from `some` to `others`, nor back unless `one_way`. What was sent arrives later, if the connection still
    /// stands: TCP sends it again, or the proxy has kept it.
    Cut { some: Vec<Party>, others: Vec<Party>, one_way: bool },
    /// Whatever one party sends or gets takes longer.
    Slow(Party, Duration),
    /// Of so many pieces to this chunkserver or from it one gets a flipped bit. The master's connections rely on TCP's
    /// checksums and are left alone.
    Garbled(Party, u64),
}

/// All that is wrong now, as proxies see it.
#[derive(Clone, Debug, Default)]
struct Troubles {
    standing: BTreeMap<u64, Trouble>,
    /// From whom nothing passes to whom through a proxy.
    cut: BTreeSet<(Party, Party)>,
    /// Counts the breaks of all connections of two parties.
    breaks: BTreeMap<(Party, Party), u64>,
}

impl Troubles {
    /// Who can't be heard by whom.
    fn cuts(&self) -> BTreeSet<(Party, Party)> {
        let mut cuts = BTreeSet::new();
        for trouble in self.standing.values() {
            let Trouble::Cut { some, others, one_way } = trouble else { continue };
            for (one, other) in some.iter().flat_map(|one| others.iter().map(move |other| (*one, *other))) {
                cuts.insert((one, other));
                if !one_way {
                    cuts.insert((other, one));
                }
            }
        }
        cuts
    }

    fn is_cut(&self, from: Party, to: Party) -> bool {
        self.cut.contains(&(from, to))
    }

    fn delay(&self, from: Party, to: Party) -> Duration {
        let delays = self.standing.values().filter_map(|trouble| match trouble {
            Trouble::Slow(party, delay) if *party == from || *party == to => Some(*delay),
            _ => None,
        });
        delays.max().unwrap_or_default()
    }

    fn garbled(&self, from: Party, to: Party) -> Option<u64> {
        self.standing.values().find_map(|trouble| match trouble {
            Trouble::Garbled(party, of)
                if (*party == from || *party == to) && from != Party::Master && to != Party::Master =>
            {
                Some(*of)
            }
            _ => None,
        })
    }

    fn breaks(&self, a: Party, b: Party) -> u64 {
        self.breaks.get(&(a.min(b), a.max(b))).copied().unwrap_or(0)
    }
}

/// Who is where just now.
#[derive(Debug, Default)]
struct Directory {
    addresses: BTreeMap<Party, SocketAddr>,
    processes: BTreeMap<Party, u32>,
}

/// The proxies. Dropped, they end, and every connection with them.
#[derive(Debug)]
pub(super) struct Network {
    wires: Arc<Wires>,
    troubles: watch::Sender<Troubles>,
    /// Which packets the switch drops.
    dropped: BTreeSet<(Party, Party)>,
    directory: Arc<Mutex<Directory>>,
    proxies: JoinSet<()>,
    seed: u64,
    next: u64,
}

impl Network {
    /// Nobody is there yet but the users.
    pub(super) fn new(wires: Wires, seed: u64) -> Network {
        let directory = Directory {
            processes: BTreeMap::from([(Party::Users, std::process::id())]),
            ..Directory::default()
        };
        Network {
            wires: Arc::new(wires),
            troubles: watch::Sender::default(),
            dropped: BTreeSet::new(),
            directory: Arc::new(Mutex::new(directory)),
            proxies: JoinSet::new(),
            seed,
            next: 0,
        }
    }

    /// What carries its packets.
    pub(super) fn wires(&self) -> &Wires {
        &self.wires
    }

    /// Opens the address under which `party` is reached from now on.
    pub(super) async fn open(&mut self, party: Party) -> Result<SocketAddr> {
        let listener = self.wires.listener(party).await?;
        let address = listener.local_addr()?;
        let proxy = Proxy {
            of: party,
            wires: self.wires.clone(),
            troubles: self.troubles.subscribe(),
            directory: self.directory.clone(),
        };
        self.proxies.spawn(proxy.serve(listener, self.seed));
        Ok(address)
    }

    /// Tells where the process of `party` listens; `None` while it is down.
    pub(super) fn locate(&self, party: Party, place: Option<(SocketAddr, u32)>) {
        let mut directory = lock(&self.directory);
        match place {
            Some((address, pid)) => {
                directory.addresses.insert(party, address);
                directory.processes.insert(party, pid);
            }
            None => {
                directory.addresses.remove(&party);
                directory.processes.remove(&party);
            }
        }
    }

    /// Begins a trouble; the number ends it.
    pub(super) async fn begin(&mut self, trouble: Trouble) -> Result<u64> {
        self.next += 1;
        self.troubles.send_modify(|all| drop(all.standing.insert(self.next, trouble)));
        self.cut().await?;
        Ok(self.next)
    }

    /// Ends a trouble.
    pub(super) async fn end(&mut self, number: u64) -> Result<()> {
        self.troubles.send_modify(|all| drop(all.standing.remove(&number)));
        self.cut().await
    }

    /// Ends all troubles.
    pub(super) async fn heal(&mut self) -> Result<()> {
        self.troubles.send_modify(|all| all.standing.clear());
        self.cut().await
    }

    /// Cuts off who has to be, and nobody else.
    async fn cut(&mut self) -> Result<()> {
        let cuts = self.troubles.borrow().cuts();
        match &*self.wires {
            Wires::Loopback => self.troubles.send_modify(|all| all.cut = cuts),
            Wires::Switch(switch) => {
                let begin: Vec<_> = cuts.difference(&self.dropped).copied().collect();
                let end: Vec<_> = self.dropped.difference(&cuts).copied().collect();
                switch.drop_packets(&begin, &end).await?;
                self.dropped = cuts;
            }
        }
        Ok(())
    }

    /// Breaks all connections between two parties.
    pub(super) fn reset(&self, a: Party, b: Party) {
        self.troubles.send_modify(|all| *all.breaks.entry((a.min(b), a.max(b))).or_default() += 1);
    }
}

fn lock(directory: &Mutex<Directory>) -> MutexGuard<'_, Directory> {
    directory.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stands before the daemon of a party.
#[derive(Clone)]
struct Proxy {
    of: Party,
    wires: Arc<Wires>,
    troubles: watch::Receiver<Troubles>,
    directory: Arc<Mutex<Directory>>,
}

impl Proxy {
    async fn serve(self, listener: TcpListener, seed: u64) {
        let mut connections = JoinSet::new();
        let mut number = 0_u64;
        loop {
            while connections.try_join_next().is_some() {}
            let Ok((near, from)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            number += 1;
            let rng = Rng::stream(seed, &format!("connection {number} of {}", self.of));
            connections.spawn(self.clone().carry(near, from, rng));
        }
    }

    /// Carries one connection from its beginning to its end.
    async fn carry(self, mut near: TcpStream, peer: SocketAddr, rng: Rng) {
        let Proxy { of: to, wires, mut troubles, directory } = self;
        let processes = lock(&directory).processes.iter().map(|(party, pid)| (*party, *pid)).collect();
        let Ok(local) = near.local_addr() else { return };
        // Whoever died meanwhile needs no connection.
        let Some(from) = wires.sender(peer, local, processes).await else { return };
        let broken = troubles.borrow().breaks(from, to);
        // Opening a connection takes both directions.
        if troubles.wait_for(|all| !all.is_cut(from, to) && !all.is_cut(to, from)).await.is_err() {
            return;
        }
        let target = lock(&directory).addresses.get(&to).copied();
        let connected = match target {
            Some(target) => wires.dial(from, target).await.ok(),
            None => None,
        };
        let Some(mut far) = connected else {
            refuse(&near);
            return;
        };
        // Without it small frames would wait for acknowledgements.
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let mut watched = troubles.clone();
        let whole = {
            let ((near_read, near_write), (far_read, far_write)) = (near.split(), far.split());
            let mut back = rng.clone();
            let _ = back.u64();
            let there = pump(near_read, far_write, (from, to), troubles.clone(), rng);
            let back = pump(far_read, near_write, (to, from), troubles, back);
            tokio::select! {
                both = async { tokio::try_join!(there, back) } => both.is_ok(),
                _ = watched.wait_for(|all| all.breaks(from, to) != broken) => false,
            }
        };
        if !whole {
            refuse(&near);
            refuse(&far);
        }
    }
}

/// Makes the end of a connection a reset.
fn refuse(stream: &TcpStream) {
    // Whoever is gone already needs no reset.
    let _ = stream.set_zero_linger();
}

/// Passes bytes on in one direction, as the troubles allow.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    (sender, receiver): (Party, Party),
    mut troubles: watch::Receiver<Troubles>,
    mut rng: Rng,
) -> std::io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let got = from.read(&mut buffer).await?;
        let (delay, garbled) = {
            let all = troubles.wait_for(|all| !all.is_cut(sender, receiver)).await;
            let all = all.map_err(std::io::Error::other)?;
            (all.delay(sender, receiver), all.garbled(sender, receiver))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if got == 0 {
            return to.shutdown().await;
        }
        if garbled.is_some_and(|of| rng.chance(1, of)) {
            let bit = rng.below(got as u64 * 8);
            buffer[bit as usize / 8] ^= 1 << (bit % 8);
        }
        to.write_all(&buffer[..got]).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says everything back, behind a proxy.
    async fn echo() -> (Network, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut network = Network::new(Wires::Loopback, 1);
        let proxy = network.open(Party::Server(0)).await.unwrap();
        network.locate(Party::Server(0), Some((listener.local_addr().unwrap(), u32::MAX)));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        (network, TcpStream::connect(proxy).await.unwrap())
    }

    async fn say(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
        stream.write_u8(byte).await?;
        stream.read_u8().await
    }

    fn cut(one: Party, other: Party, one_way: bool) -> Trouble {
        Trouble::Cut { some: vec![one], others: vec![other], one_way }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_cut_holds_one_direction_back_and_loses_nothing() {
        let (mut network, mut stream) = echo().await;
        assert_eq!(say(&mut stream, 7).await.unwrap(), 7);
        let number = network.begin(cut(Party::Server(0), Party::Users, true)).await.unwrap();
        stream.write_u8(8).await.unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(200), stream.read_u8()).await;
        assert!(waited.is_err(), "{waited:?}");
        network.end(number).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 8);
        network.begin(cut(Party::Master, Party::Server(0), false)).await.unwrap();
        assert_eq!(say(&mut stream, 9).await.unwrap(), 9);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_reset_breaks_what_is_connected_and_nothing_later() {
        let (network, mut stream) = echo().await;
        let proxy = stream.peer_addr().unwrap();
        assert_eq!(say(&mut stream, 7).await.unwrap(), 7);
        network.reset(Party::Server(0), Party::Users);
        assert!(stream.read_u8().await.is_err());
        let mut again = TcpStream::connect(proxy).await.unwrap();
        assert_eq!(say(&mut again, 8).await.unwrap(), 8);
        network.locate(Party::Server(0), None);
        // A connection that is refused at once may be broken before it is used.
        let refused = async { say(&mut TcpStream::connect(proxy).await?, 9).await };
        assert!(refused.await.is_err());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn garbling_flips_bits_and_slowness_takes_time() {
        let (mut network, mut stream) = echo().await;
        let trouble = network.begin(Trouble::Garbled(Party::Server(0), 1)).await.unwrap();
        stream.write_all(&[0; 4096]).await.unwrap();
        let mut echoed = [0; 4096];
        stream.read_exact(&mut echoed).await.unwrap();
        assert!(echoed.iter().any(|byte| *byte != 0));
        network.begin(Trouble::Slow(Party::Users, Duration::from_millis(50))).await.unwrap();
        network.end(trouble).await.unwrap();
        let before = std::time::Instant::now();
        assert_eq!(say(&mut stream, 5).await.unwrap(), 5);
        assert!(before.elapsed() >= Duration::from_millis(100));
        network.heal().await.unwrap();
    }
}
