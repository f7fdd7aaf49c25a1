//! What a node's loop sees of the world.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::sync::Mutex;
use std::task::Poll;

use cairn_core::driver::{Environment, Next};
use cairn_core::machine::{Effect, Input, Machine};
use cairn_core::time::Time;

use crate::conditions::conditions;
use crate::event::Event;
use crate::held::Held;
use crate::node::{Item, Node, NodeIx, UnderWay, fill};
use crate::record::What;
use crate::trace::{self, Origin};
use crate::world::{State, World, volume_of};

/// Inputs handled in a row before a wake that is due goes first.
const FAIRNESS: u32 = 64;

/// One process of one node.
pub(crate) struct SimEnvironment<M: Machine> {
    pub(crate) world: World,
    pub(crate) node: NodeIx,
    pub(crate) life: u64,
    effects: Vec<Effect<M::Response>>,
    /// Where the input that is being handled came from.
    origin: Origin,
    in_a_row: u32,
    machine: PhantomData<fn() -> M>,
}

impl<M: Machine> SimEnvironment<M> {
    pub(crate) fn new(world: World, node: NodeIx, life: u64) -> Self {
        SimEnvironment {
            world,
            node,
            life,
            effects: Vec::new(),
            origin: Origin::default(),
            in_a_row: 0,
            machine: PhantomData,
        }
    }

    fn poll(&mut self, wake: Option<Time>, waker: &std::task::Waker) -> Poll<Next<M::Request>>
    where
        M::Request: 'static,
    {
        let now = self.world.now();
        let mut state = self.world.lock();
        let node = &mut state.nodes[usize::from(self.node)];
        if node.life != self.life {
            // Killed from within: madsim drops this task soon.
            return Poll::Pending;
        }
        if now < node.busy_until {
            let until = node.busy_until;
            node.waker = Some(waker.clone());
            if node.armed_at != Some(until.0) {
                node.armed += 1;
                node.armed_at = Some(until.0);
                let event = Event::Wake { node: self.node, life: self.life, armed: node.armed };
                state.events.at(until, event);
            }
            return Poll::Pending;
        }
        let due = wake.is_some_and(|at| node.clock.read(now) >= at);
        if due && (self.in_a_row >= FAIRNESS || node.mailbox.is_empty()) {
            self.in_a_row = 0;
            self.origin = Origin::default();
            return Poll::Ready(Next::Due);
        }
        if let Some(item) = node.mailbox.pop_front() {
            self.in_a_row += 1;
            node.busy_until = now + node.slowness;
            let (origin, input) = take::<M>(&mut state, self.node, item);
            drop(state);
            self.origin = origin;
            return Poll::Ready(Next::Input(input));
        }
        self.in_a_row = 0;
        node.waker = Some(waker.clone());
        let at = wake.and_then(|at| node.clock.when(at));
        if node.armed_at != at.map(|at| at.0) {
            node.armed += 1;
            node.armed_at = at.map(|at| at.0);
            let event = Event::Wake { node: self.node, life: self.life, armed: node.armed };
            if let Some(at) = at {
                state.events.at(at, event);
            }
        }
        Poll::Pending
    }
}

/// Turns what waited in the mailbox into an input, and tells where it came from.
fn take<M: Machine>(state: &mut State, node: NodeIx, item: Item) -> (Origin, Input<M::Request>)
where
    M::Request: 'static,
{
    match item {
        Item::Message { peer, sender, message, sent } => {
            (Origin { node: Some(sender), cause: sent }, Input::Message { from: peer, message })
        }
        Item::Disk { op, result, begun } => {
            (Origin { node: None, cause: begun }, Input::DiskDone { op, result })
        }
        Item::Lost { peer, other, link } => {
            state.on_loss_taken(node, &peer, link);
            (Origin { node: Some(other), cause: None }, Input::PeerLost { peer })
        }
        Item::Call { call, request } => {
            let request = request.downcast().expect("a call was made with another machine's request type");
            (Origin::default(), Input::Call { call, request: *request })
        }
    }
}

impl<M> Environment<Held<M>> for SimEnvironment<M>
where
    M: Machine + Send + 'static,
    M::Request: Send + 'static,
    M::Response: Send + 'static,
{
    fn now(&self) -> Time {
        self.world.lock().nodes[usize::from(self.node)].clock.read(self.world.now())
    }

    fn next(&mut self, wake: Option<Time>) -> impl Future<Output = Next<M::Request>> + Send {
        poll_fn(move |context| self.poll(wake, context.waker()))
    }

    fn observe(&mut self, _now: Time, input: &Input<M::Request>) {
        let now = self.world.now();
        let mut guard = self.world.lock();
        let state = &mut *guard;
        state.nodes[usize::from(self.node)].inputs += 1;
        state.inputs += 1;
        if let Some(text) = state.outgrows() {
            state.outgrown = true;
            drop(guard);
            panic!("{text}");
        }
        let process = state.nodes[usize::from(self.node)].process;
        let own = &state.nodes[usize::from(self.node)].name;
        let other = self.origin.node.map(|ix| &state.nodes[usize::from(ix)].name);
        if state.trace.is_on() {
            let line = trace::input(&mut state.trace, now, own, other.map(|name| &**name), input);
            if let Some(recorder) = &mut state.trace.recorder {
                if recorder.wants_conditions() {
                    recorder.conditions(conditions(&state.nodes, &state.network, &state.options));
                }
                let why = || wake_reason::<M>(&state.nodes[usize::from(self.node)]);
                let what = trace::event(self.origin, why, input);
                recorder.input(now, self.node, self.origin.cause, what, line);
            }
        }
        if let (true, Input::Message { from: peer, message }, Some(from)) =
            (state.watches_messages, input, other)
        {
            let (own, from) = (own.clone(), from.clone());
            drop(guard);
            self.world.show_message(now, &from, (&own, process, peer), message);
        }
    }

    fn perform(&mut self, effect: Effect<M::Response>) {
        self.effects.push(effect);
    }

    fn settle(&mut self, machine: &Held<M>) {
        if !self.effects.is_empty() {
            let now = self.world.now();
            let mut state = self.world.lock();
            if state.watches_effects {
                let node = &state.nodes[usize::from(self.node)];
                let (name, process) = (node.name.clone(), node.process);
                drop(state);
                for effect in &self.effects {
                    match effect {
                        Effect::Send { to, message } => {
                            self.world.show_send(now, &name, process, to, message);
                        }
                        Effect::Disk { request, .. } => self.world.show_disk(now, &name, request),
                        _ => {}
                    }
                }
                state = self.world.lock();
            }
            let alive = state.nodes[usize::from(self.node)].life == self.life;
            for effect in self.effects.drain(..) {
                if alive {
                    state.perform(now, self.node, effect);
                }
            }
        }
        if self.world.is_watched() {
            self.world.show_machine(self.node, machine);
        }
        if self.world.records()
            && let Some(recorder) = &mut self.world.lock().trace.recorder
        {
            recorder.settle();
        }
    }
}

/// Why the machine of a node asked to be woken.
fn wake_reason<M: Machine + Send + 'static>(node: &Node) -> &'static str {
    let machine = node.machine.as_ref().and_then(|machine| machine.clone().downcast::<Mutex<M>>().ok());
    let wake = machine.and_then(|machine| Held(machine).next_wake());
    wake.map_or("start", |(_, reason)| reason)
}

impl State {
    fn perform<R: Send + 'static>(&mut self, now: Time, ix: NodeIx, effect: Effect<R>) {
        match effect {
            Effect::Send { to, message } => {
                self.trace.absorb(&(now.0, ix, &to, &message));
                self.send(now, ix, to, message);
            }
            Effect::Close { peer } => {
                self.trace.absorb(&(now.0, ix, &peer));
                self.close(now, ix, &peer);
            }
            Effect::Disk { op, request } => {
                self.trace.absorb(&(now.0, ix, op, &request));
                let node = &mut self.nodes[usize::from(ix)];
                let volume = usize::from(volume_of(&request));
                let Some(disk) = node.volumes.get(volume) else {
                    panic!("{} has no volume {volume}", node.name);
                };
                let wait = crate::disk::latency(&request, &disk.faults, &mut node.disk_rng);
                let number = node.next_op;
                node.next_op += 1;
                let begun = self.trace.recorder.as_mut().map(|recorder| {
                    recorder.effect(now, ix, What::DiskBegun { op, request: Box::new(request.clone()) })
                });
                node.under_way.insert(number, UnderWay { op, mark: disk.mark(), request, begun });
                self.events.at(now + wait, Event::Disk { node: ix, life: node.life, op: number });
            }
            Effect::Reply { call, response } => {
                let node = &mut self.nodes[usize::from(ix)];
                if self.trace.is_on() {
                    trace::reply(&mut self.trace, now, ix, &node.name, call, &response as &dyn Any);
                }
                if let Some(slot) = node.calls.remove(&call) {
                    fill(&slot, Some(Box::new(response)));
                }
            }
            Effect::Note { level, text } => {
                let name = self.nodes[usize::from(ix)].name.clone();
                self.trace.line(now, &name, format_args!("! {level:?}: {text}"));
            }
            Effect::Halt { .. } => unreachable!("the driver keeps halts"),
        }
    }
}
