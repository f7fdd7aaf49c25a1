//! Random operations against a plain model: a map from path to what is there. And the law that a log has one outcome.

use super::tests::{DAY, OPTIONS, who};
use super::*;
use crate::id::TrashId;
use crate::master::command::{Change, Command};
use crate::time::UnixMs;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use proptest::prelude::*;

/// What the model has at a path: a directory, or a file with the upload that made it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Thing {
    Directory,
    File(UploadId),
}

type Tree = BTreeMap<String, Thing>;

#[derive(Default)]
struct Model {
    tree: Tree,
    /// Deleted trees by entry, with paths relative to the deleted one.
    trash: BTreeMap<TrashId, (String, Tree)>,
}

#[derive(Clone, Debug)]
enum Op {
    Mkdir { path: String, parents: bool },
    Put { path: String, replace: bool },
    Rename { from: String, to: String, replace: bool },
    Delete { path: String, recursive: bool },
    Restore { path: String, to: Option<String> },
    Reclaim,
}

fn path() -> impl Strategy<Value = String> {
    "(/[abc]){1,3}"
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (path(), any::<bool>()).prop_map(|(path, parents)| Op::Mkdir { path, parents }),
        4 => (path(), any::<bool>()).prop_map(|(path, replace)| Op::Put { path, replace }),
        4 => (path(), path(), any::<bool>()).prop_map(|(from, to, replace)| Op::Rename { from, to, replace }),
        2 => (path(), any::<bool>()).prop_map(|(path, recursive)| Op::Delete { path, recursive }),
        2 => (path(), proptest::option::of(path())).prop_map(|(path, to)| Op::Restore { path, to }),
        1 => Just(Op::Reclaim),
    ]
}

fn parent(path: &str) -> &str {
    &path[..path.rfind('/').unwrap_or(0)]
}

impl Model {
    fn is_directory(&self, path: &str) -> bool {
        path.is_empty() || self.tree.get(path) == Some(&Thing::Directory)
    }

    fn within<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a String, &'a Thing)> {
        self.tree
            .iter()
            .filter(move |(p, _)| p.strip_prefix(path).is_some_and(|r| r.is_empty() || r.starts_with('/')))
    }

    /// Takes out what is at `path` and below, with relative paths.
    fn cut(&mut self, path: &str) -> Tree {
        let inside: Vec<String> = self.within(path).map(|(p, _)| p.clone()).collect();
        inside.into_iter().map(|p| (p[path.len()..].into(), self.tree.remove(&p).unwrap())).collect()
    }

    fn paste(&mut self, path: &str, tree: Tree) {
        self.tree.extend(tree.into_iter().map(|(p, thing)| (format!("{path}{p}"), thing)));
    }

    fn mkdir(&mut self, path: &str, parents: bool) -> bool {
        let ends = path.match_indices('/').map(|(i, _)| i).skip(1).chain([path.len()]);
        let steps: Vec<&str> = ends.map(|end| &path[..end]).collect();
        let missing: Vec<&str> = steps.iter().copied().filter(|p| !self.tree.contains_key(*p)).collect();
        let blocked = steps.iter().any(|p| matches!(self.tree.get(*p), Some(Thing::File(_))));
        let allowed = if parents { true } else { missing == [path] };
        if blocked || !allowed {
            return false;
        }
        self.tree.extend(missing.into_iter().map(|p| (p.into(), Thing::Directory)));
        true
    }

    fn may_put(&self, path: &str, replace: bool) -> bool {
        self.is_directory(parent(path))
            && match self.tree.get(path) {
                None => true,
                Some(Thing::File(_)) => replace,
                Some(Thing::Directory) => false,
            }
    }

    fn may_rename(&self, from: &str, to: &str, replace: bool) -> bool {
        let Some(source) = self.tree.get(from) else { return false };
        let inside = to.strip_prefix(from).is_some_and(|rest| rest.starts_with('/'));
        from == to
            || !inside
                && self.is_directory(parent(to))
                && match (source, self.tree.get(to)) {
                    (_, None) => true,
                    (Thing::File(_), Some(Thing::File(_))) => replace,
                    _ => false,
                }
    }
}

/// The catalog under test, and every command that it was given.
struct Run {
    catalog: Catalog,
    log: Vec<Command>,
    model: Model,
}

impl Run {
    fn apply(&mut self, change: Change) -> Result<MasterReply, MasterError> {
        let at = UnixMs(self.log.len() as u64);
        let origin = self.log.len().is_multiple_of(3).then_some((ClientId(1), RequestId(at.0 + 1)));
        let command = Command { origin, at, change };
        let checked = self.catalog.check(&command.change).is_ok();
        let reply = self.catalog.apply(&command).reply;
        assert_eq!(checked, reply.is_ok());
        self.log.push(command);
        reply
    }

    /// The entry that the catalog must have made for what the model has just discarded.
    fn discard(&mut self, path: &str) -> TrashId {
        let (entries, _) = self.catalog.list_trash(&who("u"), None, 1000);
        let entry = entries.last().expect("something was discarded").id;
        let tree = self.model.cut(path);
        assert!(self.model.trash.insert(entry, (path.into(), tree)).is_none());
        entry
    }

    fn step(&mut self, op: &Op) {
        let identity = who("u");
        match op.clone() {
            Op::Mkdir { path, parents } => {
                let expected = self.model.mkdir(&path, parents);
                let reply = self.apply(Change::Mkdir { identity, path, parents, mode: 0o755 });
                assert_eq!(reply.is_ok(), expected);
            }
            Op::Put { path, replace } => self.put(path, replace),
            Op::Rename { from, to, replace } => {
                let expected = self.model.may_rename(&from, &to, replace);
                let (old, new) = (from.clone(), to.clone());
                let reply = self.apply(Change::Rename { identity, from, to, replace, undelete_ms: DAY });
                assert_eq!(reply.is_ok(), expected);
                if expected && old != new {
                    if self.model.tree.contains_key(&new) {
                        self.discard(&new);
                    }
                    let tree = self.model.cut(&old);
                    self.model.paste(&new, tree);
                }
            }
            Op::Delete { path, recursive } => {
                let inside = self.model.within(&path).count();
                let name = path.clone();
                let reply = self.apply(Change::Delete { identity, path, recursive, undelete_ms: DAY });
                assert_eq!(reply.is_ok(), inside == 1 || inside > 1 && recursive);
                if let Ok(reply) = reply {
                    assert_eq!(reply, MasterReply::Trashed(self.discard(&name)));
                }
            }
            Op::Restore { path, to } => self.restore(path, to),
            Op::Reclaim => {
                if let Some(entry) = self.catalog.expired_trash(UnixMs(u64::MAX)) {
                    while self.apply(Change::ReclaimTrash { entry, budget: 2 }).is_ok() {}
                    assert!(self.model.trash.remove(&entry).is_some());
                }
            }
        }
    }

    fn put(&mut self, path: String, replace: bool) {
        let identity = who("u");
        let expected = self.model.may_put(&path, replace);
        let name = path.clone();
        let begin =
            Change::BeginUpload { identity: identity.clone(), path, replace, mode: 0o644, options: OPTIONS };
        let reply = self.apply(begin);
        assert_eq!(reply.is_ok(), expected);
        if let Ok(MasterReply::Upload { upload, .. }) = reply {
            self.apply(Change::CompleteUpload { identity, upload, length: 0, undelete_ms: DAY }).unwrap();
            if self.model.tree.contains_key(&name) {
                self.discard(&name);
            }
            self.model.tree.insert(name, Thing::File(upload));
        }
    }

    fn restore(&mut self, path: String, to: Option<String>) {
        let latest = self.model.trash.iter().rev().find(|(_, (from, _))| *from == path).map(|(id, _)| *id);
        let target = to.clone().unwrap_or_else(|| path.clone());
        let free = self.model.is_directory(parent(&target)) && !self.model.tree.contains_key(&target);
        let reply = self.apply(Change::Restore { identity: who("u"), entry: None, path, to });
        assert_eq!(reply.is_ok(), latest.is_some() && free);
        if let (Ok(_), Some(entry)) = (reply, latest) {
            let (_, tree) = self.model.trash.remove(&entry).unwrap();
            self.model.paste(&target, tree);
        }
    }

    /// All paths of the catalog with whether each is a directory.
    fn walk(&self, path: &str, found: &mut BTreeMap<String, bool>) {
        let listed = if path.is_empty() { "/" } else { path };
        let (entries, _) = self.catalog.list(&who("u"), listed, None, 1000).unwrap();
        for entry in entries {
            let child = format!("{path}/{}", entry.path);
            found.insert(child.clone(), entry.directory);
            if entry.directory {
                self.walk(&child, found);
            }
        }
    }

    fn compare(&self) {
        let mut found = BTreeMap::new();
        self.walk("", &mut found);
        let tree = self.model.tree.iter();
        let expected: BTreeMap<String, bool> =
            tree.map(|(path, thing)| (path.clone(), *thing == Thing::Directory)).collect();
        assert_eq!(found, expected);
        let directories = found.values().filter(|directory| **directory).count() as u64;
        let counts = self.catalog.counts();
        assert_eq!((counts.files, counts.directories), (found.len() as u64 - directories, directories));
        assert_eq!(counts.trash, self.model.trash.len() as u64);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn the_namespace_equals_the_model_and_its_log_has_one_outcome(
        ops in proptest::collection::vec(op(), 1..80),
    ) {
        let defects = Defects::none();
        let mut run = Run { catalog: Catalog::new(defects), log: Vec::new(), model: Model::default() };
        for op in &ops {
            run.step(op);
            run.compare();
        }
        let mut replayed = Catalog::new(defects);
        for command in &run.log {
            let (op, payload) = command.encode();
            replayed.apply(&Command::decode(op, &payload).unwrap());
        }
        prop_assert_eq!(replayed.digest(), run.catalog.digest());
        replayed.apply(&Command { origin: None, at: UnixMs(0), change: Change::Start {} });
        prop_assert_ne!(replayed.digest(), run.catalog.digest());
    }
}
