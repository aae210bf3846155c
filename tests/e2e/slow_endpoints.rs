//! Endpoints that hang do not slow the others down.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use postrider_tests::client::NewEndpoint;
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER, REFUND};
use postrider_tests::receiver::Behaviour;
use postrider_tests::wait::{millis, seconds};
use tokio::time::Instant;

use crate::SOON;

const HANGING: usize = 100;
const EVENTS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_hanging_endpoints_do_not_slow_the_others_down() -> Result<()> {
    // They stand for as many hosts, but share the address of one.
    let fixture = Fixture::start(Config::new().set("delivery", "per_host", 2048)).await?;
    let healthy = fixture.hook("healthy");
    fixture.account.create(&NewEndpoint::at(&healthy.url()).of_types(&[ORDER])).await?;
    let alone = median_latency(&fixture).await?;

    let hanging: Vec<_> = (0..HANGING).map(|n| fixture.hook(&format!("hanging-{n}"))).collect();
    stream::iter(&hanging)
        .map(async |hook| {
            hook.set_behaviour(Behaviour::Hang);
            fixture.account.create(&NewEndpoint::at(&hook.url()).of_types(&[REFUND])).await
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    for _ in 0..10 {
        fixture.account.publish(REFUND, "{}").await?;
    }
    for hook in &hanging {
        hook.wait_for(1, SOON).await?;
    }
    let among = median_latency(&fixture).await?;
    assert!(
        among < alone + millis(250),
        "median latency {alone:?} alone, {among:?} with {HANGING} hanging endpoints"
    );
    Ok(())
}

/// The median time from publishing to receipt at the healthy endpoint.
async fn median_latency(fixture: &Fixture) -> Result<Duration> {
    let hook = fixture.hook("healthy");
    let before = hook.received().len();
    let mut published_at = Vec::new();
    for n in 0..EVENTS {
        published_at.push(Instant::now());
        fixture.account.publish(ORDER, "{}").await?;
        hook.wait_for(before + n + 1, seconds(5)).await?;
    }
    let received = hook.received();
    let mut latencies: Vec<_> = published_at
        .iter()
        .zip(&received[before..])
        .map(|(published, r)| r.began - *published)
        .collect();
    latencies.sort();
    latencies.get(EVENTS / 2).copied().context("there is no latency")
}
