use postrider_domain::ids::{BootId, Id};

use super::*;
use crate::{Lease, Owner, OwnerError};

const ONE: BootId = BootId::MIN;
const TWO: BootId = BootId::MAX;

fn lease(node: BootId, name: &str, revision: u64) -> Lease {
    Lease {
        node,
        name: name.to_owned(),
        address: None,
        version: "1".to_owned(),
        draining: false,
        revision,
        is_readable: true,
    }
}

#[tokio::test]
async fn a_lease_is_renewed_and_not_removed_once_it_was_renewed_since() {
    let world = World::new().await;
    assert!(!world.records.renew_lease(&lease(ONE, "one", 1)).await.unwrap());
    assert!(world.records.renew_lease(&lease(ONE, "one", 2)).await.unwrap());
    world.records.remove_lease(ONE, 1).await.unwrap();
    assert_eq!(world.records.leases().await.unwrap(), [lease(ONE, "one", 2)]);
    world.records.remove_lease(ONE, 3).await.unwrap();
    assert_eq!(world.records.leases().await.unwrap(), []);
    assert!(!world.records.renew_lease(&lease(ONE, "one", 3)).await.unwrap(), "it was removed");
}

#[tokio::test]
async fn a_renewal_that_comes_through_late_does_not_set_a_lease_back() {
    let world = World::new().await;
    world.records.renew_lease(&lease(ONE, "one", 2)).await.unwrap();
    assert!(world.records.renew_lease(&lease(ONE, "one", 1)).await.unwrap());
    assert_eq!(world.records.leases().await.unwrap(), [lease(ONE, "one", 2)]);
}

#[tokio::test]
async fn a_lease_that_cannot_be_read_hides_no_other() {
    let world = World::new().await;
    world.records.renew_lease(&lease(TWO, "two", 1)).await.unwrap();
    let put = |bytes: &'static [u8]| {
        world.records.store.transact(move |tx, _| async move {
            tx.set(crate::keys::lease::key(ONE), bytes);
            Ok::<_, crate::kv::Error>(())
        })
    };
    put(&[9, 1]).await.unwrap();
    let leases = world.records.leases().await.unwrap();
    assert_eq!(leases.len(), 2);
    assert_eq!((leases[0].node, leases[0].is_readable), (ONE, false));
    assert_eq!(leases[1], lease(TWO, "two", 1));
    // It can be removed when it stands still, and only then.
    put(&[9, 2]).await.unwrap();
    world.records.remove_lease(ONE, leases[0].revision).await.unwrap();
    assert_eq!(world.records.leases().await.unwrap().len(), 2);
    let moved = world.records.leases().await.unwrap()[0].revision;
    world.records.remove_lease(ONE, moved).await.unwrap();
    assert_eq!(world.records.leases().await.unwrap(), [lease(TWO, "two", 1)]);
}

#[tokio::test]
async fn of_two_who_take_a_shard_over_one_gets_it() {
    let world = World::new().await;
    let before = world.records.ownership(None).await.unwrap().unwrap();
    let seen: Vec<_> = (0..SHARDS).zip(before.owners).collect();
    let third = BootId::from_bytes([3; 16]);
    let taken = world.records.take_over(&seen[..3], TWO).await.unwrap();
    assert_eq!(taken.iter().map(|fence| fence.shard).collect::<Vec<_>>(), [0, 1, 2]);
    let late = world.records.take_over(&seen, third).await.unwrap();
    assert_eq!(late, [Fence { shard: 3, epoch: 2, node: third }]);
    let stale = world.records.hand_over(world.fences[0], third).await;
    assert_eq!(stale, Err(OwnerError::Fenced));
}

#[tokio::test]
async fn a_shard_is_handed_over_by_right_and_the_change_is_seen() {
    let world = World::new().await;
    let before = world.records.ownership(None).await.unwrap().unwrap();
    assert_eq!(world.records.ownership(Some(before.moves)).await.unwrap(), None);
    let heirs = world.records.hand_over(world.fences[1], TWO).await.unwrap();
    assert_eq!(heirs, Fence { shard: 1, epoch: 2, node: TWO });
    let after = world.records.ownership(Some(before.moves)).await.unwrap().unwrap();
    assert_eq!(after.owners[1], Some(Owner { epoch: 2, node: TWO }));
    assert_eq!(after.owners[0], before.owners[0]);
    let again = world.records.hand_over(world.fences[1], TWO).await;
    assert_eq!(again, Err(OwnerError::Fenced), "its right is gone");
    assert!(world.records.sweep(heirs, START).await.is_ok());
}
