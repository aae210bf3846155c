//! Telemetry: traces, metrics and logs exported to a collector, and metrics for Prometheus.

use anyhow::{Result, ensure};
use http::Method;
use postrider_tests::client::records::Accepted;
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER};
use postrider_tests::otlp::{Collector, Exported, Span};
use postrider_tests::port::Port;
use postrider_tests::receiver::Behaviour;
use postrider_tests::wait::seconds;
use serde_json::json;
use tokio::time::Instant;

use crate::SOON;

const CALLER: &str = "b7ad6b7169203331";
/// The spans of every event that is delivered at its first attempt.
const SPANS: [&str; 4] = ["POST /v1/accounts/{account}/events", "wake", "POST", "commit"];

/// A configuration that exports to `endpoint` with short delays.
fn exporting_to(endpoint: &str) -> Config {
    Config::short_retries()
        .set("node", "name", "node-7")
        .set("telemetry", "otlp_endpoint", endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "100")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
}

/// The `n`th trace id.
fn trace_id(n: u32) -> String {
    format!("0af7651916cd43dd8448eb21{n:08x}")
}

/// Publishes with a trace context whose root is the caller's span.
async fn publish(fixture: &Fixture, trace: &str) -> Result<Accepted> {
    let traceparent = format!("00-{trace}-{CALLER}-01");
    let body = json!({"event_type": ORDER, "payload": {"n": 1}}).to_string();
    let headers = [("traceparent", traceparent.as_str())];
    let path = fixture.account.path("/events");
    fixture.account.api.send(Method::POST, &path, &headers, Some(body)).await?.parse(202)
}

#[tokio::test]
async fn one_trace_spans_the_request_the_attempt_and_the_commit() -> Result<()> {
    let collector = Collector::start()?;
    let fixture = Fixture::start(exporting_to(&collector.endpoint())).await?;
    let hook = fixture.hook("traced");
    let endpoint = fixture.endpoint(&hook).await?;
    let event = publish(&fixture, &trace_id(1)).await?;

    let trace = collector.trace(&trace_id(1), &SPANS, SOON).await?;
    let [accept, wake, attempt, commit] = SPANS.map(|name| trace.span(name));
    let (accept, wake, attempt, commit) = (accept?, wake?, attempt?, commit?);
    assert_eq!(accept.parent_id, CALLER);
    assert_eq!(wake.parent_id, accept.span_id);
    assert_eq!(attempt.parent_id, accept.span_id);
    assert_eq!(commit.parent_id, attempt.span_id);
    assert_eq!(trace.path_to("commit")?, [SPANS[0], "POST", "commit"]);
    assert_eq!([accept.kind, wake.kind, attempt.kind, commit.kind], [2, 4, 3, 1]);
    assert!(attempt.ended <= commit.began, "{attempt:?} {commit:?}");
    assert_eq!(trace.nodes().into_iter().collect::<Vec<_>>(), ["node-7"]);
    assert_eq!(accept.resource["service.name"], "postrider");
    assert!(!accept.resource["service.version"].is_empty());
    assert_eq!(accept.attribute("http.response.status_code"), "202");
    assert_eq!(accept.attribute("http.route"), SPANS[0].trim_start_matches("POST "));
    let delivery = fixture.account.delivery_of(&event.id, &endpoint.id).await?;
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.response.status_code", "200"),
        ("url.full", hook.url().as_str()),
        ("server.address", "127.0.0.1"),
        ("postrider.event.id", event.id.as_str()),
        ("postrider.delivery.id", delivery.id.as_str()),
        ("postrider.endpoint.id", endpoint.id.as_str()),
        ("postrider.attempt.number", "1"),
    ] {
        assert_eq!(attempt.attribute(name), value, "{name}");
    }
    assert!(!attempt.failed && attempt.attribute("error.type").is_empty());
    assert!(
        hook.received()[0].header("traceparent").is_none(),
        "the webhook request carries a traceparent header"
    );
    Ok(())
}

#[tokio::test]
async fn a_retry_starts_a_new_trace_that_carries_the_event_id() -> Result<()> {
    let collector = Collector::start()?;
    let fixture = Fixture::start(exporting_to(&collector.endpoint())).await?;
    let hook = fixture.hook("fails");
    hook.set_behaviour(Behaviour::fail_first(1, 503));
    fixture.endpoint(&hook).await?;
    let event = publish(&fixture, &trace_id(2)).await?;

    let attempt = |exported: &Exported, number: &str| -> Option<Span> {
        let mut attempts = exported.spans.iter().filter(|span| span.name == "POST");
        let wanted = |span: &&Span| {
            span.attribute("postrider.event.id") == event.id
                && span.attribute("postrider.attempt.number") == number
        };
        attempts.find(wanted).cloned()
    };
    let what = "both attempts are exported";
    let both = |exported: &Exported| Some((attempt(exported, "1")?, attempt(exported, "2")?));
    let (first, second) = collector.until(what, SOON, both).await?;
    assert_eq!(first.trace_id, trace_id(2));
    assert!(first.failed);
    assert_eq!(first.attribute("http.response.status_code"), "503");
    assert_eq!(first.attribute("error.type"), "503");
    assert_ne!(second.trace_id, first.trace_id);
    assert_eq!(second.parent_id, "");
    assert!(!second.failed);
    Ok(())
}

#[tokio::test]
async fn otlp_and_prometheus_export_the_same_metrics() -> Result<()> {
    let collector = Collector::start()?;
    let fixture = Fixture::start(exporting_to(&collector.endpoint())).await?;
    let (open, closed) = (fixture.hook("open"), fixture.hook("closed"));
    fixture.endpoint(&open).await?;
    let held = fixture.endpoint(&closed).await?;
    fixture.account.disable(&held.id).await?;
    fixture.publish(&json!({})).await?;
    open.wait_for_ended(1, SOON).await?;

    let names = [
        "postrider.events.accepted",
        "postrider.attempts",
        "postrider.attempt.duration",
        "postrider.attempt.lateness",
        "postrider.attempts.in_flight",
        "postrider.deliveries.finished",
        "postrider.deliveries.held",
        "postrider.deliveries.oldest.age",
        "postrider.delivery.age",
        "postrider.endpoints.active",
        "postrider.shards.owned",
        "postrider.store.commits",
        "postrider.store.commit.time",
        "postrider.store.transactions",
    ];
    let all = |exported: &Exported| {
        let sum = |name: &str| exported.metrics.get(name).map(|metric| metric.sum);
        let counted = sum("postrider.deliveries.held")? == 1.0
            && sum("postrider.deliveries.finished")? == 1.0
            && names.iter().all(|name| sum(name).is_some());
        counted.then(|| exported.metrics.clone())
    };
    let exported = collector.until("every metric is exported", SOON, all).await?;
    assert_eq!(exported["postrider.events.accepted"].sum, 1.0);
    assert_eq!(exported["postrider.attempt.lateness"].sum, 1.0);
    assert_eq!(exported["postrider.shards.owned"].sum, 256.0);
    assert_eq!(exported["postrider.attempt.duration"].unit, "s");
    assert_eq!(exported["postrider.attempts"].resource["service.instance.id"], "node-7");

    let text = fixture.node.api(None).get("/metrics").await?;
    let text = String::from_utf8_lossy(&text.body).into_owned();
    for name in exported.keys().filter(|name| name.starts_with("postrider.")) {
        let name = name.replace('.', "_");
        ensure!(text.contains(&format!("\n{name}")), "no {name} in {text}");
    }
    for line in ["postrider_events_accepted_total{", "way=\"http\"", "postrider_deliveries_held"] {
        ensure!(text.contains(line), "no {line} in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn logs_carry_the_trace_they_belong_to() -> Result<()> {
    let collector = Collector::start()?;
    let config = exporting_to(&collector.endpoint()).set("delivery", "gone_disables", true);
    let fixture = Fixture::start(config).await?;
    let hook = fixture.hook("gone");
    hook.set_behaviour(Behaviour::status(410));
    let endpoint = fixture.endpoint(&hook).await?;
    publish(&fixture, &trace_id(3)).await?;

    let disabled = |exported: &Exported| {
        exported.logs.iter().find(|log| log.body == "disabled an endpoint").cloned()
    };
    let log =
        collector.until("the log of the disabled endpoint is exported", SOON, disabled).await?;
    assert_eq!(log.trace_id, trace_id(3));
    assert_eq!(log.severity, "INFO");
    assert_eq!(log.attributes["endpoint"], endpoint.id);
    assert_eq!(log.resource["service.instance.id"], "node-7");
    let sent = |exported: &Exported| {
        exported.metrics.get("postrider.emails.sent").map(|emails| emails.sum)
    };
    assert_eq!(collector.until("the count of sent emails is exported", SOON, sent).await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn an_unavailable_or_silent_collector_slows_nothing_down() -> Result<()> {
    let refuses = Collector::stopped()?;
    // The kernel accepts connections here, and nothing ever reads from them.
    let (port, _silent) = {
        let port = Port::reserve()?;
        let listener = port.listen()?;
        (port, listener)
    };
    for endpoint in [refuses.endpoint(), format!("http://{}", port.address())] {
        let mut fixture = Fixture::start(exporting_to(&endpoint)).await?;
        let hook = fixture.hook("quick");
        fixture.endpoint(&hook).await?;
        let payloads: Vec<_> = (0..1000).map(|n| format!("{{\"n\":{n}}}")).collect();
        let events: Vec<_> = payloads.iter().map(|text| (ORDER, text.as_str())).collect();
        for _ in 0..3 {
            fixture.account.try_publish_batch(&events).await?.expect(202)?;
        }
        hook.wait_for(3000, seconds(60)).await?;
        let begun = Instant::now();
        fixture.node.stop().await?;
        ensure!(begun.elapsed() < seconds(6), "shutdown took {:?}", begun.elapsed());
        let log = fixture.node.log();
        let warnings = log.lines().filter(|line| line.contains("collector")).count();
        ensure!((1..=4).contains(&warnings), "{warnings} lines about the collector in\n{log}");
        ensure!(!log.contains("BatchSpanProcessor"), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn export_resumes_when_the_collector_comes_back() -> Result<()> {
    let mut collector = Collector::start()?;
    let mut fixture = Fixture::start(exporting_to(&collector.endpoint())).await?;
    let hook = fixture.hook("on");
    fixture.endpoint(&hook).await?;
    publish(&fixture, &trace_id(4)).await?;
    collector.trace(&trace_id(4), &SPANS, SOON).await?;

    collector.stop_listening();
    publish(&fixture, &trace_id(5)).await?;
    hook.wait_for(2, SOON).await?;
    collector.start_listening()?;
    publish(&fixture, &trace_id(6)).await?;
    collector.trace(&trace_id(6), &SPANS, SOON).await?;

    publish(&fixture, &trace_id(7)).await?;
    hook.wait_for_ended(4, SOON).await?;
    fixture.node.stop().await?;
    let trace = collector.trace(&trace_id(7), &SPANS, SOON).await?;
    assert_eq!(trace.path_to("commit")?.len(), 3, "spans left at shutdown were not exported");
    Ok(())
}
