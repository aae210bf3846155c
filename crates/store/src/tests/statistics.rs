use std::collections::BTreeMap;

use postrider_domain::ids::{AccountId, DeliveryId};
use postrider_domain::outcome::{ErrorKind, Failure, Outcome};
use postrider_domain::statistics::{AttemptCounts, Latency, Resolution, ResultCode, TimeRange};
use proptest::prelude::*;

use super::*;
use crate::deliveries::statistics::MAX_SPARKLINE_COUNTERS;
use crate::keys::statistics::Counts;
use crate::{DeliveryFilter, PageRequest};

const MINUTE: Duration = Duration::from_secs(60);

/// Records an attempt of the next delivery with an outcome and duration.
async fn attempt(
    fixture: &Fixture,
    endpoint: EndpointId,
    outcome: Outcome,
    duration_ms: u32,
    now: Timestamp,
) -> FencedAttempt {
    let delivery = fixture.workload(endpoint, 1).await.first().clone();
    let result = fixture.result(delivery.attempt_count + 1, 200, now);
    let attempt = FencedAttempt {
        fence: fixture.fence(endpoint),
        account: fixture.account,
        endpoint,
        delivery: delivery.id,
        result: AttemptResult {
            exchange: Exchange {
                outcome,
                duration: Duration::from_millis(duration_ms.into()),
                ..result.exchange
            },
            ..result
        },
    };
    let applied = fixture.apply(attempt.clone()).await;
    assert!(matches!(applied, Applied::Recorded(_)), "{applied:?}");
    attempt
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(outcome::of_status(200, None, None)),
        1 => (300_u16..600).prop_map(|status| outcome::of_status(status, None, None)),
        1 => Just(Outcome::Failure(Failure::new(ErrorKind::Timeout, "too late"))),
    ]
}

/// The recorded attempts of the endpoint, by result code.
async fn on_record(
    fixture: &Fixture,
    endpoint: EndpointId,
    (since, until): (Timestamp, Timestamp),
) -> BTreeMap<u16, u64> {
    let page = PageRequest { limit: 10_000, after: None };
    let list =
        fixture.records.deliveries(fixture.account, endpoint, DeliveryFilter::default(), page);
    let ids: Vec<DeliveryId> = list.await.unwrap().items.iter().map(|it| it.delivery.id).collect();
    let mut found = BTreeMap::new();
    for id in ids {
        let (_, attempts) = fixture.records.delivery(fixture.account, id).await.unwrap().unwrap();
        let attempts = attempts.iter().map(|it| &it.attempt);
        for attempt in attempts.filter(|it| it.at >= since && it.at < until) {
            // In these tests the status is only in the error's message.
            let code = match &attempt.error {
                None => 200,
                Some(error) if error.kind == ErrorKind::Status => {
                    error.message.split([' ', ';', ',']).find_map(|it| it.parse().ok()).unwrap()
                }
                Some(error) => ResultCode::NoResponse(error.kind).code(),
            };
            *found.entry(code).or_default() += 1;
        }
    }
    found
}

async fn counts_equal_attempts(seed: u64, attempts: Vec<(Outcome, u32, u64)>) {
    let faults = Faults {
        conflict: 0.2,
        lost_before_commit: 0.1,
        lost_after_commit: 0.1,
        ..Faults::default()
    };
    let fixture = Fixture::with_faults(seed, faults).await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let mut now = START;
    for (outcome, duration_ms, minutes) in attempts {
        now = now.plus(MINUTE * u32::try_from(minutes).unwrap());
        let view = fixture.records.endpoint(fixture.account, endpoint).await.unwrap().unwrap();
        if view.state != postrider_domain::endpoint::State::Enabled {
            break;
        }
        fixture.accept("a", now).await;
        attempt(&fixture, endpoint, outcome, duration_ms, now).await;
    }
    for range in TimeRange::ALL {
        let read = fixture.records.statistics(fixture.account, endpoint, range, now);
        let statistics = read.await.unwrap();
        let results = statistics.total.results.iter();
        let counted: BTreeMap<_, _> =
            results.map(|(result, count)| (result.code(), *count)).collect();
        assert!(statistics.complete);
        assert_eq!(counted, on_record(&fixture, endpoint, range.bounds(now)).await, "{range:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn counts_match_the_recorded_attempts(
        seed in any::<u64>(),
        attempts in prop::collection::vec((any_outcome(), 0_u32..6_000, 0_u64..2_000), 1..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(counts_equal_attempts(seed, attempts));
    }
}

#[tokio::test]
async fn recording_an_attempt_twice_counts_it_once() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    fixture.accept("a", START).await;
    let failed = outcome::of_status(503, None, None);
    let attempt = attempt(&fixture, endpoint, failed, 90, later(5)).await;
    let stale = FencedAttempt { result: fixture.result(1, 200, later(6)), ..attempt.clone() };
    let fence = Fence { epoch: attempt.fence.epoch - 1, ..attempt.fence };
    let fenced =
        FencedAttempt { fence, result: fixture.result(2, 200, later(7)), ..attempt.clone() };
    assert!(matches!(fixture.apply(attempt).await, Applied::Recorded(_)));
    assert_eq!(fixture.apply(stale).await, Applied::Stale);
    assert_eq!(fixture.apply(fenced).await, Applied::Fenced);
    let read = fixture.records.statistics(fixture.account, endpoint, TimeRange::Hour, later(8));
    let total = read.await.unwrap().total;
    assert_eq!((total.failed, total.succeeded), (1, 0));
    let (shortest, longest) = Latency::of(90).bounds();
    assert!((shortest..=longest).contains(&total.p50_ms.unwrap()));
}

#[tokio::test]
async fn the_newest_counters_are_read_and_missing_ones_are_reported() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    for minute in 0..4 {
        let now = START.plus(MINUTE * 10 * minute);
        fixture.accept("a", now).await;
        attempt(&fixture, endpoint, outcome::of_status(200, None, None), 20, now).await;
    }
    let now = START.plus(MINUTE * 30);
    let read = |max| {
        fixture.records.statistics_within(fixture.account, endpoint, TimeRange::Hour, now, max)
    };
    let (all, some) = (read(4).await.unwrap(), read(3).await.unwrap());
    assert_eq!((all.total.succeeded, all.complete), (4, true));
    assert_eq!((some.total.succeeded, some.complete), (3, false));
    assert_eq!(all.points.last(), some.points.last());
    let other =
        fixture.records.statistics(AccountId::MAX, endpoint, TimeRange::Hour, now).await.unwrap();
    assert_eq!(other.total, Default::default());
}

#[tokio::test]
async fn sparklines_are_in_the_requested_order() {
    let fixture = Fixture::new().await;
    let idle = fixture.endpoint(&["b"]).await;
    let busy = fixture.endpoint(&["a"]).await;
    for (hour, status) in [(0, 500), (2, 200), (25, 200)] {
        let now = START.plus(MINUTE * 60 * hour);
        fixture.accept("a", now).await;
        attempt(&fixture, busy, outcome::of_status(status, None, None), 20, now).await;
    }
    let now = START.plus(MINUTE * 60 * 25);
    let requested: Vec<_> = [idle, busy].into_iter().cycle().take(101).collect();
    let lines = fixture.records.sparklines(fixture.account, &requested, now).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.endpoint).collect::<Vec<_>>(), requested);
    assert_eq!((lines[1].total().succeeded, lines[1].total().failed), (2, 0));
    assert_eq!((lines[1].hours[0].succeeded, lines[1].hours[23].succeeded), (1, 1));
    assert_eq!(lines[100].total(), Default::default());
}

#[tokio::test]
async fn a_sparkline_reports_missing_attempts() {
    let fixture = Fixture::new().await;
    let endpoint = fixture.endpoint(&["a"]).await;
    let counts = Counts { account: fixture.account, endpoint, resolution: Resolution::Hour };
    let latencies = || (0..).map_while(Latency::from_index);
    let counters = (200..600).flat_map(|status| latencies().map(move |took| (status, took)));
    let mut keys =
        counters.map(|(status, took)| counts.key(START, ResultCode::Status(status), took));
    for (more, complete) in [(MAX_SPARKLINE_COUNTERS, true), (1, false)] {
        let keys: Vec<_> = keys.by_ref().take(more).collect();
        let keys = &keys;
        let added = fixture.records.store.transact(|tx, _| async move {
            keys.iter().for_each(|key| tx.add(key.clone(), 1));
            Ok::<_, crate::kv::Error>(())
        });
        added.await.unwrap();
        let lines = fixture.records.sparklines(fixture.account, &[endpoint], START).await.unwrap();
        let AttemptCounts { succeeded, failed } = lines[0].total();
        assert_eq!(succeeded + failed, MAX_SPARKLINE_COUNTERS as u64);
        assert_eq!(lines[0].complete, complete);
    }
}
