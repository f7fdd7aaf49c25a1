//! The world: a cheap handle for stories, checkers and the simulator's own tasks.

mod comeback;
mod disks;
mod lifecycle;
mod links;
mod watch;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use cairn_core::disk::DiskRequest;
use cairn_core::id::CallId;
use cairn_core::rng::Rng;
use cairn_core::time::{Span, Time};
use madsim::runtime::{Handle, NodeHandle};
use madsim::time::{Instant, Sleep, TimeHandle};

use crate::disk::Damage;
use crate::event::Events;
use crate::network::Network;
use crate::node::{Item, Node, NodeIx, Slot};
use crate::options::{Options, TraceMode};
use crate::outcome::FaultCounts;
use crate::trace::Trace;
use watch::Observers;

pub use comeback::{Again, Comeback, Crash};

/// A simulated world. Clones are handles to the same one.
///
/// Nodes go by their names; a name that no node has is a mistake in the story and panics.
#[derive(Clone)]
pub struct World {
    inner: Arc<Inner>,
}

struct Inner {
    seed: u64,
    time: TimeHandle,
    handle: Handle,
    /// Where stories' own tasks run.
    tasks: NodeHandle,
    state: Mutex<State>,
    observers: Mutex<Observers>,
    watched: AtomicBool,
    records: bool,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "World(seed {}, {})", self.inner.seed, self.now())
    }
}

/// Everything that changes.
pub(crate) struct State {
    pub(crate) options: Options,
    pub(crate) nodes: Vec<Node>,
    pub(crate) by_name: BTreeMap<Arc<str>, NodeIx>,
    pub(crate) events: Events,
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    pub(crate) faults: FaultCounts,
    pub(crate) damage: Vec<Damage>,
    /// Nodes whose machines ended as a failure, and why.
    failures: Vec<(String, String)>,
    /// Files and directories of which an operation, lists aside, was made to fail.
    pub(crate) failed_paths: BTreeSet<(NodeIx, u16, Arc<str>)>,
    pub(crate) watches_messages: bool,
    pub(crate) watches_effects: bool,
    pub(crate) stopping: bool,
    /// Nodes whose disk operation came at which they die, and whether their power goes too.
    pub(crate) doomed: Vec<(NodeIx, bool)>,
    /// Inputs that all nodes' machines handled.
    pub(crate) inputs: u64,
    /// The run ends because it grew beyond a limit.
    pub(crate) outgrown: bool,
    next_call: u64,
}

/// Which volume an operation is about.
pub(crate) fn volume_of(request: &DiskRequest) -> u16 {
    if let DiskRequest::Rename { from, to } = request {
        assert!(from.volume == to.volume, "a rename from one volume to another: {from} to {to}");
    }
    match request {
        DiskRequest::Space { volume } => *volume,
        request => request.path().map_or(0, |path| path.volume),
    }
}

impl State {
    /// Which limit the run is beyond.
    pub(crate) fn outgrows(&self) -> Option<String> {
        let (options, trace) = (&self.options, self.trace.length());
        if self.inputs > options.inputs_limit {
            Some(format!("the run goes on after {} inputs of its machines", options.inputs_limit))
        } else if self.events.len() > options.events_limit {
            Some(format!("more than {} messages, operations and wakings are under way", options.events_limit))
        } else if trace > options.trace_limit {
            Some(format!("the trace is longer than {} bytes", options.trace_limit))
        } else {
            None
        }
    }

    pub(crate) fn ix(&self, name: &str) -> NodeIx {
        *self.by_name.get(name).unwrap_or_else(|| panic!("no node is called {name:?}"))
    }

    pub(crate) fn node(&mut self, name: &str) -> &mut Node {
        let ix = self.ix(name);
        &mut self.nodes[usize::from(ix)]
    }
}

impl World {
    pub(crate) fn new(seed: u64, options: Options) -> World {
        let handle = Handle::current();
        let tasks = handle.create_node().name("story").build();
        let records = options.trace == TraceMode::Events;
        let state = State {
            network: Network::new(seed, options.link),
            trace: Trace::new(options.trace),
            options,
            nodes: Vec::new(),
            by_name: BTreeMap::new(),
            events: Events::default(),
            faults: FaultCounts::default(),
            damage: Vec::new(),
            failures: Vec::new(),
            failed_paths: BTreeSet::new(),
            watches_messages: false,
            watches_effects: false,
            stopping: false,
            doomed: Vec::new(),
            inputs: 0,
            outgrown: false,
            next_call: 0,
        };
        World {
            inner: Arc::new(Inner {
                seed,
                time: TimeHandle::current(),
                handle,
                tasks,
                state: Mutex::new(state),
                observers: Mutex::default(),
                watched: AtomicBool::new(false),
                records,
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.inner.watched.load(Ordering::Relaxed)
    }

    /// Whether events are kept.
    pub(crate) fn records(&self) -> bool {
        self.inner.records
    }

    /// What the run was started from.
    pub fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// True time since the run began.
    pub fn now(&self) -> Time {
        Time(self.inner.time.elapsed().as_nanos() as u64)
    }

    /// A stream of random numbers for `purpose`, independent of all others of this run.
    pub fn rng(&self, purpose: &str) -> Rng {
        Rng::stream(self.inner.seed, purpose)
    }

    /// Waits in true time, at least a millisecond.
    pub async fn sleep(&self, span: Span) {
        self.inner.time.sleep(Duration::from_nanos(span.0)).await;
    }

    /// Waits in true time, to the nanosecond.
    pub async fn sleep_exactly(&self, span: Span) {
        if span.0 > 0 {
            let until = Instant::now() + Duration::from_nanos(span.0);
            let mut sleep = Box::pin(self.inner.time.sleep(Duration::ZERO));
            // `sleep` rounds up to a millisecond; `reset` does not.
            Sleep::reset(sleep.as_mut(), until);
            sleep.await;
        }
    }

    /// Waits until `condition` holds, looking every 10 ms; false if it did not `within` that time.
    pub async fn eventually(&self, within: Span, mut condition: impl FnMut() -> bool) -> bool {
        let deadline = self.now() + within;
        loop {
            if condition() {
                return true;
            }
            if self.now() >= deadline {
                return false;
            }
            self.sleep(Span::from_ms(10)).await;
        }
    }

    /// Starts a task of the story; it ends with the run.
    pub fn spawn<F>(&self, task: F) -> madsim::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.inner.tasks.spawn(task)
    }

    /// Writes a line into the trace.
    pub fn note(&self, text: impl Display) {
        let now = self.now();
        self.lock().trace.line(now, "world", format_args!("! {text}"));
    }

    /// Writes into the trace that a promise is broken.
    pub fn broken(&self, checker: &str, text: &str) {
        let now = self.now();
        self.lock().trace.broken(now, checker, text);
    }

    /// How many events were kept so far: 0 unless they are.
    pub fn happenings(&self) -> usize {
        self.lock().trace.recorder.as_ref().map_or(0, |recorder| recorder.len())
    }

    /// What has been injected so far.
    pub fn fault_counts(&self) -> FaultCounts {
        self.lock().faults
    }

    /// Calls the machine `name` as its hosting process would, and waits for the answer; `None` if the process is not there
    /// or dies. `Q` and `R` are the machine's request and response types.
    pub async fn call<Q: Send + 'static, R: Send + 'static>(&self, name: &str, request: Q) -> Option<R> {
        let slot = Arc::new(Mutex::new(Slot::default()));
        {
            let mut state = self.lock();
            state.next_call += 1;
            let call = CallId(state.next_call);
            let node = state.node(name);
            if !node.runs() {
                return None;
            }
            node.calls.insert(call, slot.clone());
            node.deliver(Item::Call { call, request: Box::new(request) });
        }
        let answer: Option<Box<dyn Any + Send>> = poll_fn(|context| {
            let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
            match slot.value.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    slot.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        answer.map(|answer| *answer.downcast().expect("a call expected another machine's response type"))
    }

    /// Ends all nodes and tasks, and lets the executor drop them: a runtime that is dropped with tasks pending leaks them.
    pub(crate) async fn shut_down(&self) {
        let nodes: Vec<_> = {
            let mut state = self.lock();
            state.stopping = true;
            state.watches_messages = false;
            state.watches_effects = false;
            state.events.clear();
            state.network.connections.clear();
            for node in &mut state.nodes {
                node.forget_process();
                node.spawn = None;
                node.volumes.clear();
                node.under_way.clear();
            }
            if let Some(pump) = state.events.pump.take() {
                pump.wake();
            }
            state.nodes.iter().map(|node| node.madsim).collect()
        };
        self.inner.watched.store(false, Ordering::Relaxed);
        *self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner) = Observers::default();
        for node in nodes {
            self.inner.handle.kill(node);
        }
        self.inner.handle.kill(self.inner.tasks.id());
        self.inner.time.sleep(Duration::from_secs(20)).await;
    }
}
