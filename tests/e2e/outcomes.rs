//! Which outcomes are successes, and how each failure is classified.

use std::time::Duration;

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::{Attempt, Delivery};
use postrider_tests::config::Config;
use postrider_tests::fixture::Fixture;
use postrider_tests::port::Port;
use postrider_tests::receiver::Behaviour;
use postrider_tests::wait::{millis, seconds};
use serde_json::json;

use crate::SOON;

const TIMEOUT: Duration = seconds(1);

/// Sends one event to an endpoint at `url` and returns its delivery after the first attempt.
async fn first_attempt(fixture: &Fixture, url: &str) -> Result<(Delivery, Attempt)> {
    let endpoint = fixture.account.create(&NewEndpoint::at(url)).await?;
    let event = fixture.publish(&json!({"to": url})).await?;
    let delivery = fixture.account.delivery_of(&event.id, &endpoint.id).await?;
    let tried = |delivery: &Delivery| !delivery.attempts.is_empty();
    let delivery = fixture.account.until_delivery(&delivery.id, "is tried", SOON, tried).await?;
    // Otherwise it would receive the next case's event, too.
    let path = fixture.account.path(&format!("/endpoints/{}", endpoint.id));
    fixture.account.api.delete(&path).await?.succeeded()?;
    let attempt = delivery.attempts.first().cloned().context("there is no attempt")?;
    Ok((delivery, attempt))
}

#[tokio::test]
async fn every_2xx_status_is_a_success() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("good");
    for status in [200, 201, 202, 204, 206, 299] {
        hook.set_behaviour(Behaviour::status(status));
        let (delivery, attempt) = first_attempt(&fixture, &hook.url()).await?;
        assert_eq!(delivery.state, "delivered", "{status}");
        assert_eq!(attempt.response.map(|response| response.status), Some(status));
        assert!(attempt.error.is_none(), "{status}: {:?}", attempt.error);
    }
    Ok(())
}

#[tokio::test]
async fn the_status_decides_even_if_the_body_stalls_or_is_huge() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("odd");
    for behaviour in [Behaviour::StalledBody, Behaviour::HugeBody(64 * 1024 * 1024)] {
        hook.set_behaviour(behaviour.clone());
        let (delivery, attempt) = first_attempt(&fixture, &hook.url()).await?;
        assert_eq!(delivery.state, "delivered", "{behaviour:?}");
        let body = attempt.response.map(|response| response.body).unwrap_or_default();
        assert!(
            body.len() <= 4096,
            "{behaviour:?}: {} bytes of the body were recorded",
            body.len()
        );
        assert!(millis(attempt.duration_ms) <= TIMEOUT + millis(100), "{behaviour:?}");
    }
    Ok(())
}

#[tokio::test]
async fn compressed_response_bodies_are_not_decoded() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("gzip");
    hook.set_behaviour(Behaviour::with_header(200, "Content-Encoding", "gzip"));
    let (delivery, attempt) = first_attempt(&fixture, &hook.url()).await?;
    assert_eq!(delivery.state, "delivered");
    let response = attempt.response.context("there is no response")?;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    let asked = hook.received()[0].header("accept-encoding");
    assert!(asked.as_deref().is_none_or(|value| value == "identity"), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn every_other_status_is_a_failure() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("bad");
    for status in [300, 304, 400, 401, 404, 410, 418, 429, 500, 503, 599] {
        hook.set_behaviour(Behaviour::status(status));
        let (delivery, attempt) = first_attempt(&fixture, &hook.url()).await?;
        assert_eq!(delivery.state, "pending", "{status}");
        let error =
            attempt.error.with_context(|| format!("{status} was not recorded as an error"))?;
        assert_eq!(error.kind, "status", "{status}");
        assert!(error.message.contains(&status.to_string()), "{}", error.message);
        assert_eq!(attempt.response.map(|response| response.status), Some(status));
        assert!(attempt.next_attempt_at.is_some(), "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn redirects_are_recorded_and_not_followed() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let (hook, target) = (fixture.hook("moved"), fixture.hook("target"));
    for status in [301, 302, 303, 307, 308] {
        hook.set_behaviour(Behaviour::redirect(status, &target.url()));
        let (delivery, attempt) = first_attempt(&fixture, &hook.url()).await?;
        assert_eq!(delivery.state, "pending", "{status}");
        let error = attempt.error.context("there is no error")?;
        assert_eq!(error.kind, "status", "{status}");
        assert!(error.message.contains(&target.url()), "{}", error.message);
        let response = attempt.response.context("there is no response")?;
        assert_eq!(response.header("location"), Some(target.url().as_str()));
    }
    assert!(target.received().is_empty(), "a redirect was followed");
    Ok(())
}

#[tokio::test]
async fn a_missing_response_is_classified_by_its_cause() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries().timeout("1s")).await?;
    let hook = fixture.hook("silent");
    let cases = [
        (Behaviour::Hang, "timeout"),
        (Behaviour::Slow(seconds(3)), "timeout"),
        (Behaviour::InformationalOnly, "timeout"),
        (Behaviour::Garbage, "protocol"),
        (Behaviour::Close, "protocol"),
        (Behaviour::Reset, "protocol"),
    ];
    for (behaviour, kind) in cases {
        hook.set_behaviour(behaviour.clone());
        let (delivery, attempt) = first_attempt(&fixture, &hook.url()).await?;
        assert_eq!(delivery.state, "pending", "{behaviour:?}");
        let error =
            attempt.error.with_context(|| format!("{behaviour:?} was not recorded as an error"))?;
        assert_eq!(error.kind, kind, "{behaviour:?}: {}", error.message);
        assert!(!error.message.is_empty(), "{behaviour:?}");
        assert!(attempt.response.is_none(), "{behaviour:?}");
        assert!(millis(attempt.duration_ms) <= TIMEOUT + millis(100), "{behaviour:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_failed_connection_is_classified_by_its_cause() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries().timeout("3s").retry("24h", 3)).await?;
    let closed_port = Port::reserve()?;
    let cases = [
        (format!("http://{}/", closed_port.address()), ["connect", "connect"]),
        // An SMTP server greets the client at once, which is not TLS.
        (format!("https://{}/", fixture.mail.address()), ["tls", "tls"]),
        // Behind a firewall, the DNS query itself may time out.
        ("http://no-such-host.invalid/".to_owned(), ["dns", "timeout"]),
    ];
    for (url, kinds) in cases {
        let (delivery, attempt) = first_attempt(&fixture, &url).await?;
        assert_eq!(delivery.state, "pending", "{url}");
        let error = attempt.error.context("there is no error")?;
        assert!(kinds.contains(&error.kind.as_str()), "{url}: {error:?}");
        assert!(attempt.response.is_none(), "{url}");
    }
    Ok(())
}

#[tokio::test]
async fn an_attempt_times_out_after_five_seconds() -> Result<()> {
    let fixture = Fixture::start(Config::new()).await?;
    let hook = fixture.hook("hang");
    hook.set_behaviour(Behaviour::Hang);
    fixture.endpoint(&hook).await?;
    fixture.publish(&json!({})).await?;
    let request = &hook.wait_for_ended(1, seconds(8)).await?[0];
    let took = request.duration().context("there is no end")?;
    assert!((seconds(4)..seconds(5) + millis(100)).contains(&took), "{took:?}");
    Ok(())
}
