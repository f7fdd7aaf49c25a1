//! As whom requests are made, when nothing else is said: the user of this process, from the password and group files.

use cairn_core::message::Identity;

use crate::config::ClientOptions;

/// The user of this process and their groups, the primary one first. A user without a name is called by their number.
pub fn current() -> Identity {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    lookup(&read("/etc/passwd"), &read("/etc/group"), uid, gid)
}

/// The identity that `options` ask for, filled up from this process.
pub(super) fn of(options: &ClientOptions) -> Identity {
    let mut identity = current();
    if !options.user.is_empty() && options.user != identity.user {
        // Groups of another user are not known here.
        identity = Identity { user: options.user.clone(), groups: vec![options.user.clone()] };
    }
    if !options.groups.is_empty() {
        identity.groups = options.groups.clone();
    }
    identity
}

fn lookup(passwd: &str, group: &str, uid: u32, gid: u32) -> Identity {
    let field = |line: &str, at: usize| line.split(':').nth(at).unwrap_or_default().to_owned();
    let named = |file: &str, id: u32| {
        file.lines()
            .find(|line| field(line, 2) == id.to_string())
            .map_or(id.to_string(), |line| field(line, 0))
    };
    let user = named(passwd, uid);
    let mut groups = vec![named(group, gid)];
    for line in group.lines() {
        let name = field(line, 0);
        if field(line, 3).split(',').any(|member| member == user) && !groups.contains(&name) {
            groups.push(name);
        }
    }
    Identity { user, groups }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_files_and_numbers_stand_in() {
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:100::/home/ann:/bin/sh\n";
        let group = "root:x:0:\nusers:x:100:\nstaff:x:50:bob,ann\nwheel:x:10:bob\n";
        let ann = Identity { user: "ann".into(), groups: vec!["users".into(), "staff".into()] };
        assert_eq!(lookup(passwd, group, 1000, 100), ann);
        let nameless = Identity { user: "7".into(), groups: vec!["8".into()] };
        assert_eq!(lookup(passwd, group, 7, 8), nameless);
    }
}
