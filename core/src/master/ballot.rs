//! How a chunk's length is settled from its members' votes: a pure decision (chunk protocol, rules 1, 2, 5 to 7, 20).
//!
//! Every commit reached W of the M members granted, so any M − W + 1 valid votes contain a member that holds everything committed; replicas
//! of one version are prefixes of one sequence, so the longest vote contains every other.

use alloc::vec::Vec;

use crate::defect::{Defect, Defects};

/// What is known of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ballot {
    /// It can be reached and has not voted yet.
    Waiting,
    /// It can't be reached; it may come back.
    Away,
    /// Its vote does not count: damaged, or another incarnation.
    Void,
    /// It durably holds so much and accepts no more.
    Prefix {
        /// Length in bytes.
        length: u64,
        /// CRC32 of that prefix.
        crc: u32,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Decision {
    /// Wait for votes: so many count, so many are needed.
    Wait { needed: u8, answered: u8 },
    /// Too few hold the longest prefix: members `short` are to take the rest from `holders`.
    Complete { length: u64, crc: u32, holders: Vec<usize>, short: Vec<usize> },
    /// The length is settled.
    Seal { length: u64, crc: u32, holders: Vec<usize> },
    /// Members hold different bytes of the same length: never to be guessed.
    Conflict { length: u64 },
}

/// Decides. `grace_over`: members that have not voted yet are no longer waited for.
pub(super) fn decide(ballots: &[Ballot], quorum: u8, grace_over: bool, defects: Defects) -> Decision {
    let votes: Vec<(usize, u64, u32)> = ballots
        .iter()
        .enumerate()
        .filter_map(|(i, ballot)| match ballot {
            Ballot::Prefix { length, crc } => Some((i, *length, *crc)),
            _ => None,
        })
        .collect();
    let mut needed = ballots.len().saturating_sub(usize::from(quorum)) + 1;
    if defects.has(Defect::SealOneVoteShort) {
        needed -= 1;
    }
    let wait = Decision::Wait { needed: needed as u8, answered: votes.len() as u8 };
    let waiting = ballots.contains(&Ballot::Waiting);
    if votes.len() < needed || (waiting && !grace_over) {
        return wait;
    }
    let lengths = votes.iter().map(|(_, length, _)| *length);
    let chosen = if defects.has(Defect::SealShortest) { lengths.min() } else { lengths.max() };
    let Some(length) = chosen else { return wait };
    let holders: Vec<usize> = votes.iter().filter(|v| v.1 == length).map(|v| v.0).collect();
    let crcs: Vec<u32> = votes.iter().filter(|v| v.1 == length).map(|v| v.2).collect();
    let Some(&crc) = crcs.first() else { return wait };
    if crcs.iter().any(|other| *other != crc) {
        return Decision::Conflict { length };
    }
    // An empty chunk has nothing to lose.
    let safe = if length == 0 { 1 } else { usize::from(quorum.min(2)) };
    if holders.len() >= safe || defects.has(Defect::SealSingleHolder) {
        return Decision::Seal { length, crc, holders };
    }
    let short: Vec<usize> = votes.iter().filter(|v| v.1 != length).map(|v| v.0).collect();
    if short.is_empty() { wait } else { Decision::Complete { length, crc, holders, short } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    /// `5` a vote of 5 bytes, `5!` one with other contents, `?` waiting, `-` away, `x` void.
    fn parse(text: &str) -> Vec<Ballot> {
        let one = |word: &str| match word {
            "?" => Ballot::Waiting,
            "-" => Ballot::Away,
            "x" => Ballot::Void,
            _ => {
                let length: u64 = word.trim_end_matches('!').parse().unwrap();
                Ballot::Prefix { length, crc: length as u32 + u32::from(word.ends_with('!')) * 100 }
            }
        };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn decisions() {
        let cases = [
            ("9 9 9", 2),
            ("9 9 ?", 2),
            ("9 9 -", 2),
            ("9 5 5", 2),
            ("9 5 -", 2),
            ("9 - -", 2),
            ("9 x 5", 2),
            ("9 x x", 2),
            ("9 ? ?", 2),
            ("0 0 -", 2),
            ("0 - -", 3),
            ("9 - -", 3),
            ("9 5 0", 3),
            ("9 9 5", 1),
            ("9 9 -", 1),
            ("9 9! 5", 2),
            ("9", 1),
            ("x", 1),
            ("9 5", 2),
            ("9 -", 2),
            ("9 8 7 6 5", 3),
            ("9 8 ? 6 5", 3),
        ];
        let line = |(text, quorum): &(&str, u8)| {
            let ballots = parse(text);
            let early = decide(&ballots, *quorum, false, Defects::none());
            let late = decide(&ballots, *quorum, true, Defects::none());
            let same =
                if early == late { String::new() } else { format!("\n{:>18}after the grace: {late:?}", "") };
            format!("{text:>10}  W={quorum}  {early:?}{same}")
        };
        insta::assert_snapshot!(cases.iter().map(line).collect::<Vec<_>>().join("\n"));
    }

    proptest! {
        /// Members hold prefixes; at least W hold what was committed. Whatever subset votes, nothing committed is cut.
        #[test]
        fn what_was_committed_is_kept(
            ends in proptest::collection::vec(0_u64..6, 1..7),
            quorum in 1_u8..7,
            away in proptest::collection::vec(any::<bool>(), 7),
            grace in any::<bool>(),
        ) {
            let quorum = quorum.min(ends.len() as u8);
            let mut sorted = ends.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            let committed = sorted[usize::from(quorum) - 1];
            let ballots: Vec<Ballot> = ends.iter().zip(&away).map(|(end, away)| {
                if *away { Ballot::Away } else { Ballot::Prefix { length: *end, crc: *end as u32 } }
            }).collect();
            match decide(&ballots, quorum, grace, Defects::none()) {
                Decision::Seal { length, holders, .. } => {
                    prop_assert!(length >= committed);
                    prop_assert!(length == 0 || holders.len() >= usize::from(quorum.min(2)));
                    prop_assert!(holders.iter().all(|h| ends[*h] == length && !away[*h]));
                }
                Decision::Complete { length, holders, short, .. } => {
                    prop_assert!(length >= committed);
                    prop_assert!(!holders.is_empty() && !short.is_empty());
                }
                Decision::Wait { needed, answered } => {
                    let votes = away[..ends.len()].iter().filter(|a| !**a).count();
                    prop_assert_eq!(usize::from(answered), votes);
                    prop_assert!(usize::from(needed) > votes || votes < 2);
                }
                Decision::Conflict { .. } => prop_assert!(false, "prefixes of one sequence"),
            }
        }
    }
}
