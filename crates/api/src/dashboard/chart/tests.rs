use std::time::Duration;

use postrider_domain::ids::EndpointId;
use postrider_domain::outcome::ErrorKind;
use postrider_domain::statistics::{Chart, Latency};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Statistics with 98 successes and two failures at every `step`-th point of a time range.
fn statistics(range: TimeRange, step: usize) -> Statistics {
    let mut chart = Chart::new(range, NOW);
    let starts: Vec<_> = Chart::new(range, NOW).statistics(true).points;
    for point in starts.iter().rev().step_by(step) {
        chart.add(point.at, ResultCode::Status(200), Latency::of(40), 98);
        chart.add(point.at, ResultCode::Status(503), Latency::of(900), 1);
        chart.add(point.at, ResultCode::NoResponse(ErrorKind::Timeout), Latency::of(5_000), 1);
    }
    chart.statistics(true)
}

fn drawn(statistics: &Statistics) -> String {
    charts(statistics).into_string()
}

fn times(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[test]
fn a_time_range_without_attempts_says_so() {
    for (range, words) in [(TimeRange::Hour, "last hour"), (TimeRange::Month, "last 30 days")] {
        let text = drawn(&Chart::new(range, NOW).statistics(true));
        assert!(text.contains(words) && !text.contains("<svg"), "{text}");
    }
}

#[test]
fn each_of_the_three_charts_has_a_description() {
    for range in TimeRange::ALL {
        let text = drawn(&statistics(range, 1));
        assert_eq!(times(&text, "<svg viewBox=\"0 0 360 176\" role=\"img\""), 3);
        for (id, description) in [
            ("chart-outcomes", "succeeded and"),
            ("chart-response-times", "p99 1 s"),
            ("chart-responses", "Responses by status: 200 × "),
        ] {
            let described = format!("aria-labelledby=\"{id}-name {id}-description\"");
            assert!(
                text.contains(&described) && text.contains(description),
                "{description} in {text}"
            );
            assert_eq!(times(&text, &format!("id=\"{id}-description\"")), 1);
        }
        let points = usize::try_from(range.points()).unwrap();
        assert_eq!(times(&text, "98 succeeded, 2 failed"), points);
        // The description has one, too.
        assert_eq!(times(&text, ": p50 "), points + 1);
        assert_eq!(times(&text, "<tr><th scope=\"row\">"), points);
        let ticks = times(&text, "text-anchor=\"middle\"") / 3;
        assert!((4..=7).contains(&ticks), "{ticks} ticks");
    }
}

#[test]
fn points_without_attempts_are_left_out() {
    let text = drawn(&statistics(TimeRange::Day, 4));
    assert_eq!(times(&text, "98 succeeded, 2 failed"), 12);
    assert_eq!(times(&text, "<tr><th scope=\"row\">"), 12);
    // Isolated points become short strokes.
    let alone = text.split("class=\"curve accent\" d=\"").nth(1).unwrap().split('"').next();
    assert_eq!((times(alone.unwrap(), "M"), times(alone.unwrap(), "L")), (12, 0));
    let joined = drawn(&statistics(TimeRange::Day, 1));
    let joined = joined.split("class=\"curve accent\" d=\"").nth(1).unwrap().split('"').next();
    assert_eq!((times(joined.unwrap(), "M"), times(joined.unwrap(), "L")), (1, 47));
}

#[test]
fn charts_satisfy_the_security_policy_and_are_small() {
    let text = drawn(&statistics(TimeRange::Day, 1));
    for forbidden in ["style", "<script", " on", "href", "NaN", "inf", "v--"] {
        assert!(!text.replace(" once", "").contains(forbidden), "{forbidden} in {text}");
    }
    assert!(text.len() < 33_000, "{} bytes", text.len());
}

#[test]
fn an_endpoint_that_cannot_be_reached_has_no_response_time() {
    let mut chart = Chart::new(TimeRange::Hour, NOW);
    chart.add(
        NOW.minus(Duration::from_secs(60)),
        ResultCode::NoResponse(ErrorKind::Dns),
        Latency::of(2),
        3,
    );
    let text = drawn(&chart.statistics(false));
    assert_eq!(times(&text, "<svg"), 2);
    assert!(text.contains("No responses in this period") && text.contains("dns × 3"));
    assert!(text.contains("could not be counted") && text.contains("class=\"bar ink\""));
}

#[test]
fn every_response_has_one_colour() {
    let statuses = (100..1000).map(ResultCode::Status);
    for result in statuses.chain([ResultCode::NoResponse(ErrorKind::Tls)]) {
        assert_eq!(RESPONSE_CLASSES.iter().filter(|(.., is)| is(result)).count(), 1, "{result}");
    }
}

#[test]
fn frequent_responses_come_first_and_the_rest_are_summed() {
    let mut chart = Chart::new(TimeRange::Hour, NOW);
    for (status, count) in (500..509).zip(1..) {
        chart.add(NOW, ResultCode::Status(status), Latency::of(1), count);
    }
    let total = chart.statistics(true).total;
    assert_eq!(response_list(&total, 2), "508 × 9, 507 × 8, other × 28");
    assert_eq!(response_list(&total, MAX_DESCRIBED).matches('×').count(), 9);
}

#[test]
fn times_are_in_utc() {
    let at = Timestamp::from_millis(1_770_000_000_000);
    assert_eq!((date_time(at).as_str(), date(at).as_str()), ("2 Feb 02:40 UTC", "2 Feb"));
}

#[test]
fn a_sparkline_is_a_small_image() {
    let mut line = Sparkline::new(EndpointId::MIN, NOW);
    assert!(!sparkline(&line).into_string().contains("<svg"));
    for hour in 0..24 {
        let at = line.since.plus(Duration::from_secs(3600) * hour);
        line.add(at, ResultCode::Status(200), u64::from(hour) + 1);
        line.add(at, ResultCode::Status(500), 1);
    }
    let text = sparkline(&line).into_string();
    assert!(
        text.contains("aria-label=\"In the last 24 hours: 300 succeeded, 24 failed\""),
        "{text}"
    );
    let (good, bad) = text.split_once("class=\"bar bad\"").unwrap();
    assert_eq!((times(good, "v-"), times(bad, "v-")), (24, 24));
    assert!(text.len() < 1_200, "{} bytes", text.len());
    line.complete = false;
    assert!(sparkline(&line).into_string().contains("24 failed; the oldest attempts could not"));
}
