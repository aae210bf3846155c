//! What people do with the dashboard, from the first sign-in to a webhook that is mended.

use anyhow::{Context, Result};
use postrider_tests::browser::Browser;
use postrider_tests::client::records::Endpoint;
use postrider_tests::receiver::{Behaviour, Received};
use postrider_tests::scene::{CONTACT, ORDER, REFUND};
use serde_json::json;

use crate::stage::Stage;
use crate::{DISABLED_WITHIN, SOON};

#[tokio::test]
async fn from_the_first_sign_in_to_a_mended_webhook() -> Result<()> {
    let stage = Stage::start().await?;
    let (scene, browser) = (&stage.scene, &stage.browser);
    let hook = scene.hook("orders");

    // Sign in: whoever is not is led there.
    stage.go("").await?;
    browser.fill("API key", "prk_wrong").await?;
    browser.click("Sign in").await?;
    browser.until("This key is unknown").await?;
    browser.fill("API key", scene.account.api.key().context("a key")?).await?;
    browser.click("Sign in").await?;
    browser.until("No webhooks yet").await?;

    // A new webhook, for one of two types.
    browser.click("New webhook").await?;
    browser.fill("Name", "Our orders").await?;
    browser.fill("URL", &hook.url()).await?;
    browser.tick(ORDER).await?;
    browser.click("Create webhook").await?;
    browser.until("Created.").await?;
    browser.until("nothing is failing").await?;
    let endpoint = only_endpoint(&stage).await?;
    assert_eq!((endpoint.name.as_str(), endpoint.url), ("Our orders", hook.url()));
    assert_eq!(endpoint.event_types, [ORDER]);

    // A test event: what is shown is what went over the wire.
    hook.behave(Behaviour::with_body(201, "thanks a lot"));
    browser.click("Send test event").await?;
    browser.until("What to send").await?;
    assert!(browser.value("Payload").await?.contains("12.50"), "the example of the type");
    browser.paste("Payload", "{\"mine\": \"té\"}").await?;
    browser.click("Send test event").await?;
    browser.until("Result").await?;
    browser.until("201 Created").await?;
    browser.until("thanks a lot").await?;
    shows_what_arrived(browser, &hook.received()[0]).await?;
    browser.click("As curl").await?;
    browser.until("curl ").await?;

    // An event is delivered, and the page shows it by itself.
    stage.visit(&format!("/webhooks/{}", endpoint.id)).await?;
    browser.until("No deliveries").await?;
    let event = scene.publish(&json!({"order": 17})).await?;
    scene.account.publish(REFUND, "{}").await?;
    hook.wait_for(2, SOON).await?;
    let delivery = scene.account.delivery_of(&event.id, &endpoint.id).await?;
    browser.until_link(&format!("/deliveries/{}", delivery.id)).await?;
    browser.until(&format!("delivered {ORDER} 1")).await?;
    assert!(!browser.shows(REFUND).await?, "the other type is not wanted");

    // It breaks, and is disabled after its attempts; the page says why.
    hook.behave(Behaviour::with_body(503, "down for maintenance"));
    let failed = scene.publish(&json!({"order": 18})).await?;
    browser.until_within("Disabled since", DISABLED_WITHIN).await?;
    browser.until("every attempt of a delivery failed").await?;
    browser.until("4 attempts are used and 0 left").await?;
    browser.until("Last error").await?;
    browser.until("status 503").await?;
    for order in [19, 20] {
        scene.publish(&json!({"order": order})).await?;
    }
    browser.until("2 deliveries are held, the oldest for").await?;
    let mail = scene.mail.wait_for(1, SOON).await?.remove(0);
    assert_eq!(mail.to, [CONTACT]);
    browser.reload().await?;
    browser.until(&format!("{CONTACT} accepted")).await?;

    // The delivery's time line has every attempt.
    let failed = scene.account.delivery_of(&failed.id, &endpoint.id).await?;
    stage.visit(&format!("/deliveries/{}", failed.id)).await?;
    browser.until("Given up").await?;
    for attempt in ["Attempt 1", "Attempt 2", "Attempt 3", "Attempt 4", "down for maintenance"] {
        browser.until(attempt).await?;
    }
    assert!(!browser.shows("Attempt 5").await?);

    // Mended and enabled: what was held arrives.
    let before = hook.received().len();
    hook.behave(Behaviour::default());
    stage.visit(&format!("/webhooks/{}", endpoint.id)).await?;
    browser.click("Enable").await?;
    browser.until("Enabled. What was held is being sent.").await?;
    let received = hook.wait_for(before + 2, SOON).await?;
    let orders: Vec<_> = received[before..].iter().map(Received::json).collect::<Result<_>>()?;
    assert!([19, 20].iter().all(|order| orders.contains(&json!({"order": order}))), "{orders:?}");
    browser.until("No delivery is pending").await?;
    browser.until("nothing is failing").await?;
    stage.close().await
}

#[tokio::test]
async fn by_a_link_of_limited_life_and_what_is_held_is_discarded() -> Result<()> {
    let stage = Stage::start().await?;
    let (scene, browser) = (&stage.scene, &stage.browser);
    let hook = scene.hook("orders");
    let endpoint = scene.endpoint(&hook).await?;
    stage.come_by_link().await?;
    browser.click("orders").await?;
    browser.click("Disable").await?;
    browser.until("Disabled by hand").await?;
    scene.publish(&json!({"order": 1})).await?;
    browser.until("1 delivery is held").await?;
    // The choice comes with what is held.
    browser.tick("Discard").await?;
    browser.click("Enable").await?;
    browser.until("Enabled. What was held is discarded.").await?;
    browser.until("No delivery is pending").await?;
    assert!(hook.received().is_empty());
    assert_eq!(scene.account.deliveries(&endpoint.id).await?[0].state, "discarded");

    // A link cannot make itself last.
    stage.visit("/settings").await?;
    browser.until("The operator makes and deletes keys.").await?;
    assert!(!browser.offers("Make key").await?);

    // Another account's page is none.
    let other = scene.operator.account("Other", &[CONTACT]).await?;
    stage.go(&format!("/accounts/{}/webhooks", other.id)).await?;
    browser.until("Not Found").await?;

    browser.click("Sign out").await?;
    browser.until("API key").await?;
    stage.visit("/webhooks").await?;
    browser.until("API key").await?;
    stage.close().await
}

async fn only_endpoint(stage: &Stage) -> Result<Endpoint> {
    let mut endpoints: Vec<Endpoint> = stage.scene.account.list("/endpoints?").await?;
    anyhow::ensure!(endpoints.len() == 1, "{endpoints:?}");
    Ok(endpoints.remove(0))
}

async fn shows_what_arrived(browser: &Browser, request: &Received) -> Result<()> {
    for (name, value) in request.headers() {
        browser.until(&name).await?;
        browser.until(&value).await?;
    }
    browser.until(&format!("POST http://{}", request.header("host").unwrap_or_default())).await?;
    let shown: String = browser.text().await?.split_whitespace().collect();
    let body: String = String::from_utf8(request.body.to_vec())?.split_whitespace().collect();
    anyhow::ensure!(shown.contains(&body), "{body} is not in {shown}");
    Ok(())
}
