//! Paths: absolute, without empty, `.` or `..` components, bounded in length.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::config::{MAX_NAME_BYTES, MAX_PATH_BYTES};
use crate::error::MasterError;

/// Characters of an invalid path that its error repeats.
const SHOWN: usize = 80;

/// A valid path.
#[derive(Clone, Debug, Hash)]
pub(super) struct Path<'a> {
    text: &'a str,
    parts: Vec<&'a str>,
}

impl<'a> Path<'a> {
    /// Checks and splits `text`.
    pub(super) fn parse(text: &'a str) -> Result<Path<'a>, MasterError> {
        check_length(text)?;
        let Some(rest) = text.strip_prefix('/') else {
            return Err(invalid(text, "it must begin with /"));
        };
        if rest.is_empty() {
            return Ok(Path { text, parts: Vec::new() });
        }
        let parts: Vec<&str> = rest.split('/').collect();
        for part in &parts {
            if let Some(reason) = fault(part) {
                return Err(invalid(text, &reason));
            }
        }
        Ok(Path { text, parts })
    }

    /// Its names from the root down.
    pub(super) fn parts(&self) -> &[&'a str] {
        &self.parts
    }

    /// The text of its first `count` names; `/` for none.
    pub(super) fn prefix(&self, count: usize) -> &'a str {
        let end: usize = self.parts[..count].iter().map(|part| part.len() + 1).sum();
        &self.text[..end.max(1)]
    }

    /// As it was given.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// Whether it is `other` or lies below it.
    pub(super) fn is_within(&self, other: &Path<'_>) -> bool {
        self.parts.starts_with(&other.parts)
    }
}

/// Refuses what is longer than any path, before it is logged.
pub(super) fn check_length(text: &str) -> Result<(), MasterError> {
    if text.len() > MAX_PATH_BYTES {
        return Err(invalid(text, &format!("it is longer than {MAX_PATH_BYTES} bytes")));
    }
    Ok(())
}

fn fault(name: &str) -> Option<String> {
    match name {
        "" => Some("it has an empty component (two slashes in a row or one at the end)".into()),
        "." | ".." => Some(format!("{name} is not resolved here")),
        _ if name.len() > MAX_NAME_BYTES => Some(format!("name is longer than {MAX_NAME_BYTES} bytes")),
        _ if name.chars().any(char::is_control) => Some("it has a control character".into()),
        _ => None,
    }
}

fn invalid(text: &str, reason: &str) -> MasterError {
    let mut path: String = text.chars().take(SHOWN).collect();
    if path.len() < text.len() {
        path.push('…');
    }
    MasterError::InvalidPath { path, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn reason(text: &str) -> String {
        match Path::parse(text) {
            Err(MasterError::InvalidPath { reason, .. }) => reason,
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    fn valid_paths_split_into_their_names() {
        assert!(Path::parse("/").unwrap().parts().is_empty());
        let path = Path::parse("/a/…b/c d").unwrap();
        assert_eq!(path.parts(), ["a", "…b", "c d"]);
        assert_eq!([0, 1, 2, 3].map(|n| path.prefix(n)), ["/", "/a", "/a/…b", "/a/…b/c d"]);
        assert!(Path::parse(&format!("/{}", "n".repeat(255))).is_ok());
        assert!(path.is_within(&Path::parse("/a").unwrap()));
        assert!(!Path::parse("/ab").unwrap().is_within(&Path::parse("/a").unwrap()));
    }

    #[test]
    fn every_fault_is_named() {
        assert_eq!(reason("a/b"), "it must begin with /");
        assert_eq!(reason(""), "it must begin with /");
        assert_eq!(reason(&format!("/{}", "n".repeat(256))), "name is longer than 255 bytes");
        assert_eq!(reason(&"/n".repeat(2049)), "it is longer than 4096 bytes");
        assert_eq!(reason("/a/../b"), ".. is not resolved here");
        assert_eq!(reason("/a/./b"), ". is not resolved here");
        for empty in ["/a//b", "/a/", "//"] {
            assert!(reason(empty).contains("empty component"), "{empty}");
        }
        for control in ["/a\0b", "/a\nb", "/a\u{7f}"] {
            assert_eq!(reason(control), "it has a control character");
        }
        let error = Path::parse(&"x".repeat(10_000)).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
    }

    proptest! {
        #[test]
        fn a_valid_path_is_the_join_of_its_names(text in "(/[a-c.\\n]{0,3}){0,5}") {
            if let Ok(path) = Path::parse(&text) {
                prop_assert_eq!(path.prefix(path.parts().len()), text.as_str());
                prop_assert!(path.parts().iter().all(|part| !part.is_empty() && *part != "." && *part != ".."));
            }
        }
    }
}
