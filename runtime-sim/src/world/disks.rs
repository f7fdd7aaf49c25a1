//! Faults of the disks, and what checkers may see of them. See the header of `disk/mod.rs` for what they do.

use cairn_core::rng::Rng;
use cairn_core::time::Time;

use super::{State, World};
use crate::disk::{Damage, DamageKind, Volume};
use crate::event::Event;
use crate::node::NodeIx;
use crate::options::DiskFaults;

impl State {
    fn volume(&mut self, name: &str, volume: u16) -> &mut Volume {
        let node = self.node(name);
        node.volumes.get_mut(usize::from(volume)).unwrap_or_else(|| panic!("{name} has no volume {volume}"))
    }

    /// Syncs and lists that hang end now, unless they still must hang.
    fn free_stuck(&mut self, now: Time, ix: NodeIx) {
        let node = &mut self.nodes[usize::from(ix)];
        for (volume, item) in std::mem::take(&mut node.stuck_lists) {
            if node.lists_hang(volume) {
                node.stuck_lists.push((volume, item));
            } else {
                node.deliver(item);
            }
        }
        for op in std::mem::take(&mut node.stuck) {
            self.events.at(now, Event::Disk { node: ix, life: node.life, op });
        }
    }

    /// A failing sync may have lost writes for good.
    pub(crate) fn record_sync_loss(&mut self, now: Time, node: NodeIx, volume: u16) {
        let node = self.nodes[usize::from(node)].name.to_string();
        let kind = DamageKind::SyncFailed;
        self.damage.push(Damage { at: now, node, volume, path: String::new(), offset: 0, kind });
    }

    fn record(
        &mut self,
        now: Time,
        name: &str,
        volume: u16,
        path: &str,
        offset: u64,
        kind: DamageKind,
    ) -> Damage {
        let damage = Damage { at: now, node: name.into(), volume, path: path.into(), offset, kind };
        self.trace.line(now, "world", format_args!("! {kind:?} on {name} {volume}:{path} at byte {offset}"));
        self.damage.push(damage.clone());
        damage
    }
}

impl World {
    /// Makes a volume misbehave from now on.
    pub fn set_disk_faults(&self, name: &str, volume: u16, faults: DiskFaults) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! disk {name} {volume}: {faults:?}"));
        state.volume(name, volume).faults = faults;
        let ix = state.ix(name);
        state.free_stuck(now, ix);
    }

    /// How a volume misbehaves.
    pub fn disk_faults(&self, name: &str, volume: u16) -> DiskFaults {
        self.lock().volume(name, volume).faults
    }

    /// Makes all volumes behave as at the start, but without errors.
    pub fn clear_disk_faults(&self) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! heal all disks"));
        let faults = DiskFaults {
            stuck_syncs: false,
            stuck_dir_syncs: false,
            stuck_lists: false,
            ..state.options.disk.without_errors()
        };
        for volume in state.nodes.iter_mut().flat_map(|node| &mut node.volumes) {
            volume.faults = faults;
        }
        for ix in 0..state.nodes.len() {
            state.free_stuck(now, ix as NodeIx);
        }
    }

    /// Empties a volume.
    ///
    /// # Panics
    /// If the node's process runs: a disk can't be replaced under it.
    pub fn wipe_volume(&self, name: &str, volume: u16) {
        let now = self.now();
        let mut state = self.lock();
        assert!(!state.node(name).runs(), "{name} runs: stop it before its volume is wiped");
        let faults = state.volume(name, volume).faults;
        *state.volume(name, volume) = Volume::new(faults);
        state.faults.wipes += 1;
        state.record(now, name, volume, "", 0, DamageKind::Wipe);
    }

    /// Paths and lengths of all files, as processes see them, in order.
    pub fn files(&self, name: &str, volume: u16) -> Vec<(String, u64)> {
        self.lock().volume(name, volume).list_all()
    }

    /// A file's bytes as processes see them.
    pub fn read_file(&self, name: &str, volume: u16, path: &str) -> Option<Vec<u8>> {
        self.with_file(name, volume, path, <[u8]>::to_vec)
    }

    /// Looks at a file's bytes as processes see them, without a copy. `look` must leave the world alone.
    pub fn with_file<R>(
        &self,
        name: &str,
        volume: u16,
        path: &str,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        self.lock().volume(name, volume).with_cached(path, look)
    }

    /// What the harshest power cut now would leave of a file.
    pub fn durable_file(&self, name: &str, volume: u16, path: &str) -> Option<Vec<u8>> {
        self.with_durable(name, volume, path, <[u8]>::to_vec)
    }

    /// Looks at what the harshest power cut now would leave of a file, without a copy. `look` must leave the world alone.
    pub fn with_durable<R>(
        &self,
        name: &str,
        volume: u16,
        path: &str,
        look: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        self.lock().volume(name, volume).durable(path).map(look)
    }

    /// Puts a file there by an outside hand, durable at once, with its directories.
    pub fn write_file(&self, name: &str, volume: u16, path: &str, bytes: &[u8]) {
        let now = self.now();
        let mut state = self.lock();
        state.volume(name, volume).put_by_hand(path, bytes);
        state.record(now, name, volume, path, 0, DamageKind::HandEdit);
    }

    /// Removes a file by an outside hand; false if it is not there.
    pub fn remove_file(&self, name: &str, volume: u16, path: &str) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let done = state.volume(name, volume).remove_by_hand(path);
        if done {
            state.record(now, name, volume, path, 0, DamageKind::HandEdit);
        }
        done
    }

    /// Cuts or extends a file by an outside hand; false if it is not there.
    pub fn truncate_file(&self, name: &str, volume: u16, path: &str, length: u64) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let done = state.volume(name, volume).cut_by_hand(path, length);
        if done {
            state.record(now, name, volume, path, length, DamageKind::HandEdit);
        }
        done
    }

    /// Inverts bit number `bit` of a file, on disk and in cache; false if that byte is not there or not yet durable.
    pub fn flip_bit(&self, name: &str, volume: u16, path: &str, bit: u64) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let done = state.volume(name, volume).flip(path, bit);
        if done {
            state.faults.bit_flips += 1;
            state.record(now, name, volume, path, bit / 8, DamageKind::BitFlip);
        }
        done
    }

    /// Inverts a random bit of the last `within` bytes of a random file among those whose path `choose` accepts; `None` if none
    /// could be struck.
    pub fn flip_random_bit(
        &self,
        name: &str,
        rng: &mut Rng,
        within: u64,
        choose: impl Fn(&str) -> bool,
    ) -> Option<Damage> {
        let now = self.now();
        let mut state = self.lock();
        let volumes = state.node(name).volumes.len() as u16;
        let mut candidates: Vec<(u16, String, u64)> = Vec::new();
        for volume in 0..volumes {
            let files = state.volume(name, volume).list_all();
            candidates.extend(
                files
                    .into_iter()
                    .filter(|(path, length)| *length > 0 && choose(path))
                    .map(|(p, l)| (volume, p, l)),
            );
        }
        for _ in 0..8 {
            let (volume, path, length) = rng.pick(&candidates)?;
            let first = length.saturating_sub(within);
            let bit = first * 8 + rng.below((length - first) * 8);
            if state.volume(name, *volume).flip(path, bit) {
                state.faults.bit_flips += 1;
                return Some(state.record(now, name, *volume, path, bit / 8, DamageKind::BitFlip));
            }
        }
        None
    }

    /// The length that the harshest power cut now would leave of a file.
    pub fn durable_length(&self, name: &str, volume: u16, path: &str) -> Option<u64> {
        self.lock().volume(name, volume).durable_length(path)
    }

    /// Up to where all bytes of a file are on stable storage; `None` if a power cut may take its name.
    pub fn synced_end(&self, name: &str, volume: u16, path: &str) -> Option<u64> {
        self.lock().volume(name, volume).synced_end(path)
    }

    /// A write went to the wrong place: a sector at rest of a random file among those whose path `choose` accepts is as
    /// before it was written, blank, and its bytes lie over a sector of another one, or of the same. `None` if none could be
    /// struck.
    pub fn misdirect_write(
        &self,
        name: &str,
        rng: &mut Rng,
        choose: impl Fn(&str) -> bool,
    ) -> Option<Damage> {
        let now = self.now();
        let mut state = self.lock();
        let volumes = state.node(name).volumes.len() as u16;
        for _ in 0..8 {
            let volume = rng.below(u64::from(volumes)) as u16;
            let mut files = state.volume(name, volume).list_all();
            files.retain(|(path, length)| *length >= 512 && choose(path));
            let (meant, length) = rng.pick(&files)?.clone();
            let from = rng.below(length / 512) * 512;
            let (struck, length) = rng.pick(&files)?.clone();
            let to = rng.below(length / 512) * 512;
            if state.volume(name, volume).misdirect((&meant, from), (&struck, to)) {
                state.faults.misdirected_writes += 1;
                state.record(now, name, volume, &meant, from, DamageKind::Misdirected);
                return Some(state.record(now, name, volume, &struck, to, DamageKind::Misdirected));
            }
        }
        None
    }

    /// Gives all flipped and misdirected bytes of a node's files their right values back, as from a copy.
    pub fn mend_files(&self, name: &str) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! the files of {name} are restored"));
        for volume in &mut state.node(name).volumes {
            volume.mend();
        }
    }

    /// Makes the sector that holds byte `offset` unreadable until it is written again; false if it is not there.
    pub fn bad_sector(&self, name: &str, volume: u16, path: &str, offset: u64) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let done = state.volume(name, volume).spoil(path, offset);
        if done {
            state.faults.bit_flips += 1;
            state.record(now, name, volume, path, offset, DamageKind::BadSector);
        }
        done
    }

    /// All harm ever done, so that a checker can tell an alarm without cause.
    pub fn damage_injected(&self) -> Vec<Damage> {
        self.lock().damage.clone()
    }

    /// Whether an operation of a node other than a list was ever made to fail that was about a path on a volume for which
    /// `is` holds.
    pub fn any_failed(&self, name: &str, is: impl Fn(u16, &str) -> bool) -> bool {
        let state = self.lock();
        let ix = state.ix(name);
        state.failed_paths.iter().any(|(node, volume, path)| *node == ix && is(*volume, path))
    }

    /// Flips and bad sectors that still stand: not overwritten, not removed.
    pub fn damage_standing(&self) -> Vec<Damage> {
        self.nodes().iter().flat_map(|node| self.damage_standing_at(node)).collect()
    }

    /// Those of one node.
    pub fn damage_standing_at(&self, name: &str) -> Vec<Damage> {
        let at = self.now();
        let mut state = self.lock();
        let mut all = Vec::new();
        for (volume, disk) in (0..).zip(&state.node(name).volumes) {
            all.extend(disk.harm().into_iter().map(|(path, offset, flipped)| {
                let kind = if flipped { DamageKind::BitFlip } else { DamageKind::BadSector };
                Damage { at, node: name.to_owned(), volume, path, offset, kind }
            }));
        }
        all
    }
}
