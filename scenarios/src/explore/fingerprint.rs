//! 128-bit fingerprints: two lanes of folded multiplication. The same on every machine, so that counts of states are too.

use std::hash::{BuildHasherDefault, Hash, Hasher};

const LANES: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03];

/// Two lanes that see every word.
#[derive(Clone)]
struct Lanes([u64; 2]);

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Lanes {
    fn word(&mut self, word: u64) {
        let [a, b] = self.0;
        self.0 = [
            fold(a ^ word, LANES[0]).wrapping_add(b.rotate_left(17)),
            fold(b.rotate_left(29) ^ word.wrapping_add(LANES[0]), LANES[1]) ^ a,
        ];
    }
}

impl Hasher for Lanes {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64 ^ LANES[1]);
    }

    fn write_u8(&mut self, i: u8) {
        self.word(u64::from(i));
    }

    fn write_u32(&mut self, i: u32) {
        self.word(u64::from(i));
    }

    fn write_u64(&mut self, i: u64) {
        self.word(i);
    }

    fn write_usize(&mut self, i: usize) {
        self.word(i as u64);
    }

    fn finish(&self) -> u64 {
        self.0[0]
    }
}

/// The fingerprint of a value.
pub(super) fn fingerprint(value: &(impl Hash + ?Sized)) -> u128 {
    let mut lanes = Lanes(LANES);
    value.hash(&mut lanes);
    lanes.word(1);
    lanes.word(2);
    u128::from(lanes.0[0]) << 64 | u128::from(lanes.0[1])
}

/// Takes a fingerprint as it is: it is mixed already.
#[derive(Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| fold(hash ^ u64::from(*byte), LANES[0]));
    }

    fn write_u128(&mut self, i: u128) {
        self.0 = i as u64;
    }

    fn write_u64(&mut self, i: u64) {
        self.0 = fold(self.0 ^ i, LANES[0]);
    }

    fn write_u32(&mut self, i: u32) {
        self.write_u64(u64::from(i));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// For tables whose keys are fingerprints or small numbers.
pub(super) type Direct = BuildHasherDefault<AsItIs>;
