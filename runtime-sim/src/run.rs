//! One seed, one fresh thread, one world.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::time::Duration;

use cairn_core::time::Span;
use madsim::runtime::Runtime;

use crate::options::Options;
use crate::outcome::{Failure, FaultCounts, Outcome};
use crate::pump::pump;
use crate::world::World;

thread_local! {
    static SIMULATES: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<Failure>> = const { RefCell::new(None) };
}

/// Stack of a run's thread: deep recursion in a machine should fail here as it would in a daemon.
const STACK_BYTES: usize = 8 << 20;

/// Runs `story` in a new world made from `seed`, on a thread of its own (madsim seeds hash maps once for each thread), and
/// waits for its end. A panic anywhere in the run ends it and is returned.
///
/// # Panics
/// If no thread can be started.
pub fn run<T, F, Fut>(seed: u64, options: Options, story: F) -> Outcome<T>
where
    F: FnOnce(World) -> Fut + Send + 'static,
    Fut: Future<Output = T> + 'static,
    T: Send + 'static,
{
    keep_panics_quiet();
    std::thread::Builder::new()
        .name(format!("seed-{seed}"))
        .stack_size(STACK_BYTES)
        .spawn(move || run_here(seed, options, story))
        .expect("threads can be started")
        .join()
        .expect("run_here catches panics")
}

fn run_here<T, F, Fut>(seed: u64, options: Options, story: F) -> Outcome<T>
where
    F: FnOnce(World) -> Fut,
    Fut: Future<Output = T> + 'static,
{
    SIMULATES.set(true);
    let cpu_before = cpu_time();
    let limit = Duration::from_nanos(options.simulated_limit.0);
    let mut runtime = Runtime::with_seed_and_config(seed, madsim::Config::default());
    runtime.set_time_limit(limit);
    let world = runtime.block_on(async move { World::new(seed, options) });
    let told = catch_unwind(AssertUnwindSafe(|| {
        let world = world.clone();
        runtime.block_on(async move {
            madsim::task::spawn(pump(world.clone()));
            story(world).await
        })
    }));
    let result = told.map_err(|_| {
        let unknown =
            || Failure { message: "unknown panic".into(), location: "unknown".into(), limit: false };
        let failure = PANIC.take().unwrap_or_else(unknown);
        Failure { limit: world.lock().outgrown, ..failure }
    });
    let simulated = Span(world.now().0);
    let mut outcome = Outcome {
        seed,
        result,
        inputs: 0,
        inputs_by_node: BTreeMap::new(),
        trace_hash: 0,
        trace: String::new(),
        record: None,
        simulated,
        cpu: Duration::ZERO,
        faults: FaultCounts::default(),
    };
    {
        let mut state = world.lock();
        outcome.inputs_by_node =
            state.nodes.iter().map(|node| (node.name.to_string(), node.inputs)).collect();
        outcome.inputs = outcome.inputs_by_node.values().sum();
        outcome.trace_hash = state.trace.hash();
        outcome.trace = state.trace.take();
        outcome.record = state.trace.take_record(world.now());
        outcome.faults = state.faults;
    }
    runtime.set_time_limit(Duration::MAX);
    // A second panic, from a task that the first left half done, tells nothing new.
    let _ = catch_unwind(AssertUnwindSafe(|| runtime.block_on(world.shut_down())));
    drop(world);
    drop(runtime);
    outcome.cpu = cpu_time().saturating_sub(cpu_before);
    SIMULATES.set(false);
    outcome
}

/// Panics on simulation threads are kept for the outcome instead of being printed.
fn keep_panics_quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !SIMULATES.get() {
                before(info);
                return;
            }
            let payload = info.payload();
            let message = payload
                .downcast_ref::<&str>()
                .map(|text| (*text).to_string())
                .or_else(|| payload.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "panic without a message".into());
            let location =
                info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
            PANIC.with_borrow_mut(|kept| {
                kept.get_or_insert(Failure { message, location, limit: false });
            });
        }));
    });
}

/// Processor time of this thread; the clocks would be madsim's.
fn cpu_time() -> Duration {
    let nanos = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    Duration::from_nanos(nanos)
}
