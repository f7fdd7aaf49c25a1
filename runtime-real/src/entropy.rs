//! What a machine must be given because it can't take it from the air: seeds, and the identity of this boot.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use cairn_core::id::{BootId, ProcessId};

/// 64 bits that nobody can guess: std seeds its hash maps from the operating system's generator.
pub(crate) fn random_u64() -> u64 {
    let mut mixed = 0;
    for salt in 0..4_u64 {
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(salt);
        if let Ok(now) = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
            hasher.write_u128(now.as_nanos());
        }
        hasher.write_u32(std::process::id());
        mixed ^= hasher.finish().rotate_left(salt as u32 * 16);
    }
    mixed
}

/// A fresh process id. Two daemons in one operating system process are two processes to Cairn.
pub(crate) fn process_id() -> ProcessId {
    ProcessId(random_u64())
}

/// This boot of the machine, from the kernel's boot id. Where there is none, every start counts as a boot: the safe side,
/// since promises made under another boot are void.
pub(crate) fn boot_id() -> BootId {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(text) => BootId(fnv1a(text.trim().as_bytes())),
        Err(_) => BootId(random_u64()),
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_has_one_id_and_processes_have_many() {
        assert_ne!(process_id(), process_id());
        if std::path::Path::new("/proc/sys/kernel/random/boot_id").exists() {
            assert_eq!(boot_id(), boot_id());
        }
    }
}
