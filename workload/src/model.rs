//! The oracle: every state that a user's files may be in, given what the user was told. No state left means that a
//! promise was broken.

use cairn_core::error::MasterError;

use crate::content::Content;
use crate::operation::{Operation, Outcome};
use crate::tree::{Node, Refusal, Tree};

/// Changes of unknown fate that one user may have at once; beyond, the user only looks.
pub const PENDING_MAX: usize = 3;

/// One possible state: what is there, and what may still come of requests whose answers were lost.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    tree: Tree,
    pending: Vec<Operation>,
}

/// All possible states of one user's part of the namespace. The user does one thing after the other.
#[derive(Clone, Debug)]
pub struct Model {
    worlds: Vec<World>,
}

impl Default for Model {
    fn default() -> Self {
        Model { worlds: vec![World::default()] }
    }
}

impl Model {
    /// Whether the user has so many changes of unknown fate that it should only look.
    pub fn is_crowded(&self) -> bool {
        self.worlds.iter().any(|w| w.pending.len() >= PENDING_MAX)
    }

    /// Paths of files that may exist.
    pub fn files(&self) -> Vec<String> {
        let mut paths: Vec<String> =
            self.worlds.iter().flat_map(|w| w.tree.files().map(|(path, _)| path.to_owned())).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Files that must exist with these contents, whatever became of the rest.
    pub fn certain_files(&self) -> Vec<(String, Content)> {
        let mut expanded = self.expanded();
        let Some(first) = expanded.pop() else { return Vec::new() };
        first
            .tree
            .files()
            .filter(|(path, content)| {
                expanded.iter().all(|w| w.tree.node(path) == Some(Node::File(*content)))
            })
            .map(|(path, content)| (path.to_owned(), content))
            .collect()
    }

    /// Learns what came of an operation; fails if that is possible in no state.
    pub fn learn(&mut self, operation: &Operation, outcome: &Outcome) -> Result<(), String> {
        match outcome {
            Outcome::Broken(what) => return Err(what.clone()),
            Outcome::Failed(_) => return Ok(()),
            Outcome::Unknown(_) => {
                if operation.is_change() {
                    for world in &mut self.worlds {
                        world.pending.push(operation.clone());
                    }
                }
                return Ok(());
            }
            _ => {}
        }
        let before = self.expanded();
        let possible: Vec<World> = before
            .iter()
            .filter_map(|world| {
                let tree = after(&world.tree, operation, outcome)?;
                Some(World { tree, pending: world.pending.clone() })
            })
            .collect();
        if possible.is_empty() {
            return Err(impossible(&before, operation, outcome));
        }
        self.set(possible);
        Ok(())
    }

    /// Compares with all that was found once nothing was under way any more; keeps the states that match.
    pub fn settle(&mut self, found: &[(String, Node)]) -> Result<(), String> {
        let expanded = self.expanded();
        let found: Vec<(String, Node)> = found.iter().map(|(p, n)| (p.clone(), recognisable(*n))).collect();
        let found = found.as_slice();
        let same = |world: &World| {
            world.tree.nodes().map(|(p, n)| (p.to_owned(), recognisable(n))).eq(found.iter().cloned())
        };
        let matching: Vec<World> = expanded.iter().filter(|w| same(w)).cloned().collect();
        if matching.is_empty() {
            let expected: Vec<_> = expanded.iter().map(|w| differences(&w.tree, found)).collect();
            return Err(format!(
                "none of {} possible states was found: {}",
                expanded.len(),
                expected.join(" | ")
            ));
        }
        self.set(matching);
        Ok(())
    }

    /// Learns that nothing is under way any more: what has not happened by now never will. After [`Model::settle`].
    pub fn nothing_under_way(&mut self) {
        let mut worlds = std::mem::take(&mut self.worlds);
        worlds.iter_mut().for_each(|world| world.pending.clear());
        self.set(worlds);
    }

    fn set(&mut self, mut worlds: Vec<World>) {
        worlds.sort();
        worlds.dedup();
        self.worlds = worlds;
    }

    /// Every state that any of the pending changes, in any order, may have led to by now.
    fn expanded(&self) -> Vec<World> {
        let mut all: Vec<World> = Vec::new();
        let mut open = self.worlds.clone();
        while let Some(world) = open.pop() {
            for i in 0..world.pending.len() {
                let mut next = world.clone();
                let operation = next.pending.remove(i);
                if next.tree.apply(&operation).is_ok() {
                    open.push(next);
                }
            }
            all.push(world);
        }
        all.sort();
        all.dedup();
        all
    }
}

/// The state after `operation` ended with `outcome`; `None` if it can't have in `tree`.
pub(crate) fn after(tree: &Tree, operation: &Operation, outcome: &Outcome) -> Option<Tree> {
    if let Outcome::Refused(error) = outcome {
        return refused(tree, operation, error).then(|| tree.clone());
    }
    let mut next = tree.clone();
    match (operation, outcome) {
        (Operation::Put { content, .. }, Outcome::Stored { length, crc }) => {
            (*length == u64::from(content.length) && *crc == content.crc()).then_some(())?;
            next.apply(operation).ok()?;
        }
        (Operation::Get { path }, Outcome::Read { length, content, crc }) => {
            let Ok(Node::File(expected)) = tree.look_up(path) else { return None };
            (*length == u64::from(expected.length) && *crc == expected.crc()).then_some(())?;
            content.is_none_or(|c| c == expected).then_some(())?;
        }
        (Operation::GetRange { path, offset, length: wanted }, Outcome::Range { length, bytes }) => {
            let Ok(Node::File(expected)) = tree.look_up(path) else { return None };
            (*length == u64::from(expected.length)).then_some(())?;
            (expected.bytes(*offset, u64::from(*wanted)) == bytes[..]).then_some(())?;
        }
        (Operation::Stat { path }, Outcome::Attributes { directory, length, crc }) => {
            let fits = match tree.look_up(path).ok()? {
                Node::Directory => *directory && *length == tree.count(path),
                Node::File(c) => !directory && *length == u64::from(c.length) && *crc == c.crc(),
            };
            fits.then_some(())?;
        }
        (Operation::List { path }, Outcome::Names(names)) => {
            (tree.look_up(path) == Ok(Node::Directory)).then_some(())?;
            (tree.list(path) == *names).then_some(())?;
        }
        (Operation::Peek { .. }, Outcome::Read { .. }) | (Operation::Abandon { .. }, Outcome::Done) => {}
        (_, Outcome::Done) if operation.is_change() => next.apply(operation).ok()?,
        _ => return None,
    }
    Some(next)
}

/// Whether `error` is a right answer in this state.
fn refused(tree: &Tree, operation: &Operation, error: &MasterError) -> bool {
    let Some(class) = Refusal::of(error) else { return false };
    let needed = match operation {
        // Of other users' files nothing is known; an abandoned file is refused like any other.
        Operation::Peek { .. } => return class == Refusal::NotFound || class == Refusal::NotADirectory,
        Operation::Abandon { path, .. } => match tree.look_up(path) {
            Ok(Node::Directory) => vec![Refusal::IsADirectory, Refusal::Exists],
            Ok(Node::File(_)) => return false,
            Err(classes) => classes,
        },
        Operation::Get { path } | Operation::GetRange { path, .. } => match tree.look_up(path) {
            Ok(Node::Directory) => vec![Refusal::IsADirectory],
            Ok(Node::File(_)) => return false,
            Err(classes) => classes,
        },
        Operation::Stat { path } => match tree.look_up(path) {
            Ok(_) => return false,
            Err(classes) => classes,
        },
        Operation::List { path } => match tree.look_up(path) {
            Ok(Node::Directory) => return false,
            Ok(Node::File(_)) => vec![Refusal::NotADirectory],
            Err(classes) => classes,
        },
        change => match tree.clone().apply(change) {
            Ok(()) => return false,
            Err(classes) => classes,
        },
    };
    needed.contains(&class)
}

/// A node as a reader sees it: files too short to announce their number are all alike.
fn recognisable(node: Node) -> Node {
    match node {
        Node::File(Content { length, .. }) if length < 8 => Node::File(Content { number: 0, length }),
        node => node,
    }
}

fn impossible(worlds: &[World], operation: &Operation, outcome: &Outcome) -> String {
    let states: Vec<String> = worlds
        .iter()
        .take(4)
        .map(|w| {
            let nodes: Vec<String> = w
                .tree
                .nodes()
                .map(|(p, n)| match n {
                    Node::Directory => format!("{p}/"),
                    Node::File(c) => format!("{p}=#{}({})", c.number, c.length),
                })
                .collect();
            format!("{{{}; pending {:?}}}", nodes.join(" "), w.pending)
        })
        .collect();
    let mut outcome = format!("{outcome:?}");
    outcome.truncate(outcome.floor_char_boundary(600));
    format!(
        "{operation:?} ended with {outcome}, which is possible in none of {} states: {}",
        worlds.len(),
        states.join(" | ")
    )
}

fn differences(tree: &Tree, found: &[(String, Node)]) -> String {
    let expected: Vec<(String, Node)> = tree.nodes().map(|(p, n)| (p.to_owned(), recognisable(n))).collect();
    let missing: Vec<_> = expected.iter().filter(|n| !found.contains(n)).take(5).collect();
    let extra: Vec<_> = found.iter().filter(|n| !expected.contains(n)).take(5).collect();
    format!("missing {missing:?}, unexpected {extra:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::error::ClientError;

    fn put(path: &str, number: u32) -> Operation {
        let content = Content { number, length: 100 };
        Operation::Put { path: path.into(), content, replace: true, piece: 10, storage: Default::default() }
    }

    fn stored(number: u32) -> Outcome {
        let content = Content { number, length: 100 };
        Outcome::Stored { length: 100, crc: content.crc() }
    }

    fn read(number: u32) -> Outcome {
        let content = Content { number, length: 100 };
        Outcome::Read { length: 100, content: Some(content), crc: content.crc() }
    }

    fn get(path: &str) -> Operation {
        Operation::Get { path: path.into() }
    }

    fn timeout() -> Outcome {
        Outcome::Unknown(ClientError::Timeout("master".into()))
    }

    #[test]
    fn an_acknowledged_file_may_not_be_missing() {
        let mut model = Model::default();
        model.learn(&put("/f", 1), &stored(1)).unwrap();
        let missing = Outcome::Refused(MasterError::NotFound("/f".into()));
        assert!(model.clone().learn(&get("/f"), &missing).is_err());
        assert!(model.clone().learn(&get("/f"), &read(2)).is_err());
        model.learn(&get("/f"), &read(1)).unwrap();
        assert_eq!(model.certain_files().len(), 1);
    }

    #[test]
    fn a_change_of_unknown_fate_may_come_late_but_never_go_away_again() {
        let mut model = Model::default();
        model.learn(&put("/f", 1), &stored(1)).unwrap();
        model.learn(&put("/f", 2), &timeout()).unwrap();
        assert!(model.certain_files().is_empty());
        model.learn(&get("/f"), &read(1)).unwrap();
        model.learn(&get("/f"), &read(2)).unwrap();
        assert!(model.clone().learn(&get("/f"), &read(1)).is_err());
        assert!(!model.is_crowded());
    }

    #[test]
    fn a_change_must_not_happen_twice() {
        let mut model = Model::default();
        let rename =
            |from: &str, to: &str| Operation::Rename { from: from.into(), to: to.into(), replace: false };
        model.learn(&put("/f", 1), &stored(1)).unwrap();
        model.learn(&rename("/f", "/g"), &Outcome::Done).unwrap();
        model.learn(&put("/f", 2), &stored(2)).unwrap();
        assert!(model.learn(&get("/f"), &read(1)).is_err());
    }

    #[test]
    fn the_final_state_must_be_one_of_the_possible() {
        let file = |number| Node::File(Content { number, length: 100 });
        let mut model = Model::default();
        model.learn(&put("/f", 1), &stored(1)).unwrap();
        model.learn(&put("/g", 2), &timeout()).unwrap();
        model.clone().settle(&[("/f".into(), file(1))]).unwrap();
        model.clone().settle(&[("/f".into(), file(1)), ("/g".into(), file(2))]).unwrap();
        assert!(model.clone().settle(&[("/g".into(), file(2))]).is_err());
        assert!(model.settle(&[]).is_err());
    }

    #[test]
    fn what_is_not_under_way_any_more_must_not_happen() {
        let file = |number| Node::File(Content { number, length: 100 });
        let mut model = Model::default();
        model.learn(&put("/f", 1), &stored(1)).unwrap();
        model.learn(&put("/f", 2), &timeout()).unwrap();
        model.settle(&[("/f".into(), file(1))]).unwrap();
        model.clone().learn(&get("/f"), &read(2)).unwrap();
        model.nothing_under_way();
        assert!(model.clone().learn(&get("/f"), &read(2)).is_err());
        assert_eq!(model.certain_files().len(), 1);
    }
}
