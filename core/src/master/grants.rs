//! Opening an upload's next chunk: which servers get it, and the logged grant (chunk protocol, rule 1).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::Master;
use super::catalog::Upload;
use super::command::Change;
use super::machine::Fx;
use super::placement::{self, Candidate};
use super::servers::Server;
use crate::defect::Defect;
use crate::error::MasterError;
use crate::id::{Address, ClientId, Peer, RequestId, ServerId, UploadId};
use crate::message::{Grant, Identity, MasterReply, Member, VolumeStatus};
use crate::reached;
use crate::time::Time;

impl Master {
    #[expect(clippy::too_many_arguments, reason = "the request's fields")]
    pub(super) fn on_open_chunk(
        &mut self,
        now: Time,
        from: Peer,
        asked: (ClientId, RequestId),
        identity: &Identity,
        upload: UploadId,
        ordinal: u32,
        avoid: &[ServerId],
        fx: &mut Fx,
    ) {
        let change = match self.plan_grant(now, identity, upload, ordinal, avoid) {
            Ok(Planned::Answer(reply)) => return self.reply(from, asked.1, Ok(reply), fx),
            Ok(Planned::Log(change)) => change,
            Err(error) => return self.reply(from, asked.1, Err(error), fx),
        };
        if let Err(error) = self.catalog.check(&change) {
            return self.reply(from, asked.1, Err(error), fx);
        }
        self.waiters.entry(asked).or_default().push(from);
        // Asking again for the same ordinal answers with the same chunk (rule 17): no need to remember the outcome.
        self.propose_for(now, change, Some(asked), None);
    }

    fn plan_grant(
        &mut self,
        now: Time,
        identity: &Identity,
        upload: UploadId,
        ordinal: u32,
        avoid: &[ServerId],
    ) -> Result<Planned, MasterError> {
        let entry = self.catalog.writable_upload(identity, upload)?;
        if let Some(chunk) = entry.chunks.get(ordinal as usize).copied() {
            if let Some(sealed) = self.catalog.sealed(chunk) {
                return Ok(Planned::Answer(MasterReply::Sealed(sealed)));
            }
            if let Some(mut grant) = self.catalog.grant(chunk) {
                reached!("grants.repeated");
                let unknown = |m: &Member| self.servers.by_id(m.server).is_none();
                if !self.grace_is_over(now) && grant.members.iter().any(unknown) {
                    // Without its address the writer could only give the chunk up.
                    reached!("grants.members_unknown_yet");
                    return Err(MasterError::Unavailable(alloc::format!(
                        "the servers of {chunk} have not all registered since the master's start"
                    )));
                }
                if self.defects.has(Defect::SecondPrimary) {
                    grant.members.rotate_left(1);
                }
                return Ok(Planned::Answer(MasterReply::Grant(grant)));
            }
        }
        if ordinal as usize > entry.chunks.len() {
            return Err(MasterError::InvalidArgument(alloc::format!(
                "chunk {ordinal} of {upload} can't be opened before chunk {}",
                entry.chunks.len()
            )));
        }
        let Upload { options, .. } = entry;
        let options = *options;
        let candidates = self.candidates(options.chunk_bytes, avoid, |_| true);
        if candidates.len() < usize::from(options.quorum) {
            reached!("grants.not_enough_servers");
            return Err(MasterError::NotEnoughServers {
                needed: options.quorum,
                live: candidates.len() as u8,
            });
        }
        let chosen = placement::choose(&candidates, usize::from(options.replication), &[], &mut self.rng);
        if chosen.len() < usize::from(options.replication) {
            reached!("grants.fewer_than_wanted");
        }
        let members: Vec<Member> = chosen.iter().filter_map(|c| self.member(c)).collect();
        for candidate in &chosen {
            self.servers.reserve(candidate.server, candidate.volume, options.chunk_bytes);
        }
        let lowered = self.defects.has(Defect::QuorumLowered);
        Ok(Planned::Log(Change::GrantChunk {
            upload,
            ordinal,
            members,
            replication: options.replication,
            quorum: if lowered { options.quorum.min(2) } else { options.quorum },
            durability: options.durability,
            capacity: options.chunk_bytes,
        }))
    }

    fn member(&self, candidate: &Candidate) -> Option<Member> {
        let server = self.servers.by_id(candidate.server)?;
        Some(Member {
            server: candidate.server,
            session: server.session,
            volume: candidate.volume,
            boot: server.boot,
            process: server.process,
        })
    }

    /// Servers that could take `bytes` more, each with one of its volumes drawn by free space.
    pub(super) fn candidates(
        &mut self,
        bytes: u64,
        avoid: &[ServerId],
        wanted: impl Fn(ServerId) -> bool,
    ) -> Vec<Candidate> {
        let floor = self.config.min_free_bytes.saturating_add(bytes);
        let rng = &mut self.rng;
        let defects = self.defects;
        let rack = |server: &Server| {
            if defects.has(Defect::RacksIgnored) { String::new() } else { server.rack.clone() }
        };
        let candidate = |(id, server): (ServerId, &Server)| {
            let fit: Vec<_> = fitting(server, floor).collect();
            let volume = fit.get(placement::weighted(&fit, |v| (v.free_bytes >> 20) + 1, rng))?;
            Some(Candidate {
                server: id,
                volume: volume.volume,
                rack: rack(server),
                free: volume.free_bytes,
                load: server.load,
                avoid: avoid.contains(&id),
            })
        };
        self.servers.usable().filter(|(id, _)| wanted(*id)).filter_map(candidate).collect()
    }

    /// Volumes of a server that could take `bytes` more.
    pub(super) fn fitting_volumes<'a>(
        &self,
        server: &'a Server,
        bytes: u64,
    ) -> impl Iterator<Item = &'a VolumeStatus> {
        fitting(server, self.config.min_free_bytes.saturating_add(bytes))
    }

    /// Puts in where each member can be dialled now; one that is not known since the master's start has no address.
    pub(super) fn fill_addresses(&self, grant: &mut Grant) {
        let known: BTreeMap<ServerId, Address> =
            self.servers.iter().map(|(id, server)| (id, server.address.clone())).collect();
        let address =
            |member: &Member| known.get(&member.server).cloned().unwrap_or_else(|| Address::new("unknown"));
        grant.addresses = grant.members.iter().map(address).collect();
    }
}

fn fitting(server: &Server, floor: u64) -> impl Iterator<Item = &VolumeStatus> {
    server.volumes.iter().filter(move |v| v.writable && v.free_bytes >= floor)
}

enum Planned {
    Answer(MasterReply),
    Log(Change),
}
