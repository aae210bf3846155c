//! A node whose clock is set, with libfaketime.

use anyhow::{Context, Result};
use postrider_tests::cluster::clock::Clock;
use postrider_tests::config::Config;
use postrider_tests::fixture::Fixture;
use postrider_tests::receiver::Behaviour;
use postrider_tests::wait::until;
use serde_json::json;

use crate::SOON;

const DAY_S: i64 = 24 * 3_600;

/// A node believes the clock it starts with, so the step shows only in the times in the store.
#[tokio::test]
async fn a_node_that_restarts_a_day_in_the_past_says_so_and_keeps_its_delays() -> Result<()> {
    if let Some(skip_reason) = Clock::skip_reason() {
        eprintln!(
            "skipped a_node_that_restarts_a_day_in_the_past_says_so_and_keeps_its_delays: {skip_reason}"
        );
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let clock = Clock::new(directory.path(), "node")?;
    let config = clock.apply_to(Config::new().timeout("300ms").retry("10s", 2))?;
    let mut fixture = Fixture::start(config).await?;
    let hook = fixture.hook("flaky");
    hook.set_behaviour(Behaviour::fail_first(1, 500));
    let endpoint = fixture.endpoint(&hook).await?;
    fixture.publish(&json!({"n": 1})).await?;
    let account = &fixture.account;
    account.until_endpoint(&endpoint.id, "counts 1", SOON, |e| e.failure_count == 1).await?;
    fixture.node.kill().await?;

    clock.set(-DAY_S)?;
    fixture.node.spawn()?;
    let api = fixture.node.api(None);
    let says_so = until("the node is not ready because of its clock", SOON, async || {
        let Ok(answer) = api.get("/readyz").await else { return Ok(None) };
        let detail = answer.problem(&[503]).ok().and_then(|problem| problem.detail);
        Ok(detail.filter(|detail| detail.contains("behind the newest time in the store")))
    });
    let detail = says_so.await?;
    assert!(detail.starts_with("this node's clock is 23h59m"), "{detail}");
    hook.wait_for(2, SOON).await?;

    let metrics = api.get("/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let offset = metrics.lines().find(|line| {
        line.starts_with("postrider_node_clock_offset_seconds{") && line.contains("store")
    });
    let offset: f64 =
        offset.and_then(|line| line.rsplit(' ').next()).context("no metric")?.parse()?;
    assert!((-86_400.0..-86_300.0).contains(&offset), "{offset}");
    assert!(fixture.node.log().contains("behind the newest time in the store"));
    fixture.node.stop().await
}
