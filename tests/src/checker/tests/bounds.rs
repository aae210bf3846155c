//! I12, I13.

use super::*;

#[test]
fn a_node_beyond_its_limits() {
    let with = |grow: fn(&mut Usage)| {
        caught(|run| {
            let mut usage = Usage {
                at: run.healed,
                node: "node-1".to_owned(),
                anonymous_kib: 60_000,
                descriptors: 60,
                threads: 12,
            };
            grow(&mut usage);
            run.usage.push(usage);
        })
    };
    assert_eq!(with(|_| ()), "");
    assert_eq!(with(|usage| usage.anonymous_kib = 2_000_000), name("I12:"));
    assert_eq!(with(|usage| usage.descriptors = 5_000), name("I12:"));
    assert_eq!(with(|usage| usage.threads = 500), name("I12:"));
}

#[test]
fn too_many_requests_in_flight() {
    // Requests `made` after the first one. Half of them begin `apart` later, and the receiver
    // learns of their end much later. The fault starts `fault_after` the first one.
    let crowded = |kind, made, apart, fault_after| {
        let mut run = flawless();
        let (arrived, first) = (run.received[0].arrived, run.received[0].began);
        for index in 3..40 {
            let mut request = post(index, "good", after(arrived, made), 200);
            request.began = if index % 2 == 0 { first + apart } else { first };
            request.ended = Some(request.began + seconds(10));
            run.received.push(request);
        }
        run.faults.push(fault(kind, after(arrived, fault_after), millis(4)));
        violated(&run).iter().any(|(violated, _)| *violated == name("I12:"))
    };
    let (partition, at_once, timeout) = (Kind::FullPartition, millis(0), SCHEDULE.timeout);
    assert!(
        crowded(Kind::Freeze, at_once, timeout, at_once),
        "requests of a frozen node stay in flight"
    );
    assert!(!crowded(partition, at_once, timeout, seconds(5)), "the first half has timed out");
    assert!(
        crowded(partition, at_once, timeout - millis(1), seconds(5)),
        "the first half has not timed out yet"
    );
    assert!(!crowded(partition, at_once, at_once, at_once), "TCP retransmitted them");
    assert!(crowded(partition, seconds(2), at_once, at_once), "sent after the partition healed");
}

#[test]
fn a_backlog_that_is_not_drained() {
    let late = |seconds_late: u64| {
        caught(|run| {
            let began = after(run.received[0].arrived, seconds(seconds_late));
            let created = run.store.deliveries[0].created_at;
            run.store.deliveries[0] = delivery("good", "delivered", &[(began, 200)]);
            run.store.deliveries[0].created_at = created;
            run.received[0] = post(0, "good", began, 200);
        })
    };
    assert_eq!(late(29), "");
    assert_eq!(late(32), name("I13:"));
}
