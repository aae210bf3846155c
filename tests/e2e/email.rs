//! The people of an account hear of it when an endpoint was disabled.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::mail::MailServer;
use postrider_tests::node::Node;
use postrider_tests::receiver::{Behaviour, Hook};
use postrider_tests::scene::{CONTACT, Scene};
use postrider_tests::wait::seconds;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::SOON;

/// An email under way has 5 s to end when the node stops.
const STOPPED_WITHIN: Duration = seconds(10);

/// Two attempts, a fraction of a second apart.
fn brief() -> Config {
    Config::new().timeout("1s").retry("1500ms", 1)
}

/// Sends events to a broken endpoint until it is disabled, and gives it.
async fn disable(scene: &Scene, hook: &Hook, endpoint: &Endpoint) -> Result<Endpoint> {
    hook.behave(Behaviour::with_body(503, "down for maintenance"));
    scene.publish(&json!({"n": 1})).await?;
    scene.publish(&json!({"n": 2})).await?;
    let disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
    scene.account.until_endpoint(&endpoint.id, "is disabled", SOON, disabled).await
}

#[tokio::test]
async fn one_email_tells_the_whole_story() -> Result<()> {
    let scene = Scene::start(brief()).await?;
    let hook = scene.hook("broken");
    let created = scene.endpoint(&hook).await?;
    let endpoint = disable(&scene, &hook, &created).await?;
    let mail = scene.mail.wait_for(1, SOON).await?.remove(0);

    assert_eq!(mail.to, [CONTACT]);
    assert_eq!(mail.from, "webhooks@example.com");
    assert!(mail.subject.contains(&endpoint.name), "{}", mail.subject);
    for word in [endpoint.name.as_str(), &endpoint.id, &endpoint.url, "503", "enable"] {
        assert!(mail.text.contains(word), "no {word:?} in:\n{}", mail.text);
    }
    assert!(mail.raw.to_ascii_lowercase().contains("message-id:"), "{}", mail.raw);
    assert!(mail.raw.to_ascii_lowercase().contains("date:"), "{}", mail.raw);

    // A second disabling is a second email; had the first brought two, this would be the third.
    hook.behave(Behaviour::default());
    scene.account.enable(&endpoint.id, "discard").await?;
    disable(&scene, &hook, &endpoint).await?;
    let mails = scene.mail.wait_for(2, SOON).await?;
    assert_eq!(mails.len(), 2);
    assert_ne!(message_id(&mails[0].raw), message_id(&mails[1].raw));
    Ok(())
}

#[tokio::test]
async fn it_leads_to_the_endpoints_page_where_people_can_reach_one() -> Result<()> {
    let base = "https://hooks.example.com";
    let scene = Scene::start(brief().set("dashboard", "public_url", base)).await?;
    let hook = scene.hook("broken");
    let endpoint = scene.endpoint(&hook).await?;
    disable(&scene, &hook, &endpoint).await?;
    let mail = scene.mail.wait_for(1, SOON).await?.remove(0);
    let page = mail.text.split_whitespace().find(|word| word.starts_with(base));
    let page = page.context("a link")?;
    assert!(page.ends_with(&endpoint.id), "{page}");
    Ok(())
}

#[tokio::test]
async fn every_contact_is_told_and_a_person_who_disabled_it_is_not() -> Result<()> {
    let scene = Scene::start(brief()).await?;
    let path = format!("/v1/accounts/{}", scene.account.id);
    let contacts = json!({"contact_emails": ["a@example.com", "b@example.com"]});
    scene.operator.api.patch(&path, &contacts).await?.succeeded()?;
    let (quiet, hook) = (scene.hook("quiet"), scene.hook("broken"));
    let by_hand = scene.endpoint(&quiet).await?;
    scene.account.disable(&by_hand.id).await?;
    let endpoint = scene.endpoint(&hook).await?;
    disable(&scene, &hook, &endpoint).await?;

    let told = |mails: &[postrider_tests::mail::Mail]| {
        let mut to: Vec<_> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
        to.sort();
        to
    };
    // One email to both or one to each: both are told once.
    let mut mails = scene.mail.wait_for(1, SOON).await?;
    if mails[0].to.len() == 1 {
        mails = scene.mail.wait_for(2, SOON).await?;
    }
    assert_eq!(told(&mails), ["a@example.com", "b@example.com"]);
    assert!(mails.iter().all(|mail| !mail.text.contains(&by_hand.id)));
    Ok(())
}

#[tokio::test]
async fn the_email_waits_while_smtp_is_away_and_through_a_kill() -> Result<()> {
    let mail = MailServer::away()?;
    let node = Node::start(brief().smtp(mail.address())).await?;
    let mut scene = Scene::around(node, mail).await?;
    let hook = scene.hook("broken");
    let created = scene.endpoint(&hook).await?;
    let endpoint = disable(&scene, &hook, &created).await?;
    // Delivery goes on without email.
    let healthy = scene.hook("healthy");
    scene.endpoint(&healthy).await?;
    scene.publish(&json!({"n": 3})).await?;
    healthy.wait_for(1, SOON).await?;
    scene.node.kill().await?;
    scene.node.restart().await?;
    assert!(scene.mail.mails().is_empty());
    scene.mail.come_back()?;
    let mails = scene.mail.wait_for(1, seconds(30)).await?;
    assert!(mails[0].text.contains(&endpoint.id), "{}", mails[0].text);

    // Once it is told, it is told: a restart says nothing again, and the next email that
    // comes is about the next disabling.
    scene.node.stop().await?;
    scene.node.restart().await?;
    let other = scene.hook("other");
    let second = scene.endpoint(&other).await?;
    disable(&scene, &other, &second).await?;
    let mails = scene.mail.wait_for(2, SOON).await?;
    let about: Vec<_> = mails.iter().map(|mail| mail.text.contains(&endpoint.id)).collect();
    assert_eq!(about, [true, false]);
    Ok(())
}

#[tokio::test]
async fn what_was_told_to_whom_stays_on_record() -> Result<()> {
    let scene = Scene::start(brief()).await?;
    let hook = scene.hook("broken");
    let created = scene.endpoint(&hook).await?;
    let rest = format!("/endpoints/{}/emails", created.id);
    let before: Value = scene.account.read(&rest).await?;
    assert_eq!(before, json!({"data": []}));
    let endpoint = disable(&scene, &hook, &created).await?;
    let mail = scene.mail.wait_for(1, SOON).await?.remove(0);
    let logged = async || {
        let log: Value = scene.account.read(&rest).await?;
        Ok(log["data"].as_array().filter(|emails| !emails.is_empty()).cloned())
    };
    let log = postrider_tests::wait::until("the email is on record", SOON, logged).await?;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0]["subject"], mail.subject.as_str());
    let expected = json!([{"address": CONTACT, "verdict": "accepted", "reason": null}]);
    assert_eq!(log[0]["to"], expected);
    let at: Timestamp = serde_json::from_value(log[0]["disabled_at"].clone())?;
    assert_eq!(at, endpoint.disabled.context("disabled")?.at);
    Ok(())
}

fn message_id(raw: &str) -> Option<String> {
    let header = |line: &&str| line.to_ascii_lowercase().starts_with("message-id:");
    raw.lines().find(header).map(str::to_owned)
}

#[tokio::test]
async fn smtp_that_goes_away_in_between_is_asked_again() -> Result<()> {
    let mut scene = Scene::start(brief()).await?;
    let (first, second) = (scene.hook("first"), scene.hook("second"));
    let one = scene.endpoint(&first).await?;
    disable(&scene, &first, &one).await?;
    scene.mail.wait_for(1, SOON).await?;
    scene.mail.go_away().await;
    let other = scene.endpoint(&second).await?;
    disable(&scene, &second, &other).await?;
    scene.mail.come_back()?;
    let mails = scene.mail.wait_for(2, seconds(30)).await?;
    let last = mails.last().context("an email")?;
    assert!(last.text.contains(&other.id), "{}", last.text);
    Ok(())
}

/// The email keeps its shard, and a node that stops waits for its shards.
#[tokio::test]
async fn an_email_that_hangs_does_not_delay_the_stop() -> Result<()> {
    let mut scene = Scene::start(brief()).await?;
    scene.mail.fall_silent();
    let hook = scene.hook("broken");
    let created = scene.endpoint(&hook).await?;
    disable(&scene, &hook, &created).await?;
    scene.mail.until_somebody_waits(SOON).await?;
    let asked = Instant::now();
    scene.node.terminate()?;
    scene.node.ended().await?;
    let took = asked.elapsed();
    ensure!(took < STOPPED_WITHIN, "it took {took:?} to stop");
    Ok(())
}
