//! Every acknowledged file can be read and is what was written, byte for byte (invariant 1).

use super::namespace::short;
use crate::model::Model;
use crate::operation::{Operation, Outcome};
use crate::perform::{Caller, perform};
use crate::violation::Violations;

const NAME: &str = "durability";

/// Reads every file that must be there, whatever became of changes of unknown fate.
pub async fn check<C: Caller>(client: &C, model: &Model, violations: &Violations) {
    for (path, content) in model.certain_files() {
        let operation = Operation::Get { path: path.clone() };
        match perform(client, &operation).await {
            Outcome::Read { length, crc, .. }
                if length == u64::from(content.length) && crc == content.crc() => {}
            other => violations.add(NAME, format!("{path} must be {}: {}", content.brief(), short(&other))),
        }
    }
}
