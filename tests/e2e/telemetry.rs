//! What a node tells of itself: traces, metrics and logs to a collector, and metrics to whoever
//! asks.

use anyhow::{Result, ensure};
use http::Method;
use postrider_tests::client::records::Accepted;
use postrider_tests::config::Config;
use postrider_tests::otlp::{Collector, Span, Told};
use postrider_tests::port::Port;
use postrider_tests::receiver::Behaviour;
use postrider_tests::scene::{ORDER, Scene};
use postrider_tests::wait::seconds;
use serde_json::json;
use tokio::time::Instant;

use crate::SOON;

const CALLER: &str = "b7ad6b7169203331";
/// What every trace of an event that is delivered at once has.
const SPANS: [&str; 4] = ["POST /v1/accounts/{account}/events", "nudge", "POST", "commit"];

/// Tells `endpoint` of everything soon.
fn telling(endpoint: &str) -> Config {
    Config::impatient()
        .set("node", "name", "node-7")
        .set("telemetry", "otlp_endpoint", endpoint)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "100")
        .env("OTEL_METRIC_EXPORT_INTERVAL", "200")
}

/// A trace's id; `n` tells it from others.
fn trace_id(n: u32) -> String {
    format!("0af7651916cd43dd8448eb21{n:08x}")
}

/// Publishes as somebody whose own span is the trace's root.
async fn publish(scene: &Scene, trace: &str) -> Result<Accepted> {
    let traceparent = format!("00-{trace}-{CALLER}-01");
    let body = json!({"event_type": ORDER, "payload": {"n": 1}}).to_string();
    let headers = [("traceparent", traceparent.as_str())];
    let path = scene.account.path("/events");
    scene.account.api.send(Method::POST, &path, &headers, Some(body)).await?.parse(202)
}

#[tokio::test]
async fn one_trace_leads_from_the_request_to_the_commit() -> Result<()> {
    let collector = Collector::start()?;
    let scene = Scene::start(telling(&collector.endpoint())).await?;
    let hook = scene.hook("traced");
    let endpoint = scene.endpoint(&hook).await?;
    let event = publish(&scene, &trace_id(1)).await?;

    let trace = collector.trace(&trace_id(1), &SPANS, SOON).await?;
    let [accept, nudge, attempt, commit] = SPANS.map(|name| trace.span(name));
    let (accept, nudge, attempt, commit) = (accept?, nudge?, attempt?, commit?);
    assert_eq!(accept.parent_id, CALLER);
    assert_eq!(nudge.parent_id, accept.span_id);
    assert_eq!(attempt.parent_id, accept.span_id);
    assert_eq!(commit.parent_id, attempt.span_id);
    assert_eq!(trace.path_to("commit")?, [SPANS[0], "POST", "commit"]);
    assert_eq!([accept.kind, nudge.kind, attempt.kind, commit.kind], [2, 4, 3, 1]);
    assert!(attempt.ended <= commit.began, "{attempt:?} {commit:?}");
    assert_eq!(trace.nodes().into_iter().collect::<Vec<_>>(), ["node-7"]);
    assert_eq!(accept.resource["service.name"], "postrider");
    assert!(!accept.resource["service.version"].is_empty());
    assert_eq!(accept.attribute("http.response.status_code"), "202");
    assert_eq!(accept.attribute("http.route"), SPANS[0].trim_start_matches("POST "));
    let delivery = scene.account.delivery_of(&event.id, &endpoint.id).await?;
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
    assert!(hook.received()[0].header("traceparent").is_none(), "the request is a contract");
    Ok(())
}

#[tokio::test]
async fn a_retry_is_a_trace_of_its_own_and_found_by_the_event() -> Result<()> {
    let collector = Collector::start()?;
    let scene = Scene::start(telling(&collector.endpoint())).await?;
    let hook = scene.hook("fails");
    hook.behave(Behaviour::fail_first(1, 503));
    scene.endpoint(&hook).await?;
    let event = publish(&scene, &trace_id(2)).await?;

    let attempt = |told: &Told, number: &str| -> Option<Span> {
        let mut attempts = told.spans.iter().filter(|span| span.name == "POST");
        let wanted = |span: &&Span| {
            span.attribute("postrider.event.id") == event.id
                && span.attribute("postrider.attempt.number") == number
        };
        attempts.find(wanted).cloned()
    };
    let what = "both attempts are told of";
    let both = |told: &Told| Some((attempt(told, "1")?, attempt(told, "2")?));
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
async fn metrics_are_the_same_for_the_collector_and_for_prometheus() -> Result<()> {
    let collector = Collector::start()?;
    let scene = Scene::start(telling(&collector.endpoint())).await?;
    let (open, closed) = (scene.hook("open"), scene.hook("closed"));
    scene.endpoint(&open).await?;
    let held = scene.endpoint(&closed).await?;
    scene.account.disable(&held.id).await?;
    scene.publish(&json!({})).await?;
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
    let all = |told: &Told| {
        let sum = |name: &str| told.metrics.get(name).map(|metric| metric.sum);
        let counted = sum("postrider.deliveries.held")? == 1.0
            && sum("postrider.deliveries.finished")? == 1.0
            && names.iter().all(|name| sum(name).is_some());
        counted.then(|| told.metrics.clone())
    };
    let told = collector.until("every metric is told of", SOON, all).await?;
    assert_eq!(told["postrider.events.accepted"].sum, 1.0);
    assert_eq!(told["postrider.attempt.lateness"].sum, 1.0);
    assert_eq!(told["postrider.shards.owned"].sum, 256.0);
    assert_eq!(told["postrider.attempt.duration"].unit, "s");
    assert_eq!(told["postrider.attempts"].resource["service.instance.id"], "node-7");

    let text = scene.node.api(None).get("/metrics").await?;
    let text = String::from_utf8_lossy(&text.body).into_owned();
    for name in told.keys().filter(|name| name.starts_with("postrider.")) {
        let name = name.replace('.', "_");
        ensure!(text.contains(&format!("\n{name}")), "no {name} in {text}");
    }
    for line in ["postrider_events_accepted_total{", "way=\"http\"", "postrider_deliveries_held"] {
        ensure!(text.contains(line), "no {line} in {text}");
    }
    Ok(())
}

#[tokio::test]
async fn logs_are_told_in_their_trace() -> Result<()> {
    let collector = Collector::start()?;
    let config = telling(&collector.endpoint()).set("delivery", "gone_disables", true);
    let scene = Scene::start(config).await?;
    let hook = scene.hook("gone");
    hook.behave(Behaviour::status(410));
    let endpoint = scene.endpoint(&hook).await?;
    publish(&scene, &trace_id(3)).await?;

    let disabled =
        |told: &Told| told.logs.iter().find(|log| log.body == "an endpoint is disabled").cloned();
    let log = collector.until("the endpoint's end is told of", SOON, disabled).await?;
    assert_eq!(log.trace_id, trace_id(3));
    assert_eq!(log.severity, "INFO");
    assert_eq!(log.attributes["endpoint"], endpoint.id);
    assert_eq!(log.resource["service.instance.id"], "node-7");
    let sent = |told: &Told| told.metrics.get("postrider.emails.sent").map(|emails| emails.sum);
    assert_eq!(collector.until("the email is told of", SOON, sent).await?, 1.0);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_slows_nothing() -> Result<()> {
    let refuses = Collector::away()?;
    // Connections are made by the kernel; nobody ever reads from them.
    let (port, _silent) = {
        let port = Port::reserve()?;
        let listener = port.listen()?;
        (port, listener)
    };
    for endpoint in [refuses.endpoint(), format!("http://{}", port.address())] {
        let mut scene = Scene::start(telling(&endpoint)).await?;
        let hook = scene.hook("quick");
        scene.endpoint(&hook).await?;
        let payloads: Vec<_> = (0..1000).map(|n| format!("{{\"n\":{n}}}")).collect();
        let events: Vec<_> = payloads.iter().map(|text| (ORDER, text.as_str())).collect();
        for _ in 0..3 {
            scene.account.try_publish_batch(&events).await?.expect(202)?;
        }
        hook.wait_for(3000, seconds(60)).await?;
        let begun = Instant::now();
        scene.node.stop().await?;
        ensure!(begun.elapsed() < seconds(6), "stopping took {:?}", begun.elapsed());
        let log = scene.node.log();
        let told = log.lines().filter(|line| line.contains("collector")).count();
        ensure!((1..=4).contains(&told), "{told} lines of the collector in\n{log}");
        ensure!(!log.contains("BatchSpanProcessor"), "{log}");
    }
    Ok(())
}

#[tokio::test]
async fn a_collector_may_go_away_and_come_back() -> Result<()> {
    let mut collector = Collector::start()?;
    let mut scene = Scene::start(telling(&collector.endpoint())).await?;
    let hook = scene.hook("on");
    scene.endpoint(&hook).await?;
    publish(&scene, &trace_id(4)).await?;
    collector.trace(&trace_id(4), &SPANS, SOON).await?;

    collector.go_away();
    publish(&scene, &trace_id(5)).await?;
    hook.wait_for(2, SOON).await?;
    collector.come_back()?;
    publish(&scene, &trace_id(6)).await?;
    collector.trace(&trace_id(6), &SPANS, SOON).await?;

    publish(&scene, &trace_id(7)).await?;
    hook.wait_for_ended(4, SOON).await?;
    scene.node.stop().await?;
    let trace = collector.trace(&trace_id(7), &SPANS, SOON).await?;
    assert_eq!(trace.path_to("commit")?.len(), 3, "what is left at the end is exported");
    Ok(())
}
