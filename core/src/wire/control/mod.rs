//! Core messages ↔ the Protobuf types, in both directions for every message of the control plane.
//!
//! Towards Protobuf the conversion is total. Back it validates: what is missing, unknown, out of range or too long is a
//! typed [`ConvertError`], never a default. Proto fields have the core fields' names; the macros below rely on it.

mod field;
mod part;
mod rpc;
mod session;

use alloc::vec::Vec;
use prost::Message as _;

pub use rpc::{Rpc, request_from_proto, request_to_proto};

use super::proto;
use crate::message::{FromServer, Message, ToServer};

/// The largest encoded message of the control plane in bytes.
pub const MAX_CONTROL_BYTES: usize = 16 * 1024 * 1024;
/// The longest string in bytes: twice the longest path.
pub const MAX_STRING_BYTES: usize = 8 * 1024;

/// Why a Protobuf message is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A required part is not there, or of a newer version.
    #[error("{0} is missing or unknown")]
    Missing(&'static str),
    /// A number does not fit.
    #[error("{field} is out of range: {value}")]
    OutOfRange {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The value is none of the enum's.
    #[error("{field} has the unknown value {value}")]
    UnknownEnum {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: i32,
    },
    /// A string or list is longer than allowed.
    #[error("{field} has {length} items or bytes, more than allowed")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its length.
        length: usize,
    },
    /// The parts don't fit each other.
    #[error("{0} contradicts itself")]
    Inconsistent(&'static str),
    /// The reply is not one that this request can have.
    #[error("reply does not belong to a {0} request")]
    WrongReply(&'static str),
    /// Not Protobuf of this schema.
    #[error("message is malformed")]
    Malformed,
    /// The message as a whole is larger than [`MAX_CONTROL_BYTES`].
    #[error("message of {0} bytes is too large")]
    TooLarge(usize),
    /// The message belongs to the data plane.
    #[error("message does not travel by gRPC")]
    WrongPlane,
}

/// A core type's form `P` in Protobuf.
trait Wire<P>: Sized {
    /// The longest list of these.
    const LIST_MAX: usize = 1_024;

    fn put(&self) -> P;
    fn take(proto: P, field: &'static str) -> Result<Self, ConvertError>;
}

/// A struct whose proto fields have the same names. With `if check`, only if `check` holds.
macro_rules! record {
    ($core:ident = $proto:path { $($field:ident),* } $(max $max:literal)? $(if $check:path)?) => {
        impl Wire<$proto> for $core {
            $(const LIST_MAX: usize = $max;)?

            fn put(&self) -> $proto {
                use $proto as Proto;
                Proto { $($field: Wire::put(&self.$field)),* }
            }

            fn take(proto: $proto, _field: &'static str) -> Result<Self, ConvertError> {
                let value = $core { $($field: Wire::take(proto.$field, stringify!($field))?),* };
                $(if !$check(&value) {
                    return Err(ConvertError::Inconsistent(_field));
                })?
                Ok(value)
            }
        }

        required!($core = $proto);
    };
}

/// A message-typed field that has to be there.
macro_rules! required {
    ($core:ident = $proto:path) => {
        impl Wire<Option<$proto>> for $core {
            fn put(&self) -> Option<$proto> {
                Some(Wire::put(self))
            }

            fn take(proto: Option<$proto>, field: &'static str) -> Result<Self, ConvertError> {
                Wire::take(proto.ok_or(ConvertError::Missing(field))?, field)
            }
        }
    };
}

/// An enum without data: an open Protobuf enum whose zero means nothing.
macro_rules! plain_enum {
    ($core:ident = $proto:path { $($variant:ident),* }) => {
        impl Wire<i32> for $core {
            fn put(&self) -> i32 {
                use $proto as Proto;
                (match self { $($core::$variant => Proto::$variant),* }) as i32
            }

            fn take(proto: i32, field: &'static str) -> Result<Self, ConvertError> {
                use $proto as Proto;
                match Proto::try_from(proto) {
                    $(Ok(Proto::$variant) => Ok($core::$variant),)*
                    _ => Err(ConvertError::UnknownEnum { field, value: proto }),
                }
            }
        }
    };
}

/// An enum with data: a message with one oneof named `body`, whose cases have the variants' names. Variants are units
/// (`unit A, B;`), hold one value (`value C, D;`), or have fields, which a message of their own repeats (`E(path) { … }`).
macro_rules! variants {
    (
        $core:ident = $proto:path, $body:path;
        unit $($unit:ident),*;
        value $($value:ident),*;
        $($variant:ident($message:path) { $($field:ident),* })*
    ) => {
        impl Wire<$proto> for $core {
            fn put(&self) -> $proto {
                use $body as Body;
                let body = match self {
                    $($core::$unit => Body::$unit(super::proto::Empty {}),)*
                    $($core::$value(value) => Body::$value(Wire::put(value)),)*
                    $($core::$variant { $($field),* } => {
                        use $message as Message;
                        Body::$variant(Message { $($field: Wire::put($field)),* })
                    })*
                };
                use $proto as Proto;
                Proto { body: Some(body) }
            }

            fn take(proto: $proto, field: &'static str) -> Result<Self, ConvertError> {
                use $body as Body;
                Ok(match proto.body.ok_or(ConvertError::Missing(field))? {
                    $(Body::$unit(_) => $core::$unit,)*
                    $(Body::$value(value) => $core::$value(Wire::take(value, stringify!($value))?),)*
                    $(Body::$variant(message) => {
                        $core::$variant { $($field: Wire::take(message.$field, stringify!($field))?),* }
                    })*
                })
            }
        }

        required!($core = $proto);
    };
}

use {plain_enum, record, required, variants};

/// A message of the session stream, towards the master.
pub fn from_server_to_proto(message: &FromServer) -> proto::FromServer {
    Wire::put(message)
}

/// See [`from_server_to_proto`].
pub fn from_server_from_proto(message: proto::FromServer) -> Result<FromServer, ConvertError> {
    Wire::take(message, "FromServer")
}

/// A message of the session stream, towards the chunkserver.
pub fn to_server_to_proto(message: &ToServer) -> proto::ToServer {
    Wire::put(message)
}

/// See [`to_server_to_proto`].
pub fn to_server_from_proto(message: proto::ToServer) -> Result<ToServer, ConvertError> {
    Wire::take(message, "ToServer")
}

/// Any message of the control plane in an envelope, for where there is no gRPC to tell what the bytes are.
pub fn encode_control(message: &Message) -> Result<Vec<u8>, ConvertError> {
    use proto::envelope::{Body, Reply, reply::Outcome};
    let body = match message {
        Message::MasterRequest { client, request, identity, body } => {
            Body::MasterRequest(request_to_proto(*client, *request, identity, body))
        }
        Message::MasterReply { request, result } => {
            let outcome = match result {
                Ok(reply) => Outcome::Reply(Wire::put(reply)),
                Err(error) => Outcome::Error(Wire::put(error)),
            };
            Body::MasterReply(Reply { request: request.put(), outcome: Some(outcome) })
        }
        Message::FromServer(message) => Body::FromServer(message.put()),
        Message::ToServer(message) => Body::ToServer(message.put()),
        Message::Append(_) | Message::Read(_) => return Err(ConvertError::WrongPlane),
    };
    Ok(proto::Envelope { body: Some(body) }.encode_to_vec())
}

/// See [`encode_control`].
pub fn decode_control(bytes: &[u8]) -> Result<Message, ConvertError> {
    use proto::envelope::{Body, reply::Outcome};
    if bytes.len() > MAX_CONTROL_BYTES {
        return Err(ConvertError::TooLarge(bytes.len()));
    }
    let envelope = proto::Envelope::decode(bytes).map_err(|_| ConvertError::Malformed)?;
    Ok(match envelope.body.ok_or(ConvertError::Missing("message"))? {
        Body::MasterRequest(request) => request_from_proto(request)?,
        Body::MasterReply(reply) => {
            let result = match reply.outcome.ok_or(ConvertError::Missing("outcome"))? {
                Outcome::Reply(reply) => Ok(Wire::take(reply, "reply")?),
                Outcome::Error(error) => Err(Wire::take(error, "error")?),
            };
            Message::MasterReply { request: Wire::take(reply.request, "request")?, result }
        }
        Body::FromServer(message) => Message::FromServer(from_server_from_proto(message)?),
        Body::ToServer(message) => Message::ToServer(to_server_from_proto(message)?),
    })
}
