//! Pauses between attempts: exponential, capped, with jitter, so that many clients don't come back at once.

use crate::config::ms;
use crate::rng::Rng;
use crate::time::Span;

/// The longest pause, as a power of two of the first one.
const DOUBLINGS: u32 = 4;

/// The pause before attempt `attempt + 1` (0: after the first failure): `first_ms` doubled up to sixteenfold, and of that a
/// random part between half and all.
pub(super) fn pause(attempt: u32, first_ms: u64, rng: &mut Rng) -> Span {
    let longest = ms(first_ms.max(1)).0.saturating_mul(1 << attempt.min(DOUBLINGS));
    Span(rng.between(longest / 2, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_are_capped() {
        let mut rng = Rng::new(7);
        for (attempt, high) in [(0, 100), (1, 200), (3, 800), (4, 1_600), (60, 1_600)] {
            for _ in 0..50 {
                let span = pause(attempt, 100, &mut rng).0;
                assert!(span >= ms(high / 2).0 && span <= ms(high).0, "attempt {attempt}: {span} ns");
            }
        }
    }
}
