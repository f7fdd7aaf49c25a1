//! `cairn-sim replay`: one run, in full.

use std::io::Write as _;

use anyhow::Context as _;
use cairn_core::id::ChunkId;
use runtime_sim::TraceMode;
use scenarios::explain::filter::Filter;
use scenarios::explain::subject::Subjects;
use scenarios::run::run;
use scenarios::sweep::commit;

use crate::shared::{self, Which};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    filter: Only,
}

/// Which lines to print. What is done to the world is always among them.
#[derive(clap::Args)]
struct Only {
    /// Only lines of this node and of its conversations.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Only lines about this chunk.
    #[arg(long, value_name = "NUMBER")]
    chunk: Option<u64>,
    /// Only lines about this file or directory.
    #[arg(long, value_name = "PATH")]
    file: Option<String>,
    /// Only lines of this client and of its conversations.
    #[arg(long, value_name = "NUMBER")]
    client: Option<usize>,
    /// Only lines from this simulated second on.
    #[arg(long, value_name = "SECOND")]
    from: Option<f64>,
    /// Only lines until this simulated second.
    #[arg(long, value_name = "SECOND")]
    to: Option<f64>,
}

/// Whether every promise held.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let file = a.which.load()?;
    let Only { node, chunk, file: path, client, from, to } = a.filter;
    let filter = Filter { node, chunk: chunk.map(ChunkId), file: path, client, from, until: to };
    let mode = if filter.is_empty() { TraceMode::Full } else { TraceMode::Events };
    let report = run(&file.plan, shared::planted(&file), mode);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match &report.record {
        Some(record) => {
            for line in filter.lines(&report.trace, record, &Subjects::of(record))? {
                out.write_all(line.as_bytes()).context("writing the trace")?;
            }
        }
        None => out.write_all(report.trace.as_bytes()).context("writing the trace")?,
    }
    let which = a.which.to_arguments();
    writeln!(out, "{}{which}, commit {}, trace {:016x}", file.plan.in_words(), commit(), report.trace_hash)?;
    for violation in &report.violations {
        writeln!(out, "broken promise: {violation}")?;
    }
    if report.violations.is_empty() {
        writeln!(out, "all promises held")?;
    } else {
        writeln!(out, "shrink: cairn-sim shrink {which}\nexplain: cairn-sim explain {which}")?;
    }
    out.flush().context("writing the trace")?;
    Ok(report.violations.is_empty())
}
