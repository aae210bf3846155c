//! I6.

use super::*;

#[test]
fn a_duplicate_without_a_reason() {
    let again = |run: &mut Evidence| {
        let first = run.received[0].arrived;
        run.received.push(post(3, "good", after(first, millis(500)), 200));
        first
    };
    assert_eq!(caught(|run| _ = again(run)), name("I6: every"));
    // A kill while the first was in flight explains a duplicate, but not one after the commit.
    let explained = caught(|run| {
        let first = again(run);
        let delivery = &mut run.store.deliveries[0];
        let created_at = delivery.created_at;
        *delivery = self::delivery("good", "delivered", &[(after(first, millis(500)), 200)]);
        delivery.created_at = created_at;
        run.faults.push(fault(Kind::Kill, after(first, millis(5)), millis(4)));
    });
    assert_eq!(explained, "");
}

#[test]
fn a_request_that_was_not_answered_may_be_sent_again_within_its_attempt() {
    let first_answered = |answered: Option<u16>| {
        caught(|run| {
            let mut first = post(3, "good", run.received[0].arrived, 200);
            first.answered = answered;
            run.received.push(first);
        })
    };
    assert_eq!(first_answered(None), "");
    assert_eq!(first_answered(Some(200)), name("I6: every"));
}

#[test]
fn a_recorded_attempt_without_a_request() {
    assert_eq!(caught(|run| drop(run.received.remove(0))), name("I6: every"));
}

#[test]
fn only_the_owners_death_is_a_reason() {
    let of = |node: &str| {
        caught(|run| {
            let first = duplicate_under_boot_a(run);
            let mut kill = fault(Kind::Kill, after(first, millis(5)), millis(4));
            kill.node = node.to_owned();
            run.faults.push(kill);
        })
    };
    assert_eq!(of("node-1"), "");
    assert_eq!(of("node-2"), name("I6: every"));
}

#[test]
fn a_slow_disk_delays_the_record_of_an_attempt() {
    let killed_after = |kill_after: Duration, slow: bool| {
        caught(|run| {
            let first = duplicate_under_boot_a(run);
            run.faults.push(fault(Kind::Kill, after(first, kill_after), millis(4)));
            if slow {
                let from = after(first, millis(100));
                run.slow_flushes.push(Flush { from, to: after(from, seconds(3)) });
            }
        })
    };
    let longest = flawless().schedule.timeout + seconds(2);
    assert_eq!(killed_after(longest, false), "");
    assert_eq!(killed_after(longest + seconds(1), false), name("I6: every"));
    assert_eq!(killed_after(longest + seconds(1), true), "");
    assert_eq!(killed_after(longest + seconds(4), true), name("I6: every"));
}

#[test]
fn a_pause_is_a_reason_and_a_handoff_is_not() {
    let during = |kind| {
        caught(|run| {
            let first = duplicate_under_boot_a(run);
            run.faults.push(fault(kind, after(first, millis(5)), millis(400)));
        })
    };
    assert_eq!(during(Kind::Freeze), "");
    assert_eq!(during(Kind::FullPartition), "");
    for kind in [Kind::PeerPartition, Kind::Restart, Kind::Join, Kind::Leave] {
        assert_eq!(during(kind), name("I6: every"), "{kind:?}");
    }
}

#[test]
fn a_store_outage_explains_a_duplicate_but_not_after_success() {
    for kind in [Kind::StoreKill, Kind::StoreFreeze] {
        let unrecorded = caught(|run| {
            let first = duplicate_under_boot_a(run);
            run.faults.push(fault(kind, after(first, millis(5)), millis(400)));
        });
        assert_eq!(unrecorded, "", "{kind:?}");
        let recorded = caught(|run| {
            let first = run.received[0].arrived;
            run.received.push(post(3, "good", after(first, millis(500)), 200));
            run.faults.push(fault(kind, after(first, millis(5)), millis(400)));
        });
        assert_eq!(recorded, name("I6: every"), "{kind:?}");
    }
}

#[test]
fn a_store_partition_explains_duplicates_of_that_node_alone() {
    let of = |node: &str| {
        caught(|run| {
            let first = duplicate_under_boot_a(run);
            let mut cut = fault(Kind::ApartFromStore, after(first, millis(5)), seconds(20));
            cut.node = node.to_owned();
            run.faults.push(cut);
        })
    };
    assert_eq!(of("node-1"), "");
    assert_eq!(of("node-2"), name("I6: every"));
}

#[test]
fn an_ownership_change_is_a_reason_unless_it_was_a_handoff() {
    let changed = |run: &mut Evidence| {
        let first = duplicate_under_boot_a(run);
        owned(&mut run.store.deliveries[0], &[(2, "boot_b")]);
        owned(&mut run.store.deliveries[1], &[(1, "boot_a"), (2, "boot_b")]);
        first
    };
    assert_eq!(caught(|run| _ = changed(run)), "");
    let handed_over = caught(|run| {
        let first = changed(run);
        run.faults.push(fault(Kind::Leave, first, millis(100)));
    });
    assert_eq!(handed_over, name("I6: every"));
}

#[test]
fn a_frozen_request_arrives_right_after_the_thaw() {
    let after_success = |thawed_after: u64| {
        caught(|run| {
            let first = run.received[0].arrived;
            run.received.push(post(3, "good", after(first, millis(2_000)), 200));
            run.faults.push(fault(Kind::Freeze, first, millis(thawed_after)));
        })
    };
    assert_eq!(after_success(1_900), "");
    assert_eq!(after_success(1_000), name("I6: every"));
}

#[test]
fn a_request_sent_into_a_partition_may_arrive_after_it_heals() {
    // Sent and received at these seconds after the first attempt. The partition lasts from
    // 5 s to 8 s.
    let sent_and_arrived = |sent: u64, arrived: u64| {
        caught(|run| {
            let first = run.received[0].arrived;
            let mut again = post(3, "good", after(first, seconds(sent)), 200);
            again.arrived = after(first, seconds(arrived));
            run.received.push(again);
            run.faults.push(fault(Kind::FullPartition, after(first, seconds(5)), seconds(3)));
        })
    };
    for (sent, arrived) in [(4, 8), (6, 8), (6, 20), (6, 100)] {
        assert_eq!(sent_and_arrived(sent, arrived), "", "sent {sent}, arrived {arrived}");
    }
    for (sent, arrived) in [(2, 8), (6, 7), (6, 130), (9, 9), (10, 12)] {
        let violated = name("I6: every");
        assert_eq!(sent_and_arrived(sent, arrived), violated, "sent {sent}, arrived {arrived}");
    }
}
