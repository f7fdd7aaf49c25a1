//! What several subcommands need.

use std::io::Write as _;

use anyhow::Context as _;
use cairn_core::defect::{Defect, Defects};

/// Runs at once: as many as asked for, or one for each processor.
pub(crate) fn jobs(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// Prints a result as JSON.
pub(crate) fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).context("writing the result")?;
    writeln!(out).context("writing the result")
}

/// The defect called `name`.
pub(crate) fn defect_called(name: &str) -> anyhow::Result<Defect> {
    Defect::by_name(name).with_context(|| {
        let names: Vec<_> = Defect::ALL.iter().map(|d| d.name()).collect();
        format!("no defect {name}; there are {}", names.join(", "))
    })
}

/// The defect called `name`, or none.
pub(crate) fn defects(name: Option<&str>) -> anyhow::Result<Defects> {
    Ok(match name {
        Some(name) => Defects::one(defect_called(name)?),
        None => Defects::none(),
    })
}
