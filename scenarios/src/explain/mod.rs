//! A run explained: one page for somebody who has never seen the code, and the trace of only what concerns them.
//!
//! [`Run::of`] carries a plan out with all its events kept ([`runtime_sim::record`]). `subject` tells what each event is
//! about, `chronicle` how each chunk's state changed, `focus` where to look first, `story` what happened there. `data`
//! packs all this for the page, `page` is the page.

pub mod asked;
pub mod chronicle;
pub mod data;
pub mod filter;
pub mod focus;
pub mod page;
pub mod promise;
pub mod story;
pub mod subject;
pub mod words;

use std::sync::{Arc, Mutex};

use cairn_core::defect::Defects;
use cairn_core::time::Time;
use runtime_sim::TraceMode;
use runtime_sim::record::{Happening, HappeningId, Record, What};

use crate::cluster::lock;
use crate::plan::Plan;
use crate::run::{Report, run_watched};
use chronicle::Chronicle;
use focus::Focus;
use subject::Subjects;

/// A run with all that can be told of it.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it came to.
    pub report: Report,
    /// Its events.
    pub record: Record,
    /// What they are about.
    pub subjects: Subjects,
    /// States of chunks.
    pub chronicle: Chronicle,
    /// Where to look first.
    pub focus: Focus,
}

impl Run {
    /// Runs a plan.
    pub fn of(plan: &Plan, defects: Defects) -> Run {
        let chronicle: Arc<Mutex<Option<Arc<Mutex<Chronicle>>>>> = Arc::default();
        let kept = chronicle.clone();
        let mut report = run_watched(plan, defects, TraceMode::Events, move |cluster| {
            *lock(&kept) = Some(Chronicle::watch(&cluster.world));
        });
        let mut record = report.record.take().unwrap_or_default();
        note_panic(&report, &mut record);
        answers_as_causes(&mut record);
        let chronicle = lock(&chronicle).take().unwrap_or_default();
        let chronicle = std::mem::take(&mut *lock(&chronicle));
        let subjects = Subjects::of(&record);
        let focus = Focus::of(&record, &subjects, &chronicle);
        Run { report, record, subjects, chronicle, focus }
    }
}

/// A panic is a broken promise too: of the input that was being handled.
fn note_panic(report: &Report, record: &mut Record) {
    let inputs = |what: &What| {
        matches!(
            what,
            What::Woken { .. }
                | What::Received { .. }
                | What::DiskEnded { .. }
                | What::Called { .. }
                | What::PeerLost { .. }
        )
    };
    for violation in report.violations.iter().filter(|violation| violation.checker == "panic") {
        let cause = record.happenings.iter().rposition(|happening| inputs(&happening.what));
        let at = record.happenings.last().map_or(Time::ZERO, |happening| happening.at);
        let (checker, text) = (violation.checker.clone(), violation.text.clone());
        let what = What::Broken { checker, text };
        record.happenings.push(Happening {
            at,
            node: None,
            cause: cause.map(|at| at as HappeningId),
            what,
            line: 0..0,
        });
    }
}

/// What a user found broken comes from the answer that the user got last; what the story looked for by itself has no
/// other cause either.
fn answers_as_causes(record: &mut Record) {
    let mut answer = None;
    for id in 0..record.happenings.len() {
        match &record.happenings[id].what {
            What::Replied { response: Some(_), .. } => answer = Some(id as HappeningId),
            What::Broken { .. } => {
                let cause = &mut record.happenings[id].cause;
                *cause = cause.or(answer);
            }
            _ => {}
        }
    }
}
