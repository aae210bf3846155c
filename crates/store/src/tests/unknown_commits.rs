//! Transactions that run twice because a commit's result was unknown take effect once.

use postrider_domain::account::ApiKey;
use postrider_domain::ids::Id;

use super::*;
use crate::{HeldAction, Lease, Owner};

/// Half of the commits take effect but report an unknown result.
const UNKNOWN: Faults = Faults {
    conflict: 0.0,
    lost_before_commit: 0.0,
    lost_after_commit: 0.5,
    delay: Duration::ZERO,
};

const SEEDS: std::ops::Range<u64> = 0..20;

#[tokio::test(start_paused = true)]
async fn deletions_are_reported_as_such() {
    for seed in SEEDS {
        let fixture = Fixture::with_faults(seed, Faults::default()).await;
        let endpoint = fixture.endpoint(&["a"]).await;
        let key = ApiKey {
            id: fixture.id_generator.id(START),
            account: fixture.account,
            name: Name::parse("Key").expect("a name"),
            sha256: [7; 32],
            created_at: START,
        };
        assert!(fixture.records.create_key(&key).await.unwrap());
        fixture.memory.set_faults(UNKNOWN);
        assert!(fixture.records.delete_endpoint(fixture.account, endpoint).await.unwrap());
        assert!(fixture.records.delete_key(fixture.account, key.id).await.unwrap());
        assert!(fixture.records.delete_event_type(&name("b")).await.unwrap());
        assert!(fixture.records.delete_account(fixture.account).await.unwrap());
        fixture.memory.set_faults(Faults::default());
        assert!(!fixture.records.delete_endpoint(fixture.account, endpoint).await.unwrap());
        assert!(!fixture.records.delete_key(fixture.account, key.id).await.unwrap());
        assert!(!fixture.records.delete_event_type(&name("b")).await.unwrap());
        assert!(!fixture.records.delete_account(fixture.account).await.unwrap());
    }
}

/// Runs `other` repeatedly while `one` is in progress.
async fn beside<T>(one: impl Future<Output = T>, mut other: impl AsyncFnMut()) -> T {
    let mut one = std::pin::pin!(one);
    loop {
        tokio::select! {
            biased;
            done = &mut one => return done,
            () = other() => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_created_twice_keeps_its_pointer() {
    for seed in SEEDS {
        let fixture = Fixture::with_faults(seed, Faults::default()).await;
        let record = fixture.unsaved(fixture.id_generator.id(START), &["a"]);
        fixture.memory.set_faults(UNKNOWN);
        let created = beside(fixture.records.create_endpoint(&record), async || {
            fixture.accept("a", later(1)).await;
        });
        assert!(created.await.unwrap());
        fixture.memory.set_faults(Faults::default());
        fixture.accept("a", later(2)).await;
        while fixture.backlog(record.id).await > 0 {
            fixture.attempt(record.id, 200, later(3)).await;
        }
        let fence = fixture.fence(record.id);
        fixture.records.update_pointer(fence, fixture.account, record.id).await.unwrap();
        assert_eq!(fixture.pointers(record.id).await, [], "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_created_twice_keeps_intermediate_changes() {
    for seed in SEEDS {
        let fixture = Fixture::with_faults(seed, Faults::default()).await;
        let mut record =
            fixture.records.account(fixture.account).await.unwrap().expect("an account");
        record.id = fixture.id_generator.id(later(1));
        fixture.memory.set_faults(UNKNOWN);
        let mut renamed = false;
        let new_name = Name::parse("Renamed").expect("a name");
        let created = beside(fixture.records.create_account(&record), async || {
            let rename = |account: &mut Account| account.name = new_name.clone();
            renamed |= fixture.records.update_account(record.id, rename).await.unwrap().is_some();
        });
        created.await.unwrap();
        let found = fixture.records.account(record.id).await.unwrap().expect("an account");
        assert_eq!(found.name == new_name, renamed, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn takeovers_and_handovers_are_reported_as_such() {
    let (two, three) = (BootId::from_bytes([2; 16]), BootId::from_bytes([3; 16]));
    for seed in SEEDS {
        let fixture = Fixture::with_faults(seed, Faults::default()).await;
        let owners = fixture.records.ownership(None).await.unwrap().expect("owners").owners;
        let seen: Vec<_> = (0..SHARDS).zip(owners).collect();
        fixture.memory.set_faults(UNKNOWN);
        let taken = fixture.records.take_over(&seen, two).await.unwrap();
        assert_eq!(taken.len(), usize::from(SHARDS), "seed {seed}");
        let handed = fixture.records.hand_over(taken[0], three).await;
        assert_eq!(handed, Ok(Fence { shard: 0, epoch: 3, node: three }), "seed {seed}");
        let owners = fixture.records.ownership(None).await.unwrap().expect("owners").owners;
        assert_eq!(owners[0], Some(Owner { epoch: 3, node: three }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_lease_is_reported_as_such() {
    for seed in SEEDS {
        let fixture = Fixture::with_faults(seed, UNKNOWN).await;
        let lease = |revision| Lease {
            node: BootId::MIN,
            name: "one".to_owned(),
            address: None,
            version: "1".to_owned(),
            draining: false,
            revision,
            is_readable: true,
        };
        assert!(!fixture.records.renew_lease(&lease(1)).await.unwrap(), "seed {seed}");
        assert!(fixture.records.renew_lease(&lease(2)).await.unwrap(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn held_deliveries_are_discarded_while_events_are_accepted() {
    let delay = Duration::from_millis(5);
    let fixture = Fixture::with_faults(3, Faults { delay, ..Faults::default() }).await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.records.disable_endpoint(fixture.account, endpoint, later(1)).await.unwrap();
    let publish = async || {
        futures::future::join_all((0..20).map(|_| fixture.accept("a", later(2)))).await;
    };
    let enable = fixture.records.enable_endpoint(fixture.account, endpoint, HeldAction::Discard);
    let view = beside(enable, publish).await.unwrap().expect("an endpoint");
    assert_eq!(view.state, postrider_domain::endpoint::State::Enabled);
    fixture.discard(endpoint, later(4)).await;
    let left = fixture.backlog(endpoint).await;
    let pending = fixture.workload(endpoint, 10_000).await.firsts.deliveries.len();
    assert_eq!(usize::try_from(left), Ok(pending));
}
