//! Strict endpoints get one event at a time, in order; parallel ones get several at once.

use anyhow::Result;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::receiver::{Behaviour, Received};
use postrider_tests::scene::Scene;
use postrider_tests::wait::millis;
use serde_json::json;

use crate::SOON;

/// Quick retries: about 20 and 50 ms.
fn quick() -> Config {
    Config::new().timeout("1s").retry("2200ms", 2)
}

async fn publish(scene: &Scene, n: usize) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for number in 0..n {
        ids.push(scene.publish(&json!({"n": number})).await?.id);
    }
    Ok(ids)
}

fn ids(received: &[Received]) -> Vec<String> {
    received.iter().filter_map(Received::webhook_id).collect()
}

/// How many of these were in flight at once, at most.
fn most_at_once(received: &[Received]) -> usize {
    let at = |r: &Received| {
        received
            .iter()
            .filter(|o| o.began <= r.began && o.ended.is_none_or(|e| e > r.began))
            .count()
    };
    received.iter().map(at).max().unwrap_or(0)
}

#[tokio::test]
async fn strict_is_one_at_a_time_in_order() -> Result<()> {
    let scene = Scene::start(quick()).await?;
    let hook = scene.hook("strict");
    hook.behave(Behaviour::Slow(millis(30)));
    scene.account.create(&NewEndpoint::at(&hook.url()).strict()).await?;
    let published = publish(&scene, 20).await?;
    let received = hook.wait_for_ended(20, SOON).await?;
    assert_eq!(ids(&received), published);
    assert_eq!(most_at_once(&received), 1);
    Ok(())
}

#[tokio::test]
async fn strict_holds_the_later_ones_back_while_one_fails() -> Result<()> {
    let scene = Scene::start(quick()).await?;
    let hook = scene.hook("strict");
    hook.behave(Behaviour::fail_first(2, 500));
    scene.account.create(&NewEndpoint::at(&hook.url()).strict()).await?;
    let published = publish(&scene, 4).await?;
    let received = hook.wait_for_ended(12, SOON).await?;
    let expected: Vec<_> = published.iter().flat_map(|id| vec![id.clone(); 3]).collect();
    assert_eq!(ids(&received), expected);
    Ok(())
}

#[tokio::test]
async fn strict_keeps_its_order_over_a_disabling_and_a_kill() -> Result<()> {
    let mut scene = Scene::start(quick()).await?;
    let hook = scene.hook("strict");
    hook.behave(Behaviour::status(500));
    let endpoint = scene.account.create(&NewEndpoint::at(&hook.url()).strict()).await?;
    let mut published = publish(&scene, 3).await?;
    let disabled = |endpoint: &Endpoint| endpoint.state == "disabled" && endpoint.held == 2;
    scene.account.until_endpoint(&endpoint.id, "holds two", SOON, disabled).await?;
    published.extend(publish(&scene, 3).await?);
    assert_eq!(ids(&hook.received()), vec![published[0].clone(); 3]);
    scene.node.kill().await?;
    scene.node.restart().await?;
    hook.behave(Behaviour::default());
    scene.account.enable(&endpoint.id, "resume").await?;
    let received = hook.wait_for(8, SOON).await?;
    assert_eq!(ids(&received[3..]), published[1..]);
    Ok(())
}

#[tokio::test]
async fn parallel_is_several_at_once_and_sixteen_at_most() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("parallel");
    hook.behave(Behaviour::Slow(millis(100)));
    scene.endpoint(&hook).await?;
    let mut published = publish(&scene, 100).await?;
    let received = hook.wait_for_ended(100, SOON).await?;
    let most = most_at_once(&received);
    assert!((2..=16).contains(&most), "{most} at once");
    let mut arrived = ids(&received);
    arrived.sort();
    published.sort();
    assert_eq!(arrived, published);
    Ok(())
}

#[tokio::test]
async fn parallel_does_not_wait_for_one_that_fails() -> Result<()> {
    // The first retry comes after about half a minute.
    let scene = Scene::start(Config::new().timeout("1s").retry("300s", 2)).await?;
    let hook = scene.hook("parallel");
    hook.behave(Behaviour::status(500));
    scene.endpoint(&hook).await?;
    publish(&scene, 1).await?;
    hook.wait_for_ended(1, SOON).await?;
    hook.behave(Behaviour::default());
    let later = publish(&scene, 3).await?;
    let received = hook.wait_for(4, SOON).await?;
    assert!(ids(&received[1..]).iter().all(|id| later.contains(id)));
    Ok(())
}
