//! Once nothing goes wrong any more, the cluster becomes whole within a stated time (invariant 8).

use cairn_core::time::Span;

use super::{bounds, health, leaks, progress, replication, truth};
use crate::cluster::{ANSWER_WITHIN, Cluster};
use crate::violation::Violations;

const NAME: &str = "convergence";

/// Simulated time within which a healed cluster must be whole: expiry of uploads (8 s), death and repair, and a full
/// scrub of all that a storm writes, several times over.
pub const WITHIN: Span = Span::from_ms(120_000);

/// A slow disk with many chunks to copy may take longer, as long as so many are copied within so much time.
const COPIES: u64 = 20;
const WHILE: Span = Span::from_ms(20_000);

/// How often the cluster is looked at.
const LOOK_EVERY: Span = Span::from_ms(500);

/// Waits until the cluster is whole; says what is missing if it does not become so.
pub async fn check(cluster: &Cluster, violations: &Violations) {
    let world = &cluster.world;
    let start = world.now();
    let (mut until, mut left) = (start + WITHIN, u64::MAX);
    let mut last;
    loop {
        last = madsim::time::timeout(ANSWER_WITHIN, whole(cluster)).await.unwrap_or_else(|_| {
            Err((progress::NAME, format!("no answer about the cluster's state within {ANSWER_WITHIN:?}")))
        });
        if last.is_ok() {
            break;
        }
        if world.now() > until {
            let short = short(cluster).await;
            if short == 0 || short.saturating_add(COPIES) > left {
                break;
            }
            (until, left) = (world.now() + WHILE, short);
        }
        world.sleep(LOOK_EVERY).await;
    }
    if let Err((checker, mut text)) = last {
        if checker == health::NAME
            && let Some(client) = cluster.clients.first()
            && let Ok(findings) = madsim::time::timeout(ANSWER_WITHIN, health::findings(client)).await
        {
            text = format!("{text}: {findings}");
        }
        let seconds = world.now().since(start).as_ms() / 1000;
        violations.add(checker, format!("{seconds} s after healing: {text}"));
    }
}

/// How many chunks are short of replicas, as far as can be learned.
async fn short(cluster: &Cluster) -> u64 {
    let Some(client) = cluster.clients.first() else { return 0 };
    let status = madsim::time::timeout(ANSWER_WITHIN, health::status(client)).await;
    status.ok().and_then(Result::ok).map_or(0, |status| status.under_replicated)
}

/// Whether nothing is missing any more; else whose promise is not kept yet, and why.
async fn whole(cluster: &Cluster) -> Result<(), (&'static str, String)> {
    for node in cluster.node_names() {
        let state = cluster.world.state(&node);
        if state != runtime_sim::NodeState::Up {
            return Err((NAME, format!("{node} is {state:?}")));
        }
    }
    let of = |checker: &'static str| move |text: String| (checker, text);
    let client = cluster.clients.first().ok_or((NAME, "no client".to_owned()))?;
    let status = health::status(client).await.map_err(of(NAME))?;
    health::worries(&status, cluster.server_count()).map_err(of(health::NAME))?;
    leaks::check(cluster).map_err(of(leaks::NAME))?;
    replication::check(cluster).map_err(of(replication::NAME))?;
    truth::servers(cluster, &status).map_err(of(health::NAME))?;
    bounds::check(cluster).map_err(of(bounds::NAME))?;
    truth::names(client, &status).await.map_err(of(health::NAME))
}
