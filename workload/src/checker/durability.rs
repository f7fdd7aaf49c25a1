//! Every acknowledged file can be read and is what was written, byte for byte (invariant 1).

use super::namespace::short;
use crate::model::Model;
use crate::operation::{Operation, Outcome};
use crate::perform::{Caller, perform};
use crate::violation::Violations;

const NAME: &str = "durability";

/// A machine that lost its power says nothing: a connection to it may stand for seconds more than one call waits. What can't be
/// read is asked for again; what is wrong is wrong at once.
const TRIES: usize = 3;

/// Reads every file that must be there, whatever became of changes of unknown fate.
pub async fn check<C: Caller>(client: &C, model: &Model, violations: &Violations) {
    for (path, content) in model.certain_files() {
        let operation = Operation::Get { path: path.clone() };
        let mut outcome = perform(client, &operation).await;
        for _ in 1..TRIES {
            if matches!(outcome, Outcome::Failed(_)) {
                outcome = perform(client, &operation).await;
            }
        }
        match outcome {
            Outcome::Read { length, crc, .. }
                if length == u64::from(content.length) && crc == content.crc() => {}
            other => violations.add(NAME, format!("{path} must be {}: {}", content.brief(), short(&other))),
        }
    }
}
