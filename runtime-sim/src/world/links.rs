//! Faults of the network. See the header of `network.rs` for what they do.

use cairn_core::id::ChunkId;
use cairn_core::time::Span;

use super::{State, World};
use crate::node::NodeIx;
use crate::options::Link;

impl State {
    fn all(&self, names: &[impl AsRef<str>]) -> Vec<NodeIx> {
        names.iter().map(|name| self.ix(name.as_ref())).collect()
    }
}

fn list(names: &[impl AsRef<str>]) -> String {
    names.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(",")
}

impl World {
    /// Cuts both directions between each of `a` and each of `b`.
    pub fn partition(&self, a: &[impl AsRef<str>], b: &[impl AsRef<str>]) {
        self.cut(a, b, true);
    }

    /// Cuts the direction from each of `from` to each of `to`.
    pub fn partition_one_way(&self, from: &[impl AsRef<str>], to: &[impl AsRef<str>]) {
        self.cut(from, to, false);
    }

    fn cut(&self, from: &[impl AsRef<str>], to: &[impl AsRef<str>], both: bool) {
        let now = self.now();
        let mut state = self.lock();
        let arrow = if both { "</>" } else { "-/>" };
        state.trace.line(now, "world", format_args!("! partition {} {arrow} {}", list(from), list(to)));
        state.faults.partitions += 1;
        for a in state.all(from) {
            for b in state.all(to) {
                if a != b {
                    state.network.cut.insert((a, b));
                    if both {
                        state.network.cut.insert((b, a));
                    }
                }
            }
        }
    }

    /// Joins both directions between each of `a` and each of `b` again.
    pub fn heal(&self, a: &[impl AsRef<str>], b: &[impl AsRef<str>]) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! heal {} <-> {}", list(a), list(b)));
        for a in state.all(a) {
            for b in state.all(b) {
                state.network.cut.remove(&(a, b));
                state.network.cut.remove(&(b, a));
            }
        }
        state.release_held(now);
    }

    /// Ends all partitions and restores all links.
    pub fn heal_all(&self) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! heal all links"));
        state.network.cut.clear();
        state.network.links.clear();
        state.network.corrupt_next.clear();
        state.network.default_link.corrupt_per_million = 0;
        state.network.default_link.loss_per_million = 0;
        state.network.default_link.repeat_per_million = 0;
        state.end_stalls(None);
        state.release_held(now);
    }

    /// Resets all connections between two nodes.
    pub fn reset_connections(&self, a: &str, b: &str) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! reset {a} - {b}"));
        let (a, b) = (state.ix(a), state.ix(b));
        state.reset(now, a, b);
    }

    /// What `from` sends over the connections that it has with `to` stands still until [`World::end_stall`]; new connections
    /// pass.
    pub fn stall(&self, from: &str, to: &str) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! {from} -> {to} stands still"));
        let (from, to) = (state.ix(from), state.ix(to));
        state.stall(from, to);
    }

    /// What stood still arrives.
    pub fn end_stall(&self, from: &str, to: &str) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! {from} -> {to} goes on"));
        let pair = (state.ix(from), state.ix(to));
        state.end_stalls(Some(pair));
        state.release_held(now);
    }

    /// `from` loses its connections with `to`; what it sent over them still arrives, and only then does `to` lose them.
    pub fn abandon_connections(&self, from: &str, to: &str) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! {from} gives up its connections with {to}"));
        let (from, to) = (state.ix(from), state.ix(to));
        state.abandon(now, from, to);
    }

    /// Says to `to` again how a chunk was opened, with its first `records` records, over a connection of its own that ends
    /// after `linger` and carries no answers: the chunk opened there latest, or the `back`-th before it, or `chunk`. False if
    /// no such thing is remembered.
    pub fn replay_writer(
        &self,
        to: &str,
        chunk: Option<ChunkId>,
        back: usize,
        records: usize,
        linger: Span,
    ) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let ix = state.ix(to);
        let Some((from, chunk, said)) = state.replay(now, ix, chunk, back, records, linger) else {
            return false;
        };
        let from = state.nodes[usize::from(from)].name.clone();
        state.trace.line(
            now,
            "world",
            format_args!("! {to} hears {said} messages of {from} on {chunk} again"),
        );
        true
    }

    /// Asks the master `to` again for `count` changes, from the one on that was asked for latest, or the `back`-th before
    /// it; the answers go nowhere. Returns how many are remembered.
    pub fn repeat_requests(&self, to: &str, back: usize, count: usize) -> usize {
        let now = self.now();
        let mut state = self.lock();
        let ix = state.ix(to);
        let asked = state.repeat_requests(now, ix, back, count);
        for (from, request) in &asked {
            let from = state.nodes[usize::from(*from)].name.clone();
            state.trace.line(now, "world", format_args!("! {to} hears {request} of {from} again"));
        }
        asked.len()
    }

    /// Sets one direction's properties.
    pub fn set_link(&self, from: &str, to: &str, link: Link) {
        let now = self.now();
        let mut state = self.lock();
        state.trace.line(now, "world", format_args!("! link {from} -> {to}: {link:?}"));
        let pair = (state.ix(from), state.ix(to));
        state.network.links.insert(pair, link);
    }

    /// Flips a bit of the next data frame in this direction.
    pub fn corrupt_next_frame(&self, from: &str, to: &str) {
        let mut state = self.lock();
        let pair = (state.ix(from), state.ix(to));
        state.network.corrupt_next.insert(pair);
    }
}
