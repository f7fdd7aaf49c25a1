//! Every plan in `scenarios/regressions/`: what once broke a promise holds, and what a defect breaks is still noticed.

use std::path::{Path, PathBuf};

use cairn_core::defect::Defects;
use runtime_sim::TraceMode;
use scenarios::plan::{Plan, PlanFile};
use scenarios::run::run;
use scenarios::shrink::WORLDS;
use scenarios::violation::Violation;

/// Worlds in which correct machines must hold.
const CORRECT_IN: u64 = 3;

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .expect("scenarios/regressions is there")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    files
}

fn violations(plan: &Plan, world: u64, defects: Defects) -> Vec<Violation> {
    let plan = Plan { seed: plan.seed.wrapping_add(world), ..plan.clone() };
    run(&plan, defects, TraceMode::Off).violations
}

/// What is wrong with a file, if anything.
fn complaint(path: &Path) -> Option<String> {
    let file = match PlanFile::load(path) {
        Ok(file) => file,
        Err(error) => return Some(error.to_string()),
    };
    for world in 0..CORRECT_IN {
        if let Some(violation) = violations(&file.plan, world, Defects::none()).first() {
            return Some(format!("the correct machines break a promise in world {world}: {violation}"));
        }
    }
    let (defect, checker) = (file.defect()?, file.checker.as_deref());
    let Some(checker) = checker else {
        return Some("names a defect and no checker that notices".into());
    };
    let is_noticed = (0..WORLDS).any(|world| {
        violations(&file.plan, world, Defects::one(defect)).first().is_some_and(|v| v.checker == checker)
    });
    (!is_noticed).then(|| format!("{checker} notices {} in none of {WORLDS} worlds", defect.name()))
}

#[test]
fn what_was_broken_holds_and_what_is_planted_is_noticed() {
    let files = files();
    assert!(!files.is_empty(), "no plan in scenarios/regressions");
    let complaints: Vec<String> =
        files.iter().filter_map(|path| Some(format!("{}: {}", path.display(), complaint(path)?))).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_plan_that_no_longer_shows_its_defect_is_told() {
    let quiet = PlanFile {
        defect: Some("rename-keeps-source".into()),
        checker: Some("namespace".into()),
        ..PlanFile::new(Plan { users: vec![Vec::new()], ..Plan::tiny(1) })
    };
    let path = std::env::temp_dir().join(format!("cairn-regression-{}.json", std::process::id()));
    std::fs::write(&path, quiet.to_json()).unwrap();
    let told = complaint(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(told, "namespace notices rename-keeps-source in none of 20 worlds");
}
