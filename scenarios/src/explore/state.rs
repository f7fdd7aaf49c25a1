//! A global state, small enough to keep millions of: numbers of node states and messages, not the things themselves.

use smallvec::SmallVec;

use super::queue::Queue;

/// The master's place among the nodes; servers and then writers follow.
pub(super) const MASTER: usize = 0;

/// How much may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Budget {
    /// Processes of servers killed.
    pub(super) kills: u8,
    /// Power cuts of servers.
    pub(super) cuts: u8,
    /// Disks that come back blank, or with a rotten byte.
    pub(super) losses: u8,
    /// Kills and power cuts of the master.
    pub(super) master: u8,
    /// Connections reset.
    pub(super) resets: u8,
    /// Messages of which a copy comes at any later time.
    pub(super) late: u8,
    /// Long times that pass at the master.
    pub(super) ticks: u8,
    /// Disk operations that stay under way while other things happen, where disks are prompt otherwise.
    pub(super) slow: u8,
}

/// A connection. Each direction is a queue; a broken one still delivers what is under way, or tells of the break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Conn {
    /// Who dialled.
    pub(super) from: u8,
    pub(super) to: u8,
    /// Counts the connections of these two.
    pub(super) serial: u8,
    pub(super) from_open: bool,
    pub(super) to_open: bool,
    pub(super) broken: bool,
    pub(super) down: Queue,
    pub(super) up: Queue,
}

impl Conn {
    /// How the dialled side calls it.
    pub(super) fn id(&self) -> u64 {
        100 * (u64::from(self.from) + 1) + u64::from(self.serial)
    }

    pub(super) fn queue(&self, up: bool) -> &Queue {
        if up { &self.up } else { &self.down }
    }

    /// Who receives in this direction.
    pub(super) fn receiver(&self, up: bool) -> usize {
        usize::from(if up { self.from } else { self.to })
    }

    pub(super) fn is_open_at(&self, dialler: bool) -> bool {
        if dialler { self.from_open } else { self.to_open }
    }
}

/// A message held back by the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Late {
    pub(super) from: u8,
    pub(super) to: u8,
    /// The receiver had dialled.
    pub(super) up: bool,
    pub(super) message: u32,
}

/// Everything.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct State {
    pub(super) nodes: SmallVec<[u32; 8]>,
    pub(super) conns: SmallVec<[Conn; 8]>,
    pub(super) late: SmallVec<[Late; 2]>,
    pub(super) left: Budget,
    /// Disks lost so far.
    pub(super) lost: u8,
    /// Those among them that were lost before anybody asked for the seal: no vote may rest on them.
    pub(super) lost_early: u8,
    /// Length and checksum that the chunk was first seen sealed at.
    pub(super) sealed: Option<(u32, u32)>,
    /// Connections so far: from, to, how many.
    serials: SmallVec<[(u8, u8, u8); 8]>,
}

/// By memory, not part by part: this is what exploration does most.
impl Clone for State {
    fn clone(&self) -> State {
        let State { nodes, conns, late, left, lost, lost_early, sealed, serials } = self;
        State {
            nodes: SmallVec::from_slice(nodes),
            conns: SmallVec::from_slice(conns),
            late: SmallVec::from_slice(late),
            left: *left,
            lost: *lost,
            lost_early: *lost_early,
            sealed: *sealed,
            serials: SmallVec::from_slice(serials),
        }
    }
}

fn word(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// Reads a state back.
struct Words<'a>(std::slice::Iter<'a, u32>);

impl Words<'_> {
    fn next(&mut self) -> u32 {
        self.0.next().copied().unwrap_or_default()
    }

    fn bytes(&mut self) -> [u8; 4] {
        self.next().to_le_bytes()
    }
}

impl State {
    /// Appends the state's words. Equal states have equal words, whatever order connections came in.
    pub(super) fn encode(&mut self, into: &mut Vec<u32>) {
        self.conns.sort_unstable();
        self.late.sort_unstable();
        self.serials.sort_unstable();
        let Budget { kills, cuts, losses, master, resets, late, ticks, slow } = self.left;
        into.push(word([kills, cuts, losses, master]));
        into.push(word([resets, late, ticks | slow << 4, self.lost | self.lost_early << 4]));
        let (length, crc) = self.sealed.map_or((u32::MAX, 0), |sealed| sealed);
        into.extend([length, crc]);
        let count = |n: usize| n as u8;
        let sizes = [self.nodes.len(), self.conns.len(), self.late.len(), self.serials.len()].map(count);
        into.push(word(sizes));
        into.extend_from_slice(&self.nodes);
        for conn in &self.conns {
            let flags = u8::from(conn.from_open) | u8::from(conn.to_open) << 1 | u8::from(conn.broken) << 2;
            into.push(word([conn.from, conn.to, conn.serial, flags]));
            into.push(word([count(conn.down.len()), count(conn.up.len()), 0, 0]));
            into.extend_from_slice(&conn.down);
            into.extend_from_slice(&conn.up);
        }
        for late in &self.late {
            into.extend([word([late.from, late.to, u8::from(late.up), 0]), late.message]);
        }
        into.extend(self.serials.iter().map(|(from, to, n)| word([*from, *to, *n, 0])));
    }

    pub(super) fn decode(words: &[u32]) -> State {
        let mut words = Words(words.iter());
        let [kills, cuts, losses, master] = words.bytes();
        let [resets, late, ticks, losses_so_far] = words.bytes();
        let (ticks, slow) = (ticks & 15, ticks >> 4);
        let (lost, lost_early) = (losses_so_far & 15, losses_so_far >> 4);
        let left = Budget { kills, cuts, losses, master, resets, late, ticks, slow };
        let sealed = (words.next(), words.next());
        let sealed = (sealed.0 != u32::MAX).then_some(sealed);
        let [nodes, conns, late, serials] = words.bytes();
        let nodes = (0..nodes).map(|_| words.next()).collect();
        let conns = (0..conns)
            .map(|_| {
                let [from, to, serial, flags] = words.bytes();
                let [down, up, ..] = words.bytes();
                let mut queue = |count: u8| {
                    let mut queue = Queue::default();
                    (0..count).for_each(|_| queue.push(words.next()));
                    queue
                };
                let (down, up) = (queue(down), queue(up));
                let (from_open, to_open, broken) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
                Conn { from, to, serial, from_open, to_open, broken, down, up }
            })
            .collect();
        let late = (0..late)
            .map(|_| {
                let [from, to, up, _] = words.bytes();
                Late { from, to, up: up != 0, message: words.next() }
            })
            .collect();
        let serials = (0..serials)
            .map(|_| {
                let [from, to, n, _] = words.bytes();
                (from, to, n)
            })
            .collect();
        State { nodes, conns, late, left, lost, lost_early, sealed, serials }
    }

    /// The dialler's connection that it believes in.
    pub(super) fn dialled(&self, from: usize, to: usize) -> Option<usize> {
        self.conns.iter().position(|c| usize::from(c.from) == from && usize::from(c.to) == to && c.from_open)
    }

    /// The connection that `at` knows by this number.
    pub(super) fn inbound(&self, at: usize, id: u64) -> Option<usize> {
        self.conns.iter().position(|c| usize::from(c.to) == at && c.to_open && c.id() == id)
    }

    /// A new connection; `refused` if nobody listens.
    pub(super) fn dial(&mut self, from: usize, to: usize, refused: bool) -> usize {
        let (from, to) = (from as u8, to as u8);
        let serial = match self.serials.iter_mut().find(|(f, t, _)| (*f, *t) == (from, to)) {
            Some((.., n)) => {
                *n += 1;
                *n
            }
            None => {
                self.serials.push((from, to, 1));
                1
            }
        };
        self.conns.push(Conn {
            from,
            to,
            serial,
            from_open: true,
            to_open: !refused,
            broken: refused,
            down: Queue::default(),
            up: Queue::default(),
        });
        self.conns.len() - 1
    }

    /// Sends on a connection; what is sent on a broken one is lost.
    pub(super) fn push(&mut self, conn: usize, up: bool, message: u32) {
        let conn = &mut self.conns[conn];
        if conn.broken || !conn.is_open_at(up) {
            return;
        }
        if up { conn.up.push(message) } else { conn.down.push(message) }
    }

    /// One side is done with a connection.
    pub(super) fn close(&mut self, at: usize, dialler: bool) {
        let conn = &mut self.conns[at];
        conn.broken = true;
        if dialler {
            conn.from_open = false;
            conn.up.clear();
        } else {
            conn.to_open = false;
            conn.down.clear();
        }
        if !conn.from_open && !conn.to_open {
            self.conns.remove(at);
        }
    }

    /// A node's process died: nothing reaches it any more; what it sent may still arrive.
    pub(super) fn die(&mut self, node: usize) {
        let mut at = 0;
        while at < self.conns.len() {
            let before = self.conns.len();
            if usize::from(self.conns[at].from) == node && self.conns[at].from_open {
                self.close(at, true);
            } else if usize::from(self.conns[at].to) == node && self.conns[at].to_open {
                self.close(at, false);
            }
            if self.conns.len() == before {
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_from_its_words_and_order_of_connections_does_not_count() {
        let mut state = State { nodes: (3..9).collect(), lost: 1, sealed: Some((8, 77)), ..State::default() };
        state.left = Budget { kills: 1, ticks: 2, ..Budget::default() };
        let first = state.dial(1, 0, false);
        let second = state.dial(4, 1, false);
        state.push(first, false, 12);
        state.push(second, true, 13);
        state.late.push(Late { from: 0, to: 2, up: true, message: 5 });
        let mut words = Vec::new();
        state.encode(&mut words);
        assert_eq!(State::decode(&words), state);
        let mut other = state.clone();
        other.conns.reverse();
        let mut again = Vec::new();
        other.encode(&mut again);
        assert_eq!(words, again);
        state.die(1);
        assert!(state.conns.iter().all(|c| c.broken) && state.inbound(1, 501).is_none());
        assert_eq!(state.conns.len(), 2);
    }
}
