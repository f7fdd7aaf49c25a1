//! What users saw together of shared names could have come from one machine (invariant 18).

use crate::cluster::Cluster;
use crate::violation::Violations;
use crate::workload::linearizability::history::Recorder;
use crate::workload::linearizability::objects::{Judgement, judge};
use crate::workload::linearizability::search::STEPS_MAX;
use crate::workload::operation::Operation;
use crate::workload::perform::perform;
use crate::workload::shared::ROOT;

const NAME: &str = "linearizability";

/// Who looks once nothing is under way any more.
const JUDGE: &str = "judge";

/// Looks at every shared name as a last user would, and judges the whole history.
pub async fn check(
    cluster: &Cluster,
    names: &[String],
    recorder: &Recorder,
    violations: &Violations,
) -> Judgement {
    let Some(client) = cluster.clients.first() else { return Judgement::default() };
    if recorder.history().is_empty() {
        // Nobody met there: the directory was not made.
        return Judgement::default();
    }
    let mut looks = vec![Operation::List { path: ROOT.to_owned() }];
    for path in names {
        looks.push(Operation::Get { path: path.clone() });
        looks.push(Operation::Stat { path: path.clone() });
    }
    for operation in looks {
        let asked = recorder.ask(JUDGE, &operation, cluster.world.now());
        let outcome = perform(client, &operation).await;
        recorder.answer(asked, &outcome);
    }
    let judgement = judge(&recorder.history(), ROOT, STEPS_MAX);
    for text in &judgement.contradictions {
        violations.add(NAME, text);
    }
    judgement
}
