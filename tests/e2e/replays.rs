//! Replays: a durable job that delivers past events again.

use anyhow::Result;
use postrider_tests::client::records::Replay;
use postrider_tests::config::Config;
use postrider_tests::receiver::Hook;
use postrider_tests::scene::{ORDER, REFUND, Scene};
use postrider_tests::wait;
use serde_json::{Value, json};

use crate::SOON;

/// Publishes `orders` orders and one refund, and waits until they are delivered.
async fn past(scene: &Scene, hook: &Hook, orders: usize) -> Result<()> {
    for n in 0..orders {
        scene.account.publish(ORDER, &json!({"n": n}).to_string()).await?;
    }
    scene.account.publish(REFUND, "{}").await?;
    hook.wait_for_ended(orders + 1, SOON).await?;
    let endpoint = &scene.account.list::<Value>("/endpoints?").await?[0];
    let id = endpoint["id"].as_str().unwrap_or_default();
    scene.account.until_endpoint(id, "is done", SOON, |e| e.pending == 0).await.map(|_| ())
}

async fn until_state(scene: &Scene, id: &str, state: &str) -> Result<Replay> {
    let what = format!("{id} is {state}");
    let there =
        async || Ok(Some(scene.account.replay_progress(id).await?).filter(|r| r.state == state));
    wait::until(&what, SOON, there).await
}

async fn command(
    scene: &Scene,
    id: &str,
    command: &str,
) -> Result<postrider_tests::client::Answer> {
    let path = scene.account.path(&format!("/replays/{id}/{command}"));
    scene.account.api.post(&path, &json!({})).await
}

#[tokio::test]
async fn past_events_are_delivered_again() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("again");
    let endpoint = scene.endpoint(&hook).await?;
    past(&scene, &hook, 4).await?;
    let filter = json!({"endpoint": endpoint.id, "event_types": [ORDER], "states": ["delivered"]});
    let mut dry = filter.clone();
    dry["dry_run"] = json!(true);
    let path = scene.account.path("/replays");
    let count = scene.account.api.post(&path, &dry).await?.succeeded()?;
    assert_eq!(count["total"], 4, "{count}");

    let replay = scene.account.replay(&filter).await?;
    let done = until_state(&scene, &replay.id, "completed").await?;
    assert_eq!((done.total, done.done), (4, 4));
    let received = hook.wait_for(9, SOON).await?;
    for again in &received[5..] {
        let first = received[..5].iter().find(|r| r.webhook_id() == again.webhook_id());
        assert_eq!(first.map(|r| &r.body), Some(&again.body));
        assert_eq!(again.header("webhook-event-type").as_deref(), Some(ORDER));
        again.verify(endpoint.signing_secret.as_deref().unwrap_or_default())?;
    }
    assert_eq!(scene.account.deliveries(&endpoint.id).await?.len(), 9);
    Ok(())
}

#[tokio::test]
async fn a_replay_can_pause_survive_a_kill_and_go_on() -> Result<()> {
    let mut scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("again");
    scene.endpoint(&hook).await?;
    past(&scene, &hook, 9).await?;
    let replay = scene.account.replay(&json!({"rate": 5})).await?;
    hook.wait_for(11, SOON).await?;
    command(&scene, &replay.id, "pause").await?.succeeded()?;
    let paused = until_state(&scene, &replay.id, "paused").await?;
    assert!(paused.done < paused.total, "{paused:?}");
    scene.node.kill().await?;
    scene.node.restart().await?;
    let still = scene.account.replay_progress(&replay.id).await?;
    assert_eq!(still.state, "paused");
    command(&scene, &replay.id, "resume").await?.succeeded()?;
    let done = until_state(&scene, &replay.id, "completed").await?;
    assert_eq!((done.total, done.done), (10, 10));
    hook.wait_for(20, SOON).await?;
    command(&scene, &replay.id, "resume").await?.problem(&[409])?;
    Ok(())
}

#[tokio::test]
async fn the_slowest_replay_goes_on() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("again");
    scene.endpoint(&hook).await?;
    past(&scene, &hook, 2).await?;
    let before = hook.received().len();
    let replay = scene.account.replay(&json!({"rate": 1})).await?;
    hook.wait_for(before + 2, SOON).await?;
    command(&scene, &replay.id, "cancel").await?;
    Ok(())
}

#[tokio::test]
async fn a_cancelled_replay_stays_so() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("again");
    scene.endpoint(&hook).await?;
    past(&scene, &hook, 9).await?;
    let replay = scene.account.replay(&json!({"rate": 1})).await?;
    command(&scene, &replay.id, "cancel").await?.succeeded()?;
    let cancelled = until_state(&scene, &replay.id, "cancelled").await?;
    assert!(cancelled.done < cancelled.total, "{cancelled:?}");
    command(&scene, &replay.id, "resume").await?.problem(&[409])?;
    Ok(())
}

#[tokio::test]
async fn a_replay_that_makes_no_sense_is_refused() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let path = scene.account.path("/replays");
    let bad = json!({"states": ["lost"], "since": "yesterday", "rate": 0, "what": 1});
    let problem = scene.account.api.post(&path, &bad).await?.problem(&[400, 422])?;
    assert_eq!(problem.pointers(), ["/rate", "/since", "/states/0", "/what"]);
    Ok(())
}
