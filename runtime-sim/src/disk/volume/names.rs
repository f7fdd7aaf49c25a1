//! A volume's names, and changes of them that are not durable yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::FileId;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(FileId),
    Directory,
}

impl Node {
    pub(super) fn file(self) -> Option<FileId> {
        match self {
            Node::File(file) => Some(file),
            Node::Directory => None,
        }
    }
}

type Entries = BTreeMap<Arc<str>, Node>;

/// Names by their directories, so that who looks into one passes over no others. Clones share a directory until one of them
/// changes it.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<Arc<str>, Arc<Entries>>);

/// A path's directory, and its name there.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

pub(super) fn parent(path: &str) -> &str {
    split(path).0
}

fn join(directory: &str, own: &str) -> String {
    if directory.is_empty() { own.to_owned() } else { [directory, "/", own].concat() }
}

impl Names {
    pub(super) fn get(&self, path: &str) -> Option<Node> {
        let (directory, own) = split(path);
        self.0.get(directory)?.get(own).copied()
    }

    pub(super) fn insert(&mut self, path: &str, node: Node) {
        let (directory, own) = split(path);
        if !self.0.contains_key(directory) {
            self.0.insert(Arc::from(directory), Arc::default());
        }
        let entries = self.0.get_mut(directory).expect("it was just put in");
        Arc::make_mut(entries).insert(Arc::from(own), node);
    }

    pub(super) fn remove(&mut self, path: &str) -> Option<Node> {
        let (directory, own) = split(path);
        Arc::make_mut(self.0.get_mut(directory)?).remove(own)
    }

    /// Names in a directory, in order, and what they stand for.
    pub(super) fn entries(&self, directory: &str) -> impl Iterator<Item = (&str, Node)> {
        self.0
            .get(directory)
            .into_iter()
            .flat_map(|entries| entries.iter())
            .map(|(own, node)| (&**own, *node))
    }

    /// What all names stand for.
    pub(super) fn nodes(&self) -> impl Iterator<Item = Node> {
        self.0.values().flat_map(|entries| entries.values().copied())
    }

    /// Paths of those files that `choose` takes, in order, and what it makes of them.
    pub(super) fn choose<T>(&self, choose: impl Fn(FileId) -> Option<T>) -> Vec<(String, T)> {
        let mut chosen = Vec::new();
        for (directory, entries) in &self.0 {
            let taken = entries.iter().filter_map(|(own, node)| Some((own, choose(node.file()?)?)));
            chosen.extend(taken.map(|(own, it)| (join(directory, own), it)));
        }
        chosen.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        chosen
    }

    /// Takes all names from a file.
    pub(super) fn forget(&mut self, file: FileId) {
        for entries in self.0.values_mut() {
            if entries.values().any(|node| node.file() == Some(file)) {
                Arc::make_mut(entries).retain(|_, node| node.file() != Some(file));
            }
        }
    }

    /// Names below a directory that is gone are gone.
    pub(super) fn drop_unreachable(&mut self) {
        // In order: a directory comes before what is below it.
        for (directory, entries) in std::mem::take(&mut self.0) {
            if directory.is_empty() || self.get(&directory) == Some(Node::Directory) {
                self.0.insert(directory, entries);
            }
        }
    }
}

/// A change of names that is not yet durable.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) order: u64,
    pub(super) what: NameWhat,
    /// Bits of the directories that it touches, and perhaps of others.
    bits: u64,
}

impl NameChange {
    pub(super) fn new(order: u64, what: NameWhat) -> NameChange {
        let bits = what.touched().map(bit).fold(0, |bits, bit| bits | bit);
        NameChange { order, what, bits }
    }

    /// `bit`: the directory's.
    pub(super) fn touches(&self, directory: &str, bit: u64) -> bool {
        self.bits & bit != 0 && self.what.touched().any(|touched| touched == directory)
    }
}

/// One bit for a directory: most others have another one, and need not be compared by their names.
pub(super) fn bit(directory: &str) -> u64 {
    1 << (directory.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 64)
}

#[derive(Clone, Debug)]
pub(super) enum NameWhat {
    Make { name: Arc<str>, node: Node },
    Rename { from: Arc<str>, to: Arc<str>, node: Node },
    Remove { name: Arc<str>, node: Node },
}

impl NameWhat {
    /// The name that it makes, or takes away.
    pub(super) fn name(&self) -> &Arc<str> {
        match self {
            NameWhat::Make { name, .. } | NameWhat::Remove { name, .. } => name,
            NameWhat::Rename { to, .. } => to,
        }
    }

    pub(super) fn node(&self) -> Node {
        match self {
            NameWhat::Make { node, .. } | NameWhat::Rename { node, .. } | NameWhat::Remove { node, .. } => {
                *node
            }
        }
    }

    /// The name that is not there any more.
    pub(super) fn taken(&self) -> Option<&Arc<str>> {
        match self {
            NameWhat::Make { .. } => None,
            NameWhat::Rename { from: name, .. } | NameWhat::Remove { name, .. } => Some(name),
        }
    }

    /// The directories that it makes a name in, or takes one from.
    pub(super) fn touched(&self) -> impl Iterator<Item = &str> {
        self.taken().into_iter().chain([self.name()]).map(|name| parent(name))
    }

    pub(super) fn gives(&self, given: &Arc<str>, to: Node) -> bool {
        match self {
            NameWhat::Make { name, node } | NameWhat::Rename { to: name, node, .. } => {
                name == given && *node == to
            }
            NameWhat::Remove { .. } => false,
        }
    }

    pub(super) fn give_nothing(&mut self) {
        let (NameWhat::Make { name, node } | NameWhat::Rename { from: name, node, .. }) = self else {
            return;
        };
        *self = NameWhat::Remove { name: name.clone(), node: *node };
    }

    pub(super) fn apply(&self, names: &mut Names) {
        let remove = |names: &mut Names, name: &Arc<str>, node: &Node| {
            if names.get(name) == Some(*node) {
                names.remove(name);
            }
        };
        match self {
            NameWhat::Make { name, node } => names.insert(name, *node),
            NameWhat::Rename { from, to, node } => {
                remove(names, from, node);
                names.insert(to, *node);
            }
            NameWhat::Remove { name, node } => remove(names, name, node),
        }
    }
}
