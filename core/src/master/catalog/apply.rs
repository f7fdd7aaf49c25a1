//! From command to change: validate, plan, commit. Planning only reads, so that a refused command changes nothing, and
//! [`Catalog::check`] is the same code.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::chunks::OpenChunk;
use super::namespace::{Kind, NOWHERE};
use super::path::check_length;
use super::uploads::Completion;
use super::{Applied, Catalog, Event, Upload, changes, permission};
use crate::config::MAX_REPLICATION;
use crate::defect::Defect;
use crate::error::MasterError;
use crate::id::{ChunkId, ClusterId, TrashId, UploadId};
use crate::master::command::{Change, Command, MAX_DROPS};
use crate::message::{Identity, MasterReply};
use crate::time::UnixMs;

/// A change that was found to be allowed, with all that the search for it has found.
pub(super) enum Plan<'a> {
    /// Nothing is to change; this is the answer.
    Settled(MasterReply),
    Format(ClusterId),
    Start,
    Mkdir(changes::Mkdir<'a>),
    Attributes(changes::NewAttributes<'a>),
    Rename(changes::Rename<'a>),
    Delete(changes::Discard<'a>),
    Restore(changes::Restore),
    Begin(Box<Upload>),
    Grant(OpenChunk, u8),
    Seal {
        chunk: ChunkId,
        length: u64,
        crc: u32,
    },
    Complete(Completion<'a>),
    Abandon(UploadId),
    Reclaim {
        entry: TrashId,
        budget: u32,
    },
}

impl Catalog {
    /// Applies one command of the log. Deterministic: depends on the catalog and the command only.
    pub fn apply(&mut self, command: &Command) -> Applied {
        self.applied += 1;
        if let Some((client, request)) = command.origin
            && let Some(reply) = self.recall(client, request)
        {
            crate::reached!("catalog.retry_applied");
            return Applied { reply, events: Vec::new() };
        }
        let mut events = Vec::new();
        let reply = match self.prepare(&command.change) {
            Ok(plan) => Ok(self.commit(plan, command.at, &mut events)),
            Err(error) => Err(error),
        };
        if let Some((client, request)) = command.origin
            && !self.defects.has(Defect::OutcomesForgotten)
        {
            self.dedup.remember(client, request, reply.clone(), self.applied);
        }
        Applied { reply, events }
    }

    /// Whether `change` could be applied now: for refusing without a log entry what is bound to be refused.
    pub fn check(&self, change: &Change) -> Result<(), MasterError> {
        self.prepare(change).map(drop)
    }

    fn prepare<'a>(&self, change: &'a Change) -> Result<Plan<'a>, MasterError> {
        Self::check_bounds(change)?;
        match change {
            Change::Format { cluster } => self.prepare_format(*cluster),
            Change::Start {} => Ok(Plan::Start),
            Change::Mkdir { identity, path, parents, mode } => {
                self.prepare_mkdir(identity, path, *parents, *mode)
            }
            Change::Chmod { identity, path, mode } => self.prepare_chmod(identity, path, *mode),
            Change::Chown { identity, path, owner, group } => {
                self.prepare_chown(identity, path, owner.as_deref(), group.as_deref())
            }
            Change::Rename { identity, from, to, replace, undelete_ms } => {
                self.prepare_rename(identity, from, to, *replace, *undelete_ms)
            }
            Change::Delete { identity, path, recursive, undelete_ms } => {
                self.prepare_delete(identity, path, *recursive, *undelete_ms)
            }
            Change::Restore { identity, entry, path, to } => {
                self.prepare_restore(identity, *entry, path, to.as_deref())
            }
            Change::BeginUpload { identity, path, replace, mode, options } => {
                self.prepare_begin(identity, path, *replace, *mode, *options)
            }
            Change::GrantChunk { upload, ordinal, members, replication, quorum, durability, capacity } => {
                let open = OpenChunk {
                    upload: *upload,
                    ordinal: *ordinal,
                    members: members.clone(),
                    quorum: *quorum,
                    durability: *durability,
                    capacity: *capacity,
                };
                self.prepare_grant(open, *replication)
            }
            Change::SealChunk { chunk, version, length, crc } => {
                self.prepare_seal(*chunk, *version, *length, *crc)
            }
            Change::CompleteUpload { identity, upload, length, undelete_ms } => {
                self.prepare_complete(identity, *upload, *length, *undelete_ms)
            }
            Change::AbortUpload { identity, upload } => {
                self.writable_upload(identity, *upload).map(|_| Plan::Abandon(*upload))
            }
            Change::ExpireUpload { upload } => match self.upload(*upload) {
                Some(_) => Ok(Plan::Abandon(*upload)),
                None => Err(MasterError::UploadGone(*upload)),
            },
            Change::ReclaimTrash { entry, budget } => match self.trash.entry(*entry) {
                Some(_) => Ok(Plan::Reclaim { entry: *entry, budget: *budget }),
                None => Err(MasterError::NotFound(entry.to_string())),
            },
            Change::DropReplicas { .. } => Ok(Plan::Settled(MasterReply::Done)),
        }
    }

    /// Whether every text and list of `change` is within its bounds. Only such changes may be logged, so that a record
    /// is never longer than the log allows.
    pub fn check_bounds(change: &Change) -> Result<(), MasterError> {
        let (identity, paths): (Option<&Identity>, [&str; 2]) = match change {
            Change::Mkdir { identity, path, .. }
            | Change::Chmod { identity, path, .. }
            | Change::Delete { identity, path, .. }
            | Change::BeginUpload { identity, path, .. } => (Some(identity), [path, ""]),
            Change::Rename { identity, from, to, .. } => (Some(identity), [from, to]),
            Change::Restore { identity, path, to, .. } => {
                (Some(identity), [path, to.as_deref().unwrap_or_default()])
            }
            Change::Chown { identity, path, owner, group } => {
                for name in [owner, group].into_iter().flatten() {
                    permission::check_principal(name)?;
                }
                (Some(identity), [path, ""])
            }
            Change::CompleteUpload { identity, .. } | Change::AbortUpload { identity, .. } => {
                (Some(identity), ["", ""])
            }
            Change::GrantChunk { members, .. } if members.len() > usize::from(MAX_REPLICATION) => {
                return Err(MasterError::InvalidArgument(format!("a grant to {} servers", members.len())));
            }
            Change::DropReplicas { drops } if drops.len() > MAX_DROPS => {
                return Err(MasterError::InvalidArgument(format!(
                    "{} replicas dropped by one command; at most {MAX_DROPS} are allowed",
                    drops.len()
                )));
            }
            Change::Format { .. }
            | Change::Start {}
            | Change::GrantChunk { .. }
            | Change::SealChunk { .. }
            | Change::ExpireUpload { .. }
            | Change::ReclaimTrash { .. }
            | Change::DropReplicas { .. } => (None, ["", ""]),
        };
        paths.into_iter().try_for_each(check_length)?;
        identity.map_or(Ok(()), permission::check_identity)
    }

    fn prepare_format<'a>(&self, cluster: ClusterId) -> Result<Plan<'a>, MasterError> {
        if self.applied > 1 || self.cluster != ClusterId(0) {
            return Err(MasterError::Protocol(String::from("only the first record of a log formats it")));
        }
        Ok(Plan::Format(cluster))
    }

    fn commit(&mut self, plan: Plan<'_>, at: UnixMs, events: &mut Vec<Event>) -> MasterReply {
        match plan {
            Plan::Settled(reply) => return reply,
            Plan::Format(cluster) => self.cluster = cluster,
            Plan::Start if self.defects.has(Defect::EpochReused) => self.epoch = 1,
            Plan::Start => self.epoch += 1,
            Plan::Mkdir(plan) => self.commit_mkdir(&plan, at),
            Plan::Attributes(plan) => self.commit_attributes(&plan),
            Plan::Rename(plan) => self.commit_rename(plan, at),
            Plan::Delete(plan) => return MasterReply::Trashed(self.commit_discard(&plan, at)),
            Plan::Restore(plan) => return self.commit_restore(plan, at),
            Plan::Begin(upload) => return self.commit_begin(*upload, at, events),
            Plan::Grant(open, goal) => return self.commit_grant(open, goal, events),
            Plan::Seal { chunk, length, crc } => {
                let sealed = self.chunks.seal(chunk, length, crc);
                events.push(Event::ChunkSealed(sealed));
                return MasterReply::Sealed(sealed);
            }
            Plan::Complete(plan) => return self.commit_complete(plan, at, events),
            Plan::Abandon(upload) => self.commit_abandon(upload, events),
            Plan::Reclaim { entry, budget } => self.commit_reclaim(entry, budget, events),
        }
        MasterReply::Done
    }

    /// Frees an expired entry from the leaves up: at most `budget` nodes visited and extents released, and the rest at
    /// the next step.
    fn commit_reclaim(&mut self, entry: TrashId, budget: u32, events: &mut Vec<Event>) {
        let Some(deleted) = self.trash.entry(entry) else { return };
        let mut at = deleted.reclaiming.unwrap_or(deleted.node);
        let mut doomed = Vec::new();
        for _ in 0..budget.max(1) {
            match &mut self.namespace.node_mut(at).kind {
                Kind::Directory(directory) if !directory.children.is_empty() => {
                    at = directory.children.values().next_back().copied().unwrap_or(at);
                    continue;
                }
                Kind::File(file) => {
                    if let Some(extent) = file.extents.pop() {
                        doomed.push(extent.chunk);
                        continue;
                    }
                }
                Kind::Directory(_) => {}
            }
            at = self.namespace.erase(at);
            if at == NOWHERE {
                break;
            }
        }
        match at {
            NOWHERE => drop(self.trash.remove(entry)),
            _ => {
                crate::reached!("catalog.reclaim_goes_on");
                self.trash.reclaim_at(entry, at);
            }
        }
        self.release(doomed, events);
    }

    /// Takes one reference from each of `chunks`; those without any are gone, in this same command (chunk protocol, rule 19).
    pub(super) fn release(&mut self, mut chunks: Vec<ChunkId>, events: &mut Vec<Event>) {
        if self.defects.has(Defect::LeakChunks) {
            return;
        }
        chunks.retain(|chunk| self.chunks.release(*chunk));
        if !chunks.is_empty() {
            events.push(Event::ChunksRemoved(chunks));
        }
    }
}
