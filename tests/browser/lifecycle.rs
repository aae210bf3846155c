//! The life of a webhook in the dashboard, from the first sign-in to its repair.

use anyhow::{Context, Result};
use postrider_tests::browser::Browser;
use postrider_tests::client::records::Endpoint;
use postrider_tests::fixture::{CONTACT, ORDER, REFUND};
use postrider_tests::receiver::{Behaviour, Received};
use serde_json::json;

use crate::session::BrowserSession;
use crate::{DISABLED_WITHIN, SOON};

#[tokio::test]
async fn a_webhook_is_created_tested_disabled_and_repaired() -> Result<()> {
    let session = BrowserSession::start().await?;
    let (fixture, browser) = (&session.fixture, &session.browser);
    let hook = fixture.hook("orders");

    // Sign in: an anonymous visitor is redirected there.
    session.open("").await?;
    browser.fill("API key", "prk_wrong").await?;
    browser.click("Sign in").await?;
    browser.until("Invalid API key").await?;
    browser.fill("API key", fixture.account.api.key().context("the account has a key")?).await?;
    browser.click("Sign in").await?;
    browser.until("No webhooks yet").await?;

    // A new webhook for one of two event types.
    browser.click("New webhook").await?;
    browser.fill("Name", "Our orders").await?;
    browser.fill("URL", &hook.url()).await?;
    browser.tick(ORDER).await?;
    browser.click("Create webhook").await?;
    browser.until("Created.").await?;
    browser.until("Sending normally").await?;
    let endpoint = only_endpoint(&session).await?;
    assert_eq!((endpoint.name.as_str(), endpoint.url), ("Our orders", hook.url()));
    assert_eq!(endpoint.event_types, [ORDER]);

    // A test event: the page shows what went over the wire.
    hook.set_behaviour(Behaviour::with_body(201, "thanks a lot"));
    browser.click("Send test event").await?;
    browser.until("Event to send").await?;
    assert!(
        browser.value("Payload").await?.contains("12.50"),
        "the payload is not prefilled with the example of the event type"
    );
    browser.paste("Payload", "{\"mine\": \"té\"}").await?;
    browser.click("Send test event").await?;
    browser.until("Result").await?;
    browser.until("201 Created").await?;
    browser.until("thanks a lot").await?;
    page_shows_request(browser, &hook.received()[0]).await?;
    browser.click("As curl").await?;
    browser.until("curl ").await?;

    // An event is delivered, and the page shows it without a reload.
    session.visit(&format!("/webhooks/{}", endpoint.id)).await?;
    browser.until("No deliveries").await?;
    let event = fixture.publish(&json!({"order": 17})).await?;
    fixture.account.publish(REFUND, "{}").await?;
    hook.wait_for(2, SOON).await?;
    let delivery = fixture.account.delivery_of(&event.id, &endpoint.id).await?;
    browser.until_link(&format!("/deliveries/{}", delivery.id)).await?;
    browser.until(&format!("delivered {ORDER} 1")).await?;
    assert!(!browser.shows(REFUND).await?, "a delivery of an unsubscribed event type is shown");

    // The receiver fails, and the webhook is disabled after all attempts; the page says why.
    hook.set_behaviour(Behaviour::with_body(503, "down for maintenance"));
    let failed = fixture.publish(&json!({"order": 18})).await?;
    browser.until_within("Disabled on", DISABLED_WITHIN).await?;
    browser.until("a delivery failed on every attempt").await?;
    browser.until("4 attempts made, 0 left").await?;
    browser.until("Last error").await?;
    browser.until("status 503").await?;
    for order in [19, 20] {
        fixture.publish(&json!({"order": order})).await?;
    }
    browser.until("2 deliveries held, the oldest for").await?;
    let mail = fixture.mail.wait_for(1, SOON).await?.remove(0);
    assert_eq!(mail.to, [CONTACT]);
    browser.reload().await?;
    browser.until(&format!("{CONTACT} accepted")).await?;

    // The delivery's timeline shows every attempt.
    let failed = fixture.account.delivery_of(&failed.id, &endpoint.id).await?;
    session.visit(&format!("/deliveries/{}", failed.id)).await?;
    browser.until("Gave up: no attempts left").await?;
    for attempt in ["Attempt 1", "Attempt 2", "Attempt 3", "Attempt 4", "down for maintenance"] {
        browser.until(attempt).await?;
    }
    assert!(!browser.shows("Attempt 5").await?);

    // The receiver is repaired and the webhook enabled: the held deliveries arrive.
    let before = hook.received().len();
    hook.set_behaviour(Behaviour::default());
    session.visit(&format!("/webhooks/{}", endpoint.id)).await?;
    browser.click("Enable").await?;
    browser.until("Webhook enabled. Held deliveries are being sent.").await?;
    let received = hook.wait_for(before + 2, SOON).await?;
    let orders: Vec<_> = received[before..].iter().map(Received::json).collect::<Result<_>>()?;
    assert!([19, 20].iter().all(|order| orders.contains(&json!({"order": order}))), "{orders:?}");
    browser.until("No pending deliveries").await?;
    browser.until("Sending normally").await?;
    session.close().await
}

#[tokio::test]
async fn a_portal_link_opens_the_account_and_held_deliveries_can_be_discarded() -> Result<()> {
    let session = BrowserSession::start().await?;
    let (fixture, browser) = (&session.fixture, &session.browser);
    let hook = fixture.hook("orders");
    let endpoint = fixture.endpoint(&hook).await?;
    session.open_portal_link().await?;
    browser.click("orders").await?;
    browser.click("Disable").await?;
    browser.until("Disabled manually").await?;
    fixture.publish(&json!({"order": 1})).await?;
    browser.until("1 delivery held").await?;
    // With held deliveries, the form offers to discard them.
    browser.tick("Discard").await?;
    browser.click("Enable").await?;
    browser.until("Webhook enabled. Held deliveries were discarded.").await?;
    browser.until("No pending deliveries").await?;
    assert!(hook.received().is_empty());
    assert_eq!(fixture.account.deliveries(&endpoint.id).await?[0].state, "discarded");

    // A portal link session cannot create an API key.
    session.visit("/settings").await?;
    browser.until("Only the operator can create and delete API keys.").await?;
    assert!(!browser.offers("Create key").await?);

    // Another account's pages do not exist.
    let other = fixture.operator.account("Other", &[CONTACT]).await?;
    session.open(&format!("/accounts/{}/webhooks", other.id)).await?;
    browser.until("Not Found").await?;

    browser.click("Sign out").await?;
    browser.until("API key").await?;
    session.visit("/webhooks").await?;
    browser.until("API key").await?;
    session.close().await
}

async fn only_endpoint(session: &BrowserSession) -> Result<Endpoint> {
    let mut endpoints: Vec<Endpoint> = session.fixture.account.list("/endpoints?").await?;
    anyhow::ensure!(endpoints.len() == 1, "{endpoints:?}");
    Ok(endpoints.remove(0))
}

async fn page_shows_request(browser: &Browser, request: &Received) -> Result<()> {
    for (name, value) in request.headers() {
        browser.until(&name).await?;
        browser.until(&value).await?;
    }
    browser.until(&format!("POST http://{}", request.header("host").unwrap_or_default())).await?;
    let shown: String = browser.text().await?.split_whitespace().collect();
    let body: String = String::from_utf8(request.body.to_vec())?.split_whitespace().collect();
    anyhow::ensure!(shown.contains(&body), "the page does not show the body {body}: {shown}");
    Ok(())
}
