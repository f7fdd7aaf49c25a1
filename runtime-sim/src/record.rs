//! The run as linked events, kept only in [`TraceMode::Events`](crate::TraceMode): what happened to which node, and what
//! caused it. A message's arrival names its sending, a completion its disk operation, an effect the input that led to it.

use std::collections::BTreeMap;
use std::ops::Range;

use cairn_core::client::{ClientRequest, ClientResult};
use cairn_core::disk::{DiskRequest, DiskResult};
use cairn_core::id::{CallId, OpId};
use cairn_core::message::Message;
use cairn_core::time::Time;

/// An event's place in [`Record::happenings`].
pub type HappeningId = u32;

/// A node's place in [`Record::nodes`].
pub type NodeNumber = u16;

/// A whole run, linked.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Names, in order of starting.
    pub nodes: Vec<String>,
    /// Events, in order of time.
    pub happenings: Vec<Happening>,
    /// What was wrong with nodes, in order of its beginning.
    pub conditions: Vec<Condition>,
}

/// One event.
#[derive(Clone, Debug)]
pub struct Happening {
    /// True time.
    pub at: Time,
    /// Where; `None`: in the world at large.
    pub node: Option<NodeNumber>,
    /// Without which it would not have happened.
    pub cause: Option<HappeningId>,
    /// What it was.
    pub what: What,
    /// Its line in the text trace, in bytes; empty if it has none.
    pub line: Range<usize>,
}

/// What an event was.
#[derive(Clone, Debug)]
pub enum What {
    /// A machine takes an input: the time that it asked for has come.
    Woken {
        /// Why it had asked.
        reason: &'static str,
    },
    /// A machine takes an input: a message.
    Received {
        /// From whom; `None`: an address where nobody ever was.
        from: Option<NodeNumber>,
        /// What it says, if its cause is not the sending: the network's own word for a broken call.
        message: Option<Box<Message>>,
    },
    /// A machine takes an input: a disk operation ended. Its cause is the request.
    DiskEnded {
        /// Which.
        op: OpId,
        /// How.
        result: DiskResult,
    },
    /// A machine takes an input: its host's call.
    Called {
        /// Repeated in the answer.
        call: CallId,
        /// A user's wish; `None`: another machine's host.
        request: Option<Box<ClientRequest>>,
    },
    /// A machine takes an input: a connection ended.
    PeerLost {
        /// Whose.
        other: Option<NodeNumber>,
    },
    /// An effect: a message leaves. If no arrival names it, it never came.
    Sent {
        /// To whom; `None`: nobody is there.
        to: Option<NodeNumber>,
        /// What it says.
        message: Box<Message>,
    },
    /// An effect: a disk operation begins. If no end names it, the process died first.
    DiskBegun {
        /// Which.
        op: OpId,
        /// What.
        request: Box<DiskRequest>,
    },
    /// An effect: a call is answered.
    Replied {
        /// The call.
        call: CallId,
        /// Where the call came in.
        called: Option<HappeningId>,
        /// The answer; `None`: another machine's.
        response: Option<Box<ClientResult>>,
    },
    /// An effect: a word to the operator, or a machine's last one.
    Noted {
        /// The text.
        text: String,
    },
    /// Something was done to the world: a fault, its end, or the story's own remark.
    World {
        /// The text.
        text: String,
    },
    /// A checker found a broken promise. Its cause is the input that was handled when it looked, if there was one.
    Broken {
        /// Who found it.
        checker: String,
        /// What was found.
        text: String,
    },
}

/// Something that is wrong with a node for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whose.
    pub node: NodeNumber,
    /// Where it is wrong.
    pub part: Part,
    /// What is.
    pub text: String,
    /// Since when.
    pub from: Time,
    /// Until when; the run's end if it stays.
    pub until: Time,
    /// The world's event that began it.
    pub cause: Option<HappeningId>,
}

/// Where a node can be unwell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Its process: down, paused, halted.
    Process,
    /// Its connections: cut.
    Cut,
    /// Its links: slow or lossy.
    Link,
    /// One of its disks.
    Disk(u16),
}

/// What is wrong now, as looked at when the world may have changed.
pub(crate) type Conditions = BTreeMap<(NodeNumber, Part), String>;

/// A record being made.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    record: Record,
    /// The input whose effects are being carried out.
    current: Option<HappeningId>,
    calls: BTreeMap<CallId, HappeningId>,
    /// Places in `record.conditions` of those that go on.
    standing: BTreeMap<(NodeNumber, Part), usize>,
    /// The world's events since conditions were looked at.
    unseen: Vec<HappeningId>,
}

impl Recorder {
    /// A node is there from now on.
    pub(crate) fn node(&mut self, name: &str) {
        self.record.nodes.push(name.to_owned());
    }

    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.record.happenings.len()
    }

    /// The input whose effects are being carried out, or `None` once they are.
    pub(crate) fn settle(&mut self) {
        self.current = None;
    }

    fn push(
        &mut self,
        at: Time,
        node: Option<NodeNumber>,
        cause: Option<HappeningId>,
        what: What,
        line: Range<usize>,
    ) -> HappeningId {
        let id = self.record.happenings.len() as HappeningId;
        self.record.happenings.push(Happening { at, node, cause, what, line });
        id
    }

    /// A machine takes an input.
    pub(crate) fn input(
        &mut self,
        at: Time,
        node: NodeNumber,
        cause: Option<HappeningId>,
        what: What,
        line: Range<usize>,
    ) {
        let call = if let What::Called { call, .. } = &what { Some(*call) } else { None };
        let id = self.push(at, Some(node), cause, what, line);
        if let Some(call) = call {
            self.calls.insert(call, id);
        }
        self.current = Some(id);
    }

    /// A machine's effect.
    pub(crate) fn effect(&mut self, at: Time, node: NodeNumber, what: What) -> HappeningId {
        self.push(at, Some(node), self.current, what, 0..0)
    }

    /// A call is answered.
    pub(crate) fn reply(
        &mut self,
        at: Time,
        node: NodeNumber,
        call: CallId,
        response: Option<Box<ClientResult>>,
        line: Range<usize>,
    ) {
        let called = self.calls.remove(&call);
        let what = What::Replied { call, called, response };
        self.push(at, Some(node), self.current, what, line);
    }

    /// A line about the world, or a node's own words.
    pub(crate) fn line(&mut self, at: Time, who: &str, text: String, line: Range<usize>) {
        match self.record.nodes.iter().position(|name| name == who) {
            Some(node) => {
                self.push(at, Some(node as NodeNumber), self.current, What::Noted { text }, line);
            }
            None => {
                let id = self.push(at, None, None, What::World { text }, line);
                self.unseen.push(id);
            }
        }
    }

    /// A promise is broken.
    pub(crate) fn broken(&mut self, at: Time, checker: &str, text: &str, line: Range<usize>) {
        let what = What::Broken { checker: checker.to_owned(), text: text.to_owned() };
        self.push(at, None, self.current, what, line);
    }

    /// Whether the world may have changed since its conditions were looked at.
    pub(crate) fn wants_conditions(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// Compares what is wrong with what was: changes are those of the latest world's events.
    pub(crate) fn conditions(&mut self, now: Conditions) {
        let unseen = std::mem::take(&mut self.unseen);
        let changed: Vec<_> = (self.standing.iter())
            .filter(|(key, place)| now.get(*key) != Some(&self.record.conditions[**place].text))
            .map(|(key, place)| (*key, *place))
            .collect();
        for (key, place) in changed {
            self.standing.remove(&key);
            let end = self.culprit(&unseen, key.0);
            self.record.conditions[place].until = self.time_of(end);
        }
        for ((node, part), text) in now {
            if !self.standing.contains_key(&(node, part)) {
                let cause = self.culprit(&unseen, node);
                let from = self.time_of(cause);
                self.standing.insert((node, part), self.record.conditions.len());
                self.record.conditions.push(Condition { node, part, text, from, until: from, cause });
            }
        }
    }

    /// The latest event that speaks of the node, or the latest of all.
    fn culprit(&self, unseen: &[HappeningId], node: NodeNumber) -> Option<HappeningId> {
        let name = &self.record.nodes[usize::from(node)];
        let names = |id: &HappeningId| match &self.record.happenings[*id as usize].what {
            What::World { text } => text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name),
            _ => false,
        };
        unseen.iter().rev().copied().find(names).or_else(|| unseen.last().copied())
    }

    fn time_of(&self, id: Option<HappeningId>) -> Time {
        id.map_or(Time::ZERO, |id| self.record.happenings[id as usize].at)
    }

    /// The finished record.
    pub(crate) fn finish(mut self, end: Time) -> Record {
        for place in self.standing.into_values() {
            self.record.conditions[place].until = end;
        }
        self.record
    }
}
