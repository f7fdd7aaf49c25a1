//! Block reports: what a list of the directories really shows, compared with what should be there.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::names;
use super::out::Then;
use super::{Chunkserver, replica};
use crate::defect::Defect;
use crate::disk::{DiskError, DiskOk, DiskPath, DiskRequest, DiskResult};
use crate::id::ChunkId;
use crate::limits::REPORT_PART;
use crate::message::{FromServer, ReplicaReport, ReplicaState};
use crate::reached;

/// A scan of all volumes under way.
#[derive(Clone, Debug, Hash)]
pub(super) struct Scan {
    id: u64,
    /// Replicas that changed after this are not judged.
    started: u64,
    under_way: u32,
    /// Volumes whose lists failed: their replicas are reported as known.
    blind: BTreeSet<u16>,
    /// Length of the data file, and whether there is a sidecar.
    found: BTreeMap<(u16, ChunkId), (Option<u64>, bool)>,
}

impl Scan {
    /// Whether a change was made before the scan began.
    pub(super) fn is_before(&self, change: u64) -> bool {
        change <= self.started
    }
}

impl Chunkserver {
    /// Starts a scan, unless one is under way.
    pub(super) fn start_report(&mut self) {
        if self.scan.is_some() {
            return;
        }
        self.next_key += 1;
        let id = self.next_key;
        let mut scan =
            Scan { id, started: self.changes, under_way: 0, blind: BTreeSet::new(), found: BTreeMap::new() };
        for volume in 0..self.setup.volumes {
            if self.volume(volume).is_ready() {
                scan.under_way += 1;
                let then = Then::Report { scan: id, volume, dir: None };
                self.out.disk(DiskRequest::List(DiskPath::new(volume, "chunks")), then);
            } else {
                scan.blind.insert(volume);
            }
        }
        let empty = scan.under_way == 0;
        self.scan = Some(scan);
        if empty {
            self.finish_report();
        }
    }

    pub(super) fn on_report_list(&mut self, id: u64, volume: u16, dir: Option<u8>, result: DiskResult) {
        let Some(scan) = self.scan.as_mut().filter(|s| s.id == id) else { return };
        scan.under_way -= 1;
        match (result, dir) {
            (Ok(DiskOk::Entries(entries)), None) => {
                for entry in entries {
                    let Some(dir) = u8::from_str_radix(&entry.name, 16).ok().filter(|_| entry.directory)
                    else {
                        continue;
                    };
                    scan.under_way += 1;
                    let path = DiskPath::new(volume, &alloc::format!("chunks/{}", entry.name));
                    let then = Then::Report { scan: id, volume, dir: Some(dir) };
                    self.out.disk(DiskRequest::List(path), then);
                }
            }
            (Ok(DiskOk::Entries(entries)), Some(_)) => {
                for entry in entries {
                    let Some((cluster, chunk, meta)) = names::parse(&entry.name) else { continue };
                    if cluster == self.cluster {
                        let found = scan.found.entry((volume, chunk)).or_default();
                        if meta {
                            found.1 = true;
                        } else {
                            found.0 = Some(entry.length);
                        }
                    }
                }
            }
            // A directory that is not there holds nothing.
            (Err(DiskError::NotFound), _) => {}
            _ if dir.is_some() && self.setup.defects.has(Defect::ListErrorIsAbsence) => {}
            _ => {
                scan.blind.insert(volume);
            }
        }
        if scan.under_way == 0 {
            self.finish_report();
        }
    }

    fn finish_report(&mut self) {
        let Some(scan) = self.scan.take() else { return };
        self.judge(&scan);
        if !self.setup.defects.has(Defect::KeepChanges) {
            self.changed_at.retain(|_, at| *at > scan.started);
        }
        if self.session.id().is_none() {
            return;
        }
        self.report_number += 1;
        let report = self.report_number;
        let counts_all = self.setup.defects.has(Defect::OrderedDropCounts);
        let all: Vec<ReplicaReport> = self
            .replicas
            .iter()
            .filter(|(chunk, _)| counts_all || !self.jobs.is_leaving(**chunk))
            .map(|(chunk, r)| replica::report(*chunk, r, self.volume(r.volume).identity.volume))
            .collect();
        let mut parts: Vec<Vec<ReplicaReport>> = all.chunks(REPORT_PART).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let count = parts.len();
        for (i, replicas) in parts.into_iter().enumerate() {
            self.tell_master(FromServer::BlockReport { report, replicas, last: i + 1 == count });
        }
    }

    /// Marks what is not as it should be.
    fn judge(&mut self, scan: &Scan) {
        let mut bad = Vec::new();
        for (chunk, r) in &self.replicas {
            let changed = self.changed_at.get(chunk).is_some_and(|at| !scan.is_before(*at));
            let unseeing = self.setup.defects.has(Defect::ReportBlind);
            if changed || unseeing || scan.blind.contains(&r.volume) || self.jobs.is_running(*chunk) {
                continue;
            }
            let found = scan.found.get(&(r.volume, *chunk)).copied().unwrap_or_default();
            let why = match (r.state, found) {
                (ReplicaState::Sealed, (None, _)) => Some("its file is gone"),
                (ReplicaState::Sealed, (Some(length), _)) if length != r.length => {
                    Some("its file has another length")
                }
                (ReplicaState::Sealed, (_, false))
                    if !self.setup.defects.has(Defect::ReportIgnoresSidecar) =>
                {
                    Some("its sidecar is gone")
                }
                (ReplicaState::Open | ReplicaState::Fenced, (found, _)) if r.length > found.unwrap_or(0) => {
                    Some("its file is gone or shorter than what was promised")
                }
                _ => None,
            };
            bad.extend(why.map(|why| (*chunk, why)));
        }
        for (chunk, why) in bad {
            reached!("report.found_missing");
            self.mark_damaged(chunk, why);
        }
    }
}
