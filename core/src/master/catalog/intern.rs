//! User and group names, each kept once: nodes carry numbers.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A user's or group's name, numbered in the order of first use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NameId(u32);

/// All names in use so far.
#[derive(Clone, Debug, Default, Hash)]
pub(super) struct Names {
    texts: Vec<Arc<str>>,
    ids: BTreeMap<Arc<str>, NameId>,
}

impl Names {
    /// The number of `text`, a new one if need be.
    pub(super) fn intern(&mut self, text: &str) -> NameId {
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let id = NameId(self.texts.len() as u32);
        let text: Arc<str> = Arc::from(text);
        self.texts.push(text.clone());
        self.ids.insert(text, id);
        id
    }

    /// The number of `text`, if it was ever used.
    pub(super) fn find(&self, text: &str) -> Option<NameId> {
        self.ids.get(text).copied()
    }

    /// The name with this number.
    pub(super) fn text(&self, id: NameId) -> &str {
        &self.texts[id.0 as usize]
    }
}
