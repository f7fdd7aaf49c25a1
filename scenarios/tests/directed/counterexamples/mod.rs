//! The failures that forced the rules of the chunk protocol, one story each: on the machines as they are the promise
//! holds, and on machines without the rule it breaks. Rules 9 and 12 wait for reopening and for shared append: until a
//! chunk can have a second grant, no order can be of an older one, and no writer has to ask what became of its record.

mod drops;
mod rig;

use cairn_core::message::ReplicaState;

use rig::{Rig, forced_by, kept, member};

/// Rule 1: only the members that the log names vote.
#[test]
fn rule_1_a_bystander_has_no_vote() {
    forced_by("rule_1", (1, 1), |rig: Rig| async move {
        let grant = rig.grant().await;
        rig.open(&grant).await;
        rig.append(&grant, 1, 0, b"x").await;
        assert_eq!(rig.committed().0, 1);
        // The only member can't be reached. Others have an empty hand, and must not show it.
        rig.cut(&member(&grant, 0), "master");
        let sealed = rig.seal(&grant).await;
        kept(&rig, sealed)
    });
}

/// Rule 2: a member that lost its disk is another one.
#[test]
fn rule_2_a_blank_disk_does_not_vote_for_the_one_it_replaced() {
    forced_by("rule_2", (3, 2), |rig: Rig| async move {
        let grant = rig.grant().await;
        let [r0, r1, r2] = [0, 1, 2].map(|place| member(&grant, place));
        rig.cut(&r1, &r2);
        rig.open(&grant).await;
        rig.append(&grant, 1, 0, b"x").await;
        assert_eq!(rig.committed().0, 1, "READY on R0 and R1");
        let (volume, _) = rig.file(&r1, grant.chunk);
        rig.world.kill(&r1);
        rig.world.wipe_volume(&r1, volume);
        rig.restart(&r1).await;
        rig.cut(&r0, "master");
        let sealed = rig.seal(&grant).await;
        kept(&rig, sealed)
    });
}

/// Rule 3: who voted that a chunk was never here refuses it for good.
#[test]
fn rule_3_a_late_open_is_refused_after_the_vote() {
    forced_by("rule_3", (3, 2), |rig: Rig| async move {
        let grant = rig.grant().await;
        let [r0, r1, r2] = [0, 1, 2].map(|place| member(&grant, place));
        rig.cut(&r1, "master");
        rig.cut(&r2, "master");
        rig.cut(&r1, &r2);
        let asked = rig.begin_to_seal(&grant).await;
        rig.pass(300).await;
        assert_eq!(rig.replica(&r0, grant.chunk), None, "R0 voted that it has nothing");
        rig.open(&grant).await;
        rig.append(&grant, 1, 0, b"x").await;
        rig.world.heal(&[&r2], &["master"]);
        let sealed = rig.sealed_within(asked, 15_000).await;
        if sealed.is_none() {
            return Err("two members of three can vote, and the chunk is not sealed".into());
        }
        kept(&rig, sealed)
    });
}

/// Rule 4: a member that was restarted votes, and never goes on.
#[test]
fn rule_4_a_restarted_primary_begins_no_second_history() {
    forced_by("rule_4", (3, 1), |rig: Rig| async move {
        let grant = rig.grant().await;
        let [r0, r1, r2] = [0, 1, 2].map(|place| member(&grant, place));
        rig.open(&grant).await;
        rig.append(&grant, 1, 0, b"a").await;
        assert_eq!(rig.committed().0, 1);
        // The next record gets to R1 and R2; the primary neither has it on disk nor hears of that.
        rig.world.partition_one_way(&[&r1], &[&r0]);
        rig.slow_disks(&r0, 2, 400);
        rig.append(&grant, 2, 1, b"yyyy").await;
        let ready = |server: &str| rig.replica(server, grant.chunk).is_some_and(|r| r.ready == 5);
        rig.until("R1 and R2 are READY", || ready(&r1) && ready(&r2)).await;
        assert_eq!(rig.committed().0, 1, "the primary can't know");
        rig.world.power_cut(&r0);
        rig.world.heal_all();
        rig.slow_disks(&r0, 2, 1);
        rig.restart(&r0).await;
        // Until the writer's machine finds out that its connection is dead.
        rig.pass(9_000).await;
        // Somebody comes with the old grant and another record.
        rig.open(&grant).await;
        rig.append(&grant, 2, 1, b"x").await;
        let acknowledged: &[u8] = if rig.committed().0 > 1 { b"ax" } else { b"a" };
        let Some(sealed) = rig.seal(&grant).await else {
            return Err("the members hold different bytes: the chunk can't be sealed".into());
        };
        let history: &[u8] = if sealed.crc == crc32fast::hash(b"ayyyy") { b"ayyyy" } else { b"a" };
        if history.starts_with(acknowledged) {
            return Ok(());
        }
        Err(format!("{acknowledged:?} was acknowledged, {history:?} was sealed"))
    });
}

/// Rule 5: a vote is given when bytes, fence and length are on disk.
#[test]
fn rule_5_a_vote_survives_the_loss_of_power() {
    forced_by("rule_5", (3, 2), |rig: Rig| async move {
        let grant = rig.grant().await;
        let servers = [0, 1, 2].map(|place| member(&grant, place));
        rig.open(&grant).await;
        servers.iter().for_each(|server| rig.slow_disks(server, 2, 40));
        // Records keep coming: some are written, not yet synced, when the fence comes.
        for record in 1..=40 {
            rig.send_record(&grant, record, record - 1, b"y").await;
            rig.pass(2).await;
        }
        let Some(sealed) = rig.seal(&grant).await else { return Err("it is not sealed".into()) };
        servers.iter().for_each(|server| rig.world.power_cut(server));
        servers.iter().for_each(|server| rig.slow_disks(server, 2, 1));
        for server in &servers {
            rig.restart(server).await;
        }
        rig.pass(3_000).await;
        let good = |server: &String| {
            let replica = rig.replica(server, grant.chunk);
            replica.is_some_and(|r| r.state == ReplicaState::Sealed && r.ready == sealed.length)
        };
        match servers.iter().filter(|server| good(server)).count() {
            0 => Err(format!("it was sealed at {} bytes, and nobody has them", sealed.length)),
            _ => kept(&rig, Some(sealed)),
        }
    });
}

/// Rule 6: who is shorter than it promised says so, and does not count.
#[test]
fn rule_6_rot_below_the_promise_is_no_short_vote() {
    forced_by("rule_6", (3, 2), |rig: Rig| async move {
        let grant = rig.grant().await;
        let [r0, r1, r2] = [0, 1, 2].map(|place| member(&grant, place));
        rig.cut(&r1, &r2);
        rig.open(&grant).await;
        rig.append(&grant, 1, 0, b"x").await;
        assert_eq!(rig.committed().0, 1, "READY on R0 and R1");
        let (volume, path) = rig.file(&r0, grant.chunk);
        rig.world.kill(&r0);
        assert!(rig.world.flip_bit(&r0, volume, &path, 3));
        rig.restart(&r0).await;
        rig.cut(&r1, "master");
        let sealed = rig.seal(&grant).await;
        kept(&rig, sealed)
    });
}

/// Rule 7: nothing is sealed that only one disk holds.
#[test]
fn rule_7_the_sealed_length_has_two_holders() {
    forced_by("rule_7", (3, 2), |rig: Rig| async move {
        let grant = rig.grant().await;
        let [r0, r1, r2] = [0, 1, 2].map(|place| member(&grant, place));
        rig.cut(&r0, &r1);
        rig.open(&grant).await;
        rig.append(&grant, 1, 0, b"x").await;
        rig.world.reset_connections(&r0, &r1);
        rig.pass(100).await;
        rig.world.heal_all();
        rig.cut(&r2, "master");
        let Some(sealed) = rig.seal(&grant).await else { return Err("it is not sealed".into()) };
        assert_eq!(sealed.length, 1, "R0 has a record, which nobody was promised");
        match rig.durable_holders(grant.chunk, b"x") {
            0 | 1 => Err("if R0's disk dies now, nobody has what was sealed".into()),
            _ => Ok(()),
        }
    });
}

/// Rule 8: what a chunk was sealed as never changes.
#[test]
fn rule_8_a_later_decision_changes_nothing() {
    forced_by("rule_8", (3, 2), |rig: Rig| async move {
        let grant = rig.grant().await;
        let [r0, r1, r2] = [0, 1, 2].map(|place| member(&grant, place));
        rig.open(&grant).await;
        rig.append(&grant, 1, 0, b"a").await;
        rig.cut(&r0, &r1);
        rig.append(&grant, 2, 1, b"x").await;
        assert_eq!(rig.committed().0, 1, "R0 alone has the second record");
        rig.world.reset_connections(&r0, &r1);
        rig.pass(100).await;
        rig.world.heal_all();
        // R1 and R2 settle it; while the log's disk takes its time, R0's vote comes late.
        rig.cut(&r0, "master");
        rig.slow_disks("master", 1, 400);
        let asked = rig.begin_to_seal(&grant).await;
        rig.pass(100).await;
        rig.world.heal(&[&r0], &["master"]);
        let _ = r2;
        let Some(first) = rig.sealed_within(asked, 20_000).await else {
            return Err("it is not sealed".into());
        };
        rig.pass(10_000).await;
        match rig.seal(&grant).await {
            Some(again) if again == first => kept(&rig, Some(first)),
            again => Err(format!("sealed as {first:?}, then as {again:?}")),
        }
    });
}

/// Rule 10: a retry is acknowledged when its record is committed, not when it is recognised.
#[test]
fn rule_10_a_retry_is_not_acknowledged_for_being_known() {
    forced_by("rule_10", (3, 2), |rig: Rig| async move {
        let grant = rig.grant().await;
        let [r0, r1] = [0, 1].map(|place| member(&grant, place));
        rig.cut(&r0, &r1);
        rig.open(&grant).await;
        rig.append(&grant, 1, 0, b"x").await;
        rig.append(&grant, 1, 0, b"x").await;
        rig.cut(&r0, "master");
        let sealed = rig.seal(&grant).await;
        kept(&rig, sealed)
    });
}

/// Rule 11: the primary takes the writer's next record and no other.
#[test]
fn rule_11_a_record_that_overtakes_is_not_taken() {
    forced_by("rule_11", (3, 2), |rig: Rig| async move {
        let grant = rig.grant().await;
        rig.open(&grant).await;
        rig.append(&grant, 2, 1, b"2").await;
        rig.append(&grant, 1, 0, b"1").await;
        let sealed = rig.seal(&grant).await;
        let (_, record) = rig.committed();
        match sealed {
            Some(sealed) if sealed.length < record => {
                Err(format!("records 1 to {record} were acknowledged, {} bytes were sealed", sealed.length))
            }
            _ => Ok(()),
        }
    });
}
