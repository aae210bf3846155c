//! Forms: errors beside their fields, and the effect of valid input.

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::fixture::{ORDER, REFUND};

use crate::SOON;
use crate::session::BrowserSession;

#[tokio::test]
async fn errors_appear_beside_their_fields_and_input_is_kept() -> Result<()> {
    let session = BrowserSession::signed_in().await?;
    let browser = &session.browser;
    session.visit("/webhooks/new").await?;
    // Validation while typing.
    browser.fill("URL", "ftp://example.com").await?;
    browser.until_error("URL", "must be").await?;
    browser.fill("URL", "http://10.0.0.1/").await?;
    browser.until_error("URL", "10.0.0.1").await?;
    browser.fill("URL", "https://example.com/hooks").await?;
    browser.until_error("URL", "").await?;
    // Validation on submit.
    browser.fill("Headers", "X-Team: Blue\nno header").await?;
    browser.tick(ORDER).await?;
    browser.tick("Strict").await?;
    browser.click("Create webhook").await?;
    browser.until_error("Headers", "Line 2").await?;
    browser.paste("Headers", "Host: example.com").await?;
    browser.click("Create webhook").await?;
    browser.until_error("Headers", "host").await?;
    browser.until_error("Name", "must").await?;
    assert_eq!(browser.value("URL").await?, "https://example.com/hooks");
    assert!(browser.is_ticked(ORDER).await? && browser.is_ticked("Strict").await?);
    assert!(!browser.is_ticked(REFUND).await?);
    browser.fill("Name", "Blue").await?;
    browser.paste("Headers", "X-Team: Blue").await?;
    browser.click("Create webhook").await?;
    browser.until("Created.").await?;
    session.close().await
}

#[tokio::test]
async fn a_webhook_can_be_edited_rotated_and_deleted() -> Result<()> {
    let session = BrowserSession::signed_in().await?;
    let (fixture, browser) = (&session.fixture, &session.browser);
    let new = NewEndpoint::at("http://127.0.0.1:9/old").of_types(&[ORDER]).header("X-A", "1");
    let endpoint = fixture.account.create(&new).await?;
    session.visit(&format!("/webhooks/{}", endpoint.id)).await?;
    browser.click("Settings").await?;
    assert_eq!(browser.value("Headers").await?.to_lowercase().trim(), "x-a: 1");
    browser.fill("Name", "Newer").await?;
    browser.untick(ORDER).await?;
    browser.tick(REFUND).await?;
    browser.click("Save").await?;
    browser.until("Saved.").await?;
    let changed = fixture.account.endpoint(&endpoint.id).await?;
    assert_eq!((changed.name.as_str(), &changed.url), ("Newer", &endpoint.url));
    assert_eq!(changed.event_types, [REFUND]);
    assert_eq!(changed.headers, endpoint.headers);
    browser.tick("All").await?;
    browser.click("Save").await?;
    let subscribes_to_all = |endpoint: &Endpoint| endpoint.event_types == ["*"];
    fixture
        .account
        .until_endpoint(&endpoint.id, "is subscribed to all types", SOON, subscribes_to_all)
        .await?;

    // The signing secret and its rotation.
    let secret = endpoint.signing_secret.unwrap_or_default();
    assert!(!browser.source().await?.contains(&secret));
    browser.click("Show").await?;
    browser.until(&secret).await?;
    browser.click("Rotate secret").await?;
    browser.click("Rotate").await?;
    browser.until("New signing secret created").await?;
    browser.click("Show").await?;
    browser.until("valid until").await?;
    browser.until(&secret).await?;

    browser.click("Delete this webhook").await?;
    browser.click("Delete Newer").await?;
    browser.until("Deleted.").await?;
    browser.until("No webhooks yet").await?;
    session.close().await
}

#[tokio::test]
async fn webhooks_can_be_searched_by_name_and_state() -> Result<()> {
    let session = BrowserSession::signed_in().await?;
    let (fixture, browser) = (&session.fixture, &session.browser);
    for name in ["Warehouse", "Billing", "Ware"] {
        let new = NewEndpoint::at(&fixture.hook(name).url()).named(name);
        let endpoint = fixture.account.create(&new).await?;
        if name == "Billing" {
            fixture.account.disable(&endpoint.id).await?;
        }
    }
    session.visit("/webhooks").await?;
    browser.until("Billing").await?;
    browser.fill("Search", "ware").await?;
    browser.click("Apply").await?;
    browser.until_gone("Billing").await?;
    assert!(browser.shows("Warehouse").await?);
    browser.fill("Search", "").await?;
    browser.choose("State", "Disabled").await?;
    browser.click("Apply").await?;
    browser.until("Billing").await?;
    assert!(!browser.shows("Warehouse").await?);
    session.close().await
}

#[tokio::test]
async fn contacts_keys_and_portal_links_can_be_managed() -> Result<()> {
    let session = BrowserSession::signed_in().await?;
    let browser = &session.browser;
    session.visit("/settings").await?;
    browser.fill("Email addresses", "new@example.com\nno address").await?;
    browser.click("Save contacts").await?;
    browser.until_error("Email addresses", "address").await?;
    browser.fill("Email addresses", "new@example.com").await?;
    browser.click("Save contacts").await?;
    browser.until("Saved.").await?;

    // Only the operator creates and deletes keys.
    assert!(!browser.offers("Create key").await?);
    browser.click("Sign out").await?;
    session.sign_in_as_operator().await?;
    session.visit("/settings").await?;
    browser.fill("New key", "Deploy").await?;
    browser.click("Create key").await?;
    browser.until("it will not be shown again").await?;
    let code = "return document.querySelector('main [role=status] code').textContent";
    let key = browser.run(code, vec![]).await?;
    let key = key.as_str().filter(|key| key.starts_with("prk_")).context("there is no key")?;
    browser.reload().await?;
    browser.until("Deploy").await?;
    assert!(!browser.shows(key).await?);
    browser.click("Revoke all links").await?;
    browser.click("Revoke links").await?;
    browser.until("Portal links revoked.").await?;
    browser.click("Sign out").await?;
    browser.fill("API key", key).await?;
    browser.click("Sign in").await?;
    browser.until("No webhooks yet").await?;
    session.close().await
}

#[tokio::test]
async fn times_are_shown_and_entered_in_the_readers_time_zone() -> Result<()> {
    let session = BrowserSession::signed_in().await?;
    let browser = &session.browser;
    browser.in_zone("Asia/Kolkata").await?;
    session.visit(&format!("/event-types/{ORDER}")).await?;
    browser.until("Last updated").await?;
    let time = "const time = document.querySelector('main time'); \
         return [time.textContent, time.dateTime, time.title]";
    let time = browser.run(time, vec![]).await?;
    let [shown, exact, hover] = [0, 1, 2].map(|n| time[n].as_str().unwrap_or_default());
    let at: jiff::Timestamp = exact.parse()?;
    // India's offset from UTC includes half an hour.
    let minute = (at.as_second() / 60 + 30) % 60;
    assert!(shown.contains(&format!(":{minute:02}:")), "{shown}, {exact}");
    assert!(hover.contains("GMT+5:30") && hover.contains(exact), "{hover}");

    // Times are entered in the reader's zone and submitted in UTC.
    session.visit("/replays/new").await?;
    browser.until("at or after this time, in your time zone").await?;
    browser.paste("Since", "2026-01-31T02:00").await?;
    browser.paste("Until", "2026-01-31T02:00").await?;
    browser.click("Count").await?;
    browser.until_error("Until", "must be later than since").await?;
    assert_eq!(browser.value("Since").await?, "2026-01-31T02:00");
    browser.paste("Until", "2026-02-01T02:00").await?;
    browser.click("Start").await?;
    browser.until("No deliveries matched.").await?;
    let shown = browser.source().await?;
    for exact in ["2026-01-30T20:30:00", "2026-01-31T20:30:00"] {
        assert!(shown.contains(&format!("datetime=\"{exact}")), "{exact}: {shown}");
    }
    session.close().await
}
