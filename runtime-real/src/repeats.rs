//! Log lines that were written a moment ago: said again and again, they hide the others.

use std::collections::HashMap;

use cairn_core::time::{Span, Time};

/// For so long a line need not be said again.
const FRESH: Span = Span::from_ms(10 * 60 * 1000);
/// Lines remembered at the most.
const KEPT: usize = 4096;

/// Lines and when they were written.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    written: HashMap<String, Time>,
}

impl Repeats {
    /// Whether `line` was written lately; remembered as written now if not.
    pub(crate) fn has(&mut self, line: &str, now: Time) -> bool {
        let fresh = |written: Time| now < written + FRESH;
        if self.written.get(line).is_some_and(|written| fresh(*written)) {
            return true;
        }
        if self.written.len() >= KEPT {
            self.written.retain(|_, written| fresh(*written));
        }
        // So many different lines are no repetition.
        if self.written.len() >= KEPT {
            self.written.clear();
        }
        self.written.insert(line.to_owned(), now);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_in_a_while_and_others_beside_it() {
        let mut repeats = Repeats::default();
        assert!(!repeats.has("chunk-7 can't be sealed yet: no space", Time(1)));
        assert!(repeats.has("chunk-7 can't be sealed yet: no space", Time(2)));
        assert!(!repeats.has("chunk-7 can't be sealed yet: I/O error", Time(2)));
        assert!(!repeats.has("chunk-8 can't be sealed yet: no space", Time(2)));
        assert!(!repeats.has("chunk-7 can't be sealed yet: no space", Time(1) + FRESH));
    }

    #[test]
    fn the_memory_stays_bounded() {
        let mut repeats = Repeats::default();
        for number in 0..3 * KEPT {
            assert!(!repeats.has(&number.to_string(), Time(number as u64)));
            assert!(repeats.written.len() <= KEPT);
        }
    }
}
