//! `cairn-sim explore`: every order of events of a small scope.

use std::io::Write as _;

use anyhow::Context as _;
use cairn_core::defect::Defects;
use scenarios::explore::{Outcome, SCOPES, Scope, explore};

use crate::shared;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this scope [default: all].
    #[arg(long)]
    scope: Option<String>,
    /// End a scope after so many different states.
    #[arg(long, default_value_t = 100_000_000)]
    states: u64,
    /// Plant this defect: a counterexample is then what is expected.
    #[arg(long)]
    defect: Option<String>,
    /// Print the outcomes as JSON.
    #[arg(long)]
    json: bool,
    /// List the scopes and what is in them.
    #[arg(long)]
    list: bool,
}

/// Whether all went as it must: no promise broken, or with a planted defect one that is.
pub(crate) fn execute(a: Arguments) -> anyhow::Result<bool> {
    if a.list {
        for scope in SCOPES {
            writeln!(std::io::stdout(), "{:14} {}", scope.name, scope.about)?;
        }
        return Ok(true);
    }
    let scopes: Vec<&Scope> = match &a.scope {
        Some(name) => vec![Scope::by_name(name).with_context(|| {
            let names: Vec<_> = SCOPES.iter().map(|scope| scope.name).collect();
            format!("no scope {name}; there are {}", names.join(", "))
        })?],
        None => SCOPES.iter().collect(),
    };
    let defects = match &a.defect {
        Some(name) => Defects::one(shared::defect_called(name)?),
        None => Defects::none(),
    };
    let mut outcomes = Vec::new();
    for scope in scopes {
        let outcome = explore(scope, defects, a.states, |_| {});
        if !a.json {
            print(&outcome)?;
        }
        let found = outcome.counterexample.is_some();
        outcomes.push(outcome);
        if found {
            break;
        }
    }
    if a.json {
        shared::print_json(&outcomes)?;
    }
    let found = outcomes.iter().any(|outcome| outcome.counterexample.is_some());
    Ok(found == a.defect.is_some())
}

fn print(o: &Outcome) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let seconds = o.wall_ms as f64 / 1e3;
    writeln!(
        out,
        "{:14} {} states, {} steps, depth {}, {} node states, {seconds:.1} s, {:.0} states/s: {}",
        o.scope,
        o.states,
        o.transitions,
        o.depth,
        o.node_states,
        o.states as f64 / seconds.max(1e-3),
        match (&o.counterexample, o.exhausted) {
            (Some(_), _) => "a promise is broken",
            (None, true) => "exhausted, all promises held",
            (None, false) => "NOT exhausted, all promises held so far",
        }
    )?;
    if let Some(counterexample) = &o.counterexample {
        for (i, step) in counterexample.steps.iter().enumerate() {
            writeln!(out, "{:>4}. {step}", i + 1)?;
        }
        writeln!(out, "broken: {}: {}", counterexample.broken.invariant, counterexample.broken.text)?;
    }
    Ok(())
}
