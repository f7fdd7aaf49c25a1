//! The one task that makes events happen: it sleeps until the next one is due. Nodes are woken by it, never by timers of
//! their own.

use std::collections::BinaryHeap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use cairn_core::disk::DiskRequest;
use cairn_core::time::Time;
use madsim::time::{Instant, Sleep};

use crate::disk::Hands;
use crate::event::Event;
use crate::node::{Item, NodeIx};
use crate::world::{State, World};

/// Runs until the world stops.
pub(crate) async fn pump(world: World) {
    let zero = Instant::now() - Duration::from_nanos(world.now().0);
    let mut sleep = Box::pin(madsim::time::sleep(Duration::ZERO));
    // Timers can't be taken back: when to be woken is in here until then, and only an earlier time needs another timer.
    let mut timers: BinaryHeap<std::cmp::Reverse<u64>> = BinaryHeap::new();
    poll_fn(move |context| {
        loop {
            let mut state = world.lock();
            if state.stopping {
                return Poll::Ready(());
            }
            let now = world.now();
            while timers.peek().is_some_and(|at| at.0 <= now.0) {
                timers.pop();
            }
            while let Some(event) = state.events.due(now) {
                state.happen(now, event);
                if !state.doomed.is_empty() {
                    drop(state);
                    world.crash_doomed();
                    state = world.lock();
                }
            }
            let next = state.events.next_at();
            state.events.pump = Some(context.waker().clone());
            state.events.pump_looks_at = next;
            drop(state);
            let Some(next) = next else { return Poll::Pending };
            if timers.peek().is_some_and(|at| at.0 <= next) {
                return Poll::Pending;
            }
            timers.push(std::cmp::Reverse(next));
            // `sleep` rounds up to a millisecond; `reset` does not.
            Sleep::reset(sleep.as_mut(), zero + Duration::from_nanos(next));
            if Pin::as_mut(&mut sleep).poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

impl State {
    fn happen(&mut self, now: Time, event: Event) {
        match event {
            Event::Arrive { link, from } => self.on_arrive(now, link, from),
            Event::Release { link, from } => self.on_release(now, link, from),
            Event::Connect { link } => self.on_connect(now, link),
            Event::Lost { link, end } => self.on_lost(link, end),
            Event::GiveUp { link } => self.on_give_up(now, link),
            Event::Disk { node, life, op } => self.on_disk(now, node, life, op),
            Event::Wake { node, life, armed } => self.on_wake(node, life, armed),
        }
    }

    fn on_disk(&mut self, now: Time, ix: NodeIx, life: u64, op: u64) {
        let node = &mut self.nodes[usize::from(ix)];
        if node.life != life {
            return;
        }
        let Some(waiting) = node.under_way.get(&op) else { return };
        if node.sync_hangs(&waiting.request) {
            node.stuck.push(op);
            self.faults.stuck_syncs += 1;
            return;
        }
        let Some(under_way) = node.under_way.remove(&op) else { return };
        let volume = crate::world::volume_of(&under_way.request);
        let Some(disk) = node.volumes.get_mut(usize::from(volume)) else {
            panic!("{} has no volume {volume}", node.name);
        };
        let is_list = matches!(under_way.request, DiskRequest::List(_));
        let names = match &under_way.request {
            DiskRequest::Write { create, .. } => *create,
            request => matches!(request, DiskRequest::MakeDir(_) | DiskRequest::Rename { .. }),
        };
        let (rng, counts) = (&mut node.disk_rng, &mut self.faults);
        let mut hands = Hands { rng, counts, sync_lost: false, failed: None };
        let result = disk.execute(under_way.request, under_way.mark, &mut hands);
        let sync_lost = hands.sync_lost;
        if let Some(path) = hands.failed {
            self.failed_paths.insert((ix, volume, path));
        }
        if let Some(doom) = node.doom.as_mut().filter(|doom| names || !doom.naming) {
            doom.left -= 1;
            if doom.left == 0 {
                self.doomed.push((ix, doom.power));
                node.doom = None;
            }
        }
        let item = Item::Disk { op: under_way.op, result, begun: under_way.begun };
        if is_list && node.lists_hang(volume) && node.disk_rng.chance(1, 2) {
            node.stuck_lists.push((volume, item));
            self.faults.stuck_lists += 1;
        } else {
            node.deliver(item);
        }
        if sync_lost {
            self.record_sync_loss(now, ix, volume);
        }
    }

    fn on_wake(&mut self, ix: NodeIx, life: u64, armed: u64) {
        let node = &mut self.nodes[usize::from(ix)];
        if node.life == life && node.armed == armed {
            node.armed_at = None;
            if let Some(waker) = node.waker.take() {
                waker.wake();
            }
        }
    }
}
