//! Who takes part in a storm, and which process a connection comes from.

use std::fmt;
use std::net::SocketAddr;

/// A process, or all users together: they live in the process of `cairn chaos`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Party {
    /// All clients.
    Users,
    /// The master.
    Master,
    /// Chunkserver number `.0 + 1`.
    Server(usize),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Party::Users => f.write_str("users"),
            Party::Master => f.write_str("master"),
            Party::Server(index) => write!(f, "cs{}", index + 1),
        }
    }
}

/// Which of `processes` has a socket at `local` that is connected with `remote`. From the tables of the kernel: a connection
/// on loopback names ports only.
pub(super) fn owner(local: SocketAddr, remote: SocketAddr, processes: &[(Party, u32)]) -> Option<Party> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let socket = format!("socket:[{}]", inode(&table, local, remote)?);
    let holds = |pid: u32| {
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))
    };
    processes.iter().find(|(_, pid)| holds(*pid)).map(|(party, _)| *party)
}

/// The inode of a socket in the text of `/proc/net/tcp` (columns: proc(5)).
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (hex(local)?, hex(remote)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next()? == local && fields.next()? == remote).then_some(())?;
        fields.nth(6)?.parse().ok()
    })
}

/// As the kernel writes it: the address in the machine's byte order, the port as a number.
fn hex(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_this_process_is_known_as_such() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (near.local_addr().unwrap(), near.peer_addr().unwrap());
        let this = [(Party::Master, u32::MAX), (Party::Users, std::process::id())];
        assert_eq!(owner(local, remote, &this), Some(Party::Users));
        assert_eq!(owner(local, local, &this), None);
        assert_eq!(owner(local, remote, &this[..1]), None);
    }
}
