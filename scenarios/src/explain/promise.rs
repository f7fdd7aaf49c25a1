//! The promise behind a checker's name: its number and sentence, read from `docs/invariants.md`, where they stand once.

use serde::Serialize;

const TABLE: &str = include_str!("../../../docs/invariants.md");

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Promise {
    /// Its number.
    pub number: String,
    /// What must hold.
    pub sentence: String,
    /// When it must.
    pub when: String,
}

/// What `checker` watches over; `None` for what is not in the table, such as panics. A promise about others says them.
pub fn promise(checker: &str) -> Option<Promise> {
    let mut promise = row(|_, checked_by| checkers(checked_by).any(|name| name == checker))?;
    let mut words = promise.sentence.split(' ');
    if let (Some("Invariants"), Some(first), Some("to"), Some(last)) =
        (words.next(), words.next(), words.next(), words.next())
        && let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
    {
        let others: Vec<_> = (first..=last)
            .filter_map(|wanted| row(|number, _| number == wanted))
            .map(|other| format!("{}: {}", other.number, other.sentence))
            .collect();
        promise.sentence += &format!(" ({})", others.join(" "));
    }
    Some(promise)
}

/// The first row that is wanted, by its number and who checks it.
fn row(wanted: impl Fn(u32, &str) -> bool) -> Option<Promise> {
    TABLE.lines().find_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, number, sentence, when, checked_by, ..] = cells[..] else { return None };
        wanted(number.parse().ok()?, checked_by).then(|| Promise {
            number: number.to_owned(),
            sentence: sentence.replace('`', ""),
            when: when.to_owned(),
        })
    })
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
    fn every_checker_that_reports_has_its_row() {
        for (checker, number) in
            [("durability", "1"), ("namespace", "2"), ("ack-durability", "3"), ("no-wrong-bytes", "9")]
        {
            assert_eq!(promise(checker).map(|p| p.number).as_deref(), Some(number), "{checker}");
        }
        for checker in ["versions", "convergence"] {
            assert!(promise(checker).is_some(), "{checker}");
        }
        assert_eq!(promise("panic"), None);
        let about_others = promise("convergence").expect("it has a row").sentence;
        assert!(about_others.contains("Every sealed chunk has its goal"), "{about_others}");
    }
}
