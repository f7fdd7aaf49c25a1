//! Checkers' eyes: machines after each input, messages as they are handled, and a look between inputs.

use std::any::{Any, TypeId};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_core::chunkserver::Chunkserver;
use cairn_core::disk::DiskRequest;
use cairn_core::id::{Peer, ProcessId};
use cairn_core::master::Master;
use cairn_core::message::Message;
use cairn_core::time::Time;

use super::World;
use crate::held::Held;
use crate::node::NodeIx;

type MachineWatch = Box<dyn FnMut(Time, &str, &dyn Any) + Send>;
type SendWatch = Box<dyn FnMut(Time, &str, ProcessId, &Peer, &Message) + Send>;
type DiskWatch = Box<dyn FnMut(Time, &str, &DiskRequest) + Send>;
type MessageWatch = Box<dyn FnMut(Time, &str, &str, &Message) + Send>;
type ArrivalWatch = Box<dyn FnMut(&str, ProcessId, &Peer, &Message) + Send>;

/// All observers. They may use the world, except for [`World::inspect`] of the machine they are shown.
#[derive(Default)]
pub(super) struct Observers {
    machines: Vec<(TypeId, MachineWatch)>,
    messages: Vec<MessageWatch>,
    arrivals: Vec<ArrivalWatch>,
    sends: Vec<SendWatch>,
    disks: Vec<DiskWatch>,
}

impl World {
    /// Shows each machine of type `M` to `watch` after each of its inputs, when its effects are under way, with the true
    /// time and the node's name.
    pub fn observe<M: 'static>(&self, mut watch: impl FnMut(Time, &str, &M) + Send + 'static) {
        let watch: MachineWatch = Box::new(move |now, name, machine| {
            watch(now, name, machine.downcast_ref().expect("it was chosen by its type"));
        });
        let mut observers = self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observers.machines.push((TypeId::of::<M>(), watch));
        self.inner.watched.store(true, Ordering::Relaxed);
    }

    /// Shows each master after each input.
    pub fn observe_master(&self, mut watch: impl FnMut(Time, &Master) + Send + 'static) {
        self.observe::<Master>(move |now, _, master| watch(now, master));
    }

    /// Shows each chunkserver after each input.
    pub fn observe_chunkserver(&self, watch: impl FnMut(Time, &str, &Chunkserver) + Send + 'static) {
        self.observe::<Chunkserver>(watch);
    }

    /// Shows each message when its receiver is about to handle it: true time, sender, receiver.
    pub fn observe_messages(&self, watch: impl FnMut(Time, &str, &str, &Message) + Send + 'static) {
        let mut observers = self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observers.messages.push(Box::new(watch));
        drop(observers);
        self.lock().watches_messages = true;
    }

    /// Shows each message when its receiver is about to handle it, as the receiver sees it: receiver, its process, and the
    /// connection that it came by.
    pub fn observe_arrivals(&self, watch: impl FnMut(&str, ProcessId, &Peer, &Message) + Send + 'static) {
        let mut observers = self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observers.arrivals.push(Box::new(watch));
        drop(observers);
        self.lock().watches_messages = true;
    }

    /// Shows each message as it is sent, whether or not it arrives: true time, sender, its process, and to whom.
    pub fn observe_sends(&self, watch: impl FnMut(Time, &str, ProcessId, &Peer, &Message) + Send + 'static) {
        let mut observers = self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observers.sends.push(Box::new(watch));
        drop(observers);
        self.lock().watches_effects = true;
    }

    /// Shows each disk operation as it is asked for, before it is carried out: true time, and the node's name.
    pub fn observe_disks(&self, watch: impl FnMut(Time, &str, &DiskRequest) + Send + 'static) {
        let mut observers = self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner);
        observers.disks.push(Box::new(watch));
        drop(observers);
        self.lock().watches_effects = true;
    }

    /// Looks at a machine between two inputs; `None` if it does not run or is not an `M`.
    pub fn inspect<M: Send + 'static, R>(&self, name: &str, look: impl FnOnce(&M) -> R) -> Option<R> {
        let machine: Arc<dyn Any + Send + Sync> = self.lock().node(name).machine.clone()?;
        let machine = machine.downcast::<Mutex<M>>().ok()?;
        let machine = machine.lock().unwrap_or_else(PoisonError::into_inner);
        Some(look(&machine))
    }

    pub(crate) fn show_machine<M: Send + 'static>(&self, node: NodeIx, machine: &Held<M>) {
        let now = self.now();
        let name = self.lock().nodes[usize::from(node)].name.clone();
        let machine = machine.look();
        let mut observers = self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, watch) in observers.machines.iter_mut().filter(|(kind, _)| *kind == TypeId::of::<M>()) {
            watch(now, &name, &*machine as &dyn Any);
        }
    }

    pub(crate) fn show_message(
        &self,
        now: Time,
        from: &str,
        (to, process, peer): (&str, ProcessId, &Peer),
        message: &Message,
    ) {
        let mut observers = self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner);
        for watch in &mut observers.messages {
            watch(now, from, to, message);
        }
        for watch in &mut observers.arrivals {
            watch(to, process, peer, message);
        }
    }

    pub(crate) fn show_disk(&self, now: Time, node: &str, request: &DiskRequest) {
        let mut observers = self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner);
        for watch in &mut observers.disks {
            watch(now, node, request);
        }
    }

    pub(crate) fn show_send(&self, now: Time, from: &str, process: ProcessId, to: &Peer, message: &Message) {
        let mut observers = self.inner.observers.lock().unwrap_or_else(PoisonError::into_inner);
        for watch in &mut observers.sends {
            watch(now, from, process, to, message);
        }
    }
}
