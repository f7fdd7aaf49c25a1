//! One run: plan, chaos, healing, convergence, checks.

use std::time::Duration;

use cairn_core::defect::Defects;
use cairn_core::rng::Rng;
use cairn_core::time::Span;
use runtime_sim::record::Record;
use runtime_sim::{ClientHandle, FaultCounts, TraceMode, World};
use serde::Serialize;

use crate::checker::progress::{self, Progress};
use crate::checker::{
    ack_durability, alarms, beliefs, bounds, claims, comeback, commits, convergence, drops, group_ends,
    half_freed, halts, identical, journals, known_damage, linearizability, log_agreement, marked_log,
    namespace, once, one_primary, permissions, placement, primaries, purges, quarantine, removed, seal_basis,
    sessions, trash, versions, votes,
};
use crate::cluster::{self, Cluster, MASTER};
use crate::nemesis;
use crate::plan::Plan;
use crate::violation::{Violation, Violations};
use crate::workload::generate::Step;
use crate::workload::linearizability::history::Recorder;
use crate::workload::model::Model;
use crate::workload::operation::{Operation, Outcome};
use crate::workload::perform::perform;
use crate::workload::shared;

/// A blank cluster must serve within this time.
const START_WITHIN: Span = Span::from_ms(30_000);

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The plan's seed.
    pub seed: u64,
    /// Broken promises; none means that all held.
    pub violations: Vec<Violation>,
    /// Figures.
    pub figures: Figures,
    /// Hash over the trace.
    pub trace_hash: u64,
    /// The trace, if it was to be kept.
    pub trace: String,
    /// The events, if they were to be kept.
    pub record: Option<Record>,
    /// What was injected.
    pub faults: FaultCounts,
    /// Processor time.
    pub cpu: Duration,
}

/// How much happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Inputs that machines handled.
    pub inputs: u64,
    /// Simulated milliseconds.
    pub simulated_ms: u64,
    /// Operations that users finished with success.
    pub done: u64,
    /// Operations refused for a reason that the model knows.
    pub refused: u64,
    /// Operations that failed without a change.
    pub failed: u64,
    /// Changes of unknown fate.
    pub unknown: u64,
    /// Calls on shared names whose answers were put in order.
    pub ordered: u64,
    /// Shared objects whose histories were too large to be judged.
    pub undecided: u64,
}

/// Runs a plan.
pub fn run(plan: &Plan, defects: Defects, trace: TraceMode) -> Report {
    run_watched(plan, defects, trace, |_| {})
}

/// Runs a plan; `watch` may set observers up once the cluster is started.
pub fn run_watched(
    plan: &Plan,
    defects: Defects,
    trace: TraceMode,
    watch: impl FnOnce(&Cluster) + Send + 'static,
) -> Report {
    let options = runtime_sim::Options { trace, ..cluster::options(&plan.shape) };
    let told = plan.clone();
    let violations = Violations::default();
    let found = violations.clone();
    let outcome = runtime_sim::run(plan.seed, options, async move |world| {
        let broken = found.clone();
        broken.none_during(story(world, told, defects, found, watch)).await.unwrap_or_default()
    });
    let mut all = violations.take();
    let mut figures =
        Figures { inputs: outcome.inputs, simulated_ms: outcome.simulated.as_ms(), ..Figures::default() };
    match outcome.result {
        Ok(told) => figures = Figures { inputs: figures.inputs, simulated_ms: figures.simulated_ms, ..told },
        Err(failure) if failure.limit => {
            all.push(Violation { checker: bounds::NAME.into(), text: failure.message });
        }
        Err(failure) => all.push(Violation { checker: "panic".into(), text: failure.to_string() }),
    }
    Report {
        seed: plan.seed,
        violations: all,
        figures,
        trace_hash: outcome.trace_hash,
        trace: outcome.trace,
        record: outcome.record,
        faults: outcome.faults,
        cpu: outcome.cpu,
    }
}

async fn story(
    world: World,
    plan: Plan,
    defects: Defects,
    violations: Violations,
    watch: impl FnOnce(&Cluster),
) -> Figures {
    let cluster = Cluster::start(&world, &plan.shape, defects);
    watch(&cluster);
    let told = world.clone();
    violations.listen(move |violation| told.broken(&violation.checker, &violation.text));
    ack_durability::watch(&cluster, &violations);
    alarms::watch(&cluster, &violations);
    beliefs::watch(&cluster, &violations);
    claims::watch(&cluster, &violations);
    commits::watch(&cluster, &violations);
    drops::watch(&cluster, &violations);
    group_ends::watch(&cluster, &violations);
    halts::watch(&cluster, &violations);
    journals::watch(&cluster, &violations);
    let known_damage = known_damage::watch(&cluster, &violations);
    comeback::watch(&cluster, known_damage, &violations);
    log_agreement::watch(&cluster, defects, &violations);
    one_primary::watch(&cluster, &violations);
    placement::watch(&cluster, &violations);
    primaries::watch(&cluster, &violations);
    purges::watch(&cluster, &violations);
    quarantine::watch(&cluster, &violations);
    removed::watch(&cluster, &violations);
    seal_basis::watch(&cluster, &violations);
    sessions::watch(&cluster, &violations);
    versions::watch(&cluster, &violations);
    votes::watch(&cluster, &violations);
    if !cluster.until_ready(START_WITHIN).await {
        violations.add(progress::NAME, format!("not ready after {} s", START_WITHIN.as_ms() / 1000));
        return Figures::default();
    }
    let shared_names = shared::names(plan.users.iter().flatten());
    if plan.users.iter().flatten().any(|step| shared::is_shared(&step.operation)) {
        make_shared_directory(&cluster, &violations).await;
    }
    let (recorder, progress) = (Recorder::default(), Progress::default());
    let users: Vec<_> = plan
        .users
        .iter()
        .enumerate()
        .map(|(i, steps)| {
            let client = cluster.clients[i % cluster.clients.len()].clone();
            let watched = Watched {
                user: i,
                recorder: recorder.clone(),
                progress: progress.clone(),
                violations: violations.clone(),
            };
            world.spawn(user(world.clone(), client, steps.clone(), watched))
        })
        .collect();
    nemesis::storm(&cluster, &plan.strikes, plan.chaos_ms).await;
    halts::check(&cluster, &violations);
    nemesis::heal(&cluster);
    world.note("healed");
    let watchdog = world.spawn(progress.clone().watchdog(world.clone(), violations.clone()));
    let mut figures = Figures::default();
    let mut models = Vec::new();
    for user in users {
        match user.await {
            Ok((model, told)) => {
                figures.done += told.done;
                figures.refused += told.refused;
                figures.failed += told.failed;
                figures.unknown += told.unknown;
                models.push(model);
            }
            Err(error) => violations.add(progress::NAME, format!("a user's task ended: {error}")),
        }
    }
    progress.over();
    // It only looks, and what it found is among the violations.
    let _ = watchdog.await;
    bounds::check_clients(&cluster, &violations);
    // Whoever walked away from a half-written file left its client running, which rightly keeps the upload alive.
    for client in &cluster.clients {
        world.kill(client.name());
        world.restart(client.name());
    }
    convergence::check(&cluster, &violations).await;
    settle(&cluster, &mut models, &violations).await;
    identical::check(&cluster, &violations);
    log_agreement::check(&cluster, defects, &violations);
    marked_log::check(&cluster, &violations).await;
    once::check(&cluster, &violations);
    let mut judgement = linearizability::check(&cluster, &shared_names, &recorder, &violations).await;
    if !violations.any() {
        // What was promised must also be there after everybody went down at once.
        let stranger = cluster.start_stranger(permissions::stranger());
        let drawn = (&mut Rng::stream(plan.seed, permissions::NAME), plan.keeps_trash());
        let guarded = permissions::prepare(&cluster.clients[0], &stranger, drawn, &violations).await;
        half_freed::watch(&cluster, &violations).await;
        let trashed = trash::prepare(&cluster, &violations).await;
        if !everybody_down(&cluster, plan.shape.is_relaxed()).await {
            violations.add(progress::NAME, "not everybody is ready again after all went down at once");
        }
        halts::check(&cluster, &violations);
        settle(&cluster, &mut models, &violations).await;
        if let Some(guarded) = guarded {
            permissions::check(&cluster.clients[0], &stranger, &guarded, &violations).await;
        }
        if let Some(trashed) = trashed {
            trash::check(&cluster, &trashed, &violations).await;
        }
        log_agreement::check(&cluster, defects, &violations);
        judgement = linearizability::check(&cluster, &shared_names, &recorder, &violations).await;
    }
    (figures.ordered, figures.undecided) = (judgement.calls as u64, judgement.undecided as u64);
    figures
}

/// Makes the directory in which users meet, before anything goes wrong.
async fn make_shared_directory(cluster: &Cluster, violations: &Violations) {
    let Some(client) = cluster.clients.first() else { return };
    let outcome = perform(client, &Operation::Mkdir { path: shared::ROOT.to_owned(), parents: true }).await;
    if outcome != Outcome::Done {
        violations.add(progress::NAME, format!("{} can't be made: {}", shared::ROOT, outcome.brief()));
    }
}

/// Where a user's doings are noted.
struct Watched {
    user: usize,
    recorder: Recorder,
    progress: Progress,
    violations: Violations,
}

/// One user's life. Returns what may be there now.
async fn user(world: World, client: ClientHandle, steps: Vec<Step>, watched: Watched) -> (Model, Figures) {
    let Watched { user, recorder, progress, violations } = watched;
    let who = format!("user{user}@{}", client.name());
    let mut model = Model::default();
    let mut figures = Figures::default();
    for step in steps {
        world.sleep(Span::from_ms(step.pause_ms)).await;
        while !world.is_up(client.name()) {
            world.sleep(Span::from_ms(20)).await;
        }
        if violations.any() {
            break;
        }
        if step.operation.is_change() && model.is_crowded() {
            continue;
        }
        let shared = shared::is_shared(&step.operation);
        progress.begins(user, step.operation.brief(), world.now());
        let asked = shared.then(|| recorder.ask(&who, &step.operation, world.now()));
        let outcome = perform(&client, &step.operation).await;
        progress.ended(user);
        match &outcome {
            Outcome::Refused(_) => figures.refused += 1,
            Outcome::Failed(_) => figures.failed += 1,
            Outcome::Unknown(_) => figures.unknown += 1,
            _ => figures.done += 1,
        }
        if let Some(asked) = asked {
            recorder.answer(asked, &outcome);
        }
        match outcome {
            Outcome::Broken(text) => violations.add("no-wrong-bytes", text),
            // What others do meanwhile no single user's model can know.
            _ if shared => {}
            outcome => {
                if let Err(text) = model.learn(&step.operation, &outcome) {
                    violations.add("namespace", text);
                }
            }
        }
    }
    (model, figures)
}

/// Compares everything that can be read with what may be there.
async fn settle(cluster: &Cluster, models: &mut [Model], violations: &Violations) {
    let Some(client) = cluster.clients.first() else { return };
    for (user, model) in models.iter_mut().enumerate() {
        namespace::check(client, user, model, violations).await;
    }
}

/// Takes the power, or under relaxed durability only the processes, from the whole cluster at once. Whether everybody is ready
/// again in time.
async fn everybody_down(cluster: &Cluster, gently: bool) -> bool {
    let world = &cluster.world;
    let servers = cluster.server_names();
    for node in servers.iter().map(String::as_str).chain([MASTER]) {
        if gently {
            world.kill(node);
        } else {
            world.power_cut(node);
        }
    }
    world.sleep(Span::from_ms(100)).await;
    for node in servers.iter().map(String::as_str).chain([MASTER]) {
        world.restart(node);
    }
    let are_ready = cluster.until_ready(START_WITHIN).await;
    world.sleep(Span::from_ms(cluster.shape.master.block_report_ms)).await;
    are_ready
}
