//! Carries a plan's strikes out, each at its time, side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_core::time::Span;

use super::{Stagehand, Target};
use crate::cluster::Cluster;
use crate::plan::Strike;

/// Strikes as planned until the time is over. What lasts longer is left to the healing.
pub(crate) async fn storm(cluster: &Cluster, strikes: &[Strike], chaos_ms: u64) {
    let stagehand = Stagehand::watch(&cluster.world);
    let over = Arc::new(AtomicBool::new(false));
    for strike in strikes.iter().filter(|strike| strike.at_ms < chaos_ms) {
        let (cluster, stagehand, over) = (cluster.clone(), stagehand.clone(), over.clone());
        let strike = strike.clone();
        cluster.world.clone().spawn(async move { carry_out(&cluster, &stagehand, &strike, &over).await });
    }
    cluster.world.sleep(Span::from_ms(chaos_ms)).await;
    over.store(true, Ordering::Relaxed);
}

async fn carry_out(cluster: &Cluster, stagehand: &Stagehand, strike: &Strike, over: &AtomicBool) {
    let world = &cluster.world;
    world.sleep(Span::from_ms(strike.at_ms)).await;
    let mut cued = None;
    if let Some(moment) = strike.cue {
        let at = moment.at.map(|server| cluster.resolve(&Target::Server(server)));
        let waiting = stagehand.wait(moment.what, at);
        let Ok(came) = madsim::time::timeout(moment.what.patience(), waiting).await else { return };
        cued = Some(came);
        world.sleep_exactly(Span(moment.after_us * 1_000)).await;
    }
    if over.load(Ordering::Relaxed) {
        return;
    }
    if let Some((node, chunk)) = cued {
        cluster.note_cued(node, chunk);
    }
    world.note(format_args!("{:?} for {} ms", strike.fault, strike.for_ms));
    let undo = strike.fault.strike(cluster);
    world.sleep(Span::from_ms(strike.for_ms)).await;
    if !over.load(Ordering::Relaxed) {
        undo.run(cluster);
    }
}
