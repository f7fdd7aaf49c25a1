//! Rule 14: an order to drop names what is to go.

use cairn_core::defect::{Defect, Defects};
use cairn_core::message::{DropReason, ReplicaState, ToServer};
use scenarios::mutants::STORIES;

use super::super::lonely::{Lonely, sealed, world};

/// The order is for a replica that was fenced and short; it was sealed before the order came.
#[test]
fn rule_14_a_late_order_takes_no_replica_that_advanced() {
    tell(Defects::none(), Some(ReplicaState::Sealed));
    let (defect, _) = STORIES.iter().find(|(_, story)| *story == "rule_14").expect("it is listed");
    assert_eq!(*defect, Defect::DropAnyVersion);
    tell(Defects::one(*defect), None);
}

fn tell(defects: Defects, left: Option<ReplicaState>) {
    world(move |world| async move {
        let lonely = Lonely::start(world, defects).await;
        let grant = lonely.write("cs0", 5, b"abc").await;
        let sealed = sealed(grant.chunk, 3, crc32fast::hash(b"abc"));
        lonely.order("cs0", ToServer::Seal { base: grant.version, sealed }).await;
        assert_eq!(lonely.state("cs0", grant.chunk), Some(ReplicaState::Sealed));
        let (version, volume) = (grant.version, grant.members[0].volume);
        let order = ToServer::Drop { chunk: grant.chunk, version, volume, reason: DropReason::Stale };
        lonely.order("cs0", order).await;
        assert_eq!(lonely.state("cs0", grant.chunk), left);
    });
}
