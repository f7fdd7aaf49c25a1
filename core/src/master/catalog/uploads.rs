//! Uploads: files being written, invisible until one conditional command completes them (chunk protocol, rules 8, 17, 19).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::apply::Plan;
use super::changes::Discard;
use super::chunks::{ChunkState, OpenChunk};
use super::files::{Extent, Extents, File};
use super::namespace::{Kind, Place};
use super::path::Path;
use super::permission;
use super::{Catalog, Event};
use crate::config::{CHUNK_UNIT, MAX_CHUNK_BYTES, MAX_REPLICATION, MasterConfig, is_chunk_size};
use crate::defect::Defect;
use crate::error::MasterError;
use crate::id::{ChunkId, ChunkVersion, UploadId};
use crate::message::{Identity, MasterReply, StorageOptions};
use crate::payload;
use crate::time::UnixMs;

/// A file being written.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Upload {
    /// The file to be.
    pub path: String,
    /// Whether an existing file is replaced.
    pub replace: bool,
    /// Permission bits of the file to be.
    pub mode: u16,
    /// How it is stored.
    pub options: StorageOptions,
    /// Who writes it.
    pub identity: Identity,
    /// Its chunks by ordinal.
    pub chunks: Vec<ChunkId>,
}

/// All uploads under way.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Uploads {
    uploads: BTreeMap<UploadId, Upload>,
    last: UploadId,
}

/// An upload that may become a file.
pub(super) struct Completion<'a> {
    upload: UploadId,
    to: Place,
    replaced: Option<Discard<'a>>,
}

impl Uploads {
    pub(super) fn len(&self) -> u64 {
        self.uploads.len() as u64
    }
}

impl Catalog {
    /// An upload.
    pub fn upload(&self, upload: UploadId) -> Option<&Upload> {
        self.uploads.uploads.get(&upload)
    }

    /// All uploads, oldest first.
    pub fn uploads(&self) -> impl Iterator<Item = (UploadId, &Upload)> {
        self.uploads.uploads.iter().map(|(id, upload)| (*id, upload))
    }

    /// The upload, if it is there and `identity` may write to it: who began it, or root.
    pub fn writable_upload(&self, identity: &Identity, upload: UploadId) -> Result<&Upload, MasterError> {
        let found = self.upload(upload).ok_or(MasterError::UploadGone(upload))?;
        let anyone = self.defects.has(Defect::UploadByAnyone);
        if found.identity.user != identity.user && !permission::is_root(identity) && !anyone {
            return Err(permission::denied(&found.path, "to be who began the upload"));
        }
        Ok(found)
    }

    pub(super) fn prepare_begin<'a>(
        &self,
        identity: &Identity,
        path: &str,
        replace: bool,
        mode: u16,
        options: StorageOptions,
    ) -> Result<Plan<'a>, MasterError> {
        permission::check_mode(mode)?;
        check_options(options)?;
        self.file_place(identity, &Path::parse(path)?, replace)?;
        let (path, identity) = (path.into(), identity.clone());
        Ok(Plan::Begin(Box::new(Upload { path, replace, mode, options, identity, chunks: Vec::new() })))
    }

    /// Where a file can be put: a free place, or with `replace` one with a file that may be removed.
    fn file_place(&self, identity: &Identity, path: &Path<'_>, replace: bool) -> Result<Place, MasterError> {
        if path.parts().is_empty() {
            return Err(MasterError::IsADirectory(path.text().into()));
        }
        let place = self.namespace.place(identity, path)?;
        if let Some(existing) = place.existing {
            if self.namespace.node(existing).is_some_and(|node| node.directory().is_some()) {
                return Err(MasterError::IsADirectory(path.text().into()));
            }
            if !replace {
                return Err(MasterError::AlreadyExists(path.text().into()));
            }
            self.namespace.require_unsticky(identity, existing, path.text())?;
        }
        self.namespace.require_writable(identity, &place, path)?;
        Ok(place)
    }

    pub(super) fn commit_begin(
        &mut self,
        upload: Upload,
        at: UnixMs,
        events: &mut Vec<Event>,
    ) -> MasterReply {
        if upload.replace && self.defects.has(Defect::EarlyVisible) {
            self.show_early(&upload, at);
        }
        let id = UploadId(self.uploads.last.0 + 1);
        let options = upload.options;
        self.uploads.last = id;
        self.uploads.uploads.insert(id, upload);
        events.push(Event::UploadBegun(id));
        MasterReply::Upload { upload: id, options }
    }

    /// The planted defect: an empty file takes the replaced one's place before the data is there.
    fn show_early(&mut self, upload: &Upload, at: UnixMs) {
        let identity = &upload.identity;
        let place = Path::parse(&upload.path).and_then(|path| self.file_place(identity, &path, true));
        if let Ok(Place { parent, name, existing: Some(node) }) = place {
            let path = upload.path.clone();
            self.commit_discard(&Discard { node, path, by: identity, undelete_ms: 86_400_000 }, at);
            let file = File { length: 0, crc: 0, options: upload.options, extents: Extents::new(Vec::new()) };
            let attributes = self.attributes(identity, upload.mode);
            self.namespace.create(parent, name, attributes, Kind::File(Box::new(file)), at);
        }
    }

    pub(super) fn prepare_grant<'a>(
        &self,
        open: OpenChunk,
        replication: u8,
    ) -> Result<Plan<'a>, MasterError> {
        let upload = self.upload(open.upload).ok_or(MasterError::UploadGone(open.upload))?;
        if let Some(chunk) = upload.chunks.get(open.ordinal as usize) {
            return self.reply_for(*chunk).map(Plan::Settled);
        }
        if open.ordinal as usize != upload.chunks.len() {
            return Err(MasterError::InvalidArgument(format!(
                "chunk number {} of {} can't come before number {}",
                open.ordinal,
                open.upload,
                upload.chunks.len()
            )));
        }
        let members = &open.members;
        let distinct = members
            .iter()
            .enumerate()
            .all(|(i, m)| members[..i].iter().all(|other| other.server != m.server));
        let counts = [1, usize::from(open.quorum), members.len(), usize::from(replication)];
        let sound = distinct && counts.is_sorted() && replication <= MAX_REPLICATION;
        if !sound || open.capacity == 0 || open.capacity > MAX_CHUNK_BYTES {
            return Err(MasterError::InvalidArgument(format!(
                "a grant to {} distinct servers with quorum {} of {replication}, of {} bytes",
                members.len(),
                open.quorum,
                open.capacity
            )));
        }
        Ok(Plan::Grant(open, replication))
    }

    /// What an opened chunk's writer is told: its grant, or its final length.
    fn reply_for(&self, chunk: ChunkId) -> Result<MasterReply, MasterError> {
        let grant = self.grant(chunk).map(MasterReply::Grant);
        grant.or_else(|| self.sealed(chunk).map(MasterReply::Sealed)).ok_or(MasterError::ChunkNotOpen(chunk))
    }

    pub(super) fn commit_grant(&mut self, open: OpenChunk, goal: u8, events: &mut Vec<Event>) -> MasterReply {
        let upload = open.upload;
        let chunk = self.chunks.grant(open, goal);
        if let Some(upload) = self.uploads.uploads.get_mut(&upload) {
            upload.chunks.push(chunk);
        }
        events.push(Event::ChunkGranted(chunk));
        self.reply_for(chunk).expect("the chunk was just granted")
    }

    /// Rule 8: only a chunk open at exactly this version. A seal of the same version that came before is the answer.
    pub(super) fn prepare_seal<'a>(
        &self,
        id: ChunkId,
        version: ChunkVersion,
        length: u64,
        crc: u32,
    ) -> Result<Plan<'a>, MasterError> {
        let chunk = self.chunks.chunk(id).ok_or(MasterError::ChunkNotOpen(id))?;
        match &chunk.state {
            ChunkState::Open(open) if chunk.version == version => {
                if length > open.capacity {
                    return Err(MasterError::InvalidArgument(format!(
                        "{id} can't be sealed at {length} bytes: its capacity is {}",
                        open.capacity
                    )));
                }
                Ok(Plan::Seal { chunk: id, length, crc })
            }
            ChunkState::Sealed { .. } if self.defects.has(Defect::SealAgain) => {
                Ok(Plan::Seal { chunk: id, length, crc })
            }
            ChunkState::Sealed { .. } if version.0.checked_add(1) == Some(chunk.version.0) => {
                crate::reached!("catalog.sealed_before");
                self.reply_for(id).map(Plan::Settled)
            }
            _ => Err(MasterError::ChunkNotOpen(id)),
        }
    }

    pub(super) fn prepare_complete<'a>(
        &self,
        identity: &'a Identity,
        id: UploadId,
        length: u64,
        undelete_ms: u64,
    ) -> Result<Plan<'a>, MasterError> {
        let upload = self.writable_upload(identity, id)?;
        let mut stored = 0;
        for chunk in &upload.chunks {
            let sealed = self.sealed(*chunk).ok_or_else(|| {
                MasterError::InvalidArgument(format!("{chunk} of {id} is still open; seal it first"))
            })?;
            stored += sealed.length;
        }
        if stored != length {
            return Err(MasterError::InvalidArgument(format!(
                "{id} has {stored} bytes in its chunks, not {length}"
            )));
        }
        let path = Path::parse(&upload.path)?;
        let replace = upload.replace || self.defects.has(Defect::CreateTwice);
        let to = self.file_place(identity, &path, replace)?;
        let replaced =
            to.existing.map(|node| Discard { node, path: upload.path.clone(), by: identity, undelete_ms });
        Ok(Plan::Complete(Completion { upload: id, to, replaced }))
    }

    pub(super) fn commit_complete(
        &mut self,
        plan: Completion<'_>,
        at: UnixMs,
        events: &mut Vec<Event>,
    ) -> MasterReply {
        let upload = self.uploads.uploads.remove(&plan.upload).expect("the plan was made with this upload");
        if let Some(replaced) = &plan.replaced {
            self.commit_discard(replaced, at);
        }
        let (mut extents, mut empty) = (Vec::with_capacity(upload.chunks.len()), Vec::new());
        let (mut length, mut crc) = (0, 0);
        for sealed in upload.chunks.iter().filter_map(|chunk| self.sealed(*chunk)) {
            if sealed.length == 0 {
                empty.push(sealed.chunk);
                continue;
            }
            // Capacities are at most 1 GiB, and no seal exceeds them.
            extents.push(Extent { chunk: sealed.chunk, offset: 0, length: sealed.length as u32 });
            length += sealed.length;
            crc = payload::combine(crc, sealed.crc, sealed.length);
        }
        let file = File { length, crc, options: upload.options, extents: Extents::new(extents) };
        let attributes = self.attributes(&upload.identity, upload.mode);
        let kind = Kind::File(Box::new(file));
        let id = self.namespace.create(plan.to.parent, Arc::clone(&plan.to.name), attributes, kind, at);
        for chunk in &upload.chunks {
            self.chunks.hand_over(*chunk, id);
        }
        self.release(empty, events);
        events.push(Event::UploadGone(plan.upload));
        let node = self.namespace.node(id).expect("the file was just made");
        MasterReply::Status(self.namespace.status(id, node, &upload.path))
    }

    /// Gives an upload up; its chunks go with it.
    pub(super) fn commit_abandon(&mut self, id: UploadId, events: &mut Vec<Event>) {
        if let Some(upload) = self.uploads.uploads.remove(&id) {
            self.release(upload.chunks, events);
            events.push(Event::UploadGone(id));
        }
    }
}

fn check_options(options: StorageOptions) -> Result<(), MasterError> {
    let StorageOptions { replication, quorum, chunk_bytes, .. } = options;
    if replication == 0 || replication > MAX_REPLICATION {
        return Err(MasterError::InvalidArgument(format!(
            "replication factor {replication} is not between 1 and {MAX_REPLICATION}"
        )));
    }
    if quorum == 0 || quorum > replication {
        return Err(MasterError::InvalidArgument(format!(
            "quorum {quorum} is not between 1 and the replication factor {replication}"
        )));
    }
    if !is_chunk_size(chunk_bytes) {
        return Err(MasterError::InvalidArgument(format!(
            "chunk size {chunk_bytes} is not a multiple of {CHUNK_UNIT} up to {MAX_CHUNK_BYTES}"
        )));
    }
    Ok(())
}

/// Fills in the defaults of the cluster where `asked` leaves them open. The result is validated by
/// [`Change::BeginUpload`](crate::master::command::Change::BeginUpload).
pub fn resolve_options(asked: StorageOptions, config: &MasterConfig) -> StorageOptions {
    let replication = if asked.replication == 0 { config.replication } else { asked.replication };
    let majority = replication / 2 + 1;
    let quorum = match (asked.quorum, config.quorum) {
        (0, 0) => majority,
        (0, default) if default > replication => majority,
        (0, default) => default,
        (quorum, _) => quorum,
    };
    let chunk_bytes = if asked.chunk_bytes == 0 { config.chunk_bytes } else { asked.chunk_bytes };
    StorageOptions { replication, quorum, chunk_bytes, durability: asked.durability }
}
