//! Retries of a failing endpoint, until it is disabled.

use std::time::Duration;

use anyhow::{Context, Result};
use postrider_tests::client::records::{Delivery, Endpoint};
use postrider_tests::config::Config;
use postrider_tests::evidence::since;
use postrider_tests::fixture::{Fixture, ORDER};
use postrider_tests::receiver::Behaviour;
use postrider_tests::schedule::Schedule;
use postrider_tests::wait::{millis, seconds};
use serde_json::json;

use crate::SOON;

/// Times are recorded in whole milliseconds.
const ROUNDING: std::time::Duration = millis(3);

fn ended(delivery: &Delivery) -> bool {
    delivery.finished_at.is_some()
}

#[tokio::test]
async fn an_endpoint_is_disabled_after_eleven_failed_attempts() -> Result<()> {
    // Delays of 51 ms to 2 s: the default number of retries, on a shorter scale and with another
    // factor.
    let config = Config::new().timeout("300ms").retry("10s", 10).set("retry", "factor", 1.5);
    let schedule = Schedule { factor: 1.5, ..Schedule::new(seconds(10), 10, millis(300)) };
    let fixture = Fixture::start(config).await?;
    let hook = fixture.hook("broken");
    hook.set_behaviour(Behaviour::with_body(503, "down for maintenance"));
    let endpoint = fixture.endpoint(&hook).await?;
    let event = fixture.publish(&json!({"n": 1})).await?;
    let received = hook.wait_for(11, seconds(15)).await?;
    let delivery = fixture.account.delivery_of(&event.id, &endpoint.id).await?;
    let delivery = fixture.account.until_delivery(&delivery.id, "ends", SOON, ended).await?;

    assert_eq!((delivery.state.as_str(), delivery.attempt_count), ("exhausted", 11));
    let numbers: Vec<_> = delivery.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..=11).collect::<Vec<_>>());
    for (pair, retry) in delivery.attempts.windows(2).zip(1..) {
        let due = pair[0].next_attempt_at.context("there is no next attempt")?;
        let delay = since(due, pair[0].at).saturating_sub(millis(pair[0].duration_ms));
        let (least, most) = (schedule.shortest(retry), schedule.longest(retry));
        assert!(delay + ROUNDING >= least && delay <= most + ROUNDING, "retry {retry}: {delay:?}");
        assert!(pair[1].at >= due, "retry {retry} began before it was due");
    }
    assert!(received.iter().all(|request| request.webhook_id() == Some(event.id.clone())));
    assert!(received.iter().all(|request| request.body == received[0].body));
    let last_due = delivery.attempts[9].next_attempt_at.context("there is no eleventh attempt")?;
    let whole = since(last_due, delivery.attempts[0].at);
    assert!(whole <= schedule.window, "{whole:?}");

    let endpoint = fixture.account.endpoint(&endpoint.id).await?;
    let disabled = endpoint.disabled.context("disabled")?;
    assert_eq!((endpoint.state.as_str(), disabled.reason.as_str()), ("disabled", "exhausted"));
    assert_eq!(disabled.delivery_id.as_ref(), Some(&delivery.id));
    assert_eq!(endpoint.failure_count, 11);
    let last = endpoint.last_error.context("there is no last error")?;
    assert_eq!((last.kind.as_str(), last.status), ("status", Some(503)));
    assert_eq!(last.delivery_id, delivery.id);
    Ok(())
}

#[tokio::test]
async fn the_failure_count_counts_consecutive_failures() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("flaky");
    hook.set_behaviour(Behaviour::fail_first(2, 500));
    let endpoint = fixture.endpoint(&hook).await?;
    let event = fixture.publish(&json!({})).await?;
    let account = &fixture.account;
    account.until_endpoint(&endpoint.id, "counts 2", SOON, |e| e.failure_count == 2).await?;
    account.until_endpoint(&endpoint.id, "counts 0", SOON, |e| e.failure_count == 0).await?;
    let delivery = account.delivery_of(&event.id, &endpoint.id).await?;
    assert_eq!((delivery.state.as_str(), delivery.attempt_count), ("delivered", 3));
    let endpoint = account.endpoint(&endpoint.id).await?;
    assert_eq!(endpoint.state, "enabled");
    assert_eq!(
        endpoint.last_error.map(|error| error.status),
        Some(Some(500)),
        "the last error was cleared by a success"
    );
    Ok(())
}

#[tokio::test]
async fn every_retry_is_signed_with_a_fresh_timestamp() -> Result<()> {
    let fixture = Fixture::start(Config::new().timeout("1s").retry("20s", 3)).await?;
    let hook = fixture.hook("flaky");
    hook.set_behaviour(Behaviour::fail_first(2, 500));
    let endpoint = fixture.endpoint(&hook).await?;
    fixture.publish(&json!({})).await?;
    let secret = endpoint.signing_secret.unwrap_or_default();
    for request in hook.wait_for(3, SOON).await? {
        request.verify(&secret)?;
        let stamp: i64 = request.header("webhook-timestamp").unwrap_or_default().parse()?;
        assert!((request.arrived.as_second() - stamp).abs() <= 1, "{stamp}");
    }
    Ok(())
}

#[tokio::test]
async fn retry_after_extends_a_delay_within_the_window() -> Result<()> {
    // Delays of 1.6, 4 and 10 s without jitter.
    let fixture = Fixture::start(Config::new().timeout("1s").retry("22s", 3)).await?;
    let schedule = Schedule::new(seconds(22), 3, seconds(1));
    let hook = fixture.hook("busy");
    hook.set_behaviour(Behaviour::with_header(429, "Retry-After", "3600"));
    let endpoint = fixture.endpoint(&hook).await?;
    let event = fixture.publish(&json!({})).await?;
    hook.wait_for_ended(1, SOON).await?;
    let id = fixture.account.delivery_of(&event.id, &endpoint.id).await?.id;
    let tried = |delivery: &Delivery| delivery.attempt_count == 1;
    let delivery = fixture.account.until_delivery(&id, "is tried", SOON, tried).await?;
    let first = &delivery.attempts[0];
    let due = first.next_attempt_at.context("there is no retry")?;
    // The other two retries still fit into the window.
    let rest: Duration = (2..=3).map(|retry| seconds(1) + schedule.shortest(retry)).sum();
    let (delay, latest) = (since(due, first.at), seconds(22) - rest);
    assert!(delay.abs_diff(latest) < millis(20), "{delay:?}, not {latest:?}");
    Ok(())
}

#[tokio::test]
async fn a_retry_that_became_due_while_the_node_was_down_is_sent() -> Result<()> {
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("late");
    hook.set_behaviour(Behaviour::status(500));
    let endpoint = fixture.endpoint(&hook).await?;
    let event = fixture.publish(&json!({})).await?;
    hook.wait_for_ended(1, SOON).await?;
    let id = fixture.account.delivery_of(&event.id, &endpoint.id).await?.id;
    let tried = |delivery: &Delivery| delivery.attempt_count == 1;
    let delivery = fixture.account.until_delivery(&id, "is tried", SOON, tried).await?;
    let due = delivery.next_attempt_at.context("there is no retry")?;
    fixture.node.kill().await?;
    hook.set_behaviour(Behaviour::default());
    // The node stays down until well after the retry was due.
    let overdue = since(due, jiff::Timestamp::now()) + millis(300);
    tokio::time::sleep(overdue).await;
    fixture.node.restart().await?;
    hook.wait_for(2, SOON).await?;
    let delivery = fixture.account.until_delivery(&id, "ends", SOON, ended).await?;
    assert_eq!((delivery.state.as_str(), delivery.attempt_count), ("delivered", 2));
    Ok(())
}

/// However many events are pending, the first delivery keeps its retry schedule.
#[tokio::test]
async fn a_hanging_endpoint_with_many_events_is_disabled_within_the_window() -> Result<()> {
    let fixture = Fixture::start(Config::new().timeout("300ms").retry("4s", 3)).await?;
    let hook = fixture.hook("hanging");
    hook.set_behaviour(Behaviour::Hang);
    let endpoint = fixture.endpoint(&hook).await?;
    let events = vec![(ORDER, "{}"); 100];
    fixture.account.try_publish_batch(&events).await?.expect(202)?;
    hook.wait_for(1, SOON).await?;
    let disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
    let within = seconds(4) + millis(300) + seconds(1);
    fixture.account.until_endpoint(&endpoint.id, "is disabled", within, disabled).await?;
    Ok(())
}

#[tokio::test]
async fn a_410_is_retried_like_other_failures() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("gone");
    hook.set_behaviour(Behaviour::fail_first(1, 410));
    let endpoint = fixture.endpoint(&hook).await?;
    let event = fixture.publish(&json!({})).await?;
    hook.wait_for_ended(2, SOON).await?;
    let id = fixture.account.delivery_of(&event.id, &endpoint.id).await?.id;
    let delivery = fixture.account.until_delivery(&id, "ends", SOON, ended).await?;
    assert_eq!(delivery.state, "delivered");
    Ok(())
}

#[tokio::test]
async fn a_manual_retry_is_a_new_delivery() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("again");
    let endpoint = fixture.endpoint(&hook).await?;
    let event = fixture.account.publish(ORDER, "{ }").await?;
    hook.wait_for_ended(1, SOON).await?;
    let first = fixture.account.delivery_of(&event.id, &endpoint.id).await?;
    // Until its attempt is recorded, it is pending, and would be brought forward.
    let first = fixture.account.until_delivery(&first.id, "ends", SOON, ended).await?;
    for n in 2..=3 {
        let path = fixture.account.path(&format!("/deliveries/{}/retry", first.id));
        let response = fixture.account.api.post(&path, &json!({})).await?.succeeded()?;
        assert_ne!(response["id"].as_str(), Some(first.id.as_str()));
        assert_eq!(response["event_id"].as_str(), Some(event.id.as_str()));
        hook.wait_for(n, SOON).await?;
    }
    let received = hook.received();
    assert!(received.iter().all(|request| request.webhook_id() == Some(event.id.clone())));
    assert_eq!(fixture.account.deliveries(&endpoint.id).await?.len(), 3);
    Ok(())
}
