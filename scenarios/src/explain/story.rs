//! What happened to one chunk, step by step, in sentences. Steps that look wrong by themselves are marked: an
//! acknowledgement that too few replicas hold, a read of harmed bytes, a seal below what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use cairn_core::disk::DiskError;
use cairn_core::id::{ChunkId, Durability};
use cairn_core::message::{
    AppendMessage, FromServer, Grant, MasterReply, Message, ReadMessage, ReplicaState, ToServer, Vote,
};
use cairn_core::time::{Span, Time};
use runtime_sim::record::{Happening, HappeningId, NodeNumber, Record, What};
use serde::Serialize;

use super::asked::asked;
use super::chronicle::Chronicle;
use super::focus::Focus;
use super::subject::Subjects;
use super::words::{shorten, words};
use crate::cluster::SIDECAR;

/// Steps kept of a long story: so many of its beginning and of its end.
const KEPT: (usize, usize) = (40, 120);

/// What was sent so shortly before the end may have been under way still.
const UNDER_WAY: Span = Span::from_ms(1_000);

/// Names listed in one step.
const NAMES: usize = 6;

/// How a step is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// As it should be.
    Plain,
    /// Something goes wrong from outside.
    Fault,
    /// This looks like the mistake.
    Odd,
    /// The promise is found broken.
    Broken,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its event.
    pub id: HappeningId,
    /// How it is shown.
    pub tone: Tone,
    /// A sentence.
    pub text: String,
    /// What the replicas hold then; empty where it adds nothing.
    pub holds: String,
}

/// The story of the focus: of its chunk, or else of what the user asked who found the promise broken.
pub fn story(record: &Record, subjects: &Subjects, chronicle: &Chronicle, focus: &Focus) -> Vec<Step> {
    let mut teller = Teller::new(record, subjects, chronicle);
    let asked = asked(record, subjects, focus);
    let mut asked = asked.into_iter().peekable();
    for (id, happening) in record.happenings.iter().enumerate().take(focus.event as usize + 1) {
        let id = id as HappeningId;
        if let Some((_, text)) = asked.next_if(|(at, _)| *at == id) {
            teller.step(id, Tone::Plain, text);
        }
        if let Some(chunk) = focus.chunk {
            teller.tell(id, happening, chunk);
        }
        if let What::Broken { text, checker } = &happening.what {
            teller.flush();
            let text = format!("The checker “{checker}” finds the promise broken: {text}");
            teller.push(id, Tone::Broken, text);
            teller.holds(focus.chunk);
        }
    }
    teller.flush();
    let mut steps = teller.steps;
    if steps.len() > KEPT.0 + KEPT.1 {
        let cut = steps.len() - KEPT.1;
        let left = steps.drain(KEPT.0..cut).collect::<Vec<_>>();
        let text = format!("… {} more steps, which the table of events shows …", left.len());
        steps.insert(KEPT.0, Step { id: left[0].id, tone: Tone::Plain, text, holds: String::new() });
    }
    steps
}

/// Records on their way, told in one step.
#[derive(Clone, Debug)]
struct Stream {
    id: HappeningId,
    writer: String,
    records: u64,
    sent: u64,
    acknowledged: u64,
}

/// Steps of one kind, told in one sentence.
#[derive(Clone, Debug)]
struct List {
    id: HappeningId,
    tone: Tone,
    before: String,
    names: Vec<String>,
    after: String,
}

/// A number with its noun.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

struct Teller<'a> {
    record: &'a Record,
    subjects: &'a Subjects,
    chronicle: &'a Chronicle,
    steps: Vec<Step>,
    stream: Option<Stream>,
    list: Option<List>,
    grant: Option<Grant>,
    /// Nodes that have to do with the chunk.
    nodes: BTreeSet<NodeNumber>,
    /// Bytes of the chunk that were flipped at rest, and where.
    harmed: BTreeSet<(NodeNumber, u64)>,
    /// What writers were told is committed.
    acknowledged: u64,
    /// The most that each node promised.
    promised: BTreeMap<NodeNumber, u64>,
    sealed: Option<u64>,
    short: bool,
}

impl<'a> Teller<'a> {
    fn new(record: &'a Record, subjects: &'a Subjects, chronicle: &'a Chronicle) -> Teller<'a> {
        Teller {
            record,
            subjects,
            chronicle,
            steps: Vec::new(),
            stream: None,
            list: None,
            grant: None,
            nodes: BTreeSet::new(),
            harmed: BTreeSet::new(),
            acknowledged: 0,
            promised: BTreeMap::new(),
            sealed: None,
            short: false,
        }
    }

    fn name(&self, node: Option<NodeNumber>) -> &'a str {
        node.map_or("the world", |node| &self.record.nodes[usize::from(node)])
    }

    fn push(&mut self, id: HappeningId, tone: Tone, text: String) {
        self.steps.push(Step { id, tone, text, holds: String::new() });
    }

    /// Says at the last step what the replicas hold then.
    fn holds(&mut self, chunk: Option<ChunkId>) {
        let (Some(chunk), Some(step)) = (chunk, self.steps.last_mut()) else { return };
        let said = self.chronicle.holders(chunk, step.id).into_iter().map(|(server, r)| {
            let state = format!("{:?}", r.state).to_lowercase();
            format!("{server} {state} v{}: ready {}, on disk {}", r.version, r.ready, r.durable)
        });
        step.holds = said.collect::<Vec<_>>().join("; ");
    }

    /// Ends what was being gathered.
    fn flush(&mut self) {
        if let Some(stream) = self.stream.take() {
            let Stream { id, writer, records, sent, acknowledged } = stream;
            let told = match (records, acknowledged) {
                (0, end) => format!("{writer} hears that bytes up to {end} are committed."),
                (n, 0) => {
                    format!(
                        "{writer} sends {}, up to byte {sent}; none is acknowledged yet.",
                        count(n, "record")
                    )
                }
                (n, end) => {
                    format!(
                        "{writer} sends {}, up to byte {sent}, and hears that those up to {end} are committed.",
                        count(n, "record")
                    )
                }
            };
            self.push(id, Tone::Plain, told);
        }
        if let Some(List { id, tone, before, mut names, after }) = self.list.take() {
            let more = names.len().saturating_sub(NAMES);
            names.truncate(NAMES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.push(id, tone, format!("{before}{}{more}{after}", names.join(", ")));
        }
    }

    /// Tells a step at once.
    fn step(&mut self, id: HappeningId, tone: Tone, text: String) {
        self.flush();
        self.push(id, tone, text);
    }

    /// Tells a step together with those before it that read the same.
    fn item(&mut self, id: HappeningId, tone: Tone, before: &str, name: String, after: &str) {
        if let Some(list) = &mut self.list
            && (list.tone, list.before.as_str(), list.after.as_str()) == (tone, before, after)
        {
            if !list.names.contains(&name) {
                list.names.push(name);
            }
            return;
        }
        self.flush();
        let (before, after) = (before.to_owned(), after.to_owned());
        self.list = Some(List { id, tone, before, names: vec![name], after });
    }

    fn gather(&mut self, id: HappeningId, writer: &str) -> &mut Stream {
        if self.list.is_some() || self.stream.as_ref().is_some_and(|stream| stream.writer != writer) {
            self.flush();
        }
        let acknowledged = 0;
        self.stream.get_or_insert(Stream { id, writer: writer.to_owned(), records: 0, sent: 0, acknowledged })
    }

    fn tell(&mut self, id: HappeningId, happening: &Happening, chunk: ChunkId) {
        let about = self.subjects.about[id as usize];
        match &happening.what {
            What::World { .. } if about.chunk.is_some_and(|other| other != chunk) => {}
            What::World { text } => self.world(id, text, about.chunk == Some(chunk)),
            _ if about.chunk != Some(chunk) => {}
            What::Sent { to, message } => self.sent(id, happening.node, *to, message, chunk),
            What::Received { .. } => {
                if let Some(What::Sent { message, .. }) =
                    happening.cause.map(|cause| &self.record.happenings[cause as usize].what)
                {
                    self.received(id, happening, message);
                }
            }
            // To remove what is not there is no trouble.
            What::DiskEnded { result: Err(error), .. } if *error != DiskError::NotFound => {
                let what = happening.cause.map(|cause| &self.record.happenings[cause as usize]);
                let what = what.map_or_else(String::new, |what| words(self.record, self.subjects, what));
                let name = self.name(happening.node).to_owned();
                self.item(id, Tone::Fault, "Disk operations fail: ", format!("{name} {what} ({error})"), ".");
            }
            What::Noted { .. } => {
                let text = words(self.record, self.subjects, happening);
                if text.starts_with("Alarm") || text.starts_with("Warn") {
                    let name = self.name(happening.node).to_owned();
                    self.step(id, Tone::Plain, format!("{name} notes: {text}"));
                }
            }
            _ => {}
        }
    }

    /// A fault that strikes someone concerned.
    fn world(&mut self, id: HappeningId, text: &str, harms: bool) {
        let struck: Vec<_> = (self.nodes.iter().copied())
            .filter(|node| {
                let name = self.name(Some(*node));
                text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name)
            })
            .collect();
        let flipped = text.starts_with("BitFlip") && !text.contains(SIDECAR);
        if let Some(byte) =
            text.rsplit(' ').next().and_then(|byte| byte.parse().ok()).filter(|_| harms && flipped)
        {
            self.harmed.extend(struck.iter().map(|node| (*node, byte)));
        }
        // A strike as planned names roles; what it did to whom follows in words.
        if (harms || !struck.is_empty()) && !text.contains('{') {
            let text = shorten(text, |_| None);
            let (text, tone) = match text.split_once(" starts under ") {
                Some((name, _)) => (format!("{name} starts again."), Tone::Plain),
                None if text.ends_with("goes on") || text.starts_with("heal ") => {
                    (format!("{text}."), Tone::Plain)
                }
                None => (format!("Fault: {text}."), Tone::Fault),
            };
            self.step(id, tone, text);
        }
    }

    fn sent(
        &mut self,
        id: HappeningId,
        from: Option<NodeNumber>,
        to: Option<NodeNumber>,
        message: &Message,
        chunk: ChunkId,
    ) {
        let (own, mut other) = (self.name(from), self.name(to).to_owned());
        self.nodes.extend(from);
        self.nodes.extend(to);
        let end = self.record.happenings.last().map_or(Time::ZERO, |last| last.at);
        let late = end.since(self.record.happenings[id as usize].at) < UNDER_WAY;
        if self.subjects.outcome[id as usize].is_none() && !late {
            other += " (never arrives)";
        }
        match message {
            Message::Append(AppendMessage::Data { payload, .. }) if own.starts_with("client") => {
                let stream = self.gather(id, own);
                stream.records += 1;
                stream.sent = stream.sent.max(payload.end());
            }
            Message::Append(AppendMessage::Committed { end, .. }) if other.starts_with("client") => {
                self.committed(id, own, self.name(to), *end, chunk);
            }
            Message::Append(AppendMessage::Failed { error, .. }) => {
                self.step(id, Tone::Plain, format!("{own} tells {other} that writing failed: {error}."));
            }
            Message::MasterReply { result: Ok(MasterReply::Sealed(sealed)), .. } => {
                self.sealed(id, sealed.length, sealed.version.0);
                self.item(
                    id,
                    Tone::Plain,
                    &format!("The master answers that the chunk is sealed with {} bytes: to ", sealed.length),
                    other,
                    ".",
                );
            }
            Message::MasterReply { result: Err(error), .. } => {
                self.step(id, Tone::Plain, format!("The master refuses {other}: {error}."));
            }
            Message::ToServer(order) => self.ordered(id, other, order),
            Message::Read(ReadMessage::Reply { result: Err(error), .. }) => {
                self.item(id, Tone::Plain, "Reads are refused: ", format!("{own} to {other} ({error})"), ".");
            }
            Message::Read(ReadMessage::Reply { result: Ok(payload), .. }) => {
                let range = payload.offset..payload.end();
                if self.harmed.iter().any(|(node, byte)| Some(*node) == from && range.contains(byte)) {
                    let text = format!(
                        "{own} answers {other} with bytes {} to {}, in which a bit was flipped at rest.",
                        payload.offset,
                        payload.end()
                    );
                    self.step(id, Tone::Odd, text);
                } else {
                    self.item(id, Tone::Plain, "Reads are answered: ", format!("{own} to {other}"), ".");
                }
            }
            _ => {}
        }
    }

    fn ordered(&mut self, id: HappeningId, other: String, order: &ToServer) {
        match order {
            ToServer::Fence { version, .. } => {
                self.item(
                    id,
                    Tone::Plain,
                    "The master asks ",
                    other,
                    &format!(" to take no more bytes under version {} and to vote (fence).", version.0),
                );
            }
            ToServer::Complete { length, .. } => {
                self.item(
                    id,
                    Tone::Plain,
                    "The master asks ",
                    other,
                    &format!(" to fetch what is missing up to byte {length} (complete)."),
                );
            }
            ToServer::Seal { sealed, .. } => {
                self.sealed(id, sealed.length, sealed.version.0);
                self.item(
                    id,
                    Tone::Plain,
                    "The master tells ",
                    other,
                    &format!(" that the chunk is sealed with {} bytes.", sealed.length),
                );
            }
            ToServer::Copy { sealed, .. } => {
                self.item(
                    id,
                    Tone::Plain,
                    "The master asks ",
                    other,
                    &format!(" to copy the chunk ({} bytes).", sealed.length),
                );
            }
            ToServer::Verify { .. } => {
                self.item(id, Tone::Plain, "The master asks ", other, " to check its replica.")
            }
            ToServer::Drop { reason, .. } => {
                let reason = format!("{reason:?}").to_lowercase();
                self.item(
                    id,
                    Tone::Plain,
                    "The master tells ",
                    other,
                    &format!(" to drop its replica ({reason})."),
                );
            }
            _ => {}
        }
    }

    /// An acknowledgement: do enough members hold it?
    fn committed(&mut self, id: HappeningId, own: &str, other: &str, end: u64, chunk: ChunkId) {
        if let Some(grant) = &self.grant {
            let held = |replica: &super::chronicle::Replica| match grant.durability {
                Durability::Sync => replica.ready.min(replica.durable),
                Durability::Async => replica.ready,
            };
            let members: Vec<&str> = grant.addresses.iter().map(|address| &*address.0).collect();
            let holders = self.chronicle.holders(chunk, id);
            let holding =
                holders.iter().filter(|(server, r)| members.contains(server) && held(r) >= end).count();
            let needed = usize::from(grant.quorum);
            let few = if holding == 0 { "none".to_owned() } else { format!("only {holding}") };
            if holding < needed && !self.short && self.sealed.is_none() {
                self.short = true;
                let text = format!(
                    "{own} tells {other} that bytes up to {end} are committed, but then {few} of the members held them; {needed} must."
                );
                self.step(id, Tone::Odd, text);
                self.holds(Some(chunk));
                return;
            }
        }
        let stream = self.gather(id, other);
        stream.acknowledged = stream.acknowledged.max(end);
    }

    /// A seal: does it keep what was acknowledged?
    fn sealed(&mut self, id: HappeningId, length: u64, version: u32) {
        if self.sealed.is_none() {
            if length < self.acknowledged {
                let text = format!(
                    "The master seals the chunk with {length} bytes (version {version}), but bytes up to {} were acknowledged.",
                    self.acknowledged
                );
                self.step(id, Tone::Odd, text);
            } else {
                self.step(
                    id,
                    Tone::Plain,
                    format!("The master seals the chunk with {length} bytes (version {version})."),
                );
            }
            self.sealed = Some(length);
            let chunk = self.subjects.about[id as usize].chunk;
            self.holds(chunk);
        }
    }

    /// Leave to write; the same again tells nothing.
    fn granted(&mut self, id: HappeningId, own: &str, grant: &Grant) {
        if self.grant.as_ref().is_some_and(|known| known.version == grant.version) {
            return;
        }
        let places: Vec<_> = grant.addresses.iter().map(|address| &*address.0).collect();
        let (first, rest) = places.split_first().unwrap_or((&"nobody", &[]));
        let rest = if rest.is_empty() { String::new() } else { format!(", {}", rest.join(", ")) };
        let text = format!(
            "The master lets {own} write {} under version {} on {first} (primary){rest}: {} of them must hold a record before it is acknowledged ({}).",
            grant.chunk, grant.version.0, grant.quorum, grant.durability
        );
        self.step(id, Tone::Plain, text);
        self.grant = Some(grant.clone());
    }

    fn received(&mut self, id: HappeningId, happening: &Happening, message: &Message) {
        let own = self.name(happening.node).to_owned();
        let from = happening.cause.and_then(|cause| self.record.happenings[cause as usize].node);
        let sender = self.name(from).to_owned();
        match message {
            Message::MasterReply { result: Ok(MasterReply::Grant(grant)), .. }
                if own.starts_with("client") =>
            {
                self.granted(id, &own, grant);
            }
            Message::Append(AppendMessage::Open { .. }) => {
                self.item(id, Tone::Plain, "A replica is opened on ", own, ".");
            }
            Message::Append(AppendMessage::Ready { ends, .. }) => {
                if let (Some(node), Some(end)) = (from, ends.first()) {
                    let most = self.promised.entry(node).or_default();
                    *most = (*most).max(*end);
                }
            }
            Message::Append(AppendMessage::Committed { end, .. }) if own.starts_with("client") => {
                self.acknowledged = self.acknowledged.max(*end);
            }
            Message::FromServer(FromServer::Vote { vote, .. }) => {
                let promised = from.and_then(|from| self.promised.get(&from)).copied().unwrap_or(0);
                let said = match vote {
                    Vote::Prefix { length, .. } => format!("{sender} holds {length} bytes"),
                    Vote::Absent => format!("{sender} never had it"),
                    Vote::Damaged => format!("{sender} is damaged and does not count"),
                    Vote::Superseded { version } => format!("{sender} is at version {} already", version.0),
                    Vote::OtherIncarnation => format!("{sender} is not the one that was asked"),
                };
                match vote {
                    Vote::Prefix { length, .. } if *length < promised => {
                        self.step(
                            id,
                            Tone::Odd,
                            format!("{said}, says its vote, but it had promised {promised}."),
                        );
                    }
                    _ => self.item(id, Tone::Plain, "Votes reach the master: ", said, "."),
                }
            }
            Message::FromServer(FromServer::CopyDone { error, .. }) => match error {
                None => {
                    // What was harmed there went to quarantine.
                    self.harmed.retain(|(node, _)| Some(*node) != from);
                    self.item(id, Tone::Plain, "Copies are done on ", sender, ".");
                }
                Some(error) => self.step(id, Tone::Plain, format!("{sender} could not copy: {error}.")),
            },
            Message::FromServer(FromServer::ReplicaChanged(replica)) => {
                let state = format!("{:?}", replica.state).to_lowercase();
                if replica.state == ReplicaState::Gone {
                    self.harmed.retain(|(node, _)| Some(*node) != from);
                }
                let tone = if replica.state == ReplicaState::Damaged { Tone::Fault } else { Tone::Plain };
                self.item(id, tone, "Servers report their replicas: ", format!("{sender} {state}"), ".");
            }
            _ => {}
        }
    }
}
