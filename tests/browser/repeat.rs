//! What was sent once is sent again: an event, and by a replay many.

use anyhow::Result;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::{Endpoint, Replay};
use postrider_tests::scene::{ORDER, REFUND};
use serde_json::json;

use crate::SOON;
use crate::stage::Stage;

#[tokio::test]
async fn an_event_is_sent_again_to_one_and_to_all_that_want_it() -> Result<()> {
    let stage = Stage::of_the_account().await?;
    let (scene, browser) = (&stage.scene, &stage.browser);
    let [first, second, other] = ["first", "second", "other"].map(|name| scene.hook(name));
    scene.endpoint(&first).await?;
    scene.endpoint(&second).await?;
    scene.account.create(&NewEndpoint::at(&other.url()).of_types(&[REFUND])).await?;
    let event = scene.account.publish(ORDER, r#"{"order":7,"total":"9.90"}"#).await?;
    first.wait_for_ended(1, SOON).await?;
    second.wait_for_ended(1, SOON).await?;

    stage.visit("/events").await?;
    browser.until(&format!("{ORDER} 26 bytes 2")).await?;
    browser.until_link(&format!("/events/{}", event.id)).await?;
    stage.visit(&format!("/events/{}", event.id)).await?;
    browser.until(r#"{ "order": 7, "total": "9.90" }"#).await?;
    browser.until("delivered first 1").await?;
    browser.until("delivered second 1").await?;

    browser.choose("Webhook", "other").await?;
    browser.click("Send to this webhook").await?;
    other.wait_for_ended(1, SOON).await?;
    browser.until("delivered other 1").await?;
    browser.click("Send to all that want its type now").await?;
    first.wait_for(2, SOON).await?;
    second.wait_for(2, SOON).await?;
    assert_eq!(other.received().len(), 1, "it does not want the type");
    let all = scene.receiver.received();
    assert!(all.iter().all(|request| request.webhook_id().as_deref() == Some(&event.id)));
    stage.close().await
}

#[tokio::test]
async fn a_replay_is_counted_started_paused_and_given_up() -> Result<()> {
    let stage = Stage::of_the_account().await?;
    let (scene, browser) = (&stage.scene, &stage.browser);
    let hook = scene.hook("orders");
    let endpoint = scene.endpoint(&hook).await?;
    for order in 0..30 {
        scene.publish(&json!({"order": order})).await?;
    }
    scene.account.publish(REFUND, "{}").await?;
    hook.wait_for_ended(31, SOON).await?;
    let settled = |endpoint: &Endpoint| endpoint.pending == 0;
    scene.account.until_endpoint(&endpoint.id, "has nothing to send", SOON, settled).await?;

    stage.visit(&format!("/webhooks/{}", endpoint.id)).await?;
    browser.click("Replay").await?;
    browser.until("New replay").await?;
    // What came to no good end is chosen, and there is none.
    browser.click("Count").await?;
    browser.until("It would take no delivery.").await?;
    browser.tick("delivered").await?;
    browser.tick(ORDER).await?;
    browser.fill("Rate", "0").await?;
    browser.click("Count").await?;
    assert_eq!(hook.received().len(), 31, "counting sends nothing");
    browser.fill("Rate", "2").await?;
    browser.click("Count").await?;
    browser.until("It would take 30 deliveries.").await?;
    browser.click("Start").await?;
    browser.until("The replay runs.").await?;
    hook.wait_for(32, SOON).await?;

    browser.click("Pause").await?;
    browser.until("It makes nothing until it is resumed.").await?;
    browser.click("Resume").await?;
    browser.until("running").await?;
    browser.click("Cancel the replay").await?;
    browser.until("It was given up.").await?;
    let replays: Vec<Replay> = scene.account.list("/replays?").await?;
    assert_eq!(replays.len(), 1);
    assert_eq!((replays[0].state.as_str(), replays[0].total), ("cancelled", 30));
    assert!(replays[0].done < 30, "{replays:?}");

    // Another one runs to its end, while somebody looks.
    stage.visit(&format!("/replays/new?endpoint={}", endpoint.id)).await?;
    browser.tick("delivered").await?;
    browser.tick(REFUND).await?;
    browser.click("Start").await?;
    browser.until("Everything that it takes was made anew.").await?;
    browser.until("1 of 1 done").await?;
    stage.close().await
}
