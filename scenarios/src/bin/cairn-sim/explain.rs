//! `cairn-sim explain`: one run as a page for a browser.

use std::io::Write as _;
use std::path::PathBuf;

use scenarios::explain::Run;
use scenarios::explain::data::{Data, Head};
use scenarios::explain::page::page;
use scenarios::sweep::commit;

use crate::shared::{self, Which};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Where to write the page [default: explain-SEED.html].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes the page, whether promises held or not.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    let file = a.which.load()?;
    let run = Run::of(&file.plan, shared::planted(&file));
    let arguments = a.which.to_arguments();
    let command =
        |verb: &str| format!("cargo run --release -p scenarios --bin cairn-sim -- {verb} {arguments}");
    let mut commands = vec![("See this run's trace".to_owned(), command("replay"))];
    if let Some(chunk) = run.focus.chunk {
        commands.push((
            "Only what concerns its chunk".to_owned(),
            command("replay") + &format!(" --chunk {}", chunk.0),
        ));
    }
    if !run.report.violations.is_empty() {
        commands.push(("Find the smallest plan that still fails".to_owned(), command("shrink")));
    }
    let facts = file.defect().map(|defect| ("Bug planted".to_owned(), defect.name().to_owned()));
    let head = Head {
        seed: file.plan.seed.to_string(),
        commit: commit(),
        facts: facts.into_iter().collect(),
        commands,
    };
    let text = page(&Data::of(&run, &file.plan, head))?;
    let output = a.output.unwrap_or_else(|| PathBuf::from(format!("explain-{}.html", file.plan.seed)));
    shared::write_file(&output, &text)?;
    let mut out = std::io::stdout().lock();
    match run.report.violations.first() {
        Some(violation) => writeln!(out, "{violation}")?,
        None => writeln!(out, "all promises held")?,
    }
    writeln!(out, "{}: {} events, {} KiB", output.display(), run.record.happenings.len(), text.len() >> 10)?;
    Ok(true)
}
