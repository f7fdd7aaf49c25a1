//! What a storm came to, in words and as JSON.

use serde_json::{Value, json};
use workload::violation::Violation;

use super::check::Checked;
use super::log::Log;
use super::users::Figures;
use crate::output;

/// Bytes shown of one violation: those of the model list everything that might be.
const SHOWN: usize = 600;

/// The sum of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What carried packets, as the argument `--network` calls it.
    pub(super) network: &'static str,
    pub(super) rounds: usize,
    pub(super) figures: Figures,
    /// Sums over all checks, and the longest time until everything was whole.
    pub(super) checked: Checked,
    pub(super) violations: Vec<Violation>,
}

impl Report {
    /// Adds one round's check.
    pub(super) fn add(&mut self, checked: Checked) {
        self.checked.files += checked.files;
        self.checked.bytes += checked.bytes;
        self.checked.replicas += checked.replicas;
        self.checked.after = self.checked.after.max(checked.after);
    }

    /// A run that stored and checked nothing proves nothing.
    pub(super) fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.checked.replicas > 0
    }

    pub(super) fn text(&self, log: &Log) -> String {
        let Figures { done, refused, failed, unknown, stored_bytes, read_bytes } = self.figures;
        let strikes: Vec<String> =
            log.strikes().iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let mut text = format!(
            "chaos: {:.0} s, {} rounds, network: {}; faults: {}\n  \
             operations: {done} done, {refused} rightly refused, {failed} failed, {unknown} of unknown fate; {} stored, {} read\n  \
             checked afterwards: {} files ({}), {} replicas of chunks on disks; whole again at most {:.1} s after a storm",
            log.seconds(),
            self.rounds,
            self.network,
            if strikes.is_empty() { "none".into() } else { strikes.join(", ") },
            output::size(stored_bytes),
            output::size(read_bytes),
            self.checked.files,
            output::size(self.checked.bytes),
            self.checked.replicas,
            self.checked.after,
        );
        for violation in &self.violations {
            let mut line = violation.to_string();
            if line.len() > SHOWN {
                line.truncate(line.floor_char_boundary(SHOWN));
                line.push_str("… (whole in events.log)");
            }
            text.push_str(&format!("\n  VIOLATION {line}"));
        }
        text.push_str(match (self.is_clean(), self.violations.is_empty()) {
            (true, _) => "\nclean",
            (false, true) => "\nFAILED: nothing was stored, so nothing was proven",
            (false, false) => "\nFAILED",
        });
        text
    }

    pub(super) fn json(&self, seed: u64, log: &Log) -> Value {
        let Figures { done, refused, failed, unknown, stored_bytes, read_bytes } = self.figures;
        let strikes: serde_json::Map<String, Value> =
            log.strikes().iter().map(|(kind, count)| (kind.to_string(), json!(count))).collect();
        let violations: Vec<Value> = self
            .violations
            .iter()
            .map(|violation| json!({ "checker": violation.checker, "text": violation.text }))
            .collect();
        json!({
            "seed": seed, "seconds": log.seconds(), "rounds": self.rounds, "network": self.network, "faults": strikes,
            "done": done, "refused": refused, "failed": failed, "unknown": unknown,
            "stored_bytes": stored_bytes, "read_bytes": read_bytes,
            "checked_files": self.checked.files, "checked_bytes": self.checked.bytes,
            "checked_replicas": self.checked.replicas, "whole_after_seconds": self.checked.after,
            "violations": violations, "clean": self.is_clean(),
        })
    }
}
