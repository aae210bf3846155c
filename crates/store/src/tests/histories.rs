//! Random histories on a store with conflicts and unknown commit results. After each, the rows of
//! every endpoint are consistent with each other and with the accepted events.

use std::collections::{BTreeMap, BTreeSet};

use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::State;
use postrider_domain::ids::{DeliveryId, EventId};
use proptest::prelude::*;

use super::*;
use crate::keys::{delivery, pending, queue};
use crate::kv::{Range, counter};
use crate::{DeliveryFilter, DeliveryView, HeldAction, PageRequest, ResendTarget};

#[derive(Clone, Debug)]
enum Action {
    Accept,
    Attempt { status: u16 },
    Disable,
    Enable { held: bool },
    Discard,
    Settle,
    Retry,
    Resend { to_all: bool },
    TakeOver,
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Accept),
        6 => prop_oneof![Just(200), Just(500)].prop_map(|status| Action::Attempt { status }),
        1 => Just(Action::Disable),
        1 => any::<bool>().prop_map(|held| Action::Enable { held }),
        1 => Just(Action::Discard),
        2 => Just(Action::Settle),
        1 => Just(Action::Retry),
        1 => any::<bool>().prop_map(|to_all| Action::Resend { to_all }),
        1 => Just(Action::TakeOver),
    ]
}

async fn play(fixture: &mut Fixture, endpoint: EndpointId, actions: Vec<Action>) -> u64 {
    let account = fixture.account;
    let mut made = 0;
    for (step, action) in (1..).zip(actions) {
        let now = later(step * 60_000);
        match action {
            Action::Accept => made += fixture.accept("a", now).await.receipts[0].deliveries,
            Action::Attempt { status } => {
                let EndpointWork::Send(workload) =
                    fixture.records.workload(account, endpoint, 1).await.unwrap()
                else {
                    continue;
                };
                let waiting = workload.retries.deliveries.len() + workload.firsts.deliveries.len();
                if waiting > 0 {
                    fixture.attempt(endpoint, status, now).await;
                }
            }
            Action::Disable => {
                drop(fixture.records.disable_endpoint(account, endpoint, now).await.unwrap())
            }
            Action::Enable { held } => {
                let held = if held { HeldAction::Resume } else { HeldAction::Discard };
                fixture.records.enable_endpoint(account, endpoint, held).await.unwrap();
            }
            Action::Discard => {
                let fence = fixture.fence(endpoint);
                fixture.records.discard_some(fence, account, endpoint, now).await.unwrap();
            }
            Action::Settle => {
                let fence = fixture.fence(endpoint);
                fixture.records.update_pointer(fence, account, endpoint).await.unwrap();
            }
            Action::Retry => {
                let page = PageRequest { limit: 1, after: None };
                let list =
                    fixture.records.deliveries(account, endpoint, DeliveryFilter::default(), page);
                if let Some(view) = list.await.unwrap().items.first() {
                    let retried = fixture.records.resend_delivery(
                        account,
                        view.delivery.id,
                        &fixture.id_generator,
                        now,
                    );
                    made += u64::from(retried.await.unwrap().is_some());
                }
            }
            Action::Resend { to_all } => {
                let page = PageRequest { limit: 1, after: None };
                let events = fixture.records.events(account, None, page).await.unwrap();
                let target = if to_all {
                    ResendTarget::AllSubscribers
                } else {
                    ResendTarget::Endpoint(endpoint)
                };
                if let Some(event) = events.items.first() {
                    let resent = fixture
                        .records
                        .resend(account, event.id, target, &fixture.id_generator, now)
                        .await;
                    made += resent.unwrap().deliveries;
                }
            }
            Action::TakeOver => {
                let shards: Vec<_> = (0..SHARDS).collect();
                fixture.fences = fixture.records.claim(&shards, BootId::MAX).await.unwrap();
            }
        }
    }
    made
}

/// Deliveries marked for discard count as discarded before and after the owner discards them.
async fn finish_discarding(fixture: &Fixture, endpoint: EndpointId, end: Timestamp) {
    let states = async || {
        let page = PageRequest { limit: 10_000, after: None };
        let list =
            fixture.records.deliveries(fixture.account, endpoint, DeliveryFilter::default(), page);
        let items = list.await.unwrap().items;
        let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
        let states: Vec<_> = items.iter().map(|view| view.state).collect();
        (view.backlog, view.oldest_pending_at, states)
    };
    let work = fixture.records.workload(fixture.account, endpoint, 1).await.unwrap();
    if let EndpointWork::Discard = work {
        assert_eq!(fixture.pointers(endpoint).await.len(), 1, "the pointer is missing");
        let before = states().await;
        fixture.discard(endpoint, end).await;
        assert_eq!(states().await, before);
    }
}

async fn check(fixture: &Fixture, endpoint: EndpointId, made: u64, end: Timestamp) {
    let account = fixture.account;
    let view = fixture.records.endpoint(account, endpoint).await.unwrap().unwrap();
    let rows = |prefix: Vec<u8>| {
        fixture.records.store.read(move |tx| {
            let range = Range::prefix(prefix.clone());
            async move { tx.snap_range(range).await }
        })
    };
    let page = PageRequest { limit: 10_000, after: None };
    let all = fixture
        .records
        .deliveries(account, endpoint, DeliveryFilter::default(), page)
        .await
        .unwrap();
    assert_eq!(u64::try_from(all.items.len()).unwrap(), made, "a delivery is not listed");
    let backlog: Vec<&Delivery> = all
        .items
        .iter()
        .map(|view| &view.delivery)
        .filter(|delivery| delivery.due().is_some())
        .collect();
    let ids: BTreeSet<DeliveryId> = backlog.iter().map(|delivery| delivery.id).collect();

    let pending = rows(pending::of_endpoint(account, endpoint)).await.unwrap();
    let pending: BTreeSet<_> =
        pending.iter().map(|(key, _)| delivery::parse_key(key).unwrap()).collect();
    assert_eq!(pending, ids, "the pending list");
    let mut queued = Vec::new();
    for rank in [queue::Rank::Retry, queue::Rank::First] {
        queued.extend(rows(queue::of_rank(account, endpoint, rank)).await.unwrap());
    }
    let queued: BTreeSet<_> =
        queued.iter().map(|(key, _)| queue::parse_key(key).unwrap()).collect();
    let due: BTreeSet<_> =
        backlog.iter().map(|delivery| (delivery.due().unwrap(), delivery.id)).collect();
    assert_eq!(queued, due, "the queue rows");
    let count = rows(pending::count(account, endpoint)).await.unwrap();
    let count = counter(count.first().map(|(_, value)| value.as_ref()));
    assert_eq!(u64::try_from(count), Ok(view.backlog.count()));
    assert_eq!(usize::try_from(count), Ok(ids.len()), "the counter");

    let pointers = fixture.pointers(endpoint).await;
    assert!(pointers.len() <= 1, "at most one pointer");
    match (view.state, due.first()) {
        (State::Enabled, Some((first, _))) => {
            assert!(pointers[0] <= (*first).max(end), "the pointer is too late");
        }

        (State::Enabled, None) => {}
        (State::Disabled(_) | State::Deleted, _) => {
            assert!(pointers.is_empty(), "a disabled endpoint has a pointer")
        }
    }
    check_index(fixture, &all.items).await;
    for view in all.items {
        let (_, attempts) =
            fixture.records.delivery(account, view.delivery.id).await.unwrap().unwrap();
        let numbers: Vec<u8> = attempts.iter().map(|it| it.attempt.number).collect();
        let expected: Vec<u8> = (1..=view.delivery.attempt_count).collect();
        assert_eq!(numbers, expected, "the numbers of the attempts");
        assert!(numbers.len() <= 11);
    }
}

/// Each event lists each of its deliveries once.
async fn check_index(fixture: &Fixture, made: &[DeliveryView]) {
    let mut by_event: BTreeMap<EventId, BTreeSet<DeliveryId>> = BTreeMap::new();
    for DeliveryView { delivery, .. } in made {
        by_event.entry(delivery.event).or_default().insert(delivery.id);
    }
    for (event, ids) in by_event {
        let page = PageRequest { limit: 10_000, after: None };
        let listed = fixture.records.event_deliveries(fixture.account, event, page).await.unwrap();
        let listed: Vec<_> = listed.items.iter().map(|view| view.delivery.id).collect();
        assert_eq!(listed.len(), ids.len(), "listed twice");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), ids, "an event's deliveries");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn rows_are_consistent_after_every_history(seed in any::<u64>(), actions in prop::collection::vec(any_action(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let faults = Faults {
                conflict: 0.1,
                lost_before_commit: 0.05,
                lost_after_commit: 0.05,
                delay: Duration::ZERO,
            };
            let mut fixture = Fixture::with_faults(seed, faults).await;
            let endpoint = fixture.endpoint(&["a"]).await;
            let end = later(60_000 * u64::try_from(actions.len()).unwrap());
            let made = play(&mut fixture, endpoint, actions).await;
            finish_discarding(&fixture, endpoint, end).await;
            check(&fixture, endpoint, made, end).await;
        });
    }
}
