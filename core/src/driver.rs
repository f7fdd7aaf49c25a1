//! The one loop that feeds a machine, used by both runtimes, so that simulation covers it too.

use core::future::Future;

use crate::machine::{Effect, Effects, Input, Machine};
use crate::time::Time;

/// What a runtime gives to the loop: one mailbox, a clock, and hands.
pub trait Environment<M: Machine> {
    /// The node's monotonic clock.
    fn now(&self) -> Time;

    /// The next thing from the mailbox, or [`Next::Due`] once the clock reaches `wake`. An input that is there already goes
    /// before a wake that is due, unless the runtime decides otherwise to be fair.
    fn next(&mut self, wake: Option<Time>) -> impl Future<Output = Next<M::Request>> + Send;

    /// Called before the machine sees an input: tracing.
    fn observe(&mut self, now: Time, input: &Input<M::Request>);

    /// Carries out an effect, or starts to. Must not block.
    fn perform(&mut self, effect: Effect<M::Response>);

    /// Called when everything from one input was performed: a place to flush what `perform` collected.
    fn settle(&mut self, machine: &M);
}

/// What the mailbox yields.
#[derive(Debug)]
pub enum Next<Q> {
    /// An input.
    Input(Input<Q>),
    /// The time has come.
    Due,
    /// The process ends.
    Stop,
}

/// Runs `machine` until it halts or the environment stops. Returns the reason and whether it is a failure.
pub async fn drive<M: Machine, E: Environment<M>>(
    machine: &mut M,
    env: &mut E,
) -> Option<(alloc::string::String, bool)> {
    let mut effects = Effects::default();
    let mut first = true;
    loop {
        let wake = machine.next_wake().map(|(at, _)| at);
        let input = if first {
            Input::Wake
        } else {
            match env.next(wake).await {
                Next::Input(input) => input,
                Next::Due => Input::Wake,
                Next::Stop => return None,
            }
        };
        first = false;
        let now = env.now();
        env.observe(now, &input);
        machine.handle(now, input, &mut effects);
        let mut halt = None;
        for effect in effects.drain() {
            match effect {
                Effect::Halt { reason, failed } => halt = Some((reason, failed)),
                effect => env.perform(effect),
            }
        }
        env.settle(machine);
        if halt.is_some() {
            return halt;
        }
    }
}
