//! A node's own clock: monotonic, skewed, drifting, restarted by a boot.

use cairn_core::time::{Span, Time};

/// Machine time as a straight line over true time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// True time where the line was last bent, in nanoseconds.
    base_true: u64,
    /// The clock's reading there.
    base_machine: u64,
    /// Parts per million by which it runs fast (or slow, if negative).
    drift_ppm: i32,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    /// A clock that shows `offset_ms` at true time `now`.
    pub(crate) fn new(now: Time, offset_ms: u64, drift_ppm: i32) -> Clock {
        Clock { base_true: now.0, base_machine: offset_ms * 1_000_000, drift_ppm }
    }

    /// Its reading at true time `now`.
    pub(crate) fn read(&self, now: Time) -> Time {
        let passed = i128::from(now.0.saturating_sub(self.base_true));
        Time(self.base_machine + (passed * (MILLION + i128::from(self.drift_ppm)) / MILLION) as u64)
    }

    /// The first true time at which it shows at least `reading`; `None` if that is beyond all runs.
    pub(crate) fn when(&self, reading: Time) -> Option<Time> {
        let ahead = i128::from(reading.0.saturating_sub(self.base_machine));
        let rate = MILLION + i128::from(self.drift_ppm);
        let passed = (ahead * MILLION + rate - 1) / rate;
        u64::try_from(passed).ok()?.checked_add(self.base_true).map(Time)
    }

    /// Shows so much more from now on.
    pub(crate) fn jump(&mut self, ahead: Span) {
        self.base_machine += ahead.0;
    }

    /// Runs at another rate from `now` on, without a jump.
    pub(crate) fn set_drift(&mut self, now: Time, drift_ppm: i32) {
        *self = Clock { base_true: now.0, base_machine: self.read(now).0, drift_ppm };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wake_at_the_computed_time_is_never_early(
            start in 0_u64..1 << 50, offset in 0_u64..1 << 30, ppm in -900_i32..900, ahead in 0_u64..1 << 50,
        ) {
            let clock = Clock::new(Time(start), offset, ppm);
            let target = Time(clock.read(Time(start)).0 + ahead);
            let at = clock.when(target).unwrap();
            prop_assert!(clock.read(at) >= target);
            prop_assert!(at.0 == start || clock.read(Time(at.0 - 2)) < target);
        }
    }
}
