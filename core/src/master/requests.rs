//! Clients' requests: reads are answered from the applied state, changes go recall → check → propose.

use alloc::format;
use alloc::vec::Vec;

use super::Master;
use super::catalog::dedup::Outcome;
use super::catalog::{Catalog, resolve_options};
use super::command::Change;
use super::locations::Quality;
use super::machine::Fx;
use crate::config::{MasterConfig, ms};
use crate::defect::Defect;
use crate::error::MasterError;
use crate::id::{ChunkId, ChunkVersion, ClientId, Peer, RequestId, ServerId, UploadId};
use crate::message::{Identity, MasterReply, MasterRequest, ReplicaPlace, ToServer};
use crate::reached;
use crate::time::Time;

/// Changes that may wait for the log at once.
const MAX_BACKLOG: usize = 10_000;
/// The most entries of one page.
const MAX_PAGE: u32 = 1_000;
/// The most extents of one answer.
const MAX_EXTENTS: usize = 1_000;

/// Why nothing changes, and what to do.
pub(super) const NO_SPACE: &str = "no space for the operation log; free some on the master's disk";

impl Master {
    pub(super) fn on_request(
        &mut self,
        now: Time,
        from: Peer,
        asked: (ClientId, RequestId),
        identity: &Identity,
        body: MasterRequest,
        fx: &mut Fx,
    ) {
        self.requests += 1;
        if let Err(error) = self.readiness() {
            return self.reply(from, asked.1, Err(error), fx);
        }
        self.touch_upload(now, &body);
        if body.is_change() && !self.admit_change(&from, asked, &body, fx) {
            return;
        }
        match body {
            MasterRequest::OpenChunk { upload, ordinal, avoid } => {
                self.on_open_chunk(now, from, asked, identity, upload, ordinal, &avoid, fx);
            }
            MasterRequest::SealChunk { upload, chunk, version } => {
                self.on_seal_chunk(now, from, asked, identity, upload, chunk, version, fx);
            }
            MasterRequest::ReportBadReplica { chunk, version, server } => {
                let result = self.on_report_bad_replica(chunk, version, server, fx);
                self.reply(from, asked.1, result, fx);
            }
            body => match to_change(&self.config, identity, body) {
                Ok(change) => self.on_change(now, from, asked, change, fx),
                Err(read) => {
                    let result = self.on_read(now, identity, read);
                    self.reply(from, asked.1, result, fx);
                }
            },
        }
    }

    /// Whether a change may go on: not one that was done already, is under way, or finds the queue full.
    fn admit_change(
        &mut self,
        from: &Peer,
        asked: (ClientId, RequestId),
        body: &MasterRequest,
        fx: &mut Fx,
    ) -> bool {
        // The chunk table has the answer to these (chunk protocol, rules 8 and 17): no retry is too old.
        let repeatable = matches!(body, MasterRequest::OpenChunk { .. } | MasterRequest::SealChunk { .. });
        if !repeatable && let Some(outcome) = self.recall(asked) {
            reached!("requests.recalled");
            self.reply(from.clone(), asked.1, outcome, fx);
            return false;
        }
        if let Some(peers) = self.waiters.get_mut(&asked) {
            reached!("requests.retried_under_way");
            if !peers.contains(from) {
                peers.push(from.clone());
            }
            return false;
        }
        let why = if self.log.is_full() {
            NO_SPACE.into()
        } else if self.log.backlog() >= MAX_BACKLOG {
            format!("{MAX_BACKLOG} changes wait for the log")
        } else {
            return true;
        };
        self.reply(from.clone(), asked.1, Err(MasterError::Busy(why)), fx);
        false
    }

    /// What became of a request that was carried out or refused before.
    fn recall(&self, asked: (ClientId, RequestId)) -> Option<Outcome> {
        let logged = self.catalog.recall(asked.0, asked.1);
        let refused = self.refused.recall(asked.0, asked.1);
        if refused.is_some() {
            reached!("requests.refusal_recalled");
        }
        match (&logged, &refused) {
            // Each table may have forgotten what the other one knows.
            (Some(Err(MasterError::Unavailable(_))), Some(_)) | (None, _) => refused,
            _ => logged,
        }
    }

    fn on_change(
        &mut self,
        now: Time,
        from: Peer,
        asked: (ClientId, RequestId),
        change: Change,
        fx: &mut Fx,
    ) {
        // With changes under way the refusal could rest on a state that is about to change: the log decides then.
        let settled = self.log.backlog() == 0;
        let checked = if settled { self.catalog.check(&change) } else { Catalog::check_bounds(&change) };
        if let Err(error) = checked {
            if !self.defects.has(Defect::RefusalsForgotten) {
                self.refused.remember(asked.0, asked.1, Err(error.clone()), self.requests);
            }
            return self.reply(from, asked.1, Err(error), fx);
        }
        self.waiters.entry(asked).or_default().push(from);
        self.propose_for(now, change, Some(asked), Some(asked));
    }

    fn on_read(
        &mut self,
        now: Time,
        identity: &Identity,
        body: MasterRequest,
    ) -> Result<MasterReply, MasterError> {
        match body {
            MasterRequest::List { path, after, limit } => {
                let limit = limit.clamp(1, MAX_PAGE);
                let (entries, more) = self.catalog.list(identity, &path, after.as_deref(), limit)?;
                Ok(MasterReply::Entries { entries, more })
            }
            MasterRequest::Stat { path } => Ok(MasterReply::Status(self.catalog.stat(identity, &path)?)),
            MasterRequest::ListTrash { after, limit } => {
                let (entries, more) = self.catalog.list_trash(identity, after, limit.clamp(1, MAX_PAGE));
                Ok(MasterReply::Trash { entries, more })
            }
            MasterRequest::KeepUpload { upload } => {
                self.catalog.writable_upload(identity, upload).map(|_| MasterReply::Done)
            }
            MasterRequest::Locate { path, offset, length } => self.locate(identity, &path, offset, length),
            MasterRequest::ClusterStatus => Ok(MasterReply::Cluster(self.cluster_status(now))),
            MasterRequest::Fsck { after, limit } => Ok(self.fsck(now, after, limit)),
            other => Err(MasterError::Protocol(format!("{other:?} is not a read"))),
        }
    }

    fn locate(
        &mut self,
        identity: &Identity,
        path: &str,
        offset: u64,
        length: u64,
    ) -> Result<MasterReply, MasterError> {
        let mut plan = self.catalog.plan(identity, path, offset, length, MAX_EXTENTS)?;
        for extent in &mut plan.extents {
            extent.replicas = self.places(extent.chunk.chunk);
        }
        Ok(MasterReply::Located(plan))
    }

    /// Who can serve a chunk: good replicas in a random order, so that readers spread, then those not yet sealed.
    fn places(&mut self, chunk: ChunkId) -> Vec<ReplicaPlace> {
        let mut replicas = self.locations.replicas(chunk, self.expected(chunk));
        self.rng.shuffle(&mut replicas);
        replicas.sort_by_key(|(quality, _)| *quality);
        let mut places: Vec<ReplicaPlace> = Vec::new();
        for (quality, replica) in replicas {
            let Some(server) = self.servers.by_id(replica.server) else { continue };
            let known = places.iter().any(|place| place.server == replica.server);
            if quality == Quality::Bad || known || !server.live {
                continue;
            }
            places.push(ReplicaPlace {
                server: replica.server,
                address: server.address.clone(),
                rack: server.rack.clone(),
            });
        }
        places
    }

    fn on_report_bad_replica(
        &mut self,
        chunk: ChunkId,
        version: ChunkVersion,
        server: ServerId,
        fx: &mut Fx,
    ) -> Result<MasterReply, MasterError> {
        if let Some(peer) = self.servers.peer(server) {
            reached!("requests.verify_bad_replica");
            fx.send(peer, ToServer::Verify { chunk, version });
        }
        Ok(MasterReply::Done)
    }

    /// An upload that is named lives on.
    fn touch_upload(&mut self, now: Time, body: &MasterRequest) {
        let (MasterRequest::OpenChunk { upload, .. }
        | MasterRequest::SealChunk { upload, .. }
        | MasterRequest::KeepUpload { upload }
        | MasterRequest::CompleteUpload { upload, .. }) = body
        else {
            return;
        };
        if let Some(seen) = self.uploads.get_mut(upload) {
            *seen = now;
        }
    }

    /// Gives up uploads whose clients fell silent.
    pub(super) fn expire_uploads(&mut self, now: Time) {
        let expiry = ms(self.config.upload_expiry_ms);
        let silent: Vec<UploadId> = self
            .uploads
            .iter()
            .filter(|(_, seen)| now >= **seen + expiry)
            .map(|(upload, _)| *upload)
            .take(self.config.step_budget as usize)
            .collect();
        for upload in silent {
            reached!("requests.upload_expired");
            self.uploads.insert(upload, now);
            self.propose(now, Change::ExpireUpload { upload });
        }
    }
}

/// The change that a request asks for; the request itself if it is a read.
fn to_change(
    config: &MasterConfig,
    identity: &Identity,
    body: MasterRequest,
) -> Result<Change, MasterRequest> {
    let identity = identity.clone();
    let undelete_ms = config.undelete_ms;
    Ok(match body {
        MasterRequest::Mkdir { path, parents, mode } => Change::Mkdir { identity, path, parents, mode },
        MasterRequest::Chmod { path, mode } => Change::Chmod { identity, path, mode },
        MasterRequest::Chown { path, owner, group } => Change::Chown { identity, path, owner, group },
        MasterRequest::Rename { from, to, replace } => {
            Change::Rename { identity, from, to, replace, undelete_ms }
        }
        MasterRequest::Delete { path, recursive } => {
            Change::Delete { identity, path, recursive, undelete_ms }
        }
        MasterRequest::Restore { entry, path, to } => Change::Restore { identity, entry, path, to },
        MasterRequest::BeginUpload { path, replace, mode, options } => {
            let options = resolve_options(options, config);
            Change::BeginUpload { identity, path, replace, mode, options }
        }
        MasterRequest::CompleteUpload { upload, length } => {
            Change::CompleteUpload { identity, upload, length, undelete_ms }
        }
        MasterRequest::AbortUpload { upload } => Change::AbortUpload { identity, upload },
        read => return Err(read),
    })
}
