//! Strict endpoints receive one event at a time, in order; parallel endpoints receive several at
//! once.

use anyhow::Result;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::fixture::Fixture;
use postrider_tests::receiver::{Behaviour, Received};
use postrider_tests::wait::millis;
use serde_json::json;

use crate::SOON;

/// Fast retries, after about 20 and 50 ms.
fn fast_retries() -> Config {
    Config::new().timeout("1s").retry("2200ms", 2)
}

async fn publish(fixture: &Fixture, n: usize) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for number in 0..n {
        ids.push(fixture.publish(&json!({"n": number})).await?.id);
    }
    Ok(ids)
}

fn ids(received: &[Received]) -> Vec<String> {
    received.iter().filter_map(Received::webhook_id).collect()
}

/// The highest number of these requests in flight at the same time.
fn max_in_flight(received: &[Received]) -> usize {
    let at = |r: &Received| {
        received
            .iter()
            .filter(|o| o.began <= r.began && o.ended.is_none_or(|e| e > r.began))
            .count()
    };
    received.iter().map(at).max().unwrap_or(0)
}

#[tokio::test]
async fn strict_endpoints_receive_one_event_at_a_time_in_order() -> Result<()> {
    let fixture = Fixture::start(fast_retries()).await?;
    let hook = fixture.hook("strict");
    hook.set_behaviour(Behaviour::Slow(millis(30)));
    fixture.account.create(&NewEndpoint::at(&hook.url()).strict()).await?;
    let published = publish(&fixture, 20).await?;
    let received = hook.wait_for_ended(20, SOON).await?;
    assert_eq!(ids(&received), published);
    assert_eq!(max_in_flight(&received), 1);
    Ok(())
}

#[tokio::test]
async fn strict_endpoints_hold_later_events_back_while_one_fails() -> Result<()> {
    let fixture = Fixture::start(fast_retries()).await?;
    let hook = fixture.hook("strict");
    hook.set_behaviour(Behaviour::fail_first(2, 500));
    fixture.account.create(&NewEndpoint::at(&hook.url()).strict()).await?;
    let published = publish(&fixture, 4).await?;
    let received = hook.wait_for_ended(12, SOON).await?;
    let expected: Vec<_> = published.iter().flat_map(|id| vec![id.clone(); 3]).collect();
    assert_eq!(ids(&received), expected);
    Ok(())
}

#[tokio::test]
async fn strict_order_survives_a_disabled_endpoint_and_a_kill() -> Result<()> {
    let mut fixture = Fixture::start(fast_retries()).await?;
    let hook = fixture.hook("strict");
    hook.set_behaviour(Behaviour::status(500));
    let endpoint = fixture.account.create(&NewEndpoint::at(&hook.url()).strict()).await?;
    let mut published = publish(&fixture, 3).await?;
    let disabled = |endpoint: &Endpoint| endpoint.state == "disabled" && endpoint.held == 2;
    fixture.account.until_endpoint(&endpoint.id, "holds two", SOON, disabled).await?;
    published.extend(publish(&fixture, 3).await?);
    assert_eq!(ids(&hook.received()), vec![published[0].clone(); 3]);
    fixture.node.kill().await?;
    fixture.node.restart().await?;
    hook.set_behaviour(Behaviour::default());
    fixture.account.enable(&endpoint.id, "resume").await?;
    let received = hook.wait_for(8, SOON).await?;
    assert_eq!(ids(&received[3..]), published[1..]);
    Ok(())
}

#[tokio::test]
async fn parallel_endpoints_receive_up_to_sixteen_events_at_once() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("parallel");
    hook.set_behaviour(Behaviour::Slow(millis(100)));
    fixture.endpoint(&hook).await?;
    let mut published = publish(&fixture, 100).await?;
    let received = hook.wait_for_ended(100, SOON).await?;
    let most = max_in_flight(&received);
    assert!((2..=16).contains(&most), "{most} requests in flight at once");
    let mut arrived = ids(&received);
    arrived.sort();
    published.sort();
    assert_eq!(arrived, published);
    Ok(())
}

#[tokio::test]
async fn parallel_endpoints_do_not_wait_for_a_failing_delivery() -> Result<()> {
    // The first retry is due after about 30 s.
    let fixture = Fixture::start(Config::new().timeout("1s").retry("300s", 2)).await?;
    let hook = fixture.hook("parallel");
    hook.set_behaviour(Behaviour::status(500));
    fixture.endpoint(&hook).await?;
    publish(&fixture, 1).await?;
    hook.wait_for_ended(1, SOON).await?;
    hook.set_behaviour(Behaviour::default());
    let later = publish(&fixture, 3).await?;
    // The first success brings the retry forward.
    let received = ids(&hook.wait_for(5, SOON).await?);
    assert!(later.contains(&received[1]) && later.iter().all(|id| received.contains(id)));
    Ok(())
}
