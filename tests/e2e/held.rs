//! A disabled endpoint holds what comes for it; enabling resumes or discards.

use anyhow::{Context, Result};
use postrider_tests::client::records::{Delivery, Endpoint};
use postrider_tests::config::Config;
use postrider_tests::receiver::{Behaviour, Received};
use postrider_tests::scene::Scene;
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
    let mut scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("held");
    let endpoint = scene.endpoint(&hook).await?;
    scene.account.disable(&endpoint.id).await?;
    let mut events = Vec::new();
    for n in 0..5 {
        let accepted = scene.publish(&json!({"n": n})).await?;
        assert_eq!(accepted.deliveries, 1, "it is recorded");
        events.push(accepted);
    }
    let held = scene.account.endpoint(&endpoint.id).await?;
    assert_eq!((held.state.as_str(), held.held, held.pending), ("disabled", 5, 0));
    assert_eq!(held.disabled.context("disabled")?.reason, "manual");
    let oldest = held.oldest_pending_at.context("the oldest's age is shown")?;
    assert_eq!(oldest, events[0].created_at);
    let states = |all: Vec<Delivery>| all.into_iter().map(|d| d.state).collect::<Vec<_>>();
    assert_eq!(states(scene.account.deliveries(&endpoint.id).await?), ["held"; 5]);

    scene.node.kill().await?;
    scene.node.restart().await?;
    assert!(hook.received().is_empty(), "sent while disabled");
    scene.account.enable(&endpoint.id, "resume").await?;
    let received = hook.wait_for(5, SOON).await?;
    assert_eq!(numbers(&received), [0, 1, 2, 3, 4]);
    let resumed = scene
        .account
        .until_endpoint(&endpoint.id, "has nothing left", SOON, |e| e.pending + e.held == 0)
        .await?;
    assert_eq!(resumed.state, "enabled");
    assert!(resumed.disabled.is_none());
    assert_eq!(states(scene.account.deliveries(&endpoint.id).await?), ["delivered"; 5]);
    Ok(())
}

#[tokio::test]
async fn what_is_held_can_be_discarded() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("held");
    let endpoint = scene.endpoint(&hook).await?;
    scene.account.disable(&endpoint.id).await?;
    for n in 0..3 {
        scene.publish(&json!({"n": n})).await?;
    }
    scene.account.enable(&endpoint.id, "discard").await?;
    scene.publish(&json!({"n": 9})).await?;
    let received = hook.wait_for(1, SOON).await?;
    assert_eq!(numbers(&received), [9]);
    let settled = |e: &Endpoint| e.held == 0 && e.pending == 0;
    scene.account.until_endpoint(&endpoint.id, "has nothing left", SOON, settled).await?;
    let mut states: Vec<_> =
        scene.account.deliveries(&endpoint.id).await?.into_iter().map(|d| d.state).collect();
    states.sort();
    assert_eq!(states, ["delivered", "discarded", "discarded", "discarded"]);
    Ok(())
}

#[tokio::test]
async fn exhaustion_holds_the_other_deliveries() -> Result<()> {
    // Two attempts; the first retry after about a second.
    let scene = Scene::start(Config::new().timeout("1s").retry("2s", 1)).await?;
    let hook = scene.hook("broken");
    hook.behave(Behaviour::status(500));
    let endpoint = scene.endpoint(&hook).await?;
    for n in 0..4 {
        scene.publish(&json!({"n": n})).await?;
    }
    let disabled = |e: &Endpoint| e.state == "disabled";
    let held = scene.account.until_endpoint(&endpoint.id, "is disabled", SOON, disabled).await?;
    // More than one may have been in its last attempt when the first was exhausted.
    let exhausted = |all: &[Delivery]| all.iter().filter(|d| d.state == "exhausted").count() as u64;
    let settled = async || {
        let all = scene.account.deliveries(&endpoint.id).await?;
        let endpoint = scene.account.endpoint(&endpoint.id).await?;
        Ok((exhausted(&all) + endpoint.held == 4).then_some(endpoint.held))
    };
    let held_now = postrider_tests::wait::until("the rest is held", SOON, settled).await?;
    assert_eq!(held.pending, 0);
    let before = hook.received().len();
    hook.behave(Behaviour::default());
    scene.account.enable(&endpoint.id, "resume").await?;
    let expected = before + usize::try_from(held_now)?;
    let received = hook.wait_for(expected, SOON).await?;
    let fresh = received[before..].iter().all(|request| request.answered != Some(500));
    assert!(fresh, "all are delivered now");
    Ok(())
}

#[tokio::test]
async fn no_attempt_starts_after_disabling_or_deleting() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let (disabled, deleted) = (scene.hook("disabled"), scene.hook("deleted"));
    let (first, second) = (scene.endpoint(&disabled).await?, scene.endpoint(&deleted).await?);
    disabled.behave(Behaviour::status(500));
    deleted.behave(Behaviour::status(500));
    scene.publish(&json!({"n": 1})).await?;
    disabled.wait_for_ended(1, SOON).await?;
    deleted.wait_for_ended(1, SOON).await?;
    scene.account.disable(&first.id).await?;
    let path = scene.account.path(&format!("/endpoints/{}", second.id));
    scene.account.api.delete(&path).await?.succeeded()?;
    let before = (disabled.received().len(), deleted.received().len());
    // All retries of a third, which fails in the same way, come and go meanwhile.
    let third = scene.hook("third");
    third.behave(Behaviour::status(500));
    scene.endpoint(&third).await?;
    scene.publish(&json!({"n": 2})).await?;
    third.wait_for(4, seconds(15)).await?;
    assert_eq!((disabled.received().len(), deleted.received().len()), before);
    scene.account.api.get(&path).await?.problem(&[404])?;
    Ok(())
}
