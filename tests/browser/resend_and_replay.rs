//! Resending one event, and replaying many.

use anyhow::Result;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::{Endpoint, Replay};
use postrider_tests::fixture::{ORDER, REFUND};
use serde_json::json;

use crate::SOON;
use crate::session::BrowserSession;

#[tokio::test]
async fn an_event_can_be_resent_to_one_webhook_and_to_all_subscribers() -> Result<()> {
    let session = BrowserSession::signed_in().await?;
    let (fixture, browser) = (&session.fixture, &session.browser);
    let [first, second, other] = ["first", "second", "other"].map(|name| fixture.hook(name));
    fixture.endpoint(&first).await?;
    fixture.endpoint(&second).await?;
    fixture.account.create(&NewEndpoint::at(&other.url()).of_types(&[REFUND])).await?;
    let event = fixture.account.publish(ORDER, r#"{"order":7,"total":"9.90"}"#).await?;
    first.wait_for_ended(1, SOON).await?;
    second.wait_for_ended(1, SOON).await?;

    session.visit("/events").await?;
    browser.until(&format!("{ORDER} 26 bytes 2")).await?;
    browser.until_link(&format!("/events/{}", event.id)).await?;
    session.visit(&format!("/events/{}", event.id)).await?;
    browser.until(r#"{ "order": 7, "total": "9.90" }"#).await?;
    browser.until("delivered first 1").await?;
    browser.until("delivered second 1").await?;

    browser.choose("Webhook", "other").await?;
    browser.click("Send to this webhook").await?;
    other.wait_for_ended(1, SOON).await?;
    browser.until("delivered other 1").await?;
    browser.click("Send to all subscribed webhooks").await?;
    first.wait_for(2, SOON).await?;
    second.wait_for(2, SOON).await?;
    assert_eq!(
        other.received().len(),
        1,
        "the event was resent to a webhook that is not subscribed"
    );
    let all = fixture.receiver.received();
    assert!(all.iter().all(|request| request.webhook_id().as_deref() == Some(&event.id)));
    session.close().await
}

#[tokio::test]
async fn a_replay_can_be_counted_started_paused_and_cancelled() -> Result<()> {
    let session = BrowserSession::signed_in().await?;
    let (fixture, browser) = (&session.fixture, &session.browser);
    let hook = fixture.hook("orders");
    let endpoint = fixture.endpoint(&hook).await?;
    for order in 0..30 {
        fixture.publish(&json!({"order": order})).await?;
    }
    fixture.account.publish(REFUND, "{}").await?;
    hook.wait_for_ended(31, SOON).await?;
    let settled = |endpoint: &Endpoint| endpoint.pending == 0;
    fixture.account.until_endpoint(&endpoint.id, "has no pending delivery", SOON, settled).await?;

    session.visit(&format!("/webhooks/{}", endpoint.id)).await?;
    browser.click("Replay").await?;
    browser.until("New replay").await?;
    // By default only failed deliveries are selected, and there are none.
    browser.click("Count").await?;
    browser.until("No deliveries match.").await?;
    browser.tick("delivered").await?;
    browser.tick(ORDER).await?;
    browser.fill("Rate", "0").await?;
    browser.click("Count").await?;
    assert_eq!(hook.received().len(), 31, "counting a replay sent requests");
    browser.fill("Rate", "2").await?;
    browser.click("Count").await?;
    browser.until("30 deliveries match.").await?;
    browser.click("Start").await?;
    browser.until("The replay is running.").await?;
    hook.wait_for(32, SOON).await?;

    browser.click("Pause").await?;
    browser.until("No deliveries are created until you resume it.").await?;
    browser.click("Resume").await?;
    browser.until("running").await?;
    browser.click("Cancel replay").await?;
    browser.until("Cancelled. Deliveries that it already created").await?;
    let replays: Vec<Replay> = fixture.account.list("/replays?").await?;
    assert_eq!(replays.len(), 1);
    assert_eq!((replays[0].state.as_str(), replays[0].total), ("cancelled", 30));
    assert!(replays[0].done < 30, "{replays:?}");

    // Another replay completes while its page is open.
    session.visit(&format!("/replays/new?endpoint={}", endpoint.id)).await?;
    browser.tick("delivered").await?;
    browser.tick(REFUND).await?;
    browser.click("Start").await?;
    browser.until("A new delivery was created for every matching delivery.").await?;
    browser.until("1 of 1 done").await?;
    session.close().await
}
