//! Carries strikes out on processes, proxies and disks, and undoes them.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cairn_core::rng::Rng;
use rustix::process::Signal;

use super::arena::clear;
use super::cluster::Processes;
use super::damage;
use super::log::Log;
use super::network::Trouble;
use super::party::Party;
use super::plan::{Fault, Strike};
use super::users::Crowd;

/// How often it is seen to that no daemon ended by itself.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What ends a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Nothing,
    Start(Party),
    Continue(Party),
    EndTrouble(u64),
    FreeDisk(usize),
    Mount(usize),
}

/// Faults under way.
pub(super) struct Striker {
    rng: Rng,
    standing: Vec<(Instant, Undo)>,
    /// Chunkservers whose journals rotted, and the ids of their volumes then.
    rotten: Vec<(usize, Option<u64>)>,
    /// Chunkservers whose journals ever rotted.
    keepers: BTreeSet<usize>,
    /// The place of the small file system.
    small: Option<std::path::PathBuf>,
}

impl Striker {
    pub(super) fn new(seed: u64, small: Option<&Path>) -> Striker {
        Striker {
            rng: Rng::stream(seed, "damage"),
            standing: Vec::new(),
            rotten: Vec::new(),
            keepers: BTreeSet::new(),
            small: small.map(Path::to_owned),
        }
    }

    /// Strikes as planned for `length`, and undoes what is over. What lasts longer is left to [`Striker::heal`].
    pub(super) async fn storm(
        &mut self,
        cluster: &mut Processes,
        strikes: &[Strike],
        length: Duration,
        crowd: &Crowd,
        log: &mut Log,
    ) -> Result<()> {
        let start = Instant::now();
        let mut coming = strikes.iter().peekable();
        while start.elapsed() < length {
            let now = Instant::now();
            if let Some(i) = self.standing.iter().position(|(end, _)| *end <= now) {
                let (_, undo) = self.standing.remove(i);
                self.undo(cluster, undo).await?;
            } else if let Some(strike) = coming.next_if(|strike| start + strike.at <= now) {
                log.strike(strike)?;
                let undo = self.strike(cluster, &strike.fault, crowd, log).await;
                let undo = undo.with_context(|| strike.to_string())?;
                // By the plan's clock, however long it took: a later strike on the same process counts on it.
                self.standing.push((start + strike.at + strike.lasts, undo));
            } else {
                for party in cluster.fallen(&self.down()) {
                    // It may have been starting when its disk went away.
                    if !self.lacks_disk(party) || !cluster.found_no_disk(party)? {
                        bail!("{party} ended by itself");
                    }
                }
                let ends = self.standing.iter().map(|(end, _)| *end);
                let next = ends.chain(coming.peek().map(|strike| start + strike.at)).min();
                let wait =
                    next.map_or(LOOK_EVERY, |next| next.saturating_duration_since(now).min(LOOK_EVERY));
                tokio::time::sleep(wait).await;
            }
        }
        Ok(())
    }

    /// Undoes everything.
    pub(super) async fn heal(&mut self, cluster: &mut Processes) -> Result<()> {
        for (_, undo) in std::mem::take(&mut self.standing) {
            self.undo(cluster, undo).await?;
        }
        cluster.network.heal().await
    }

    /// Chunkservers that have read a rotten journal since they were asked about last, and go on as the same volume
    /// (invariant 31).
    pub(super) fn trusting(&mut self, cluster: &Processes) -> Vec<Party> {
        let rotten = std::mem::take(&mut self.rotten).into_iter();
        let same = rotten.filter(|(server, id)| damage::volume_id(&cluster.disk(*server)) == *id);
        same.map(|(server, _)| Party::Server(server)).collect()
    }

    /// Chunkservers that may keep for good what their rotten journals do not describe any more.
    pub(super) fn keepers(&self) -> &BTreeSet<usize> {
        &self.keepers
    }

    /// Who is down because of a fault.
    fn down(&self) -> Vec<Party> {
        let down = self.standing.iter().filter_map(|(_, undo)| match undo {
            Undo::Start(party) => Some(*party),
            _ => None,
        });
        down.collect()
    }

    fn lacks_disk(&self, party: Party) -> bool {
        self.standing
            .iter()
            .any(|(_, undo)| matches!(undo, Undo::Mount(server) if Party::Server(*server) == party))
    }

    async fn strike(
        &mut self,
        cluster: &mut Processes,
        fault: &Fault,
        crowd: &Crowd,
        log: &mut Log,
    ) -> Result<Undo> {
        match fault {
            Fault::Kill(party) => {
                cluster.down(*party).await?;
                return Ok(Undo::Start(*party));
            }
            Fault::Pause(party) => {
                cluster.signal(*party, Signal::STOP)?;
                return Ok(Undo::Continue(*party));
            }
            Fault::FullDisk(server) => {
                if let Some(small) = &self.small {
                    tokio::task::block_in_place(|| damage::fill(small))?;
                }
                return Ok(Undo::FreeDisk(*server));
            }
            Fault::Wipe(server) => {
                cluster.down(Party::Server(*server)).await?;
                clear(&cluster.disk(*server))?;
                return Ok(Undo::Start(Party::Server(*server)));
            }
            Fault::Unmount(server) => {
                cluster.volume(*server).take_away()?;
                return Ok(Undo::Mount(*server));
            }
            Fault::FlipJournal(server) => {
                cluster.down(Party::Server(*server)).await?;
                let disk = cluster.disk(*server);
                let flipped = tokio::task::block_in_place(|| damage::flip_journal(&disk, &mut self.rng))?;
                if flipped.is_some() {
                    self.rotten.push((*server, damage::volume_id(&disk)));
                    self.keepers.insert(*server);
                }
                tell(flipped.as_slice(), log)?;
                return Ok(Undo::Start(Party::Server(*server)));
            }
            Fault::Flip { server, bits } => {
                tell(&damage::flip(&cluster.disk(*server), *bits, &mut self.rng)?, log)?;
            }
            Fault::Client(user) => crowd.kill_client(*user),
            Fault::Reset(one, other) => cluster.network.reset(*one, *other),
            Fault::Slow(..) | Fault::Garble(..) | Fault::Cut { .. } => {}
        }
        let troubles = match fault {
            Fault::Slow(party, delay) => Trouble::Slow(*party, *delay),
            Fault::Garble(party, of) => Trouble::Garbled(*party, *of),
            Fault::Cut { some, others, one_way } => {
                Trouble::Cut { some: some.clone(), others: others.clone(), one_way: *one_way }
            }
            _ => return Ok(Undo::Nothing),
        };
        Ok(Undo::EndTrouble(cluster.network.begin(troubles).await?))
    }

    async fn undo(&mut self, cluster: &mut Processes, undo: Undo) -> Result<()> {
        match undo {
            Undo::Nothing => {}
            Undo::Start(party) => cluster.up(party).await?,
            Undo::Continue(party) => cluster.signal(party, Signal::CONT)?,
            Undo::EndTrouble(number) => cluster.network.end(number).await?,
            Undo::Mount(server) => {
                let strange = cluster.volume(server).put_back()?;
                let party = Party::Server(server);
                if let Some(path) = strange.first() {
                    bail!("{party} wrote {} while its disk was not there", path.display());
                }
                // What went out of use stays so until an operator starts its server again.
                cluster.down(party).await?;
                cluster.up(party).await?;
            }
            Undo::FreeDisk(server) => {
                if let Some(small) = &self.small {
                    damage::free(small)?;
                }
                // A volume that met an error stays out of use until an operator starts its server again.
                cluster.down(Party::Server(server)).await?;
                cluster.up(Party::Server(server)).await?;
            }
        }
        Ok(())
    }
}

/// What was hit, for whoever reads `events.log`.
fn tell(flipped: &[String], log: &mut Log) -> Result<()> {
    if flipped.is_empty() {
        return log.note("    nothing is there that could flip");
    }
    flipped.iter().try_for_each(|what| log.note(&format!("    flipped {what}")))
}
