//! Requests and replies between client and master: one rpc for each kind of request.

use alloc::string::ToString;

use super::{ConvertError, Wire, required, variants};
use crate::error::MasterError;
use crate::id::{ClientId, RequestId};
use crate::message::{Identity, MasterReply, MasterRequest, Message};
use crate::wire::proto;

/// A request message of the service `Master`: its rpc, its reply, and both conversions.
pub trait Rpc: prost::Message + Default + 'static {
    /// The rpc's reply.
    type Reply: prost::Message + Default + 'static;
    /// The rpc's path in HTTP/2.
    const PATH: &'static str;

    /// The [`Message::MasterRequest`].
    fn into_message(self) -> Result<Message, ConvertError>;
    /// The reply's form in Protobuf. A reply that this rpc can't have becomes a protocol error.
    fn reply_to_proto(result: &Result<MasterReply, MasterError>) -> Self::Reply;
    /// The reply.
    fn reply_from_proto(reply: Self::Reply) -> Result<Result<MasterReply, MasterError>, ConvertError>;
}

fn header(client: ClientId, request: RequestId, identity: &Identity) -> proto::RequestHeader {
    proto::RequestHeader {
        client_id: client.put(),
        request_id: request.put(),
        user: identity.user.put(),
        groups: identity.groups.put(),
    }
}

fn message(header: Option<proto::RequestHeader>, body: MasterRequest) -> Result<Message, ConvertError> {
    let header = header.ok_or(ConvertError::Missing("header"))?;
    Ok(Message::MasterRequest {
        client: Wire::take(header.client_id, "client_id")?,
        request: Wire::take(header.request_id, "request_id")?,
        identity: Identity {
            user: Wire::take(header.user, "user")?,
            groups: Wire::take(header.groups, "groups")?,
        },
        body,
    })
}

/// `Rpc name, core variant { fields }, request and reply types, module of the reply, variants of the answer`.
macro_rules! rpcs {
    ($($rpc:ident = $core:ident { $($field:ident),* }, $request:ident -> $reply:ident: $module:ident { $($answer:ident),* };)*) => {
        /// The request in Protobuf.
        pub fn request_to_proto(
            client: ClientId,
            request: RequestId,
            identity: &Identity,
            body: &MasterRequest,
        ) -> proto::MasterRequest {
            use proto::master_request::Body;
            let header = Some(header(client, request, identity));
            let body = match body {
                $(MasterRequest::$core { $($field),* } => {
                    Body::$rpc(proto::$request { header, $($field: Wire::put($field)),* })
                })*
            };
            proto::MasterRequest { body: Some(body) }
        }

        /// The [`Message::MasterRequest`].
        pub fn request_from_proto(request: proto::MasterRequest) -> Result<Message, ConvertError> {
            use proto::master_request::Body;
            match request.body.ok_or(ConvertError::Missing("request"))? {
                $(Body::$rpc(request) => request.into_message(),)*
            }
        }

        $(impl Rpc for proto::$request {
            type Reply = proto::$reply;
            const PATH: &'static str = concat!("/cairn.v1.Master/", stringify!($rpc));

            fn into_message(self) -> Result<Message, ConvertError> {
                let body = MasterRequest::$core { $($field: Wire::take(self.$field, stringify!($field))?),* };
                message(self.header, body)
            }

            fn reply_to_proto(result: &Result<MasterReply, MasterError>) -> proto::$reply {
                use proto::{$module::Outcome, master_reply::Body};
                let outcome = match result {
                    Ok(reply) => match Wire::<proto::MasterReply>::put(reply).body {
                        $(Some(Body::$answer(value)) => Outcome::$answer(value),)*
                        _ => Outcome::Error(
                            MasterError::Protocol(ConvertError::WrongReply(stringify!($rpc)).to_string()).put(),
                        ),
                    },
                    Err(error) => Outcome::Error(error.put()),
                };
                proto::$reply { outcome: Some(outcome) }
            }

            fn reply_from_proto(
                reply: proto::$reply,
            ) -> Result<Result<MasterReply, MasterError>, ConvertError> {
                use proto::{$module::Outcome, master_reply::Body};
                let body = match reply.outcome.ok_or(ConvertError::Missing("outcome"))? {
                    $(Outcome::$answer(value) => Body::$answer(value),)*
                    Outcome::Error(error) => return Ok(Err(Wire::take(error, "error")?)),
                };
                Ok(Ok(Wire::take(proto::MasterReply { body: Some(body) }, "reply")?))
            }
        })*
    };
}

rpcs! {
    Mkdir = Mkdir { path, parents, mode }, MkdirRequest -> MkdirReply: mkdir_reply { Done };
    List = List { path, after, limit }, ListRequest -> ListReply: list_reply { Entries };
    Stat = Stat { path }, StatRequest -> StatReply: stat_reply { Status };
    Chmod = Chmod { path, mode }, ChmodRequest -> ChmodReply: chmod_reply { Done };
    Chown = Chown { path, owner, group }, ChownRequest -> ChownReply: chown_reply { Done };
    Rename = Rename { from, to, replace }, RenameRequest -> RenameReply: rename_reply { Done };
    Delete = Delete { path, recursive }, DeleteRequest -> DeleteReply: delete_reply { Trashed };
    ListTrash = ListTrash { after, limit }, ListTrashRequest -> ListTrashReply: list_trash_reply { Trash };
    Restore = Restore { entry, path, to }, RestoreRequest -> RestoreReply: restore_reply { Restored };
    BeginUpload = BeginUpload { path, replace, mode, options },
        BeginUploadRequest -> BeginUploadReply: begin_upload_reply { Upload };
    AssignChunk = OpenChunk { upload, ordinal, avoid },
        AssignChunkRequest -> AssignChunkReply: assign_chunk_reply { Grant, Sealed };
    SealChunk = SealChunk { upload, chunk, version }, SealChunkRequest -> SealChunkReply: seal_chunk_reply { Sealed };
    KeepUpload = KeepUpload { upload }, KeepUploadRequest -> KeepUploadReply: keep_upload_reply { Done };
    CompleteUpload = CompleteUpload { upload, length },
        CompleteUploadRequest -> CompleteUploadReply: complete_upload_reply { Status };
    AbortUpload = AbortUpload { upload }, AbortUploadRequest -> AbortUploadReply: abort_upload_reply { Done };
    GetChunkLocation = Locate { path, offset, length },
        GetChunkLocationRequest -> GetChunkLocationReply: get_chunk_location_reply { Located };
    ReportBadReplica = ReportBadReplica { chunk, version, server },
        ReportBadReplicaRequest -> ReportBadReplicaReply: report_bad_replica_reply { Done };
    GetClusterStatus = ClusterStatus {},
        GetClusterStatusRequest -> GetClusterStatusReply: get_cluster_status_reply { Cluster };
    Fsck = Fsck { after, limit }, FsckRequest -> FsckReply: fsck_reply { Findings };
}

variants! {
    MasterReply = proto::MasterReply, proto::master_reply::Body;
    unit Done;
    value Status, Trashed, Restored, Grant, Sealed, Located, Cluster;
    Entries(proto::Entries) { entries, more }
    Trash(proto::TrashPage) { entries, more }
    Upload(proto::Upload) { upload, options }
    Findings(proto::Findings) { findings, next }
}
