//! Replays: durable jobs that deliver past events again.

use anyhow::Result;
use postrider_tests::client::records::Replay;
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER, REFUND};
use postrider_tests::receiver::Hook;
use postrider_tests::wait;
use serde_json::{Value, json};

use crate::SOON;

/// Publishes `orders` orders and one refund, and waits until they are delivered.
async fn deliver_orders(fixture: &Fixture, hook: &Hook, orders: usize) -> Result<()> {
    for n in 0..orders {
        fixture.account.publish(ORDER, &json!({"n": n}).to_string()).await?;
    }
    fixture.account.publish(REFUND, "{}").await?;
    hook.wait_for_ended(orders + 1, SOON).await?;
    let endpoint = &fixture.account.list::<Value>("/endpoints?").await?[0];
    let id = endpoint["id"].as_str().unwrap_or_default();
    fixture
        .account
        .until_endpoint(id, "has no pending delivery", SOON, |e| e.pending == 0)
        .await
        .map(|_| ())
}

async fn until_state(fixture: &Fixture, id: &str, state: &str) -> Result<Replay> {
    let what = format!("{id} is {state}");
    let reached =
        async || Ok(Some(fixture.account.replay_progress(id).await?).filter(|r| r.state == state));
    wait::until(&what, SOON, reached).await
}

async fn command(
    fixture: &Fixture,
    id: &str,
    command: &str,
) -> Result<postrider_tests::client::Answer> {
    let path = fixture.account.path(&format!("/replays/{id}/{command}"));
    fixture.account.api.post(&path, &json!({})).await
}

#[tokio::test]
async fn a_replay_delivers_past_events_again() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("again");
    let endpoint = fixture.endpoint(&hook).await?;
    deliver_orders(&fixture, &hook, 4).await?;
    let filter = json!({"endpoint": endpoint.id, "event_types": [ORDER], "states": ["delivered"]});
    let mut dry = filter.clone();
    dry["dry_run"] = json!(true);
    let path = fixture.account.path("/replays");
    let count = fixture.account.api.post(&path, &dry).await?.succeeded()?;
    assert_eq!(count["total"], 4, "{count}");

    let replay = fixture.account.replay(&filter).await?;
    let done = until_state(&fixture, &replay.id, "completed").await?;
    assert_eq!((done.total, done.done), (4, 4));
    let received = hook.wait_for(9, SOON).await?;
    for again in &received[5..] {
        let first = received[..5].iter().find(|r| r.webhook_id() == again.webhook_id());
        assert_eq!(first.map(|r| &r.body), Some(&again.body));
        assert_eq!(again.header("webhook-event-type").as_deref(), Some(ORDER));
        again.verify(endpoint.signing_secret.as_deref().unwrap_or_default())?;
    }
    assert_eq!(fixture.account.deliveries(&endpoint.id).await?.len(), 9);
    Ok(())
}

#[tokio::test]
async fn a_paused_replay_survives_a_kill_and_can_be_resumed() -> Result<()> {
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("again");
    fixture.endpoint(&hook).await?;
    deliver_orders(&fixture, &hook, 9).await?;
    let replay = fixture.account.replay(&json!({"rate": 5})).await?;
    hook.wait_for(11, SOON).await?;
    command(&fixture, &replay.id, "pause").await?.succeeded()?;
    let paused = until_state(&fixture, &replay.id, "paused").await?;
    assert!(paused.done < paused.total, "{paused:?}");
    fixture.node.kill().await?;
    fixture.node.restart().await?;
    let still = fixture.account.replay_progress(&replay.id).await?;
    assert_eq!(still.state, "paused");
    command(&fixture, &replay.id, "resume").await?.succeeded()?;
    let done = until_state(&fixture, &replay.id, "completed").await?;
    assert_eq!((done.total, done.done), (10, 10));
    hook.wait_for(20, SOON).await?;
    command(&fixture, &replay.id, "resume").await?.problem(&[409])?;
    Ok(())
}

#[tokio::test]
async fn a_replay_at_the_lowest_rate_makes_progress() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("again");
    fixture.endpoint(&hook).await?;
    deliver_orders(&fixture, &hook, 2).await?;
    let before = hook.received().len();
    let replay = fixture.account.replay(&json!({"rate": 1})).await?;
    hook.wait_for(before + 2, SOON).await?;
    command(&fixture, &replay.id, "cancel").await?;
    Ok(())
}

#[tokio::test]
async fn a_cancelled_replay_cannot_be_resumed() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("again");
    fixture.endpoint(&hook).await?;
    deliver_orders(&fixture, &hook, 9).await?;
    let replay = fixture.account.replay(&json!({"rate": 1})).await?;
    command(&fixture, &replay.id, "cancel").await?.succeeded()?;
    let cancelled = until_state(&fixture, &replay.id, "cancelled").await?;
    assert!(cancelled.done < cancelled.total, "{cancelled:?}");
    command(&fixture, &replay.id, "resume").await?.problem(&[409])?;
    Ok(())
}

#[tokio::test]
async fn an_invalid_replay_is_rejected_with_every_field() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let path = fixture.account.path("/replays");
    let bad = json!({"states": ["lost"], "since": "yesterday", "rate": 0, "what": 1});
    let problem = fixture.account.api.post(&path, &bad).await?.problem(&[400, 422])?;
    assert_eq!(problem.pointers(), ["/rate", "/since", "/states/0", "/what"]);
    Ok(())
}
