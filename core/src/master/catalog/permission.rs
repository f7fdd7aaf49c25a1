//! Who may do what: POSIX permission bits, the sticky bit, and `root`.

use alloc::format;

use crate::config::MAX_NAME_BYTES;
use crate::error::MasterError;
use crate::message::Identity;

pub(super) const READ: u16 = 4;
pub(super) const WRITE: u16 = 2;
pub(super) const EXECUTE: u16 = 1;
/// In a directory with this bit only the owners of an entry and of the directory may remove or rename the entry.
pub(super) const STICKY: u16 = 0o1000;

/// All bits that a mode may have.
const MODE_BITS: u16 = 0o7777;
const MAX_GROUPS: usize = 64;

/// The user that may do everything.
pub(super) const ROOT_USER: &str = "root";

pub(super) fn is_root(identity: &Identity) -> bool {
    identity.user == ROOT_USER
}

/// The group that owns what `identity` creates: its first, or one with the user's own name.
pub(super) fn first_group(identity: &Identity) -> &str {
    identity.groups.first().unwrap_or(&identity.user)
}

/// Whether the bits of one class that applies to `identity` (owner, else group, else others) contain `needs`.
pub(super) fn allows(identity: &Identity, owner: &str, group: &str, mode: u16, needs: u16) -> bool {
    let class = if identity.user == owner {
        mode >> 6
    } else if identity.groups.iter().any(|g| g == group) {
        mode >> 3
    } else {
        mode
    };
    is_root(identity) || class & needs == needs
}

/// The refusal for lack of `needs` bits on `path`.
pub(super) fn lacks(path: &str, needs: u16) -> MasterError {
    let right = match needs {
        READ => "read permission",
        WRITE => "write permission",
        EXECUTE => "search permission",
        _ => "write and search permission",
    };
    denied(path, right)
}

pub(super) fn denied(path: &str, needs: &str) -> MasterError {
    MasterError::PermissionDenied { path: path.into(), needs: needs.into() }
}

/// Bounds what an identity puts into the log.
pub(super) fn check_identity(identity: &Identity) -> Result<(), MasterError> {
    if identity.groups.len() > MAX_GROUPS {
        return Err(MasterError::InvalidArgument(format!("more than {MAX_GROUPS} groups")));
    }
    let names = core::iter::once(&identity.user).chain(&identity.groups);
    for name in names {
        check_bounded(name)?;
    }
    Ok(())
}

/// A user or group that something is given to.
pub(super) fn check_principal(name: &str) -> Result<(), MasterError> {
    if name.is_empty() {
        return Err(MasterError::InvalidArgument("the name of a user or group is empty".into()));
    }
    check_bounded(name)
}

pub(super) fn check_mode(mode: u16) -> Result<(), MasterError> {
    if mode & !MODE_BITS != 0 {
        return Err(MasterError::InvalidArgument(format!("mode {mode:o} is beyond 7777")));
    }
    Ok(())
}

fn check_bounded(name: &str) -> Result<(), MasterError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(MasterError::InvalidArgument(format!(
            "the name of a user or group is longer than {MAX_NAME_BYTES} bytes"
        )));
    }
    if name.chars().any(char::is_control) {
        return Err(MasterError::InvalidArgument(
            "the name of a user or group has a control character".into(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn who(user: &str, groups: &[&str]) -> Identity {
        Identity { user: user.to_string(), groups: groups.iter().map(|g| g.to_string()).collect::<Vec<_>>() }
    }

    #[test]
    fn exactly_one_class_applies() {
        let owner = who("ann", &["staff"]);
        let member = who("bob", &["x", "staff"]);
        let other = who("eve", &[]);
        let may = |identity: &Identity, mode, needs| allows(identity, "ann", "staff", mode, needs);
        assert!(may(&owner, 0o400, READ) && !may(&owner, 0o400, WRITE));
        assert!(may(&member, 0o040, READ) && !may(&member, 0o400, READ));
        assert!(may(&other, 0o004, READ) && !may(&other, 0o440, READ));
        // The first class that fits decides, even when a later one would allow more.
        assert!(!may(&owner, 0o077, READ) && !may(&member, 0o707, READ));
        assert!(!may(&other, 0o002, WRITE | EXECUTE) && may(&other, 0o003, WRITE | EXECUTE));
        assert!(may(&who("root", &[]), 0, READ | WRITE | EXECUTE));
    }

    #[test]
    fn what_goes_into_the_log_is_bounded() {
        assert!(check_identity(&who("ann", &["staff"])).is_ok());
        assert!(check_identity(&who(&"n".repeat(256), &[])).is_err());
        assert!(check_identity(&who("ann", &["g"; 65])).is_err());
        assert!(check_identity(&who("ann", &["a\nb"])).is_err());
        assert!(check_principal("").is_err());
        assert!(check_mode(0o7777).is_ok() && check_mode(0o10000).is_err());
    }
}
