use proptest::prelude::*;

use super::*;
use crate::outcome::of_status;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_123_456);

fn any_result() -> impl Strategy<Value = ResultCode> {
    prop_oneof![
        (100_u16..1000).prop_map(ResultCode::Status),
        (0..KINDS.len()).prop_map(|kind| ResultCode::NoResponse(KINDS[kind])),
    ]
}

proptest! {
    #[test]
    fn a_bucket_contains_its_duration(ms in any::<u32>()) {
        let latency = Latency::of(ms);
        let (shortest, longest) = latency.bounds();
        prop_assert!((shortest..=longest).contains(&ms), "{ms}: {shortest} to {longest}");
        prop_assert!(u128::from(longest).pow(2) <= 2 * u128::from(shortest).pow(2), "wider than √2");
        prop_assert_eq!(Latency::from_index(latency.index()), Some(latency));
        if shortest > 0 {
            prop_assert!(Latency::of(shortest - 1) < latency);
        }
    }

    #[test]
    fn a_percentile_is_in_the_bucket_of_the_exact_value(
        mut times in prop::collection::vec(0_u32..40_000, 1..300),
        percent in 1_u64..=100,
    ) {
        let mut responses = BTreeMap::new();
        for ms in &times {
            *responses.entry(Latency::of(*ms)).or_default() += 1;
        }
        times.sort_unstable();
        let rank = (times.len() * usize::try_from(percent).unwrap()).div_ceil(100);
        let exact = times[rank - 1];
        let estimate = percentile(&responses, percent).unwrap();
        prop_assert_eq!(Latency::of(estimate), Latency::of(exact), "{} for {}", estimate, exact);
    }

    #[test]
    fn result_codes_round_trip(result in any_result()) {
        prop_assert_eq!(ResultCode::from_code(result.code()), Some(result));
    }

    #[test]
    fn every_attempt_of_the_span_is_counted_once(
        attempts in prop::collection::vec((0_u64..3_000_000_000, any_result(), any::<u32>()), 0..80),
        at in 0..TimeRange::ALL.len(),
    ) {
        let range = TimeRange::ALL[at];
        let (begin, end) = range.bounds(NOW);
        let mut chart = Chart::new(range, NOW);
        let mut inside = 0;
        for (age_ms, result, ms) in &attempts {
            let at = NOW.minus(Duration::from_millis(*age_ms));
            let counted = range.resolution().floor(at);
            // A counting step never crosses the boundary of a point.
            prop_assert_eq!(counted < begin, at < begin);
            chart.add(counted, *result, Latency::of(*ms), 1);
            inside += u64::from(at >= begin && at < end);
        }
        let statistics = chart.statistics(true);
        prop_assert_eq!(statistics.total.succeeded + statistics.total.failed, inside);
        let mut sum = Tally::default();
        for point in &statistics.points {
            let Figures { succeeded, failed, results, .. } = &point.figures;
            let all: u64 = results.iter().map(|(_, count)| count).sum();
            prop_assert_eq!(succeeded + failed, all);
            for (result, count) in results {
                sum.add(*result, Latency(0), *count);
            }
        }
        prop_assert_eq!(sum.figures().results, statistics.total.results);
    }
}

#[test]
fn spans_consist_of_whole_steps_and_end_with_the_current_one() {
    for range in TimeRange::ALL {
        let (begin, end) = range.bounds(NOW);
        let step_ms = u64::try_from(range.step().as_millis()).unwrap();
        assert_eq!(begin.millis() % step_ms, 0, "{range:?}");
        assert_eq!(end.since(begin), range.step() * range.points());
        assert!(end > NOW && end.minus(range.step()) <= NOW, "{range:?}");
        assert_eq!(
            range.step().as_millis() % range.resolution().step().as_millis(),
            0,
            "{range:?}"
        );
        let points = Chart::new(range, NOW).statistics(true).points;
        assert_eq!((points[0].at, points.len()), (begin, usize::try_from(range.points()).unwrap()));
        assert_eq!(points[points.len() - 1].at, end.minus(range.step()));
    }
}

#[test]
fn points_aggregate_their_counts() {
    let mut chart = Chart::new(TimeRange::Hour, NOW);
    let at = Resolution::FiveMinutes.floor(NOW);
    chart.add(at, ResultCode::Status(204), Latency::of(1), 50);
    chart.add(at, ResultCode::Status(500), Latency::of(3), 49);
    chart.add(at, ResultCode::NoResponse(ErrorKind::Timeout), Latency::of(5_000), 1);
    chart.add(at, ResultCode::NoResponse(ErrorKind::Dns), Latency::of(60_000), 9);
    chart.add(at.plus(HOUR), ResultCode::Status(200), Latency::of(1), 7);
    let statistics = chart.statistics(true);
    assert_eq!(
        statistics.total,
        Figures {
            succeeded: 50,
            failed: 59,
            p50_ms: Some(1),
            p99_ms: Some(3),
            results: vec![
                (ResultCode::Status(204), 50),
                (ResultCode::Status(500), 49),
                (ResultCode::NoResponse(ErrorKind::Timeout), 1),
                (ResultCode::NoResponse(ErrorKind::Dns), 9),
            ],
        }
    );
    let (last, others) = statistics.points.split_last().unwrap();
    assert_eq!(last.figures, statistics.total);
    assert!(others.iter().all(|point| point.figures == Figures::default()));
}

#[test]
fn outcomes_map_to_result_codes() {
    let nothing = Outcome::Failure(Failure::new(ErrorKind::Tls, "no"));
    assert_eq!(ResultCode::of(&nothing), ResultCode::NoResponse(ErrorKind::Tls));
    for status in [101, 204, 302, 410, 599] {
        let result = ResultCode::of(&of_status(status, None, None));
        assert_eq!((result, result.is_success()), (ResultCode::Status(status), status == 204));
    }
    assert_eq!(ResultCode::from_code(FIRST_KIND_CODE + 7), None);
    assert_eq!(Latency::from_index(BUCKETS), None);
    assert_eq!(Latency::of(u32::MAX).index() + 1, BUCKETS);
}

#[test]
fn a_sparkline_covers_the_last_24_hours() {
    let mut line = Sparkline::new(EndpointId::MIN, NOW);
    let this_hour = Resolution::Hour.floor(NOW);
    line.add(this_hour, ResultCode::Status(200), 3);
    line.add(this_hour.minus(HOUR * 23), ResultCode::Status(500), 1);
    line.add(this_hour.minus(HOUR * 24), ResultCode::Status(500), 100);
    line.add(this_hour.plus(HOUR), ResultCode::Status(500), 100);
    assert_eq!((line.hours[23].succeeded, line.hours[0].failed), (3, 1));
    assert_eq!(line.total(), AttemptCounts { succeeded: 3, failed: 1 });
}
