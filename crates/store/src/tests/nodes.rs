use postrider_domain::ids::{BootId, Id};

use super::*;
use crate::{COOKIE_CHANGE_WINDOW, CookieCheck};
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
async fn a_renewed_lease_is_not_removed_by_its_old_revision() {
    let fixture = Fixture::new().await;
    assert!(!fixture.records.renew_lease(&lease(ONE, "one", 1)).await.unwrap());
    assert!(fixture.records.renew_lease(&lease(ONE, "one", 2)).await.unwrap());
    fixture.records.remove_lease(ONE, 1).await.unwrap();
    assert_eq!(fixture.records.leases().await.unwrap(), [lease(ONE, "one", 2)]);
    fixture.records.remove_lease(ONE, 3).await.unwrap();
    assert_eq!(fixture.records.leases().await.unwrap(), []);
    assert!(!fixture.records.renew_lease(&lease(ONE, "one", 3)).await.unwrap(), "it was removed");
}

#[tokio::test]
async fn a_late_renewal_does_not_reset_a_lease() {
    let fixture = Fixture::new().await;
    fixture.records.renew_lease(&lease(ONE, "one", 2)).await.unwrap();
    assert!(fixture.records.renew_lease(&lease(ONE, "one", 1)).await.unwrap());
    assert_eq!(fixture.records.leases().await.unwrap(), [lease(ONE, "one", 2)]);
}

#[tokio::test]
async fn an_unreadable_lease_does_not_hide_others() {
    let fixture = Fixture::new().await;
    fixture.records.renew_lease(&lease(TWO, "two", 1)).await.unwrap();
    let put = |bytes: &'static [u8]| {
        fixture.records.store.transact(move |tx, _| async move {
            tx.set(crate::keys::lease::key(ONE), bytes);
            Ok::<_, crate::kv::Error>(())
        })
    };
    put(&[9, 1]).await.unwrap();
    let leases = fixture.records.leases().await.unwrap();
    assert_eq!(leases.len(), 2);
    assert_eq!((leases[0].node, leases[0].is_readable), (ONE, false));
    assert_eq!(leases[1], lease(TWO, "two", 1));
    // It can only be removed if it has not changed.
    put(&[9, 2]).await.unwrap();
    fixture.records.remove_lease(ONE, leases[0].revision).await.unwrap();
    assert_eq!(fixture.records.leases().await.unwrap().len(), 2);
    let moved = fixture.records.leases().await.unwrap()[0].revision;
    fixture.records.remove_lease(ONE, moved).await.unwrap();
    assert_eq!(fixture.records.leases().await.unwrap(), [lease(TWO, "two", 1)]);
}

#[tokio::test]
async fn only_one_of_two_nodes_takes_a_shard_over() {
    let fixture = Fixture::new().await;
    let before = fixture.records.ownership(None).await.unwrap().unwrap();
    let seen: Vec<_> = (0..SHARDS).zip(before.owners).collect();
    let third = BootId::from_bytes([3; 16]);
    let taken = fixture.records.take_over(&seen[..3], TWO).await.unwrap();
    assert_eq!(taken.iter().map(|fence| fence.shard).collect::<Vec<_>>(), [0, 1, 2]);
    let late = fixture.records.take_over(&seen, third).await.unwrap();
    assert_eq!(late, [Fence { shard: 3, epoch: 2, node: third }]);
    let stale = fixture.records.hand_over(fixture.fences[0], third).await;
    assert_eq!(stale, Err(OwnerError::Fenced));
}

#[tokio::test]
async fn handing_a_shard_over_needs_the_fence_and_changes_the_version() {
    let fixture = Fixture::new().await;
    let before = fixture.records.ownership(None).await.unwrap().unwrap();
    assert_eq!(fixture.records.ownership(Some(before.version)).await.unwrap(), None);
    let target = fixture.records.hand_over(fixture.fences[1], TWO).await.unwrap();
    assert_eq!(target, Fence { shard: 1, epoch: 2, node: TWO });
    let after = fixture.records.ownership(Some(before.version)).await.unwrap().unwrap();
    assert_eq!(after.owners[1], Some(Owner { epoch: 2, node: TWO }));
    assert_eq!(after.owners[0], before.owners[0]);
    let again = fixture.records.hand_over(fixture.fences[1], TWO).await;
    assert_eq!(again, Err(OwnerError::Fenced), "the fence is stale");
    assert!(fixture.records.sweep(target, START).await.is_ok());
}

#[tokio::test]
async fn a_node_with_another_cookie_is_rejected() {
    let fixture = Fixture::new().await;
    let check = async |fingerprint: u8, previous: Option<u8>, now| {
        let previous = previous.map(|byte| [byte; 32]);
        fixture.records.check_cookie([fingerprint; 32], previous, now).await.expect("checked")
    };
    assert_eq!(check(1, None, START).await, CookieCheck::Accepted, "the first node sets it");
    assert_eq!(check(1, None, START).await, CookieCheck::Accepted);
    assert_eq!(check(2, None, START).await, CookieCheck::Rejected);
    assert_eq!(check(2, Some(3), START).await, CookieCheck::Rejected);
    assert_eq!(
        check(1, None, START).await,
        CookieCheck::Accepted,
        "a rejected one changes nothing"
    );
}

#[tokio::test]
async fn both_cookies_are_accepted_while_the_cookie_changes() {
    let fixture = Fixture::new().await;
    let check = async |fingerprint: u8, previous: Option<u8>, now| {
        let previous = previous.map(|byte| [byte; 32]);
        fixture.records.check_cookie([fingerprint; 32], previous, now).await.expect("checked")
    };
    check(1, None, START).await;
    assert_eq!(check(2, Some(1), START).await, CookieCheck::Changed);
    assert_eq!(check(2, Some(1), START).await, CookieCheck::Accepted, "the change is made once");
    let last = START.plus(COOKIE_CHANGE_WINDOW - Duration::from_millis(1));
    assert_eq!(check(1, None, last).await, CookieCheck::Accepted, "it may restart meanwhile");
    let after = START.plus(COOKIE_CHANGE_WINDOW);
    assert_eq!(check(1, None, after).await, CookieCheck::Rejected);
    assert_eq!(check(2, None, after).await, CookieCheck::Accepted);
}
