//! Draws what one user will do, up front: the plan is data and depends on its own random stream alone.

use cairn_core::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::content::Content;
use crate::operation::{Operation, Storage};
use crate::tree::{Node, Tree};

/// What users are like in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Habits {
    /// Operations of each user.
    pub operations: u32,
    /// Longest pause between two operations in milliseconds.
    pub pause_ms: u64,
    /// Largest file in bytes.
    pub file_bytes: u32,
    /// Ways in which files are stored; one is drawn for each.
    pub storages: Vec<Storage>,
    /// Bytes of one write call.
    pub piece: u32,
    /// Whether the trash keeps what was deleted for the whole run, so that it can be restored.
    pub restores: bool,
}

/// An operation, and how long the user thinks before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Milliseconds.
    pub pause_ms: u64,
    /// What.
    pub operation: Operation,
}

/// The directory that belongs to one user alone.
pub fn home(user: usize) -> String {
    format!("/user{user}")
}

/// The steps of user number `user` of `users`. Numbers of contents are unique over all users.
pub fn steps(rng: &mut Rng, habits: &Habits, user: usize, users: usize) -> Vec<Step> {
    let mut author =
        Author { rng, habits, user, users, intended: Tree::default(), contents: 0, deleted: Vec::new() };
    let mut operations = vec![
        Operation::Mkdir { path: home(user), parents: true },
        Operation::Mkdir { path: format!("{}/d0", home(user)), parents: false },
    ];
    for operation in &operations {
        // The author's own tree only steers the draws; it takes every operation as done.
        let _ = author.intended.apply(operation);
    }
    for _ in 0..habits.operations {
        let operation = author.operation();
        let _ = author.intended.apply(&operation);
        operations.push(operation);
    }
    let pauses = &mut *author.rng;
    operations
        .into_iter()
        .map(|operation| Step { pause_ms: pauses.below(habits.pause_ms + 1), operation })
        .collect()
}

struct Author<'a> {
    rng: &'a mut Rng,
    habits: &'a Habits,
    user: usize,
    users: usize,
    intended: Tree,
    contents: u32,
    /// Where something was deleted lately.
    deleted: Vec<String>,
}

impl Author<'_> {
    fn operation(&mut self) -> Operation {
        match self.rng.below(100) {
            0..38 => self.put(),
            38..42 => self.abandon(),
            42..60 => Operation::Get { path: self.likely_file() },
            60..66 => self.range(),
            66..71 => self.peek(),
            71..75 => Operation::Stat { path: self.any_path() },
            75..79 => Operation::List { path: self.directory() },
            79..83 => Operation::Mkdir { path: self.directory(), parents: self.rng.chance(1, 2) },
            83..90 => self.rename(),
            90..96 => self.delete(),
            _ if self.habits.restores => self.restore(),
            _ => Operation::List { path: home(self.user) },
        }
    }

    fn put(&mut self) -> Operation {
        Operation::Put {
            path: self.new_file(),
            content: self.content(),
            replace: self.rng.chance(2, 3),
            piece: self.piece(),
            storage: self.storage(),
        }
    }

    fn abandon(&mut self) -> Operation {
        Operation::Abandon {
            path: self.new_file(),
            content: self.content(),
            piece: self.piece(),
            storage: self.storage(),
            politely: self.rng.chance(1, 2),
        }
    }

    fn range(&mut self) -> Operation {
        let offset = self.rng.below(u64::from(self.habits.file_bytes));
        let length = 1 + self.rng.below(100_000) as u32;
        Operation::GetRange { path: self.likely_file(), offset, length }
    }

    fn peek(&mut self) -> Operation {
        let other = self.rng.below(self.users as u64) as usize;
        Operation::Peek { path: self.file_of(other) }
    }

    fn rename(&mut self) -> Operation {
        let trees = self.rng.chance(1, 5);
        let (from, to) =
            if trees { (self.directory(), self.directory()) } else { (self.likely_file(), self.new_file()) };
        Operation::Rename { from, to, replace: self.rng.chance(1, 2) }
    }

    fn delete(&mut self) -> Operation {
        let path = if self.rng.chance(1, 6) { self.directory() } else { self.likely_file() };
        self.deleted.push(path.clone());
        Operation::Delete { path, recursive: self.rng.chance(1, 2) }
    }

    /// Mostly what was deleted lately; some of it was restored before.
    fn restore(&mut self) -> Operation {
        let latest = self.deleted.len().saturating_sub(3);
        match self.rng.pick(&self.deleted[latest..]) {
            Some(path) if self.rng.chance(3, 4) => Operation::Restore { path: path.clone() },
            _ => Operation::Restore { path: self.any_path() },
        }
    }

    /// Mostly a file that should be there.
    fn likely_file(&mut self) -> String {
        let files: Vec<String> = self.intended.files().map(|(path, _)| path.to_owned()).collect();
        match self.rng.pick(&files) {
            Some(path) if self.rng.chance(9, 10) => path.clone(),
            _ => self.file_of(self.user),
        }
    }

    /// Mostly where a file can be put.
    fn new_file(&mut self) -> String {
        let directories: Vec<String> = self
            .intended
            .nodes()
            .filter(|(_, node)| *node == Node::Directory)
            .map(|(path, _)| path.to_owned())
            .collect();
        match self.rng.pick(&directories) {
            Some(path) if self.rng.chance(9, 10) => format!("{path}/f{}", self.rng.below(8)),
            _ => self.file_of(self.user),
        }
    }

    fn file_of(&mut self, user: usize) -> String {
        match self.rng.below(4) {
            0 => format!("{}/d{}/f{}", home(user), self.rng.below(3), self.rng.below(8)),
            _ => format!("{}/f{}", home(user), self.rng.below(8)),
        }
    }

    fn directory(&mut self) -> String {
        match self.rng.below(5) {
            0 => format!("{}/d{}/d{}", home(self.user), self.rng.below(3), self.rng.below(2)),
            _ => format!("{}/d{}", home(self.user), self.rng.below(3)),
        }
    }

    fn any_path(&mut self) -> String {
        if self.rng.chance(1, 4) { self.directory() } else { self.likely_file() }
    }

    fn content(&mut self) -> Content {
        self.contents += 1;
        let number = (self.user as u32 + 1) << 20 | self.contents;
        // Lengths at every scale, edges and emptiness among them.
        let length = match self.rng.below(12) {
            0 => self.rng.below(9),
            1 => 65_536 * (1 + self.rng.below(3)) + self.rng.below(3) - 1,
            2..7 => self.rng.below(u64::from(self.habits.file_bytes) / 8),
            _ => self.rng.below(u64::from(self.habits.file_bytes)),
        };
        Content { number, length: length.min(u64::from(self.habits.file_bytes)) as u32 }
    }

    fn piece(&mut self) -> u32 {
        let piece = u64::from(self.habits.piece.max(1));
        if self.rng.chance(1, 4) { 1 + self.rng.below(piece) as u32 } else { piece as u32 }
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
            operations: 200,
            pause_ms: 100,
            file_bytes: 1 << 20,
            storages: vec![Storage::default()],
            piece: 65_536,
            restores: true,
        }
    }

    #[test]
    fn the_same_stream_draws_the_same_steps() {
        let draw = |seed| steps(&mut Rng::stream(seed, "user"), &habits(), 0, 3);
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn every_content_has_its_own_number_and_most_operations_can_succeed() {
        let mut numbers = Vec::new();
        let mut refused = 0;
        for user in 0..3 {
            let mut tree = Tree::default();
            for step in steps(&mut Rng::stream(5, &format!("user{user}")), &habits(), user, 3) {
                if let Operation::Put { content, .. } | Operation::Abandon { content, .. } = &step.operation {
                    numbers.push(content.number);
                }
                refused += usize::from(tree.apply(&step.operation).is_err());
            }
        }
        let drawn = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), drawn);
        assert!(refused < 250, "{refused} of 600 operations are nonsense");
    }
}
