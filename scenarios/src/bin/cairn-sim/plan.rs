//! `cairn-sim plan`: a run as data.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use scenarios::plan::{Plan, PlanFile};
use scenarios::profile::Profile;

use crate::shared;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The seed.
    #[arg(long)]
    seed: u64,
    /// Which storm.
    #[arg(long, default_value_t)]
    profile: Profile,
    /// Plant this defect when the plan is replayed.
    #[arg(long)]
    defect: Option<String>,
    /// Write the plan to this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Always true: nothing can be broken by a plan that is not carried out.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    if let Some(name) = &a.defect {
        shared::defect_called(name)?;
    }
    let file = PlanFile { defect: a.defect, ..PlanFile::new(Plan::draw(a.seed, a.profile)) };
    match &a.output {
        Some(path) => shared::write_file(path, &file.to_json())?,
        None => std::io::stdout().write_all(file.to_json().as_bytes()).context("writing the plan")?,
    }
    Ok(true)
}
