//! A plan in a file: printed, edited by hand, replayed, shrunk, kept as a regression.

use std::path::{Path, PathBuf};

use cairn_core::defect::Defect;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Plan;

/// The version of the file's format.
pub const VERSION: u32 = 1;

/// A plan, and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    /// Of the format: [`VERSION`].
    pub version: u32,
    /// What it shows, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The defect, by name, with which it breaks a promise; without the field the machines are the correct ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defect: Option<String>,
    /// The checker that notices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checker: Option<String>,
    /// The run.
    pub plan: Plan,
}

/// Why a plan can't be taken from a file.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The file can't be read.
    #[error("{}: {reason}; name a file that `cairn-sim plan` or `cairn-sim shrink` wrote", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// It is not a plan; the reason names line and column.
    #[error("{}: {reason}; compare with what `cairn-sim plan --seed 1` prints", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: serde_json::Error,
    },
    /// It is of another format.
    #[error(
        "{}: line {line}: version {found}, but this program reads version {VERSION}; draw or shrink the plan again",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Where the version stands.
        line: usize,
        /// What it says.
        found: u64,
    },
    /// It is a plan that can't be carried out.
    #[error("{}: {place}: {reason}", path.display())]
    Impossible {
        /// The file.
        path: PathBuf,
        /// The field.
        place: String,
        /// Why not, and what would do.
        reason: String,
    },
}

impl PlanFile {
    /// A plan of which nothing is known.
    pub fn new(plan: Plan) -> PlanFile {
        PlanFile { version: VERSION, about: String::new(), defect: None, checker: None, plan }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file is not a plan, or its plan can't be carried out.
    pub fn load(path: &Path) -> Result<PlanFile, PlanError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| PlanError::Unreadable { path: path.to_owned(), reason })?;
        PlanFile::parse(path, &text)
    }

    /// As [`PlanFile::load`], of a text that stood in `path`.
    ///
    /// # Errors
    /// As there.
    pub fn parse(path: &Path, text: &str) -> Result<PlanFile, PlanError> {
        #[derive(Deserialize)]
        struct Head {
            version: u64,
        }
        let malformed = |reason| PlanError::Malformed { path: path.to_owned(), reason };
        // The version first: a file of another format would fail at a field that says nothing.
        let head: Head = serde_json::from_str(text).map_err(malformed)?;
        if head.version != u64::from(VERSION) {
            let line = text.lines().position(|l| l.contains("\"version\"")).map_or(1, |i| i + 1);
            return Err(PlanError::Version { path: path.to_owned(), line, found: head.version });
        }
        let file: PlanFile = serde_json::from_str(text).map_err(malformed)?;
        file.check().map_err(|(place, reason)| PlanError::Impossible {
            path: path.to_owned(),
            place,
            reason,
        })?;
        Ok(file)
    }

    /// The defect to plant.
    pub fn defect(&self) -> Option<Defect> {
        self.defect.as_deref().and_then(Defect::by_name)
    }

    /// As it is written: readable JSON that ends in a newline.
    pub fn to_json(&self) -> String {
        // Every field is a number, a text or a list of such: nothing that JSON can't say.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    fn check(&self) -> Result<(), (String, String)> {
        if let Some(name) = &self.defect
            && Defect::by_name(name).is_none()
        {
            let reason = format!("no defect {name}; `cairn-sim mutants` lists them");
            return Err(("defect".into(), reason));
        }
        self.plan.check().map_err(|(place, reason)| (format!("plan.{place}"), reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;

    fn told(text: &str) -> String {
        PlanFile::parse(Path::new("p.json"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_file_gives_back_the_plan_that_was_written() {
        for seed in 0..20 {
            let file = PlanFile::new(Plan::draw(seed, Profile::All));
            assert_eq!(PlanFile::parse(Path::new("p.json"), &file.to_json()).unwrap(), file);
        }
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line_and_what_to_do() {
        let good = PlanFile::new(Plan::tiny(1)).to_json();
        assert!(PlanFile::parse(Path::new("p.json"), &good).is_ok());
        let said = told(&good.replace("\"chaos_ms\"", "\"chaos\""));
        assert!(
            said.contains("unknown field `chaos`") && said.contains(" line ") && said.contains("compare")
        );
        let said = told(&good.replace("\"version\": 1", "\"version\": 7"));
        assert_eq!(
            said,
            "p.json: line 2: version 7, but this program reads version 1; draw or shrink the plan again"
        );
        assert!(told("{").contains("line 1"));
        let said = told(&good.replacen("\"version\": 1,", "\"version\": 1, \"defect\": \"none-such\",", 1));
        assert_eq!(said, "p.json: defect: no defect none-such; `cairn-sim mutants` lists them");
        let missing = PlanFile::load(Path::new("/nowhere/p.json")).unwrap_err();
        assert!(matches!(missing, PlanError::Unreadable { .. }), "{missing}");
    }
}
