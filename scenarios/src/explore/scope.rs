//! What is explored to the end: small clusters, short scripts, and how much may go wrong.

use cairn_core::id::Durability;

use super::state::Budget;
use super::writer::Script;

/// One scope.
#[derive(Clone, Copy, Debug)]
pub struct Scope {
    /// Its name on the command line.
    pub name: &'static str,
    /// In one sentence.
    pub about: &'static str,
    pub(super) replication: u8,
    /// Servers that are not members of the chunk.
    pub(super) spares: u8,
    pub(super) quorum: u8,
    pub(super) durability: Durability,
    pub(super) writers: &'static [Script],
    pub(super) budget: Budget,
    /// Restarts may be cut short by another death.
    pub(super) die_in_recovery: bool,
    /// The master waits for votes beyond the needed ones, until a long time passes.
    pub(super) patient: bool,
    /// Restarted servers send heartbeats, which give them a lease.
    pub(super) heartbeats: bool,
    /// Disk operations end, in the order in which they were asked for, before anything else happens to their node, but for as
    /// many slow ones as the budget has. Deaths at every place within are explored.
    pub(super) prompt: bool,
}

const NOTHING: Budget =
    Budget { kills: 0, cuts: 0, losses: 0, master: 0, resets: 0, late: 0, ticks: 0, slow: 0 };
const ONE: Script = Script { records: 1, resends: 0, reopens: 0, seals: true, backwards: false };
const TWO: Script = Script { records: 2, ..ONE };
const RIVAL: Script = Script { seals: false, ..ONE };

const BASE: Scope = Scope {
    name: "",
    about: "",
    replication: 3,
    spares: 0,
    quorum: 2,
    durability: Durability::Sync,
    writers: &[ONE],
    budget: NOTHING,
    die_in_recovery: false,
    patient: false,
    heartbeats: false,
    prompt: false,
};

const PAIR: Scope = Scope { replication: 2, ..BASE };
const TRIO: Scope = Scope { prompt: true, ..BASE };

/// All scopes, smallest first.
pub const SCOPES: &[Scope] = &[
    Scope {
        name: "alone-kill",
        about: "N=1 W=1: one record, one kill, also while it recovers",
        replication: 1,
        quorum: 1,
        budget: Budget { kills: 1, ..NOTHING },
        die_in_recovery: true,
        heartbeats: true,
        ..BASE
    },
    Scope {
        name: "spare",
        about: "N=1 W=1, and a server that is no member: one record, nothing goes wrong, the seal at any time",
        replication: 1,
        quorum: 1,
        spares: 1,
        ..BASE
    },
    Scope {
        name: "alone-gap",
        about: "N=1 W=1: two records, the second one comes first, both are sent again at any time",
        replication: 1,
        quorum: 1,
        writers: &[Script { resends: 1, backwards: true, ..TWO }],
        ..BASE
    },
    Scope {
        name: "pair-calm",
        about: "N=2 W=2: one record, nothing goes wrong, the seal at any time",
        ..PAIR
    },
    Scope {
        name: "pair-one",
        about: "N=2 W=1: one record, nothing goes wrong, the seal at any time",
        quorum: 1,
        ..PAIR
    },
    Scope {
        name: "pair-resend",
        about: "N=2 W=2: one record, sent again at any time",
        writers: &[Script { resends: 1, ..ONE }],
        ..PAIR
    },
    Scope {
        name: "pair-master",
        about: "N=2 W=2: one record, the master is killed or loses power",
        budget: Budget { master: 1, ..NOTHING },
        ..PAIR
    },
    Scope {
        name: "pair-reopen",
        about: "N=2 W=2: one record, opened and sent again at any time, one kill",
        writers: &[Script { reopens: 1, ..ONE }],
        budget: Budget { kills: 1, ..NOTHING },
        heartbeats: true,
        ..PAIR
    },
    Scope {
        name: "pair-disk",
        about: "N=2 W=2: one record, one server dies, its disk comes back whole, blank, or with a rotten chunk or journal",
        budget: Budget { kills: 1, losses: 1, ..NOTHING },
        ..PAIR
    },
    Scope {
        name: "alone",
        about: "N=1 W=1: one record, one kill, one power cut, also while it recovers, one reset connection",
        replication: 1,
        quorum: 1,
        budget: Budget { kills: 1, cuts: 1, resets: 1, ..NOTHING },
        die_in_recovery: true,
        heartbeats: true,
        ..BASE
    },
    Scope { name: "calm", about: "N=3 W=2: one record, nothing goes wrong, the seal at any time", ..BASE },
    Scope {
        name: "pair-cut",
        about: "N=2 W=1: one record, one power cut of a server",
        quorum: 1,
        budget: Budget { cuts: 1, ..NOTHING },
        ..PAIR
    },
    Scope {
        name: "pair-late",
        about: "N=2 W=2: one record, one late copy of any message of the protocol",
        budget: Budget { late: 1, ..NOTHING },
        ..PAIR
    },
    Scope {
        name: "pair-rivals",
        about: "N=2 W=2: two writers with the same grant, one record each, one reset connection",
        writers: &[ONE, RIVAL],
        budget: Budget { resets: 1, ..NOTHING },
        ..PAIR
    },
    Scope {
        name: "pair-two",
        about: "N=2 W=2: two records, one kill",
        writers: &[TWO],
        budget: Budget { kills: 1, ..NOTHING },
        ..PAIR
    },
    Scope {
        name: "kill",
        about: "N=3 W=2: one record, one kill of a server",
        budget: Budget { kills: 1, ..NOTHING },
        ..BASE
    },
    Scope {
        name: "cut",
        about: "N=3 W=2: one record, one power cut of a server",
        budget: Budget { cuts: 1, ..NOTHING },
        ..BASE
    },
    Scope {
        name: "patient",
        about: "N=3 W=2: one record, the master waits for all votes until a long time passes",
        budget: Budget { ticks: 1, ..NOTHING },
        patient: true,
        ..BASE
    },
    Scope {
        name: "trio-calm",
        about: "N=3 W=2, prompt disks: one record, nothing goes wrong, the seal at any time",
        ..TRIO
    },
    Scope {
        name: "trio-slow",
        about: "N=3 W=2, prompt disks: one record, two slow disk operations",
        budget: Budget { slow: 2, ..NOTHING },
        ..TRIO
    },
    Scope {
        name: "trio-rivals",
        about: "N=3 W=2, prompt disks: two writers with the same grant, one record each, one slow disk operation",
        writers: &[ONE, RIVAL],
        budget: Budget { slow: 1, ..NOTHING },
        ..TRIO
    },
    Scope {
        name: "trio-loss",
        about: "N=3 W=2, prompt disks: one record, one server is killed, its disk comes back whole, blank or rotten",
        budget: Budget { kills: 1, losses: 1, ..NOTHING },
        ..TRIO
    },
    Scope {
        name: "trio-reopen",
        about: "N=3 W=2, prompt disks: one record, opened and sent again at any time, one kill",
        writers: &[Script { reopens: 1, ..ONE }],
        budget: Budget { kills: 1, ..NOTHING },
        ..TRIO
    },
    Scope {
        name: "trio-cut",
        about: "N=3 W=2, prompt disks: one record, one power cut of a server",
        budget: Budget { cuts: 1, ..NOTHING },
        ..TRIO
    },
    Scope {
        name: "trio",
        about: "N=3 W=2, prompt disks: two writers, one record each, one server is killed, its disk comes back whole, blank or rotten",
        writers: &[ONE, RIVAL],
        budget: Budget { kills: 1, losses: 1, ..NOTHING },
        ..TRIO
    },
];

impl Scope {
    /// The scope called `name`.
    pub fn by_name(name: &str) -> Option<&'static Scope> {
        SCOPES.iter().find(|scope| scope.name == name)
    }
}
