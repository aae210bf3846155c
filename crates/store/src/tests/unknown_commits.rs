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
        let world = World::with_faults(seed, Faults::default()).await;
        let endpoint = world.endpoint(&["a"]).await;
        let key = ApiKey {
            id: world.id_generator.id(START),
            account: world.account,
            name: Name::parse("Key").expect("a name"),
            sha256: [7; 32],
            created_at: START,
        };
        assert!(world.records.create_key(&key).await.unwrap());
        world.memory.set_faults(UNKNOWN);
        assert!(world.records.delete_endpoint(world.account, endpoint).await.unwrap());
        assert!(world.records.delete_key(world.account, key.id).await.unwrap());
        assert!(world.records.delete_event_type(&name("b")).await.unwrap());
        assert!(world.records.delete_account(world.account).await.unwrap());
        world.memory.set_faults(Faults::default());
        assert!(!world.records.delete_endpoint(world.account, endpoint).await.unwrap());
        assert!(!world.records.delete_key(world.account, key.id).await.unwrap());
        assert!(!world.records.delete_event_type(&name("b")).await.unwrap());
        assert!(!world.records.delete_account(world.account).await.unwrap());
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
        let world = World::with_faults(seed, Faults::default()).await;
        let record = world.unsaved(world.id_generator.id(START), &["a"]);
        world.memory.set_faults(UNKNOWN);
        let created = beside(world.records.create_endpoint(&record), async || {
            world.accept("a", later(1)).await;
        });
        assert!(created.await.unwrap());
        world.memory.set_faults(Faults::default());
        world.accept("a", later(2)).await;
        while world.backlog(record.id).await > 0 {
            world.attempt(record.id, 200, later(3)).await;
        }
        let fence = world.fence(record.id);
        world.records.update_pointer(fence, world.account, record.id).await.unwrap();
        assert_eq!(world.pointers(record.id).await, [], "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_created_twice_keeps_intermediate_changes() {
    for seed in SEEDS {
        let world = World::with_faults(seed, Faults::default()).await;
        let mut record = world.records.account(world.account).await.unwrap().expect("an account");
        record.id = world.id_generator.id(later(1));
        world.memory.set_faults(UNKNOWN);
        let mut renamed = false;
        let new_name = Name::parse("Renamed").expect("a name");
        let created = beside(world.records.create_account(&record), async || {
            let rename = |account: &mut Account| account.name = new_name.clone();
            renamed |= world.records.update_account(record.id, rename).await.unwrap().is_some();
        });
        created.await.unwrap();
        let found = world.records.account(record.id).await.unwrap().expect("an account");
        assert_eq!(found.name == new_name, renamed, "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn takeovers_and_handovers_are_reported_as_such() {
    let (two, three) = (BootId::from_bytes([2; 16]), BootId::from_bytes([3; 16]));
    for seed in SEEDS {
        let world = World::with_faults(seed, Faults::default()).await;
        let owners = world.records.ownership(None).await.unwrap().expect("owners").owners;
        let seen: Vec<_> = (0..SHARDS).zip(owners).collect();
        world.memory.set_faults(UNKNOWN);
        let taken = world.records.take_over(&seen, two).await.unwrap();
        assert_eq!(taken.len(), usize::from(SHARDS), "seed {seed}");
        let handed = world.records.hand_over(taken[0], three).await;
        assert_eq!(handed, Ok(Fence { shard: 0, epoch: 3, node: three }), "seed {seed}");
        let owners = world.records.ownership(None).await.unwrap().expect("owners").owners;
        assert_eq!(owners[0], Some(Owner { epoch: 3, node: three }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_lease_is_reported_as_such() {
    for seed in SEEDS {
        let world = World::with_faults(seed, UNKNOWN).await;
        let lease = |revision| Lease {
            node: BootId::MIN,
            name: "one".to_owned(),
            address: None,
            version: "1".to_owned(),
            draining: false,
            revision,
            is_readable: true,
        };
        assert!(!world.records.renew_lease(&lease(1)).await.unwrap(), "seed {seed}");
        assert!(world.records.renew_lease(&lease(2)).await.unwrap(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn held_deliveries_are_discarded_while_events_are_accepted() {
    let delay = Duration::from_millis(5);
    let world = World::with_faults(3, Faults { delay, ..Faults::default() }).await;
    let endpoint = world.endpoint(&["a"]).await;
    world.records.disable_endpoint(world.account, endpoint, later(1)).await.unwrap();
    let publish = async || {
        futures::future::join_all((0..20).map(|_| world.accept("a", later(2)))).await;
    };
    let enable = world.records.enable_endpoint(world.account, endpoint, HeldAction::Discard);
    let view = beside(enable, publish).await.unwrap().expect("an endpoint");
    assert_eq!(view.state, postrider_domain::endpoint::State::Enabled);
    world.discard(endpoint, later(4)).await;
    let left = world.backlog(endpoint).await;
    let pending = world.workload(endpoint, 10_000).await.firsts.deliveries.len();
    assert_eq!(usize::try_from(left), Ok(pending));
}
