//! A hundred endpoints that hang slow nobody else.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use postrider_tests::client::NewEndpoint;
use postrider_tests::config::Config;
use postrider_tests::receiver::Behaviour;
use postrider_tests::scene::{ORDER, REFUND, Scene};
use postrider_tests::wait::{millis, seconds};
use tokio::time::Instant;

use crate::SOON;

const HANGING: usize = 100;
const EVENTS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_hanging_endpoints_slow_nobody_else() -> Result<()> {
    let scene = Scene::start(Config::new()).await?;
    let healthy = scene.hook("healthy");
    scene.account.create(&NewEndpoint::at(&healthy.url()).of_types(&[ORDER])).await?;
    let alone = median_latency(&scene).await?;

    let hanging: Vec<_> = (0..HANGING).map(|n| scene.hook(&format!("hanging-{n}"))).collect();
    stream::iter(&hanging)
        .map(async |hook| {
            hook.behave(Behaviour::Hang);
            scene.account.create(&NewEndpoint::at(&hook.url()).of_types(&[REFUND])).await
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    for _ in 0..10 {
        scene.account.publish(REFUND, "{}").await?;
    }
    for hook in &hanging {
        hook.wait_for(1, SOON).await?;
    }
    let among = median_latency(&scene).await?;
    assert!(among < alone + millis(250), "{alone:?} alone, {among:?} among hanging ones");
    Ok(())
}

/// The median time from publishing to receipt at the healthy endpoint.
async fn median_latency(scene: &Scene) -> Result<Duration> {
    let hook = scene.hook("healthy");
    let before = hook.received().len();
    let mut asked = Vec::new();
    for n in 0..EVENTS {
        asked.push(Instant::now());
        scene.account.publish(ORDER, "{}").await?;
        hook.wait_for(before + n + 1, seconds(5)).await?;
    }
    let received = hook.received();
    let mut latencies: Vec<_> =
        asked.iter().zip(&received[before..]).map(|(asked, r)| r.began - *asked).collect();
    latencies.sort();
    latencies.get(EVENTS / 2).copied().context("a latency")
}
