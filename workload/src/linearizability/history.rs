//! What clients asked and were told, as it happened.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_core::time::Time;

use super::Entry;
use crate::operation::{Operation, Outcome};

/// A call of a client, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Who asked.
    pub who: String,
    /// What for.
    pub operation: Operation,
    /// What came of it.
    pub outcome: Outcome,
    /// When, for people to read.
    pub asked: Time,
}

/// Notes calls of any number of users in one history.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    moments: u64,
    entries: Vec<Entry<Call>>,
}

impl Record {
    fn moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }
}

/// A call that was not answered yet.
#[derive(Debug)]
pub struct Asked(usize);

impl Recorder {
    /// To be called before a call is made. A call that is never answered stays of unknown fate.
    pub fn ask(&self, who: &str, operation: &Operation, now: Time) -> Asked {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let invoked = record.moment();
        let outcome = Outcome::Unknown(cairn_core::error::ClientError::Timeout("never answered".into()));
        let call = Call { who: who.to_owned(), operation: operation.clone(), outcome, asked: now };
        record.entries.push(Entry { call, invoked, returned: None });
        Asked(record.entries.len() - 1)
    }

    /// To be called after it was answered.
    pub fn answer(&self, asked: Asked, outcome: &Outcome) {
        let mut record = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let moment = record.moment();
        let entry = &mut record.entries[asked.0];
        entry.call.outcome = outcome.clone();
        entry.returned = (!matches!(outcome, Outcome::Unknown(_))).then_some(moment);
    }

    /// All of it so far.
    pub fn history(&self) -> Vec<Entry<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entries.clone()
    }
}

/// An entry as people read it: when, who, what, what came of it.
impl fmt::Display for Entry<Call> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { who, operation, outcome, asked } = &self.call;
        write!(f, "{asked} {who} {} → {}", operation.brief(), outcome.brief())?;
        match self.returned {
            Some(returned) => write!(f, " [{}–{returned}]", self.invoked),
            None => write!(f, " [{}–?]", self.invoked),
        }
    }
}
