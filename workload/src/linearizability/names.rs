//! The sequential model of a group of names: the small namespace of [`Tree`], without what was deleted.

use super::Specification;
use super::history::Call;
use crate::model::after;
use crate::operation::{Operation, Outcome};
use crate::tree::Tree;

/// Names in one directory that exists from the beginning.
#[derive(Clone, Debug)]
pub struct Names {
    /// The directory.
    pub root: String,
}

impl Specification for Names {
    type State = Tree;
    type Call = Call;

    fn initial(&self) -> Tree {
        let mut tree = Tree::default();
        let mkdir = Operation::Mkdir { path: self.root.clone(), parents: true };
        tree.apply(&mkdir).expect("nothing is in the way in an empty tree");
        tree
    }

    fn ended(&self, state: &Tree, call: &Call) -> Option<Tree> {
        let mut next = after(state, &call.operation, &call.outcome)?;
        next.empty_trash();
        Some(next)
    }

    fn took_effect(&self, state: &Tree, call: &Call) -> Option<Tree> {
        if !call.operation.is_change() || matches!(call.outcome, Outcome::Refused(_)) {
            return None;
        }
        let mut next = state.clone();
        next.apply(&call.operation).ok()?;
        next.empty_trash();
        (next != *state).then_some(next)
    }
}
