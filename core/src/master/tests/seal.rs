//! Sealing: votes, completion, loss of the quorum, and what members are told.

use alloc::vec::Vec;

use super::rig::{Rig, conn, prefix};
use crate::error::MasterError;
use crate::id::*;
use crate::message::*;

fn seal(rig: &mut Rig, upload: UploadId, grant: &Grant) -> u64 {
    rig.ask(MasterRequest::SealChunk { upload, chunk: grant.chunk, version: grant.version })
}

fn is_fence(order: &ToServer) -> bool {
    matches!(order, ToServer::Fence { .. })
}

fn sealed_length(answer: Option<Result<MasterReply, MasterError>>) -> u64 {
    match answer {
        Some(Ok(MasterReply::Sealed(sealed))) => sealed.length,
        other => panic!("sealed, not {other:?}"),
    }
}

#[test]
fn three_votes_seal_and_everyone_is_told() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    let request = seal(&mut rig, upload, &grant);
    for server in 1..=3 {
        assert!(rig.orders(server).iter().any(is_fence));
    }
    rig.vote(&grant, 1, prefix(9));
    rig.vote(&grant, 2, prefix(9));
    assert_eq!(rig.answer(request), None, "the third is there and is waited for");
    rig.vote(&grant, 3, prefix(5));
    assert_eq!(sealed_length(rig.answer(request)), 9);
    for server in 1..=3 {
        let told = rig.orders(server);
        assert!(
            matches!(told[..], [ToServer::Seal { base: ChunkVersion(1), sealed }] if sealed.version == ChunkVersion(2)),
            "{told:?}"
        );
    }
    // Asked again, the answer is the same.
    let again = seal(&mut rig, upload, &grant);
    assert_eq!(sealed_length(rig.answer(again)), 9);
    let status = rig.call(MasterRequest::CompleteUpload { upload, length: 9 });
    assert!(matches!(status, Ok(MasterReply::Status(FileStatus { length: 9, .. }))), "{status:?}");
    // The holders can serve before they report.
    match rig.call(MasterRequest::Locate { path: "/f".into(), offset: 0, length: 9 }) {
        Ok(MasterReply::Located(plan)) => {
            let mut servers: Vec<u64> = plan.extents[0].replicas.iter().map(|r| r.server.0).collect();
            servers.sort_unstable();
            assert_eq!(servers, [1, 2]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_lost_member_is_not_waited_for() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    rig.lose(3);
    let request = seal(&mut rig, upload, &grant);
    rig.vote(&grant, 1, prefix(4));
    rig.vote(&grant, 2, prefix(4));
    assert_eq!(sealed_length(rig.answer(request)), 4);
}

#[test]
fn a_silent_member_is_waited_for_until_the_grace_is_over() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    let request = seal(&mut rig, upload, &grant);
    rig.vote(&grant, 1, prefix(4));
    rig.vote(&grant, 2, prefix(4));
    assert_eq!(rig.answer(request), None);
    rig.pass(600, &[]);
    assert_eq!(sealed_length(rig.answer(request)), 4);
}

#[test]
fn a_single_holder_completes_another_first() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    rig.lose(3);
    let request = seal(&mut rig, upload, &grant);
    rig.orders(2);
    rig.vote(&grant, 1, prefix(9));
    rig.vote(&grant, 2, prefix(5));
    assert_eq!(rig.answer(request), None);
    let told = rig.orders(2);
    assert!(
        told.iter().any(|o| matches!(o, ToServer::Complete { length: 9, sources, .. } if sources.len() == 1)),
        "{told:?}"
    );
    rig.vote(&grant, 2, prefix(9));
    assert_eq!(sealed_length(rig.answer(request)), 9);
}

#[test]
fn too_few_votes_refuse_and_a_later_retry_succeeds() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    rig.lose(2);
    rig.lose(3);
    let request = seal(&mut rig, upload, &grant);
    rig.vote(&grant, 1, prefix(9));
    rig.pass(11_000, &[1]);
    let lost = MasterError::QuorumLost { chunk: grant.chunk, needed: 2, answered: 1 };
    assert_eq!(rig.answer(request), Some(Err(lost)));
    let request = seal(&mut rig, upload, &grant);
    rig.vote(&grant, 1, prefix(9));
    rig.orders(2);
    rig.register(2, 2);
    assert!(rig.orders(2).iter().any(is_fence), "a member that comes back is asked");
    rig.vote(&grant, 2, prefix(9));
    assert_eq!(sealed_length(rig.answer(request)), 9);
}

#[test]
fn votes_of_other_incarnations_and_damaged_ones_do_not_count() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    let request = seal(&mut rig, upload, &grant);
    let mut incarnation = grant.members[0].incarnation();
    incarnation.volume = VolumeId(999);
    let server = grant.members[0].server.0;
    let other =
        FromServer::Vote { chunk: grant.chunk, version: grant.version, incarnation, vote: Vote::Absent };
    rig.message(conn(server), other);
    rig.vote(&grant, grant.members[1].server.0, Vote::Damaged);
    rig.vote(&grant, grant.members[2].server.0, Vote::Absent);
    rig.pass(11_000, &[1, 2, 3]);
    let lost = MasterError::QuorumLost { chunk: grant.chunk, needed: 2, answered: 1 };
    assert_eq!(rig.answer(request), Some(Err(lost)));
}

#[test]
fn a_member_that_forgot_its_absence_is_fenced_again() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    rig.lose(3);
    let request = seal(&mut rig, upload, &grant);
    rig.vote(&grant, 1, prefix(9));
    rig.vote(&grant, 2, Vote::Absent);
    assert!(rig.orders(2).iter().any(|o| matches!(o, ToServer::Complete { .. })));
    // It has registered anew meanwhile, and its journal was rewritten without what bound the old session only.
    rig.vote(&grant, 2, Vote::OtherIncarnation);
    assert!(rig.orders(2).iter().any(is_fence));
    rig.vote(&grant, 2, Vote::Absent);
    assert!(rig.orders(2).iter().any(|o| matches!(o, ToServer::Complete { .. })));
    rig.vote(&grant, 2, prefix(9));
    assert_eq!(sealed_length(rig.answer(request)), 9);
}

#[test]
fn absent_members_seal_an_empty_chunk() {
    let mut rig = Rig::with_servers(3);
    let (upload, grant) = rig.open_chunk("/f", 2);
    let request = seal(&mut rig, upload, &grant);
    for server in 1..=3 {
        rig.vote(&grant, server, Vote::Absent);
    }
    assert_eq!(sealed_length(rig.answer(request)), 0);
}

#[test]
fn a_chunk_of_another_upload_is_not_sealed() {
    let mut rig = Rig::with_servers(3);
    let (_, grant) = rig.open_chunk("/f", 2);
    let (other, _) = rig.open_chunk("/g", 2);
    let request = seal(&mut rig, other, &grant);
    assert_eq!(rig.answer(request), Some(Err(MasterError::ChunkNotOpen(grant.chunk))));
}
