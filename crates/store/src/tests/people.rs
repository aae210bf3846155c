use postrider_domain::account::ApiKey;
use postrider_domain::email::{Email, Recipient, RecipientStatus};
use postrider_domain::endpoint::{Disabled, DisabledReason};
use postrider_domain::notice::{Kind, Notice, Report};

use super::*;
use crate::codec::RecordTx;
use crate::keys::account_space;
use crate::kv::Range;
use crate::{EndpointFilter, FORMAT, OpenError, PageRequest, Records};

#[tokio::test]
async fn pages_continue_at_their_cursor() {
    let fixture = Fixture::new().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.insert(0, fixture.endpoint(&["a"]).await);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = fixture
            .records
            .endpoints(fixture.account, PageRequest { limit: 3, after })
            .await
            .unwrap();
        seen.extend(page.items.iter().map(|view| view.endpoint.id));
        match page.next {
            Some(next) => after = Some(next.parse().unwrap()),
            None => break,
        }
    }
    assert_eq!(seen, made);
    let first = PageRequest { limit: 1, after: None };
    let page = fixture.records.event_types(first).await.unwrap();
    assert_eq!(page.next.as_deref(), Some("a"));
    let second = PageRequest { limit: 1, after: Some(name("a")) };
    let page = fixture.records.event_types(second).await.unwrap();
    assert_eq!((page.items[0].name.as_str(), page.next), ("b", None));
}

#[tokio::test]
async fn a_deleted_key_is_invalid() {
    let fixture = Fixture::new().await;
    let key = ApiKey {
        id: fixture.id_generator.id(START),
        account: fixture.account,
        name: Name::parse("ci").unwrap(),
        sha256: [9; 32],
        created_at: START,
    };
    assert!(fixture.records.create_key(&key).await.unwrap());
    assert_eq!(
        fixture.records.key_by_hash([9; 32]).await.unwrap(),
        Some((fixture.account, key.id))
    );
    assert!(fixture.records.delete_key(fixture.account, key.id).await.unwrap());
    assert!(!fixture.records.delete_key(fixture.account, key.id).await.unwrap());
    assert_eq!(fixture.records.key_by_hash([9; 32]).await.unwrap(), None);
}

#[tokio::test]
async fn links_are_revoked_by_generation() {
    let fixture = Fixture::new().await;
    let (records, account) = (&fixture.records, fixture.account);
    for generation in 0..3 {
        assert_eq!(records.link_generation(account).await.unwrap(), Some(generation));
        assert!(records.revoke_links(account).await.unwrap());
    }
    assert!(records.delete_account(account).await.unwrap());
    assert_eq!(records.link_generation(account).await.unwrap(), None);
    assert!(!records.revoke_links(account).await.unwrap());
    assert_eq!(rows_of(&fixture).await, 0);
}

async fn rows_of(fixture: &Fixture) -> usize {
    let range = &Range::prefix(account_space(fixture.account));
    let rows = fixture.records.store.read(|tx| async move { tx.snap_range(range.clone()).await });
    rows.await.unwrap().len()
}

/// An account with a key, an endpoint, and more rows than one step removes.
async fn large_account() -> (Fixture, EndpointId) {
    let fixture = Fixture::new().await;
    let key = ApiKey {
        id: fixture.id_generator.id(START),
        account: fixture.account,
        name: Name::parse("ci").unwrap(),
        sha256: [9; 32],
        created_at: START,
    };
    fixture.records.create_key(&key).await.unwrap();
    let endpoint = fixture.endpoint(&["a"]).await;
    for number in 0..100 {
        fixture.accept("a", later(number)).await;
    }
    assert!(rows_of(&fixture).await > 400);
    (fixture, endpoint)
}

#[tokio::test]
async fn a_deleted_account_leaves_nothing_behind() {
    let (fixture, endpoint) = large_account().await;
    assert!(fixture.records.delete_account(fixture.account).await.unwrap());
    assert!(!fixture.records.delete_account(fixture.account).await.unwrap());
    assert_eq!(rows_of(&fixture).await, 0);
    assert_eq!(fixture.records.key_by_hash([9; 32]).await.unwrap(), None);
    assert!(fixture.pointers(endpoint).await.is_empty());
    let page = PageRequest { limit: 10, after: None };
    assert!(fixture.records.accounts(page).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn an_interrupted_deletion_is_completed_by_the_owner() {
    let (fixture, endpoint) = large_account().await;
    assert!(fixture.records.close_account(fixture.account).await.unwrap());
    let page = PageRequest { limit: 10, after: None };
    assert!(fixture.records.accounts(page).await.unwrap().items.is_empty());
    assert_eq!(fixture.records.account(fixture.account).await, Ok(None));
    assert_eq!(fixture.records.key_by_hash([9; 32]).await.unwrap(), None);
    let fence = fixture.fences[usize::from(fixture.records.shard_of(fixture.account))];
    let (mut before, mut steps) = (rows_of(&fixture).await, 0);
    while fixture.records.sweep(fence, later(200)).await.unwrap() {
        let after = rows_of(&fixture).await;
        assert!(after + 200 >= before, "a step is bounded");
        (before, steps) = (after, steps + 1);
    }
    assert!(steps > 2 && before == 0, "{steps} steps, {before} rows");
    assert!(fixture.pointers(endpoint).await.is_empty());
}

#[tokio::test]
async fn a_changed_subscription_takes_effect_at_once() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let change =
        |endpoint: &mut Endpoint| endpoint.event_types = Subscription::Only([name("b")].into());
    fixture.records.update_endpoint(fixture.account, endpoint, change).await.unwrap();
    assert_eq!(fixture.accept("a", later(1)).await.receipts[0].deliveries, 0);
    assert_eq!(fixture.accept("b", later(2)).await.receipts[0].deliveries, 1);
}

#[tokio::test]
async fn an_older_format_is_upgraded() {
    let memory = std::sync::Arc::new(crate::kv::memory::Memory::with_faults(0, Default::default()));
    let store = || Store::new(memory.clone(), 0);
    let format = || async {
        let store = store();
        let read = store.read::<_, crate::kv::Error, _, _>(|tx| async move {
            tx.load::<crate::keys::meta::Meta>(&crate::keys::meta::key()).await
        });
        read.await.unwrap().map(|meta| meta.format)
    };
    store()
        .transact::<_, crate::kv::Error, _, _>(|tx, _| async move {
            let old = crate::keys::meta::Meta { format: FORMAT - 1, shards: SHARDS };
            tx.save(crate::keys::meta::key(), &old);
            Ok(())
        })
        .await
        .unwrap();
    assert!(matches!(Records::open(store(), 9).await, Err(OpenError::Shards { .. })));
    assert_eq!(format().await, Some(FORMAT - 1), "a rejected open changes nothing");
    assert!(Records::open(store(), SHARDS).await.is_ok());
    assert_eq!(format().await, Some(FORMAT));
}

#[tokio::test]
async fn a_newer_format_or_another_number_of_shards_is_rejected() {
    let fixture = Fixture::new().await;
    let open = |shards| Records::open(Store::new(fixture.memory.clone(), 0), shards);
    assert!(open(SHARDS).await.is_ok());
    assert!(matches!(open(9).await, Err(OpenError::Shards { found: SHARDS, wanted: 9 })));
    let newer = crate::keys::meta::Meta { format: FORMAT + 1, shards: SHARDS };
    let store = Store::new(fixture.memory.clone(), 0);
    let newer = &newer;
    store
        .transact::<_, crate::kv::Error, _, _>(|tx, _| async move {
            tx.save(crate::keys::meta::key(), newer);
            Ok(())
        })
        .await
        .unwrap();
    assert!(matches!(open(SHARDS).await, Err(OpenError::Newer { found }) if found == FORMAT + 1));
}

async fn found(
    fixture: &Fixture,
    filter: EndpointFilter,
    limit: usize,
) -> (Vec<EndpointId>, Vec<usize>) {
    let (mut seen, mut sizes, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = PageRequest { limit, after };
        let page = fixture.records.find_endpoints(fixture.account, filter.clone(), page);
        let page = page.await.unwrap();
        sizes.push(page.items.len());
        seen.extend(page.items.iter().map(|view| view.endpoint.id));
        match page.next {
            Some(next) => after = Some(next.parse().unwrap()),
            None => return (seen, sizes),
        }
    }
}

#[tokio::test]
async fn endpoints_are_found_by_name_url_and_state() {
    let fixture = Fixture::new().await;
    let mut made = Vec::new();
    for number in 0..450 {
        let id = fixture.endpoint(&["a"]).await;
        let url = format!("https://example.com/{}", ["One", "two", "three"][number % 3]);
        let change = |endpoint: &mut Endpoint| {
            endpoint.name = Name::parse(["Ärger", "Billing"][number % 2]).unwrap();
            endpoint.url = TargetUrl::parse(&url, &AddressPolicy::default()).unwrap();
        };
        fixture.records.update_endpoint(fixture.account, id, change).await.unwrap();
        if number % 5 == 0 {
            fixture.records.disable_endpoint(fixture.account, id, START).await.unwrap();
        }
        made.insert(0, (number, id));
    }
    let those = |takes: fn(usize) -> bool| -> Vec<_> {
        made.iter().filter(|(number, _)| takes(*number)).map(|(_, id)| *id).collect()
    };
    let filter = |text: &str, enabled| EndpointFilter {
        text: Some(text.to_owned()).filter(|it| !it.is_empty()),
        enabled,
    };
    let cases = [
        (filter("", None), those(|_| true)),
        (filter("ÄRGER", None), those(|n| n % 2 == 0)),
        (filter("/one", None), those(|n| n % 3 == 0)),
        (filter("EXAMPLE.com/t", None), those(|n| n % 3 != 0)),
        (filter("bill", Some(false)), those(|n| n % 10 == 5)),
        (filter("", Some(true)), those(|n| n % 5 != 0)),
        (filter("nobody", None), Vec::new()),
    ];
    for (filter, expected) in cases {
        for limit in [7, 250] {
            let (seen, sizes) = found(&fixture, filter.clone(), limit).await;
            assert_eq!(seen, expected, "{filter:?}");
            let (last, full) = sizes.split_last().unwrap();
            assert!(full.iter().all(|size| *size == limit) && (*last > 0 || full.is_empty()));
        }
    }
}

/// A search without matches returns an empty page with a cursor.
#[tokio::test]
async fn a_search_scans_a_bounded_number_of_endpoints() {
    let fixture = Fixture::new().await;
    let first = fixture.endpoint(&["b"]).await;
    fixture.records.disable_endpoint(fixture.account, first, START).await.unwrap();
    for _ in 0..2_000 {
        fixture.endpoint(&["b"]).await;
    }
    let disabled = EndpointFilter { text: None, enabled: Some(false) };
    let (seen, sizes) = found(&fixture, disabled, 50).await;
    assert_eq!((seen, sizes), (vec![first], vec![0, 1]));
}

#[tokio::test]
async fn emails_are_removed_with_the_account() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let fence = fixture.fence(endpoint);
    let notice = |at| Notice {
        account: fixture.account,
        endpoint,
        report: Report::Disabled(Disabled {
            reason: DisabledReason::Exhausted,
            at,
            delivery: None,
        }),
        failure_count: 11,
        last_error: None,
    };
    let email = |at, status| Email {
        kind: Kind::Disabled,
        disabled_at: Some(at),
        at,
        subject: "disabled".to_owned(),
        to: vec![Recipient { address: "ops@acme.example".to_owned(), status }],
    };
    let deferred = || RecipientStatus::Deferred("450 later".to_owned());
    for at in [later(1), later(2)] {
        fixture.records.log_emails(fence, &[(&notice(at), &email(at, deferred()))]).await.unwrap();
    }
    let taken = email(later(1), RecipientStatus::Accepted);
    let finished = notice(later(1));
    let finish = [(&finished, Some(&taken))];
    fixture.records.finish_notices(fence, &finish, later(9)).await.unwrap();
    let logged =
        async |limit| fixture.records.emails(fixture.account, endpoint, limit).await.unwrap();
    assert_eq!(logged(9).await, [email(later(2), deferred()), taken.clone()]);
    assert_eq!(logged(1).await, [email(later(2), deferred())]);
    fixture.records.delete_endpoint(fixture.account, endpoint).await.unwrap();
    assert_eq!(logged(9).await.len(), 2, "they outlive the endpoint");
    fixture.records.delete_account(fixture.account).await.unwrap();
    assert!(logged(9).await.is_empty());
    fixture.records.finish_notices(fence, &finish, later(9)).await.unwrap();
    assert_eq!(rows_of(&fixture).await, 0, "nothing is added behind the removal");
}
