//! Directed stories of the client against a scripted cluster, and one for all storms.

mod cluster;
mod reading;
mod storm;
mod writing;

use std::vec::Vec;

use crate::message::{AppendMessage, MasterRequest, Message};

/// Bytes that differ between any two places near each other.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 7 % 251) as u8).collect()
}

fn is_data(message: &Message) -> bool {
    matches!(message, Message::Append(AppendMessage::Data { .. }))
}

fn is_read(message: &Message) -> bool {
    matches!(message, Message::Read(_))
}

fn body(message: &Message) -> Option<&MasterRequest> {
    match message {
        Message::MasterRequest { body, .. } => Some(body),
        _ => None,
    }
}

/// A script's helper: true for the `n`-th (from 1) message that `which` accepts.
fn nth(n: usize, which: impl Fn(&Message) -> bool) -> impl FnMut(&Message) -> bool {
    let mut seen = 0;
    move |message| {
        seen += usize::from(which(message));
        which(message) && seen == n
    }
}
