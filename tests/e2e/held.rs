//! A disabled endpoint holds its deliveries; enabling it resumes or discards them.

use anyhow::{Context, Result};
use postrider_tests::client::records::{Delivery, Endpoint};
use postrider_tests::config::Config;
use postrider_tests::fixture::Fixture;
use postrider_tests::receiver::{Behaviour, Received};
use postrider_tests::wait::seconds;
use serde_json::json;

use crate::SOON;

fn numbers(received: &[Received]) -> Vec<u64> {
    let mut numbers: Vec<_> =
        received.iter().filter_map(|r| r.json().ok()?["n"].as_u64()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn events_for_a_disabled_endpoint_are_held_and_resumed() -> Result<()> {
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("held");
    let endpoint = fixture.endpoint(&hook).await?;
    fixture.account.disable(&endpoint.id).await?;
    let mut events = Vec::new();
    for n in 0..5 {
        let accepted = fixture.publish(&json!({"n": n})).await?;
        assert_eq!(accepted.deliveries, 1, "an event for a disabled endpoint is recorded");
        events.push(accepted);
    }
    let held = fixture.account.endpoint(&endpoint.id).await?;
    assert_eq!((held.state.as_str(), held.held, held.pending), ("disabled", 5, 0));
    assert_eq!(held.disabled.context("disabled")?.reason, "manual");
    let oldest = held.oldest_pending_at.context("oldest_pending_at is not set")?;
    assert_eq!(oldest, events[0].created_at);
    let states = |all: Vec<Delivery>| all.into_iter().map(|d| d.state).collect::<Vec<_>>();
    assert_eq!(states(fixture.account.deliveries(&endpoint.id).await?), ["held"; 5]);

    fixture.node.kill().await?;
    fixture.node.restart().await?;
    assert!(hook.received().is_empty(), "a delivery was sent while the endpoint was disabled");
    fixture.account.enable(&endpoint.id, "resume").await?;
    let received = hook.wait_for(5, SOON).await?;
    assert_eq!(numbers(&received), [0, 1, 2, 3, 4]);
    let resumed = fixture
        .account
        .until_endpoint(&endpoint.id, "has nothing left", SOON, |e| e.pending + e.held == 0)
        .await?;
    assert_eq!(resumed.state, "enabled");
    assert!(resumed.disabled.is_none());
    assert_eq!(states(fixture.account.deliveries(&endpoint.id).await?), ["delivered"; 5]);
    Ok(())
}

#[tokio::test]
async fn held_deliveries_can_be_discarded() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("held");
    let endpoint = fixture.endpoint(&hook).await?;
    fixture.account.disable(&endpoint.id).await?;
    for n in 0..3 {
        fixture.publish(&json!({"n": n})).await?;
    }
    fixture.account.enable(&endpoint.id, "discard").await?;
    fixture.publish(&json!({"n": 9})).await?;
    let received = hook.wait_for(1, SOON).await?;
    assert_eq!(numbers(&received), [9]);
    let settled = |e: &Endpoint| e.held == 0 && e.pending == 0;
    fixture.account.until_endpoint(&endpoint.id, "has nothing left", SOON, settled).await?;
    let mut states: Vec<_> =
        fixture.account.deliveries(&endpoint.id).await?.into_iter().map(|d| d.state).collect();
    states.sort();
    assert_eq!(states, ["delivered", "discarded", "discarded", "discarded"]);
    Ok(())
}

#[tokio::test]
async fn an_exhausted_delivery_leaves_the_others_held() -> Result<()> {
    // Two attempts, about a second apart.
    let fixture = Fixture::start(Config::new().timeout("1s").retry("2s", 1)).await?;
    let hook = fixture.hook("broken");
    hook.set_behaviour(Behaviour::status(500));
    let endpoint = fixture.endpoint(&hook).await?;
    for n in 0..4 {
        fixture.publish(&json!({"n": n})).await?;
    }
    let disabled = |e: &Endpoint| e.state == "disabled";
    let held = fixture.account.until_endpoint(&endpoint.id, "is disabled", SOON, disabled).await?;
    // Several deliveries may have been in their last attempt when the first was exhausted.
    let exhausted = |all: &[Delivery]| all.iter().filter(|d| d.state == "exhausted").count() as u64;
    let settled = async || {
        let all = fixture.account.deliveries(&endpoint.id).await?;
        let endpoint = fixture.account.endpoint(&endpoint.id).await?;
        Ok((exhausted(&all) + endpoint.held == 4).then_some(endpoint.held))
    };
    let held_now = postrider_tests::wait::until("the rest is held", SOON, settled).await?;
    assert_eq!(held.pending, 0);
    let before = hook.received().len();
    hook.set_behaviour(Behaviour::default());
    fixture.account.enable(&endpoint.id, "resume").await?;
    let expected = before + usize::try_from(held_now)?;
    let received = hook.wait_for(expected, SOON).await?;
    let fresh = received[before..].iter().all(|request| request.answered != Some(500));
    assert!(fresh, "a resumed delivery failed again");
    Ok(())
}

#[tokio::test]
async fn no_attempt_starts_after_disabling_or_deleting() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let (disabled, deleted) = (fixture.hook("disabled"), fixture.hook("deleted"));
    let (first, second) = (fixture.endpoint(&disabled).await?, fixture.endpoint(&deleted).await?);
    disabled.set_behaviour(Behaviour::status(500));
    deleted.set_behaviour(Behaviour::status(500));
    fixture.publish(&json!({"n": 1})).await?;
    disabled.wait_for_ended(1, SOON).await?;
    deleted.wait_for_ended(1, SOON).await?;
    fixture.account.disable(&first.id).await?;
    let path = fixture.account.path(&format!("/endpoints/{}", second.id));
    fixture.account.api.delete(&path).await?.succeeded()?;
    let before = (disabled.received().len(), deleted.received().len());
    // Meanwhile a third endpoint that fails in the same way uses up all its retries.
    let third = fixture.hook("third");
    third.set_behaviour(Behaviour::status(500));
    fixture.endpoint(&third).await?;
    fixture.publish(&json!({"n": 2})).await?;
    third.wait_for(4, seconds(15)).await?;
    assert_eq!((disabled.received().len(), deleted.received().len()), before);
    fixture.account.api.get(&path).await?.problem(&[404])?;
    Ok(())
}
