//! `cairn-sim replay`: one run, in full.

use std::io::Write as _;

use anyhow::Context as _;
use runtime_sim::TraceMode;
use scenarios::run::run;
use scenarios::sweep::commit;

use crate::shared::{self, Which};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
}

/// Whether every promise held.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let file = a.which.load()?;
    let report = run(&file.plan, shared::planted(&file), TraceMode::Full);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    out.write_all(report.trace.as_bytes()).context("writing the trace")?;
    writeln!(out, "{}, commit {}, trace {:016x}", a.which.to_arguments(), commit(), report.trace_hash)?;
    for violation in &report.violations {
        writeln!(out, "{violation}")?;
    }
    if report.violations.is_empty() {
        writeln!(out, "all promises held")?;
    } else {
        writeln!(out, "shrink: cairn-sim shrink {}", a.which.to_arguments())?;
    }
    out.flush().context("writing the trace")?;
    Ok(report.violations.is_empty())
}
