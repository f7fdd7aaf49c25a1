//! Nodes are born, die, lose power, freeze and come back.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use cairn_core::chunkserver::Chunkserver;
use cairn_core::client::{Client, ClientSetup};
use cairn_core::config::{ChunkserverConfig, ClientConfig, MasterConfig};
use cairn_core::defect::Defects;
use cairn_core::driver::drive;
use cairn_core::id::{Address, BootId, ProcessId};
use cairn_core::machine::Machine;
use cairn_core::master::{Master, MasterSetup};
use cairn_core::message::Identity;
use cairn_core::rng::Rng;
use cairn_core::time::{Span, Time};

use super::comeback::interrupt;
use super::{State, World};
use crate::client::ClientHandle;
use crate::clock::Clock;
use crate::disk::Volume;
use crate::environment::SimEnvironment;
use crate::held::Held;
use crate::node::{Birth, Node, NodeIx, NodeState, Spawn};

impl World {
    /// Starts a master with a blank data directory.
    pub fn start_master(&self, name: &str, config: MasterConfig, defects: Defects) {
        self.start_machine(name, 1, move |birth| {
            Master::new(MasterSetup { config: config.clone(), seed: birth.seed, wall: birth.wall, defects })
        });
    }

    /// Starts a chunkserver with blank volumes.
    pub fn start_chunkserver(
        &self,
        name: &str,
        rack: &str,
        volumes: u16,
        config: ChunkserverConfig,
        masters: &[impl AsRef<str>],
        defects: Defects,
    ) {
        let masters = addresses(masters);
        let rack = rack.to_string();
        self.start_machine(name, volumes, move |birth| {
            let (config, masters) = (config.clone(), masters.clone());
            Chunkserver::new(birth.chunkserver(&rack, volumes, config, masters, defects))
        });
    }

    /// Starts a client.
    pub fn start_client(
        &self,
        name: &str,
        config: ClientConfig,
        identity: Identity,
        masters: &[impl AsRef<str>],
        defects: Defects,
    ) -> ClientHandle {
        let masters = addresses(masters);
        self.start_machine(name, 0, move |birth| {
            Client::new(ClientSetup {
                config: config.clone(),
                seed: birth.seed,
                identity: identity.clone(),
                masters: masters.clone(),
                defects,
            })
        });
        ClientHandle { world: self.clone(), name: name.to_string() }
    }

    /// Starts any machine, with blank volumes; `make` is called again for each later process.
    pub fn start_machine<M>(
        &self,
        name: &str,
        volumes: u16,
        mut make: impl FnMut(&Birth) -> M + Send + 'static,
    ) where
        M: Machine + Send + 'static,
        M::Request: Send + 'static,
        M::Response: Send + 'static,
    {
        let spawn: Spawn = Box::new(move |world, ix, life, birth| {
            let machine = Arc::new(Mutex::new(make(birth)));
            let held = Held(machine.clone());
            let env = SimEnvironment::<M>::new(world.clone(), ix, life);
            let id = world.lock().nodes[usize::from(ix)].madsim;
            let node = world.inner.handle.get_node(id).expect("madsim keeps its nodes");
            node.spawn(live(held, env));
            machine as Arc<dyn Any + Send + Sync>
        });
        let name: Arc<str> = Arc::from(name);
        let madsim = self.inner.handle.create_node().name(&*name).build().id();
        let now = self.now();
        let ix = {
            let mut state = self.lock();
            assert!(!state.by_name.contains_key(&name), "a node is called {name:?} already");
            let ix = state.nodes.len() as NodeIx;
            let mut rng = Rng::stream(self.seed(), &format!("node {name}"));
            let disk = state.options.disk;
            let node = Node {
                madsim,
                state: NodeState::Down,
                dark: false,
                life: 0,
                boot: BootId(rng.u64()),
                process: ProcessId::default(),
                clock: boot_clock(&state, now, &mut rng),
                mailbox: VecDeque::new(),
                waker: None,
                armed: 0,
                armed_at: None,
                volumes: (0..volumes).map(|_| Volume::new(disk)).collect(),
                under_way: BTreeMap::new(),
                next_op: 0,
                doom: None,
                stuck: Vec::new(),
                stuck_lists: Vec::new(),
                slowness: Span(0),
                busy_until: Time(0),
                calls: BTreeMap::new(),
                dialled: BTreeMap::new(),
                machine: None,
                spawn: Some(spawn),
                rng,
                disk_rng: Rng::stream(self.seed(), &format!("disk {name}")),
                inputs: 0,
                name: name.clone(),
            };
            state.nodes.push(node);
            if let Some(recorder) = &mut state.trace.recorder {
                recorder.node(&name);
            }
            state.by_name.insert(name, ix);
            ix
        };
        self.start_process(ix);
    }

    fn start_process(&self, ix: NodeIx) {
        let now = self.now();
        let (mut spawn, life, birth) = {
            let mut state = self.lock();
            let node = &mut state.nodes[usize::from(ix)];
            node.state = NodeState::Up;
            node.dark = false;
            let birth = Birth { seed: node.rng.u64(), process: ProcessId(node.rng.u64()), ..node.birth(now) };
            node.process = birth.process;
            let (spawn, life) = (node.spawn.take().expect("kept between starts"), node.life);
            let name = node.name.clone();
            state.trace.line(now, "world", format_args!("! {name} starts under {}", birth.boot));
            (spawn, life, birth)
        };
        let machine = spawn(self, ix, life, &birth);
        let mut state = self.lock();
        let node = &mut state.nodes[usize::from(ix)];
        node.spawn = Some(spawn);
        node.machine = Some(machine);
    }

    /// Names of all nodes, in order of starting.
    pub fn nodes(&self) -> Vec<String> {
        self.lock().nodes.iter().map(|node| node.name.to_string()).collect()
    }

    /// Whether a node runs.
    pub fn state(&self, name: &str) -> NodeState {
        self.lock().node(name).state.clone()
    }

    /// Whether a node runs and is not frozen.
    pub fn is_up(&self, name: &str) -> bool {
        self.state(name) == NodeState::Up
    }

    /// The boot that a node's machine is in.
    pub fn boot(&self, name: &str) -> BootId {
        self.lock().node(name).boot
    }

    /// Kills the process: memory and connections are gone, page cache and disk stay, operations under way happen or not.
    pub fn kill(&self, name: &str) {
        self.stop(name, false);
    }

    /// Cuts the power: as [`World::kill`], and what was not synced is at risk; the next boot is another one, with another
    /// clock. Also of a machine whose process is not running.
    pub fn power_cut(&self, name: &str) {
        self.stop(name, true);
    }

    /// The process dies, or its machine loses power, when the `operation`-th of its disk operations from now on (1, 2, …) was
    /// carried out and before it is told so. Forgotten if it ends before in another way. `naming`: only those count that
    /// make a name.
    pub fn crash_at_operation(&self, name: &str, operation: u64, naming: bool, power: bool) {
        let mut state = self.lock();
        let node = state.node(name);
        if node.runs() {
            node.doom = Some(crate::node::Doom { left: operation.max(1), naming, power });
        }
    }

    /// Ends those whose disk operation came.
    pub(crate) fn crash_doomed(&self) {
        let doomed = std::mem::take(&mut self.lock().doomed);
        for (ix, power) in doomed {
            let name = {
                let mut state = self.lock();
                state.faults.crash_points += 1;
                state.nodes[usize::from(ix)].name.clone()
            };
            self.stop(&name, power);
        }
    }

    fn stop(&self, name: &str, power: bool) {
        let now = self.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        let ix = state.ix(name);
        let runs = state.nodes[usize::from(ix)].runs();
        if !runs && !power {
            return;
        }
        let what = if power { "loses power" } else { "is killed" };
        state.trace.line(now, "world", format_args!("! {name} {what}"));
        if power {
            state.faults.power_cuts += 1;
        } else {
            state.faults.kills += 1;
        }
        state.end_process(now, ix, NodeState::Down, power);
        if power {
            state.lose_power(now, ix);
        }
        let madsim = state.nodes[usize::from(ix)].madsim;
        drop(guard);
        if runs {
            self.inner.handle.kill(madsim);
        }
    }

    /// Starts a node that is down or halted; nothing if it runs.
    pub fn restart(&self, name: &str) {
        let (ix, madsim) = {
            let mut state = self.lock();
            let ix = state.ix(name);
            state.nodes[usize::from(ix)].doom = None;
            if state.nodes[usize::from(ix)].runs() {
                return;
            }
            state.faults.restarts += 1;
            (ix, state.nodes[usize::from(ix)].madsim)
        };
        self.inner.handle.restart(madsim);
        self.start_process(ix);
    }

    /// Freezes a process; its kernel lives on, and its clock runs.
    pub fn pause(&self, name: &str) {
        let now = self.now();
        let mut state = self.lock();
        if state.node(name).state != NodeState::Up {
            return;
        }
        state.faults.pauses += 1;
        state.trace.line(now, "world", format_args!("! {name} is paused"));
        let node = state.node(name);
        node.state = NodeState::Paused;
        self.inner.handle.pause(node.madsim);
    }

    /// Lets a frozen process go on.
    pub fn resume(&self, name: &str) {
        let now = self.now();
        let mut state = self.lock();
        if state.node(name).state != NodeState::Paused {
            return;
        }
        state.trace.line(now, "world", format_args!("! {name} goes on"));
        let node = state.node(name);
        node.state = NodeState::Up;
        self.inner.handle.resume(node.madsim);
    }

    /// Makes a node's clock run at another rate from now on, without a jump.
    pub fn set_clock_drift(&self, name: &str, ppm: i32) {
        let now = self.now();
        let mut state = self.lock();
        let node = state.node(name);
        node.clock.set_drift(now, ppm);
        node.look_again();
    }

    /// Makes a node's clock jump ahead, as after a suspension. It never goes back.
    pub fn jump_clock(&self, name: &str, ahead: Span) {
        let now = self.now();
        let mut state = self.lock();
        state.faults.clock_jumps += 1;
        state.trace.line(
            now,
            "world",
            format_args!("! the clock of {name} jumps ahead by {} ms", ahead.as_ms()),
        );
        let node = state.node(name);
        node.clock.jump(ahead);
        node.look_again();
    }

    /// Every input of a node takes so long from now on; other things wait meanwhile.
    pub fn set_slowness(&self, name: &str, each: Span) {
        let now = self.now();
        let mut state = self.lock();
        if each.0 > 0 {
            state.faults.slowdowns += 1;
        }
        state.trace.line(now, "world", format_args!("! each input of {name} takes {} us", each.0 / 1_000));
        state.node(name).slowness = each;
    }

    /// What a node's own clock shows.
    pub fn clock(&self, name: &str) -> Time {
        let now = self.now();
        self.lock().node(name).clock.read(now)
    }

    /// Nodes whose machines have ended as a failure so far, and why: each time.
    pub fn failures(&self) -> Vec<(String, String)> {
        self.lock().failures.clone()
    }

    /// A machine halted: its process ends.
    fn on_halt(&self, ix: NodeIx, life: u64, reason: String, failed: bool) {
        let now = self.now();
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.nodes[usize::from(ix)].life != life {
            return;
        }
        let name = state.nodes[usize::from(ix)].name.clone();
        let how = if failed { "fails" } else { "ends" };
        state.trace.line(now, &name, format_args!("! {how}: {reason}"));
        if failed {
            state.failures.push((name.to_string(), reason.clone()));
        }
        state.end_process(now, ix, NodeState::Halted { reason, failed }, false);
    }
}

/// A process's life.
async fn live<M>(mut machine: Held<M>, mut env: SimEnvironment<M>)
where
    M: Machine + Send + 'static,
    M::Request: Send + 'static,
    M::Response: Send + 'static,
{
    if let Some((reason, failed)) = drive(&mut machine, &mut env).await {
        env.world.on_halt(env.node, env.life, reason, failed);
    }
}

impl State {
    fn end_process(&mut self, now: Time, ix: NodeIx, state: NodeState, silent: bool) {
        self.drop_connections_of(now, ix, silent);
        let node = &mut self.nodes[usize::from(ix)];
        node.state = state;
        node.forget_process();
        let under_way = std::mem::take(&mut node.under_way).into_values().map(|op| (op.request, op.mark));
        interrupt(&mut node.volumes, under_way.collect(), &mut node.disk_rng, &mut self.faults);
    }

    fn lose_power(&mut self, now: Time, ix: NodeIx) {
        let mut rng = self.nodes[usize::from(ix)].rng.clone();
        let clock = boot_clock(self, now, &mut rng);
        let node = &mut self.nodes[usize::from(ix)];
        node.boot = BootId(rng.u64());
        node.rng = rng;
        node.clock = clock;
        node.dark = true;
        for volume in &mut node.volumes {
            volume.cut_power(&mut node.disk_rng, &mut self.faults);
        }
    }
}

/// The clock of a new boot.
fn boot_clock(state: &State, now: Time, rng: &mut Rng) -> Clock {
    let offset = rng.between(0, state.options.clock_offset_ms_max);
    let drift = rng.between(0, 2 * u64::from(state.options.clock_drift_ppm_max));
    Clock::new(now, offset, drift as i32 - state.options.clock_drift_ppm_max as i32)
}

fn addresses(names: &[impl AsRef<str>]) -> Vec<Address> {
    names.iter().map(|name| Address::new(name.as_ref())).collect()
}
