//! What happens in a storm, as it happens: for people on standard output, for later in `events.log`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::plan::{Kind, Strike};
use crate::output::Output;

/// Counts and tells.
pub(super) struct Log {
    out: Output,
    file: File,
    start: Instant,
    strikes: BTreeMap<Kind, u64>,
}

impl Log {
    pub(super) fn new(out: Output, dir: &Path) -> Result<Log> {
        let file = File::create(dir.join("events.log"))?;
        Ok(Log { out, file, start: Instant::now(), strikes: BTreeMap::new() })
    }

    pub(super) fn say(&mut self, text: &str) -> Result<()> {
        self.note(text)?;
        self.out.say(&self.stamped(text))
    }

    /// Into the file alone.
    pub(super) fn note(&mut self, text: &str) -> Result<()> {
        let line = self.stamped(text);
        Ok(writeln!(self.file, "{line}")?)
    }

    fn stamped(&self, text: &str) -> String {
        format!("{:7.1} s  {text}", self.seconds())
    }

    pub(super) fn strike(&mut self, strike: &Strike) -> Result<()> {
        *self.strikes.entry(strike.fault.kind()).or_default() += 1;
        self.say(&format!("  {strike}"))
    }

    /// Since the beginning.
    pub(super) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// How often each kind struck.
    pub(super) fn strikes(&self) -> &BTreeMap<Kind, u64> {
        &self.strikes
    }
}
