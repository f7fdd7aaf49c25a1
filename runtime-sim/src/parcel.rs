//! A message under way: encoded by the real codecs, so that the simulator runs what production sends.

use bytes::Bytes;
use cairn_core::id::RequestId;
use cairn_core::message::Message;
use cairn_core::wire::control::{decode_control, encode_control};
use cairn_core::wire::frame;

/// Bytes on the wire, or the end of the stream.
#[derive(Clone, Debug)]
pub(crate) enum Parcel {
    /// A control message; gRPC's transport is trusted with its bytes.
    Control(Vec<u8>),
    /// A data frame, and whether a bit of it was flipped.
    Frame { head: Bytes, payload: Bytes, corrupt: bool },
    /// The sender closed the connection.
    End,
}

impl Parcel {
    /// Encodes a message.
    ///
    /// # Panics
    /// If the codecs refuse it: machines must not make messages that can't be sent.
    pub(crate) fn pack(message: &Message) -> Parcel {
        match message {
            Message::Append(_) | Message::Read(_) => {
                let (head, payload) =
                    frame::encode(message).unwrap_or_else(|error| panic!("{error}, encoding {message}"));
                Parcel::Frame { head, payload, corrupt: false }
            }
            _ => {
                let bytes =
                    encode_control(message).unwrap_or_else(|error| panic!("{error}, encoding {message}"));
                Parcel::Control(bytes)
            }
        }
    }

    /// Inverts one bit of a data frame; false if this is none.
    pub(crate) fn corrupt(&mut self, draw: u64) -> bool {
        let Parcel::Frame { head, payload, corrupt } = self else { return false };
        let bit = draw % ((head.len() + payload.len()) as u64 * 8);
        let (part, at) = match (bit / 8) as usize {
            at if at < head.len() => (head, at),
            at => {
                let at = at - head.len();
                (payload, at)
            }
        };
        let mut bytes = part.to_vec();
        bytes[at] ^= 1 << (bit % 8);
        *part = Bytes::from(bytes);
        *corrupt = true;
        true
    }

    /// Decodes; `None` if the receiver must close the connection.
    ///
    /// # Panics
    /// If a frame with a flipped bit is taken for a message, or the codecs refuse what they made.
    pub(crate) fn open(self) -> Option<Message> {
        match self {
            Parcel::Control(bytes) => Some(
                decode_control(&bytes).unwrap_or_else(|error| panic!("{error}, decoding our own message")),
            ),
            Parcel::Frame { head, payload, corrupt } => match frame::decode_parts(&head, payload) {
                Ok(message) => {
                    assert!(!corrupt, "a frame with a flipped bit was accepted: {message}");
                    Some(message)
                }
                Err(error) => {
                    assert!(corrupt, "{error}, decoding our own frame");
                    None
                }
            },
            Parcel::End => None,
        }
    }
}

/// The number of a request to the master.
pub(crate) fn master_request(message: &Message) -> Option<RequestId> {
    match message {
        Message::MasterRequest { request, .. } => Some(*request),
        _ => None,
    }
}
