//! The storm around real processes: the simulator's users, model and checkers over daemons that are killed, paused, cut off
//! and robbed of their disks. The same machines run in the simulator; this proves the processes around them.
//!
//! A run is a series of rounds: users work while things go wrong, then everything is healed and must become whole.

mod arena;
mod check;
mod cluster;
mod damage;
mod enclosure;
mod log;
mod network;
mod party;
mod plan;
mod report;
mod sockets;
mod strike;
mod switch;
mod users;
mod volume;
mod wires;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use bins::exit::{Exit, Failure};
use cairn_core::rng::Rng;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};
use workload::generate::Habits;
use workload::violation::Violations;

use self::arena::Arena;
use self::cluster::Processes;
use self::enclosure::Enclosure;
pub(crate) use self::enclosure::{NetworkArg, Told};
use self::log::Log;
use self::party::Party;
pub(crate) use self::plan::Kind;
use self::plan::Stage;
use self::report::Report;
use self::strike::Striker;
use self::switch::Switch;
use self::users::{Crowd, USERS, User};
use self::wires::Wires;
use crate::args::ChaosArgs;
use crate::output::Output;

/// How long things go wrong in one round.
const ROUND: Duration = Duration::from_secs(25);
/// What users of earlier rounds left is looked at again for so many rounds, then deleted.
const ROUNDS_KEPT: usize = 2;
/// How long the trash keeps files: longer than a round, where users bring things back; else so briefly that what was
/// deleted is collected in the middle of the storm.
const UNDELETE: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];

pub(crate) async fn run(out: Output, args: ChaosArgs) -> Result<()> {
    if !(args.minutes > 0.0 && args.minutes <= 24.0 * 60.0) {
        return Err(Failure::usage("--minutes takes a number above 0, up to 1440").into());
    }
    let Some(enclosure) = enclosure::enter(args.network, &args.told).await? else { return Ok(()) };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut arena = Arena::new(args.dir.as_deref(), enclosure.mounts)?;
    let mut log = Log::new(out, arena.dir())?;
    let mut cluster = None;
    let told = tokio::select! {
        biased;
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        told = story(&args, &enclosure, &mut arena, &mut log, &mut cluster) => Some(told),
    };
    // Directories are removed only when nobody writes to them any more.
    if let Some(cluster) = &mut cluster {
        cluster.kill_all().await?;
    }
    let Some(told) = told else {
        return Err(Failure::new(Exit::Failed, "interrupted").into());
    };
    if args.keep || !told.as_ref().is_ok_and(Report::is_clean) {
        arena.keep();
    }
    let kept = format!("directories and logs are kept in {}", arena.dir().display());
    let report = told.map_err(|error| error.context(kept.clone()))?;
    out.result(&report.text(&log), &report.json(args.seed, &log))?;
    if report.is_clean() {
        return Ok(());
    }
    let again = format!("{kept}; the same storm again: {}", command(&args, report.network));
    Err(Failure::new(Exit::Failed, again).into())
}

/// What draws the same storm. Its timing is the machine's.
fn command(args: &ChaosArgs, network: &str) -> String {
    let mut text = format!(
        "cairn chaos --minutes {} --seed {} --chunkservers {} --network {network}",
        args.minutes, args.seed, args.chunkservers
    );
    if !args.faults.is_empty() {
        let names: Vec<String> = args.faults.iter().map(Kind::to_string).collect();
        text.push_str(&format!(" --faults {}", names.join(",")));
    }
    text
}

async fn story(
    args: &ChaosArgs,
    enclosure: &Enclosure,
    arena: &mut Arena,
    log: &mut Log,
    cluster: &mut Option<Processes>,
) -> Result<Report> {
    let mut kinds =
        if args.faults.is_empty() { Kind::value_variants().to_vec() } else { args.faults.clone() };
    kinds.sort();
    kinds.dedup();
    let wires = wires(enclosure, args.chunkservers, arena).await?;
    let network = wires.name();
    log.say(&format!("{} in {}", command(args, network), arena.dir().display()))?;
    if let Some(why) = &enclosure.denied {
        log.say(&format!("proxies on loopback: network namespaces are not permitted ({why})"))?;
    }
    let small = small(&kinds, arena, log)?;
    let restores = Rng::stream(args.seed, "trash").chance(1, 2);
    let undelete = UNDELETE[usize::from(restores)];
    let undelete_ms = undelete.as_millis() as u64;
    let started = Processes::start(arena, wires, small.as_deref(), args.chunkservers, args.seed, undelete_ms);
    let cluster = cluster.insert(started.await?);
    let servers = usize::from(args.chunkservers);
    let length = ROUND.min(Duration::from_secs_f64(args.minutes * 60.0));
    let stage = Stage { kinds, servers, users: USERS, small: small.as_ref().map(|_| servers - 1), length };
    let mut storm = Storm {
        args,
        stage,
        habits: users::habits(args.seed, args.chunkservers, restores),
        striker: Striker::new(args.seed, small.as_deref()),
        users: Vec::new(),
        violations: Violations::default(),
        report: Report { network, ..Report::default() },
        log,
    };
    if let Err(error) = storm.rage(cluster).await {
        storm.violations.add("daemons", format!("{error:#}"));
    }
    storm.end(cluster, undelete).await?;
    Ok(storm.report)
}

/// The network's lowest part.
async fn wires(enclosure: &Enclosure, chunkservers: u16, arena: &mut Arena) -> Result<Wires> {
    if !enclosure.network {
        return Ok(Wires::Loopback);
    }
    let mut parties = vec![Party::Users, Party::Master];
    parties.extend((0..usize::from(chunkservers)).map(Party::Server));
    Ok(Wires::Switch(Switch::build(&arena.mount_names()?, parties).await?))
}

/// Mounts the small file system if a fault needs it.
fn small(kinds: &[Kind], arena: &mut Arena, log: &mut Log) -> Result<Option<PathBuf>> {
    if !kinds.contains(&Kind::FullDisk) {
        return Ok(None);
    }
    match arena.mount_small() {
        Ok(place) => Ok(Some(place)),
        Err(error) => {
            log.say(&format!("no full disks: mounting a small file system is not permitted ({error})"))?;
            Ok(None)
        }
    }
}

/// All that a run consists of, but the daemons.
struct Storm<'a> {
    args: &'a ChaosArgs,
    stage: Stage,
    habits: Habits,
    striker: Striker,
    users: Vec<User>,
    violations: Violations,
    report: Report,
    log: &'a mut Log,
}

impl Storm<'_> {
    /// Round after round until the time is over, then everybody down at once.
    async fn rage(&mut self, cluster: &mut Processes) -> Result<()> {
        let end = self.log.seconds() + self.args.minutes * 60.0;
        while self.log.seconds() < end && !self.violations.any() {
            self.round(cluster).await?;
            self.settle(cluster).await?;
            if self.users.len() > ROUNDS_KEPT * USERS {
                self.delete(cluster, USERS).await;
            }
        }
        if self.violations.any() {
            return Ok(());
        }
        self.log.say("kill -9 of everybody at once")?;
        cluster.kill_all().await?;
        for party in cluster.parties() {
            cluster.up(party).await?;
        }
        self.settle(cluster).await
    }

    /// New users at work while things go wrong; healed at its end.
    async fn round(&mut self, cluster: &mut Processes) -> Result<()> {
        let (round, seed) = (self.report.rounds, self.args.seed);
        let strikes = self.stage.draw(&mut Rng::stream(seed, &format!("round {round}")));
        self.log.say(&format!("round {round}"))?;
        let crowd = Crowd::start(cluster.master_address(), seed, round, &self.habits, &self.violations);
        self.report.rounds += 1;
        let struck = self.striker.storm(cluster, &strikes, self.stage.length, &crowd, self.log).await;
        let healed = self.striker.heal(cluster).await;
        self.log.say("healed")?;
        // Whoever walked away from a half-written file leaves a client that rightly keeps it alive: it ends here.
        let (users, figures) = crowd.stop(&self.violations).await;
        self.users.extend(users);
        self.report.figures.add(figures);
        struck.and(healed)
    }

    /// Everything must be whole, and as the users were told.
    async fn settle(&mut self, cluster: &Processes) -> Result<()> {
        if self.violations.any() {
            return Ok(());
        }
        let checked = check::whole(cluster, &mut self.users, &self.violations).await;
        self.report.add(checked);
        for party in self.striker.trusting(cluster) {
            self.violations
                .add("journals", format!("{party} has read a rotten journal, and takes it for sound"));
        }
        if self.violations.any() {
            return Ok(());
        }
        self.log.say(&format!(
            "whole after {:.1} s: {} files, {} replicas of chunks, every byte as acknowledged",
            checked.after, checked.files, checked.replicas
        ))
    }

    /// Deletes what the first `count` users have.
    async fn delete(&mut self, cluster: &Processes, count: usize) {
        let client = cluster.client();
        for mut user in self.users.drain(..count) {
            check::delete_home(&client, &mut user, &self.violations).await;
        }
    }

    /// Nothing may be left of what is deleted, and every daemon must end in good order.
    async fn end(&mut self, cluster: &mut Processes, undelete: Duration) -> Result<()> {
        if !self.violations.any() {
            self.log.say("everything is deleted; nothing may be left")?;
            self.delete(cluster, self.users.len()).await;
            check::empty(cluster, undelete, self.striker.keepers(), &self.violations).await;
        }
        if !self.violations.any()
            && let Err(text) = cluster.shut_down().await
        {
            self.violations.add("shutdown", text);
        }
        self.report.violations = self.violations.take();
        for violation in &self.report.violations {
            self.log.note(&format!("VIOLATION {violation}"))?;
        }
        Ok(())
    }
}
