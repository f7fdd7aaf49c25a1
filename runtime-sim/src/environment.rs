//! What a node's loop sees of the world.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::task::Poll;

use cairn_core::driver::{Environment, Next};
use cairn_core::machine::{Effect, Input, Machine};
use cairn_core::time::Time;

use crate::event::Event;
use crate::held::Held;
use crate::node::{Item, NodeIx, UnderWay, fill};
use crate::trace;
use crate::world::{State, World, volume_of};

/// Inputs handled in a row before a wake that is due goes first.
const FAIRNESS: u32 = 64;

/// One process of one node.
pub(crate) struct SimEnvironment<M: Machine> {
    pub(crate) world: World,
    pub(crate) node: NodeIx,
    pub(crate) life: u64,
    effects: Vec<Effect<M::Response>>,
    /// Who sent the input that is being handled.
    origin: Option<NodeIx>,
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
            origin: None,
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
        let due = wake.is_some_and(|at| node.clock.read(now) >= at);
        if due && (self.in_a_row >= FAIRNESS || node.mailbox.is_empty()) {
            self.in_a_row = 0;
            self.origin = None;
            return Poll::Ready(Next::Due);
        }
        if let Some(item) = node.mailbox.pop_front() {
            self.in_a_row += 1;
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

/// Turns what waited in the mailbox into an input, and names who sent it.
fn take<M: Machine>(state: &mut State, node: NodeIx, item: Item) -> (Option<NodeIx>, Input<M::Request>)
where
    M::Request: 'static,
{
    match item {
        Item::Message { peer, sender, message } => (Some(sender), Input::Message { from: peer, message }),
        Item::Disk { op, result } => (None, Input::DiskDone { op, result }),
        Item::Lost { peer, other, link } => {
            state.on_loss_taken(node, &peer, link);
            (Some(other), Input::PeerLost { peer })
        }
        Item::Call { call, request } => {
            let request = request.downcast().expect("a call was made with another machine's request type");
            (None, Input::Call { call, request: *request })
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
        let own = &state.nodes[usize::from(self.node)].name;
        let other = self.origin.map(|ix| &state.nodes[usize::from(ix)].name);
        if state.trace.is_on() {
            trace::input(&mut state.trace, now, own, other.map(|name| &**name), input);
        }
        if let (true, Input::Message { message, .. }, Some(from)) = (state.watches_messages, input, other) {
            let (own, from) = (own.clone(), from.clone());
            drop(guard);
            self.world.show_message(now, &from, &own, message);
        }
    }

    fn perform(&mut self, effect: Effect<M::Response>) {
        self.effects.push(effect);
    }

    fn settle(&mut self, machine: &Held<M>) {
        if !self.effects.is_empty() {
            let now = self.world.now();
            let mut state = self.world.lock();
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
    }
}

impl State {
    fn perform<R: Send + 'static>(&mut self, now: Time, ix: NodeIx, effect: Effect<R>) {
        match effect {
            Effect::Send { to, message } => self.send(now, ix, to, message),
            Effect::Close { peer } => self.close(now, ix, &peer),
            Effect::Disk { op, request } => {
                let node = &mut self.nodes[usize::from(ix)];
                let volume = usize::from(volume_of(&request));
                let Some(disk) = node.volumes.get(volume) else {
                    panic!("{} has no volume {volume}", node.name);
                };
                let wait = crate::disk::latency(&request, &disk.faults, &mut node.disk_rng);
                let number = node.next_op;
                node.next_op += 1;
                node.under_way.insert(number, UnderWay { op, mark: disk.mark(), request });
                self.events.at(now + wait, Event::Disk { node: ix, life: node.life, op: number });
            }
            Effect::Reply { call, response } => {
                let node = &mut self.nodes[usize::from(ix)];
                if self.trace.is_on() {
                    trace::reply(&mut self.trace, now, &node.name, call, &response as &dyn Any);
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
