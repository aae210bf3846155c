//! What is written into forms: mistakes beside their fields, and what becomes of the rest.

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::scene::{ORDER, REFUND};

use crate::SOON;
use crate::stage::Stage;

#[tokio::test]
async fn a_mistake_stands_beside_its_field_and_nothing_is_lost() -> Result<()> {
    let stage = Stage::of_the_account().await?;
    let browser = &stage.browser;
    stage.visit("/webhooks/new").await?;
    // While it is typed.
    browser.fill("URL", "ftp://example.com").await?;
    browser.until_error("URL", "must be").await?;
    browser.fill("URL", "http://10.0.0.1/").await?;
    browser.until_error("URL", "10.0.0.1").await?;
    browser.fill("URL", "https://example.com/hooks").await?;
    browser.until_error("URL", "").await?;
    // When it is sent.
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
    stage.close().await
}

#[tokio::test]
async fn a_webhook_is_changed() -> Result<()> {
    let stage = Stage::of_the_account().await?;
    let (scene, browser) = (&stage.scene, &stage.browser);
    let new = NewEndpoint::at("http://127.0.0.1:9/old").of_types(&[ORDER]).header("X-A", "1");
    let endpoint = scene.account.create(&new).await?;
    stage.visit(&format!("/webhooks/{}", endpoint.id)).await?;
    browser.click("Settings").await?;
    assert_eq!(browser.value("Headers").await?.to_lowercase().trim(), "x-a: 1");
    browser.fill("Name", "Newer").await?;
    browser.untick(ORDER).await?;
    browser.tick(REFUND).await?;
    browser.click("Save").await?;
    browser.until("Saved.").await?;
    let changed = scene.account.endpoint(&endpoint.id).await?;
    assert_eq!((changed.name.as_str(), &changed.url), ("Newer", &endpoint.url));
    assert_eq!(changed.event_types, [REFUND]);
    assert_eq!(changed.headers, endpoint.headers);
    browser.tick("All").await?;
    browser.click("Save").await?;
    let wants_all = |endpoint: &Endpoint| endpoint.event_types == ["*"];
    scene.account.until_endpoint(&endpoint.id, "wants all", SOON, wants_all).await?;

    // The secret, and its rotation.
    let secret = endpoint.signing_secret.unwrap_or_default();
    assert!(!browser.source().await?.contains(&secret));
    browser.click("Show").await?;
    browser.until(&secret).await?;
    browser.click("Replace it by a new one").await?;
    browser.click("Rotate").await?;
    browser.until("There is a new signing secret").await?;
    browser.click("Show").await?;
    browser.until("also:").await?;
    browser.until(&secret).await?;

    browser.click("Delete this webhook").await?;
    browser.click("Delete Newer").await?;
    browser.until("Deleted.").await?;
    browser.until("No webhooks yet").await?;
    stage.close().await
}

#[tokio::test]
async fn webhooks_are_searched() -> Result<()> {
    let stage = Stage::of_the_account().await?;
    let (scene, browser) = (&stage.scene, &stage.browser);
    for name in ["Warehouse", "Billing", "Ware"] {
        let new = NewEndpoint::at(&scene.hook(name).url()).named(name);
        let endpoint = scene.account.create(&new).await?;
        if name == "Billing" {
            scene.account.disable(&endpoint.id).await?;
        }
    }
    stage.visit("/webhooks").await?;
    browser.until("Billing").await?;
    browser.fill("Search", "ware").await?;
    browser.click("Show").await?;
    browser.until_gone("Billing").await?;
    assert!(browser.shows("Warehouse").await?);
    browser.fill("Search", "").await?;
    browser.choose("State", "Disabled").await?;
    browser.click("Show").await?;
    browser.until("Billing").await?;
    assert!(!browser.shows("Warehouse").await?);
    stage.close().await
}

#[tokio::test]
async fn contacts_and_keys() -> Result<()> {
    let stage = Stage::of_the_account().await?;
    let browser = &stage.browser;
    stage.visit("/settings").await?;
    browser.fill("Email addresses", "new@example.com\nno address").await?;
    browser.click("Save contacts").await?;
    browser.until_error("Email addresses", "address").await?;
    browser.fill("Email addresses", "new@example.com").await?;
    browser.click("Save contacts").await?;
    browser.until("Saved.").await?;

    // Keys are the operator's to make and delete.
    assert!(!browser.offers("Make key").await?);
    browser.click("Sign out").await?;
    stage.sign_in_as_operator().await?;
    stage.visit("/settings").await?;
    browser.fill("New key", "Deploy").await?;
    browser.click("Make key").await?;
    browser.until("It is shown this once").await?;
    let code = "return document.querySelector('main [role=status] code').textContent";
    let key = browser.run(code, vec![]).await?;
    let key = key.as_str().filter(|key| key.starts_with("prk_")).context("a key")?;
    browser.reload().await?;
    browser.until("Deploy").await?;
    assert!(!browser.shows(key).await?);
    browser.click("End all links").await?;
    browser.click("Revoke links").await?;
    browser.until("All links are ended.").await?;
    browser.click("Sign out").await?;
    browser.fill("API key", key).await?;
    browser.click("Sign in").await?;
    browser.until("No webhooks yet").await?;
    stage.close().await
}

#[tokio::test]
async fn times_are_in_the_readers_zone() -> Result<()> {
    let stage = Stage::of_the_account().await?;
    let browser = &stage.browser;
    browser.in_zone("Asia/Kolkata").await?;
    stage.visit(&format!("/event-types/{ORDER}")).await?;
    browser.until("Last changed").await?;
    let time = "const time = document.querySelector('main time'); \
         return [time.textContent, time.dateTime, time.title]";
    let time = browser.run(time, vec![]).await?;
    let [shown, exact, hover] = [0, 1, 2].map(|n| time[n].as_str().unwrap_or_default());
    let at: jiff::Timestamp = exact.parse()?;
    // Half an hour apart from whole ones.
    let minute = (at.as_second() / 60 + 30) % 60;
    assert!(shown.contains(&format!(":{minute:02}:")), "{shown}, {exact}");
    assert!(hover.contains("GMT+5:30") && hover.contains(exact), "{hover}");

    // What is written is meant so, too, and sent in UTC.
    stage.visit("/replays/new").await?;
    browser.until("at this time or later, in your time zone").await?;
    browser.paste("Since", "2026-01-31T02:00").await?;
    browser.paste("Until", "2026-01-31T02:00").await?;
    browser.click("Count").await?;
    browser.until_error("Until", "must be later than since").await?;
    assert_eq!(browser.value("Since").await?, "2026-01-31T02:00");
    browser.paste("Until", "2026-02-01T02:00").await?;
    browser.click("Start").await?;
    browser.until("There was nothing for it to take.").await?;
    let shown = browser.source().await?;
    for exact in ["2026-01-30T20:30:00", "2026-01-31T20:30:00"] {
        assert!(shown.contains(&format!("datetime=\"{exact}")), "{exact}: {shown}");
    }
    stage.close().await
}
