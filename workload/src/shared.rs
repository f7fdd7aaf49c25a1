//! What users do at the same time to the same few names: short operations in bursts, so that they overlap. No user can know
//! what to expect; what all of them saw together is judged by [`crate::linearizability`].

use std::collections::BTreeSet;

use cairn_core::rng::Rng;

use crate::content::Content;
use crate::generate::{Habits, Step};
use crate::operation::{Operation, Storage};

/// The directory that belongs to everybody. It exists before the first step, and nobody deletes it.
pub const ROOT: &str = "/shared";

/// Whether an operation is on what belongs to everybody.
pub fn is_shared(operation: &Operation) -> bool {
    operation.paths().into_iter().all(is_below)
}

fn is_below(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Sharing in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Sharing {
    /// Pairs of names; a rename goes from one name of a pair to the other.
    pub pairs: u64,
    /// Operations of each user.
    pub operations: u32,
    /// Longest pause between two bursts in milliseconds.
    pub pause_ms: u64,
    /// Longest file in bytes.
    pub file_bytes: u32,
}

impl Sharing {
    /// Draws how much is shared, of files in chunks of `chunk_bytes`.
    pub fn draw(rng: &mut Rng, chunk_bytes: u64) -> Sharing {
        // Some files have several chunks, so that one may be replaced while a reader is between two of them.
        let few_chunks = chunk_bytes * (2 + rng.below(3));
        Sharing {
            pairs: 1 + rng.below(2),
            operations: 20 + rng.below(40) as u32,
            pause_ms: 200 + rng.below(3_000),
            file_bytes: if rng.chance(1, 3) { few_chunks as u32 } else { 4_096 << rng.below(5) },
        }
    }
}

/// All shared names that steps may make.
pub fn names<'a>(steps: impl Iterator<Item = &'a Step>) -> Vec<String> {
    let made = steps.filter_map(|step| match &step.operation {
        Operation::Put { path, .. } | Operation::Mkdir { path, .. } | Operation::Rename { to: path, .. } => {
            Some(path).filter(|_| is_shared(&step.operation))
        }
        _ => None,
    });
    made.cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

fn name(pair: u64, side: u64) -> String {
    format!("{ROOT}/{}{pair}", ["a", "b"][side as usize % 2])
}

/// The steps of user number `user`, whose contents get numbers of their own.
pub fn steps(rng: &mut Rng, sharing: &Sharing, habits: &Habits, user: usize) -> Vec<Step> {
    let mut author = Author { rng, sharing, habits, user, contents: 0 };
    (0..sharing.operations)
        .map(|_| {
            let pause_ms = if author.rng.chance(2, 3) {
                author.rng.below(5)
            } else {
                author.rng.below(sharing.pause_ms + 1)
            };
            Step { pause_ms, operation: author.operation() }
        })
        .collect()
}

struct Author<'a> {
    rng: &'a mut Rng,
    sharing: &'a Sharing,
    habits: &'a Habits,
    user: usize,
    contents: u32,
}

impl Author<'_> {
    fn operation(&mut self) -> Operation {
        let (pair, side) = (self.rng.below(self.sharing.pairs), self.rng.below(2));
        let path = name(pair, side);
        match self.rng.below(100) {
            0..14 => self.put(path, false),
            14..30 => self.put(path, true),
            30..48 => Operation::Get { path },
            48..64 => Operation::Stat { path },
            64..72 => Operation::List { path: ROOT.to_owned() },
            72..74 => Operation::Stat { path: ROOT.to_owned() },
            74..84 => Operation::Delete { path, recursive: false },
            84..94 => {
                Operation::Rename { from: path, to: name(pair, 1 - side), replace: self.rng.chance(1, 2) }
            }
            94..98 => Operation::Mkdir { path, parents: false },
            _ => self.abandon(path),
        }
    }

    fn put(&mut self, path: String, replace: bool) -> Operation {
        Operation::Put {
            path,
            content: self.content(),
            replace,
            piece: self.habits.piece.max(1),
            storage: self.storage(),
        }
    }

    fn abandon(&mut self, path: String) -> Operation {
        let politely = self.rng.chance(1, 2);
        let piece = self.habits.piece.max(1);
        Operation::Abandon { path, content: self.content(), piece, storage: self.storage(), politely }
    }

    /// Mostly short, since what is short overlaps more; lengths tell contents apart in listings.
    fn content(&mut self) -> Content {
        self.contents += 1;
        let number = (self.user as u32 + 1) << 20 | self.contents;
        let longest = if self.rng.chance(1, 4) { self.sharing.file_bytes } else { 2_000 };
        let length = 8 + self.rng.below(u64::from(longest.max(9)) - 8) as u32;
        Content { number, length: if self.rng.chance(1, 20) { 0 } else { length } }
    }

    fn storage(&mut self) -> Storage {
        self.rng.pick(&self.habits.storages).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn habits() -> Habits {
        Habits {
            operations: 10,
            pause_ms: 100,
            file_bytes: 1 << 20,
            storages: vec![Storage::default()],
            piece: 65_536,
            restores: true,
        }
    }

    #[test]
    fn users_meet_at_the_same_names_with_contents_of_their_own() {
        let sharing = Sharing { pairs: 2, operations: 200, pause_ms: 100, file_bytes: 65_536 };
        let mut written = BTreeSet::new();
        let mut named = Vec::new();
        for user in 0..2 {
            let steps = steps(&mut Rng::stream(3, &format!("shared{user}")), &sharing, &habits(), user);
            assert_eq!(steps.len(), 200);
            named.push(names(steps.iter()));
            for step in steps {
                assert!(is_shared(&step.operation), "{:?}", step.operation);
                match step.operation {
                    Operation::Put { content, .. } => assert!(written.insert(content.number)),
                    Operation::Rename { from, to, .. } => {
                        assert_eq!(
                            from[ROOT.len() + 2..],
                            to[ROOT.len() + 2..],
                            "{from} and {to} are no pair"
                        );
                    }
                    _ => {}
                }
            }
        }
        assert_eq!(named[0], ["/shared/a0", "/shared/a1", "/shared/b0", "/shared/b1"]);
        assert_eq!(named[0], named[1]);
    }

    #[test]
    fn what_only_begins_like_the_shared_directory_is_not_shared() {
        assert!(!is_shared(&Operation::Stat { path: "/sharedness".into() }));
        assert!(is_shared(&Operation::Stat { path: ROOT.into() }));
    }
}
