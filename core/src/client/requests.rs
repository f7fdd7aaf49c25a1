//! Requests to the master: numbered once, repeated under the same number until answered or given up, over all masters.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::action::{Context, Origin};
use super::retry::pause;
use crate::config::ms;
use crate::defect::Defect;
use crate::error::{ClientError, MasterError};
use crate::id::{Address, ClientId, Peer, RequestId};
use crate::message::{Identity, MasterReply, MasterRequest, Message};
use crate::reached;
use crate::time::Time;

/// What became of a request.
pub(super) type Outcome = (Origin, Result<MasterReply, ClientError>);

/// All requests under way.
#[derive(Debug)]
pub(super) struct Requests {
    client: ClientId,
    identity: Identity,
    masters: Vec<Address>,
    /// The master believed to answer, an index into `masters`.
    current: usize,
    last: RequestId,
    pending: BTreeMap<RequestId, Pending>,
    /// When to look at each of `pending` again.
    timers: BTreeSet<(Time, RequestId)>,
    /// How often a request was sent again.
    pub(super) resent: u64,
}

#[derive(Debug)]
struct Pending {
    body: MasterRequest,
    then: Origin,
    deadline: Time,
    attempt: u32,
    /// The master that was asked; `None` while pausing.
    asked: Option<usize>,
    timer: Time,
    last_error: Option<MasterError>,
}

impl Requests {
    pub(super) fn new(client: ClientId, identity: Identity, masters: Vec<Address>) -> Requests {
        Requests {
            client,
            identity,
            masters,
            current: 0,
            last: RequestId(0),
            pending: BTreeMap::new(),
            timers: BTreeSet::new(),
            resent: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len().max(self.timers.len())
    }

    /// Starts a request.
    pub(super) fn start(&mut self, cx: &mut Context<'_>, body: MasterRequest, then: Origin, deadline: Time) {
        self.last.0 += 1;
        let timer = cx.now;
        let pending = Pending { body, then, deadline, attempt: 0, asked: None, timer, last_error: None };
        self.timers.insert((timer, self.last));
        self.pending.insert(self.last, pending);
        self.send(cx, self.last);
    }

    /// An answer arrived. `None` if it is to be tried again, or if nobody waits for it (a late or repeated answer).
    pub(super) fn on_master_reply(
        &mut self,
        cx: &mut Context<'_>,
        request: RequestId,
        result: Result<MasterReply, MasterError>,
    ) -> Option<Outcome> {
        match result {
            Err(error @ (MasterError::Unavailable(_) | MasterError::Busy(_))) => {
                let rotate = matches!(error, MasterError::Unavailable(_));
                self.pending.get_mut(&request)?.last_error = Some(error);
                self.retry_later(cx, request, rotate);
                if rotate && cx.defects.has(Defect::RetryRenumbered) {
                    self.renumber(request);
                }
                None
            }
            result => {
                let pending = self.pending.remove(&request)?;
                self.timers.remove(&(pending.timer, request));
                Some((pending.then, result.map_err(ClientError::Master)))
            }
        }
    }

    /// A connection to a master broke: what was asked there is asked again.
    pub(super) fn on_peer_lost(&mut self, cx: &mut Context<'_>, peer: &Peer) {
        let Peer::Dial(address) = peer else { return };
        let Some(lost) = self.masters.iter().position(|m| m == address) else { return };
        let asked: Vec<RequestId> =
            self.pending.iter().filter(|(_, p)| p.asked == Some(lost)).map(|(id, _)| *id).collect();
        for request in asked {
            self.retry_later(cx, request, true);
        }
    }

    /// Repeats what is due; returns what has run out of time.
    pub(super) fn on_wake(&mut self, cx: &mut Context<'_>) -> Vec<Outcome> {
        let mut given_up = Vec::new();
        while let Some(&(at, request)) = self.timers.first() {
            if at > cx.now {
                break;
            }
            let given_up_on = cx.defects.has(Defect::WaitForEver);
            let Some(pending) = self.pending.get(&request).filter(|_| !given_up_on) else {
                self.timers.remove(&(at, request));
                continue;
            };
            if pending.deadline <= cx.now {
                given_up.extend(self.give_up(cx, request));
                continue;
            }
            if let Some(asked) = pending.asked {
                reached!("client.request_timed_out");
                self.rotate_from(asked);
            }
            self.send(cx, request);
        }
        given_up
    }

    /// When to call [`Requests::on_wake`].
    pub(super) fn next_wake(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn give_up(&mut self, cx: &Context<'_>, request: RequestId) -> Option<Outcome> {
        let pending = self.pending.remove(&request)?;
        self.timers.remove(&(pending.timer, request));
        reached!("client.request_gave_up");
        if cx.defects.has(Defect::RefusalPassedOn)
            && let Some(error) = pending.last_error
        {
            return Some((pending.then, Err(ClientError::Master(error))));
        }
        let why = match &pending.last_error {
            Some(error) => error.to_string(),
            None => String::from("no answer"),
        };
        let text =
            format!("master did not answer within {} ms, last: {why}", cx.config.operation_deadline_ms);
        Some((pending.then, Err(ClientError::Timeout(text))))
    }

    fn retry_later(&mut self, cx: &mut Context<'_>, request: RequestId, rotate: bool) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        // An answer to an earlier sending of the same request while it is pausing anyway changes nothing.
        let Some(asked) = pending.asked.take() else { return };
        let at = (cx.now + pause(pending.attempt, cx.config.retry_ms, cx.rng)).min(pending.deadline);
        pending.attempt += 1;
        if rotate {
            self.rotate_from(asked);
        }
        self.arm(request, at);
    }

    fn renumber(&mut self, request: RequestId) {
        let Some(pending) = self.pending.remove(&request) else { return };
        self.timers.remove(&(pending.timer, request));
        self.last.0 += 1;
        self.timers.insert((pending.timer, self.last));
        self.pending.insert(self.last, pending);
    }

    fn rotate_from(&mut self, failed: usize) {
        if self.current == failed && !self.masters.is_empty() {
            self.current = (failed + 1) % self.masters.len();
        }
    }

    fn send(&mut self, cx: &mut Context<'_>, request: RequestId) {
        let current = self.current;
        let Some(pending) = self.pending.get_mut(&request) else { return };
        if pending.attempt > 0 || pending.asked.is_some() {
            self.resent += 1;
        }
        pending.asked = Some(current);
        let at = (cx.now + ms(cx.config.request_timeout_ms.max(1))).min(pending.deadline);
        let message = Message::MasterRequest {
            client: self.client,
            request,
            identity: self.identity.clone(),
            body: pending.body.clone(),
        };
        self.arm(request, at);
        if let Some(master) = self.masters.get(current) {
            cx.send(Peer::Dial(master.clone()), message);
        }
    }

    fn arm(&mut self, request: RequestId, at: Time) {
        let Some(pending) = self.pending.get_mut(&request) else { return };
        self.timers.remove(&(pending.timer, request));
        pending.timer = at;
        self.timers.insert((at, request));
    }
}
