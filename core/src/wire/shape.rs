//! What must hold between the parts of one message, on whichever plane it travels: machines index and add without
//! asking again.

use crate::config::MAX_REPLICATION;
use crate::message::{ExtentPlan, Grant};

/// A grant has 1 to [`MAX_REPLICATION`] members, an address for each, and a quorum among them.
pub(super) fn grant(grant: &Grant) -> bool {
    let members = grant.members.len();
    (1..=usize::from(MAX_REPLICATION)).contains(&members)
        && grant.addresses.len() == members
        && (1..=members).contains(&usize::from(grant.quorum))
}

/// An extent ends within the range of offsets, in its file and in its chunk.
pub(super) fn extent(extent: &ExtentPlan) -> bool {
    extent.file_offset.checked_add(extent.length).is_some()
        && extent.chunk_offset.checked_add(extent.length).is_some_and(|end| end <= extent.chunk.length)
}
