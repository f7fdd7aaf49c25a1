//! A namespace small enough to be obviously right: paths in a sorted map, and a trash.

use std::collections::BTreeMap;

use cairn_core::error::MasterError;

use crate::content::Content;
use crate::operation::Operation;

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A directory.
    Directory,
    /// A file.
    File(Content),
}

/// Classes of refusals, for comparison without their texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Something is not there.
    NotFound,
    /// Something is there.
    Exists,
    /// A file where a directory is needed.
    NotADirectory,
    /// A directory where a file is needed.
    IsADirectory,
    /// A directory with entries.
    NotEmpty,
    /// The request makes no sense.
    Invalid,
}

impl Refusal {
    /// The class of the master's error; `None` of those that a model does not predict.
    pub fn of(error: &MasterError) -> Option<Refusal> {
        Some(match error {
            MasterError::NotFound(_) => Refusal::NotFound,
            MasterError::AlreadyExists(_) => Refusal::Exists,
            MasterError::NotADirectory(_) => Refusal::NotADirectory,
            MasterError::IsADirectory(_) => Refusal::IsADirectory,
            MasterError::NotEmpty(_) => Refusal::NotEmpty,
            MasterError::InvalidArgument(_) | MasterError::InvalidPath { .. } => Refusal::Invalid,
            _ => return None,
        })
    }
}

/// One possible state of the part of the namespace that one user owns.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
    /// Oldest first: where it was, and everything that was below it by its path relative to there.
    trash: Vec<(String, BTreeMap<String, Node>)>,
}

impl Tree {
    /// What is at `path`.
    pub fn node(&self, path: &str) -> Option<Node> {
        if path == "/" { Some(Node::Directory) } else { self.nodes.get(path).copied() }
    }

    /// All files.
    pub fn files(&self) -> impl Iterator<Item = (&str, Content)> {
        self.nodes.iter().filter_map(|(path, node)| match node {
            Node::File(content) => Some((path.as_str(), *content)),
            Node::Directory => None,
        })
    }

    /// Everything, in order of paths.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), *node))
    }

    /// The names in a directory, in order: `(name, is a directory, length)`.
    pub fn list(&self, path: &str) -> Vec<(String, bool, u64)> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let below = self.nodes.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix));
        let mut names: Vec<_> = below
            .filter(|(p, _)| !p[prefix.len()..].contains('/'))
            .map(|(p, node)| match node {
                Node::Directory => (p[prefix.len()..].to_owned(), true, self.count(p)),
                Node::File(content) => (p[prefix.len()..].to_owned(), false, u64::from(content.length)),
            })
            .collect();
        names.sort();
        names
    }

    /// Entries of a directory.
    pub fn count(&self, path: &str) -> u64 {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let below = self.nodes.range(prefix.clone()..).take_while(|(p, _)| p.starts_with(&prefix));
        below.filter(|(p, _)| !p[prefix.len()..].contains('/')).count() as u64
    }

    /// Makes a change, or says which refusals would be right. Nothing is changed by a refused operation.
    pub fn apply(&mut self, operation: &Operation) -> Result<(), Vec<Refusal>> {
        match operation {
            Operation::Put { path, content, replace, .. } => self.put(path, *content, *replace),
            Operation::Mkdir { path, parents } => self.mkdir(path, *parents),
            Operation::Rename { from, to, replace } => self.rename(from, to, *replace),
            Operation::Delete { path, recursive } => self.delete(path, *recursive),
            Operation::Restore { path } => self.restore(path),
            _ => Ok(()),
        }
    }

    /// Which refusals are right because of the directories above `path`; empty if they are as they must be.
    fn blocked(&self, path: &str) -> Vec<Refusal> {
        for parent in parents(path) {
            match self.node(parent) {
                None => return vec![Refusal::NotFound],
                Some(Node::File(_)) => return vec![Refusal::NotADirectory, Refusal::NotFound],
                Some(Node::Directory) => {}
            }
        }
        Vec::new()
    }

    /// [`Tree::blocked`] as a result.
    fn reachable(&self, path: &str) -> Result<(), Vec<Refusal>> {
        let blocked = self.blocked(path);
        if blocked.is_empty() { Ok(()) } else { Err(blocked) }
    }

    /// Looks a path up for reading.
    pub fn look_up(&self, path: &str) -> Result<Node, Vec<Refusal>> {
        self.reachable(path)?;
        self.node(path).ok_or_else(|| vec![Refusal::NotFound])
    }

    fn put(&mut self, path: &str, content: Content, replace: bool) -> Result<(), Vec<Refusal>> {
        self.reachable(path)?;
        match self.node(path) {
            Some(Node::Directory) => return Err(vec![Refusal::IsADirectory, Refusal::Exists]),
            Some(Node::File(_)) if !replace => return Err(vec![Refusal::Exists]),
            Some(Node::File(_)) => self.bury(path),
            None => {}
        }
        self.nodes.insert(path.to_owned(), Node::File(content));
        Ok(())
    }

    fn mkdir(&mut self, path: &str, with_parents: bool) -> Result<(), Vec<Refusal>> {
        if !with_parents {
            self.reachable(path)?;
            if self.node(path).is_some() {
                return Err(vec![Refusal::Exists]);
            }
            self.nodes.insert(path.to_owned(), Node::Directory);
            return Ok(());
        }
        let all = || parents(path).chain(std::iter::once(path));
        if all().any(|p| matches!(self.node(p), Some(Node::File(_)))) {
            return Err(vec![Refusal::NotADirectory, Refusal::Exists]);
        }
        for p in all().filter(|p| *p != "/").map(str::to_owned).collect::<Vec<_>>() {
            self.nodes.insert(p, Node::Directory);
        }
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str, replace: bool) -> Result<(), Vec<Refusal>> {
        let mut wrong = Vec::new();
        wrong.extend(self.blocked(from));
        if wrong.is_empty() && self.node(from).is_none() {
            wrong.push(Refusal::NotFound);
        }
        let inside = to.starts_with(&format!("{from}/"));
        if inside {
            wrong.push(Refusal::Invalid);
        }
        wrong.extend(self.blocked(to));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        if from == to {
            return Ok(());
        }
        match (self.node(from), self.node(to)) {
            (_, None) => {}
            (Some(Node::File(_)), Some(Node::File(_))) if replace => self.bury(to),
            (_, Some(Node::Directory)) => {
                return Err(vec![Refusal::Exists, Refusal::IsADirectory, Refusal::NotEmpty]);
            }
            (_, Some(Node::File(_))) => return Err(vec![Refusal::Exists, Refusal::NotADirectory]),
        }
        for (below, node) in self.cut(from) {
            self.nodes.insert(format!("{to}{below}"), node);
        }
        Ok(())
    }

    fn delete(&mut self, path: &str, recursive: bool) -> Result<(), Vec<Refusal>> {
        let node = self.look_up(path)?;
        if node == Node::Directory && !recursive && self.count(path) > 0 {
            return Err(vec![Refusal::NotEmpty]);
        }
        self.bury(path);
        Ok(())
    }

    fn restore(&mut self, path: &str) -> Result<(), Vec<Refusal>> {
        let mut wrong = Vec::new();
        let entry = self.trash.iter().rposition(|(was, _)| was == path);
        if entry.is_none() {
            wrong.push(Refusal::NotFound);
        }
        wrong.extend(self.blocked(path));
        if self.node(path).is_some() {
            wrong.push(Refusal::Exists);
        }
        let Some(entry) = entry.filter(|_| wrong.is_empty()) else {
            return Err(wrong);
        };
        let (_, nodes) = self.trash.remove(entry);
        for (below, node) in nodes {
            self.nodes.insert(format!("{path}{below}"), node);
        }
        Ok(())
    }

    /// Forgets what was deleted, for models of users who restore nothing.
    pub fn empty_trash(&mut self) {
        self.trash.clear();
    }

    fn bury(&mut self, path: &str) {
        let nodes = self.cut(path);
        self.trash.push((path.to_owned(), nodes));
    }

    /// Takes a whole subtree out, by paths relative to `path`.
    fn cut(&mut self, path: &str) -> BTreeMap<String, Node> {
        let prefix = format!("{path}/");
        let keys: Vec<String> = self
            .nodes
            .range(path.to_owned()..)
            .map(|(p, _)| p)
            .take_while(|p| p.starts_with(path))
            .cloned()
            .collect();
        keys.into_iter()
            .filter(|p| p == path || p.starts_with(&prefix))
            .filter_map(|p| self.nodes.remove(&p).map(|node| (p[path.len()..].to_owned(), node)))
            .collect()
    }
}

/// The directories above `path`, from the root down.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    let cuts = path.match_indices('/').map(|(at, _)| at);
    cuts.map(move |at| if at == 0 { "/" } else { &path[..at] }).filter(move |p| *p != path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u32) -> Content {
        Content { number, length: 10 }
    }

    fn mkdir(path: &str) -> Operation {
        Operation::Mkdir { path: path.into(), parents: true }
    }

    fn put(path: &str, number: u32, replace: bool) -> Operation {
        Operation::Put {
            path: path.into(),
            content: file(number),
            replace,
            piece: 1,
            storage: Default::default(),
        }
    }

    #[test]
    fn a_renamed_tree_takes_everything_along_and_nothing_else() {
        let mut tree = Tree::default();
        for op in [mkdir("/a/b"), mkdir("/ab"), put("/a/b/f", 1, false), put("/ab/g", 2, false)] {
            tree.apply(&op).unwrap();
        }
        let rename = Operation::Rename { from: "/a".into(), to: "/c".into(), replace: false };
        tree.apply(&rename).unwrap();
        let paths: Vec<_> = tree.nodes().map(|(p, _)| p.to_owned()).collect();
        assert_eq!(paths, ["/ab", "/ab/g", "/c", "/c/b", "/c/b/f"]);
        assert_eq!(tree.apply(&rename), Err(vec![Refusal::NotFound]));
    }

    #[test]
    fn what_was_deleted_last_comes_back_first() {
        let mut tree = Tree::default();
        tree.apply(&put("/f", 1, false)).unwrap();
        tree.apply(&put("/f", 2, true)).unwrap();
        let delete = Operation::Delete { path: "/f".into(), recursive: false };
        let restore = Operation::Restore { path: "/f".into() };
        tree.apply(&delete).unwrap();
        tree.apply(&restore).unwrap();
        assert_eq!(tree.node("/f"), Some(Node::File(file(2))));
        assert_eq!(tree.apply(&restore), Err(vec![Refusal::Exists]));
        tree.apply(&delete).unwrap();
        tree.apply(&restore).unwrap();
        tree.apply(&Operation::Rename { from: "/f".into(), to: "/g".into(), replace: false }).unwrap();
        tree.apply(&restore).unwrap();
        assert_eq!(tree.node("/f"), Some(Node::File(file(1))));
    }

    #[test]
    fn refusals_change_nothing() {
        let mut tree = Tree::default();
        tree.apply(&put("/f", 1, false)).unwrap();
        let before = tree.clone();
        assert_eq!(tree.apply(&put("/f", 2, false)), Err(vec![Refusal::Exists]));
        assert_eq!(tree.apply(&put("/f/x", 2, false)), Err(vec![Refusal::NotADirectory, Refusal::NotFound]));
        assert_eq!(tree.apply(&put("/d/x", 2, false)), Err(vec![Refusal::NotFound]));
        assert_eq!(tree, before);
    }
}
