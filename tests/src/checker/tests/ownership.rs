//! I3.

use super::*;

#[test]
fn a_commit_without_an_epoch_check() {
    let stale = caught(|run| {
        for (attempt, epoch) in run.store.deliveries[1].attempts.iter_mut().zip([2, 1]) {
            (attempt.shard, attempt.epoch) = (Some(7), Some(epoch));
        }
    });
    assert!(stale.contains("I3"), "{stale}");
    let two_nodes = caught(|run| {
        for (attempt, node) in run.store.deliveries[1].attempts.iter_mut().zip(["a", "b"]) {
            (attempt.shard, attempt.epoch) = (Some(7), Some(1));
            attempt.node = Some(node.to_owned());
        }
    });
    assert!(two_nodes.contains("I3"), "{two_nodes}");
    assert!(caught(|run| run.store.deliveries[1].attempts[0].duration_ms = 3_000).contains("I3"));
}

#[test]
fn a_commit_by_a_stale_owner() {
    let stale = caught(|run| {
        owned(&mut run.store.deliveries[0], &[(2, "boot_b")]);
        owned(&mut run.store.deliveries[1], &[(1, "boot_a"), (3, "boot_c")]);
        // It ends after the owner of epoch 2 has begun.
        run.store.deliveries[1].attempts[0].duration_ms = 400;
    });
    assert_eq!(stale, name("I3: one owner"));
}

#[test]
fn a_late_commit_by_a_stale_owner() {
    let seen_at = |epoch: u64| {
        caught(|run| {
            owned(&mut run.store.deliveries[0], &[(1, "boot_a")]);
            let mut then = run.store.deliveries[0].clone();
            (then.state, then.attempt_count) = ("pending".to_owned(), 0);
            let cluster = sample(run.healed, &[], ("boot_b", epoch)).cluster;
            run.snapshots.push(Snapshot { cluster, pending: vec![then] });
        })
    };
    assert_eq!(seen_at(1), "");
    assert_eq!(seen_at(2), name("I3: epochs"));
}

#[test]
fn an_epoch_owned_by_two_nodes() {
    let seen = caught(|run| {
        let at = duplicate_under_boot_a(run);
        run.faults.push(fault(Kind::Kill, at, millis(4)));
        run.cluster_samples.push(sample(at, &[], ("boot_b", 1)));
    });
    assert_eq!(seen, name("I3: epochs"));
}
