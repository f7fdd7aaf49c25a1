//! The promise behind a checker's name: its number and sentence, read from `docs/invariants.md`, where they stand once.

const TABLE: &str = include_str!("../../docs/invariants.md");

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// Its number.
    pub number: u32,
    /// What must hold.
    pub sentence: String,
    /// When it must.
    pub when: String,
    checked_by: &'static str,
}

/// All of them, in the table's order.
pub fn invariants() -> impl Iterator<Item = Invariant> {
    TABLE.lines().filter_map(|line| {
        let cells: Vec<&'static str> = line.split('|').map(str::trim).collect();
        let [_, number, sentence, when, checked_by, ..] = cells[..] else { return None };
        let (number, sentence) = (number.parse().ok()?, sentence.replace('`', ""));
        Some(Invariant { number, sentence, when: when.to_owned(), checked_by })
    })
}

/// What `checker` watches over; `None` for what is not in the table, such as a machine's own assertions.
pub fn watched_by(checker: &str) -> Option<Invariant> {
    invariants().find(|invariant| checkers(invariant.checked_by).any(|name| name == checker))
}

/// Names in a cell such as `` `checker/namespace.rs` (`durability`), `workload/model.rs` ``: the one in brackets, or the
/// file's.
fn checkers(cell: &str) -> impl Iterator<Item = String> + '_ {
    let mut parts = cell.split('`').skip(1).step_by(2).zip(cell.split('`').step_by(2).skip(1)).peekable();
    std::iter::from_fn(move || {
        let (path, after) = parts.next()?;
        if after.trim_end().ends_with('(')
            && let Some((name, _)) = parts.next()
        {
            return Some(name.to_owned());
        }
        let file = path.rsplit('/').next().unwrap_or(path);
        Some(file.trim_end_matches(".rs").replace('_', "-"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checker_is_known_by_its_name_in_brackets_or_its_file() {
        let names: Vec<_> =
            checkers("`workload/model.rs`, `checker/ack_durability.rs` (`held`), `c/x.rs`").collect();
        assert_eq!(names, ["model", "held", "x"]);
    }

    #[test]
    fn numbers_are_in_order_and_given_once() {
        let numbers: Vec<u32> = invariants().map(|invariant| invariant.number).collect();
        assert!(numbers.len() > 20 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    }

    #[test]
    fn every_checker_has_its_row() {
        for (checker, number) in [
            ("durability", 1),
            ("namespace", 2),
            ("ack-durability", 3),
            ("versions", 4),
            ("replication", 5),
            ("leaks", 6),
            ("health", 7),
            ("convergence", 8),
            ("no-wrong-bytes", 9),
            ("log-agreement", 13),
            ("linearizability", 18),
            ("progress", 23),
        ] {
            assert_eq!(watched_by(checker).map(|i| i.number), Some(number), "{checker}");
        }
        assert_eq!(watched_by("panic"), None);
    }
}
