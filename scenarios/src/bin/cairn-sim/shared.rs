//! What several subcommands need.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use cairn_core::defect::{Defect, Defects};
use scenarios::plan::{Plan, PlanFile};
use scenarios::profile::Profile;

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

/// What is planted: one defect or none.
pub(crate) fn planted(file: &PlanFile) -> Defects {
    file.defect().map_or(Defects::none(), Defects::one)
}

/// Writes a file whole.
pub(crate) fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Which run is meant: a seed's, or one whose plan is in a file.
#[derive(clap::Args)]
pub(crate) struct Which {
    /// The seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Which storm.
    #[arg(long, default_value_t)]
    profile: Profile,
    /// Run the plan in this file, with the defect that it names.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "profile"])]
    plan: Option<PathBuf>,
    /// Plant this defect; `none` takes a file's defect away.
    #[arg(long)]
    defect: Option<String>,
}

impl Which {
    /// The plan, and the defect's name with it.
    pub(crate) fn load(&self) -> anyhow::Result<PlanFile> {
        let mut file = match (&self.plan, self.seed) {
            (Some(path), _) => PlanFile::load(path)?,
            (None, Some(seed)) => PlanFile::new(Plan::draw(seed, self.profile)),
            (None, None) => anyhow::bail!("which run? Give --seed N, or --plan FILE"),
        };
        match self.defect.as_deref() {
            Some("none") => file.defect = None,
            Some(name) => file.defect = Some(defect_called(name)?.name().to_owned()),
            None => {}
        }
        Ok(file)
    }

    /// The same as arguments of a command.
    pub(crate) fn to_arguments(&self) -> String {
        let mut text = match (&self.plan, self.seed) {
            (Some(path), _) => format!("--plan {}", path.display()),
            (None, seed) => format!("--seed {} --profile {}", seed.unwrap_or_default(), self.profile),
        };
        if let Some(name) = &self.defect {
            text += &format!(" --defect {name}");
        }
        text
    }
}
