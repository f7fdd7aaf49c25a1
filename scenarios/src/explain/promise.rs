//! The promise behind a checker's name, as the page tells it.

use serde::Serialize;

use crate::workload::invariant::{invariants, watched_by};

/// A promise.
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
    let found = watched_by(checker)?;
    let mut sentence = found.sentence;
    let mut words = sentence.split(' ');
    if let (Some("Invariants"), Some(first), Some("to"), Some(last)) =
        (words.next(), words.next(), words.next(), words.next())
        && let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
    {
        let others: Vec<_> = invariants()
            .filter(|other| (first..=last).contains(&other.number))
            .map(|other| format!("{}: {}", other.number, other.sentence))
            .collect();
        sentence += &format!(" ({})", others.join(" "));
    }
    Some(Promise { number: found.number.to_string(), sentence, when: found.when })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_about_others_says_them() {
        let about_others = promise("convergence").expect("it has a row").sentence;
        assert!(about_others.contains("Every sealed chunk has its goal"), "{about_others}");
        assert_eq!(promise("panic"), None);
    }
}
