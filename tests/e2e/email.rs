//! Emails to an account's contacts when an endpoint is disabled.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postrider_tests::binary;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::fixture::{CONTACT, Fixture};
use postrider_tests::mail::MailServer;
use postrider_tests::node::Node;
use postrider_tests::receiver::{Behaviour, Hook};
use postrider_tests::wait::seconds;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::SOON;

/// An email in flight has 5 s to finish when the node stops.
const STOPPED_WITHIN: Duration = seconds(10);

/// The account's next email waits for a minute, and collects what the account loses meanwhile.
const NEXT_EMAIL_WITHIN: Duration = seconds(90);

/// Two attempts, a fraction of a second apart.
fn two_attempts() -> Config {
    Config::new().timeout("1s").retry("1500ms", 1)
}

/// Sends events to a failing endpoint until it is disabled, and returns it.
async fn disable(fixture: &Fixture, hook: &Hook, endpoint: &Endpoint) -> Result<Endpoint> {
    hook.set_behaviour(Behaviour::with_body(503, "down for maintenance"));
    fixture.publish(&json!({"n": 1})).await?;
    fixture.publish(&json!({"n": 2})).await?;
    let disabled = |endpoint: &Endpoint| endpoint.state == "disabled";
    fixture.account.until_endpoint(&endpoint.id, "is disabled", SOON, disabled).await
}

#[tokio::test]
async fn each_disable_sends_one_email_with_the_details() -> Result<()> {
    let fixture = Fixture::start(two_attempts()).await?;
    let hook = fixture.hook("broken");
    let created = fixture.endpoint(&hook).await?;
    let endpoint = disable(&fixture, &hook, &created).await?;
    let mail = fixture.mail.wait_for(1, SOON).await?.remove(0);

    assert_eq!(mail.to, [CONTACT]);
    assert_eq!(mail.from, "webhooks@example.com");
    assert!(mail.subject.contains(&endpoint.name), "{}", mail.subject);
    for word in [endpoint.name.as_str(), &endpoint.id, &endpoint.url, "503", "enable"] {
        assert!(mail.text.contains(word), "no {word:?} in:\n{}", mail.text);
    }
    assert!(mail.raw.to_ascii_lowercase().contains("message-id:"), "{}", mail.raw);
    assert!(mail.raw.to_ascii_lowercase().contains("date:"), "{}", mail.raw);

    // Disabling it again sends a second email; had the first disable sent two, there would be three.
    hook.set_behaviour(Behaviour::default());
    fixture.account.enable(&endpoint.id, "discard").await?;
    disable(&fixture, &hook, &endpoint).await?;
    // What fails in the meantime is in the same email.
    let other_hook = fixture.hook("other");
    let other = fixture.endpoint(&other_hook).await?;
    disable(&fixture, &other_hook, &other).await?;
    let emails = fixture.mail.wait_for(2, NEXT_EMAIL_WITHIN).await?;
    assert_eq!(emails.len(), 2);
    assert_ne!(message_id(&emails[0].raw), message_id(&emails[1].raw));
    assert_eq!(emails[1].subject, "2 webhook endpoints of Acme were disabled");
    assert!(emails[1].mentions(&endpoint.id) && emails[1].mentions(&other.id));
    Ok(())
}

#[tokio::test]
async fn a_failing_mail_server_is_reported_and_tried_again() -> Result<()> {
    let mut mail = MailServer::stopped()?;
    let smtp_url = format!("smtp://{}", mail.address());
    let environment = [("POSTRIDER_EMAIL__SMTP_URL", smtp_url.as_str())];
    let line = async || {
        let ended = binary::run_in(&environment, &["doctor"]).await?;
        let line = ended.output.lines().find(|line| line.starts_with("email"));
        anyhow::Ok((ended.code, line.context("no line about email")?.to_owned()))
    };
    let (code, failed) = line().await?;
    assert_eq!(code, Some(1));
    assert!(failed.contains("FAILED") && failed.contains("cannot be reached"), "{failed}");

    let node = Node::start(two_attempts().smtp(mail.address())).await?;
    let until_gauge_is = async |value: u8| {
        let wanted = format!(" {value}");
        let gauge = async || {
            let answer = node.api(None).get("/metrics").await?;
            let text = String::from_utf8_lossy(&answer.body);
            let is = |line: &str| {
                line.starts_with("postrider_email_server_up") && line.ends_with(&wanted)
            };
            Ok(text.lines().any(is).then_some(()))
        };
        let what = format!("the gauge of the mail server is {value}");
        postrider_tests::wait::until(&what, SOON, gauge).await
    };
    until_gauge_is(0).await?;
    mail.start_listening()?;
    until_gauge_is(1).await?;
    let (_, works) = line().await?;
    assert!(works.contains("ok") && works.contains("without TLS"), "{works}");
    assert!(mail.emails().is_empty());
    Ok(())
}

#[tokio::test]
async fn the_email_links_to_the_endpoints_page_if_a_public_url_is_set() -> Result<()> {
    let base = "https://hooks.example.com";
    let fixture = Fixture::start(two_attempts().set("dashboard", "public_url", base)).await?;
    let hook = fixture.hook("broken");
    let endpoint = fixture.endpoint(&hook).await?;
    disable(&fixture, &hook, &endpoint).await?;
    let mail = fixture.mail.wait_for(1, SOON).await?.remove(0);
    let page = mail.text.split_whitespace().find(|word| word.starts_with(base));
    let page = page.context("the email has no link")?;
    assert!(page.ends_with(&endpoint.id), "{page}");
    Ok(())
}

#[tokio::test]
async fn every_contact_is_notified_unless_the_endpoint_was_disabled_by_hand() -> Result<()> {
    let fixture = Fixture::start(two_attempts()).await?;
    let path = format!("/v1/accounts/{}", fixture.account.id);
    let contacts = json!({"contact_emails": ["a@example.com", "b@example.com"]});
    fixture.operator.api.patch(&path, &contacts).await?.succeeded()?;
    let (quiet, hook) = (fixture.hook("quiet"), fixture.hook("broken"));
    let by_hand = fixture.endpoint(&quiet).await?;
    fixture.account.disable(&by_hand.id).await?;
    let endpoint = fixture.endpoint(&hook).await?;
    disable(&fixture, &hook, &endpoint).await?;

    let recipients = |emails: &[postrider_tests::mail::Email]| {
        let mut to: Vec<_> = emails.iter().flat_map(|mail| mail.to.clone()).collect();
        to.sort();
        to
    };
    // One email to both contacts or one to each: each is notified once.
    let mut emails = fixture.mail.wait_for(1, SOON).await?;
    if emails[0].to.len() == 1 {
        emails = fixture.mail.wait_for(2, SOON).await?;
    }
    assert_eq!(recipients(&emails), ["a@example.com", "b@example.com"]);
    assert!(emails.iter().all(|mail| !mail.text.contains(&by_hand.id)));
    Ok(())
}

#[tokio::test]
async fn the_email_survives_an_smtp_outage_and_a_kill() -> Result<()> {
    let mail = MailServer::stopped()?;
    let node = Node::start(two_attempts().smtp(mail.address())).await?;
    let mut fixture = Fixture::with_node(node, mail).await?;
    let hook = fixture.hook("broken");
    let created = fixture.endpoint(&hook).await?;
    let endpoint = disable(&fixture, &hook, &created).await?;
    // Deliveries continue during the SMTP outage.
    let healthy = fixture.hook("healthy");
    fixture.endpoint(&healthy).await?;
    fixture.publish(&json!({"n": 3})).await?;
    healthy.wait_for(1, SOON).await?;
    fixture.node.kill().await?;
    fixture.node.restart().await?;
    assert!(fixture.mail.emails().is_empty());
    fixture.mail.start_listening()?;
    let emails = fixture.mail.wait_for(1, seconds(30)).await?;
    assert!(emails[0].text.contains(&endpoint.id), "{}", emails[0].text);

    // A sent email is not repeated after a restart: the next one is about the next disabling.
    fixture.node.stop().await?;
    fixture.node.restart().await?;
    let other = fixture.hook("other");
    let second = fixture.endpoint(&other).await?;
    disable(&fixture, &other, &second).await?;
    let emails = fixture.mail.wait_for(2, SOON).await?;
    let about: Vec<_> = emails.iter().map(|mail| mail.text.contains(&endpoint.id)).collect();
    assert_eq!(about, [true, false]);
    Ok(())
}

#[tokio::test]
async fn sent_emails_are_logged_with_their_recipients() -> Result<()> {
    let fixture = Fixture::start(two_attempts()).await?;
    let hook = fixture.hook("broken");
    let created = fixture.endpoint(&hook).await?;
    let rest = format!("/endpoints/{}/emails", created.id);
    let before: Value = fixture.account.read(&rest).await?;
    assert_eq!(before, json!({"data": []}));
    let endpoint = disable(&fixture, &hook, &created).await?;
    let mail = fixture.mail.wait_for(1, SOON).await?.remove(0);
    let logged = async || {
        let log: Value = fixture.account.read(&rest).await?;
        Ok(log["data"].as_array().filter(|emails| !emails.is_empty()).cloned())
    };
    let log = postrider_tests::wait::until("the email is logged", SOON, logged).await?;
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
async fn email_is_retried_when_smtp_goes_away_between_two_emails() -> Result<()> {
    let mut fixture = Fixture::start(two_attempts()).await?;
    let (first, second) = (fixture.hook("first"), fixture.hook("second"));
    let one = fixture.endpoint(&first).await?;
    disable(&fixture, &first, &one).await?;
    fixture.mail.wait_for(1, SOON).await?;
    fixture.mail.stop_listening().await;
    let other = fixture.endpoint(&second).await?;
    disable(&fixture, &second, &other).await?;
    fixture.mail.start_listening()?;
    let emails = fixture.mail.wait_for(2, NEXT_EMAIL_WITHIN).await?;
    let last = emails.last().context("there is no email")?;
    assert!(last.text.contains(&other.id), "{}", last.text);
    Ok(())
}

/// An email in flight holds its shard, and a node that stops waits for its shards.
#[tokio::test]
async fn a_hanging_smtp_server_does_not_delay_shutdown() -> Result<()> {
    let mut fixture = Fixture::start(two_attempts()).await?;
    fixture.mail.stop_responding();
    let hook = fixture.hook("broken");
    let created = fixture.endpoint(&hook).await?;
    disable(&fixture, &hook, &created).await?;
    fixture.mail.until_client_waits(SOON).await?;
    let began = Instant::now();
    fixture.node.terminate()?;
    fixture.node.ended().await?;
    let took = began.elapsed();
    ensure!(took < STOPPED_WITHIN, "shutdown took {took:?} with a hanging SMTP server");
    Ok(())
}
