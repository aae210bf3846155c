//! What counts as success, and how each failure is called.

use std::time::Duration;

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::{Attempt, Delivery};
use postrider_tests::config::Config;
use postrider_tests::port::Port;
use postrider_tests::receiver::Behaviour;
use postrider_tests::scene::Scene;
use postrider_tests::wait::{millis, seconds};
use serde_json::json;

use crate::SOON;

const TIMEOUT: Duration = seconds(1);

/// Sends one event to an endpoint at `url` and gives its delivery after the first attempt.
async fn first_attempt(scene: &Scene, url: &str) -> Result<(Delivery, Attempt)> {
    let endpoint = scene.account.create(&NewEndpoint::at(url)).await?;
    let event = scene.publish(&json!({"to": url})).await?;
    let delivery = scene.account.delivery_of(&event.id, &endpoint.id).await?;
    let tried = |delivery: &Delivery| !delivery.attempts.is_empty();
    let delivery = scene.account.until_delivery(&delivery.id, "is tried", SOON, tried).await?;
    // Its later events would only disturb the next case.
    let path = scene.account.path(&format!("/endpoints/{}", endpoint.id));
    scene.account.api.delete(&path).await?.succeeded()?;
    let attempt = delivery.attempts.first().cloned().context("an attempt")?;
    Ok((delivery, attempt))
}

#[tokio::test]
async fn every_2xx_is_success() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("good");
    for status in [200, 201, 202, 204, 206, 299] {
        hook.behave(Behaviour::status(status));
        let (delivery, attempt) = first_attempt(&scene, &hook.url()).await?;
        assert_eq!(delivery.state, "delivered", "{status}");
        assert_eq!(attempt.response.map(|response| response.status), Some(status));
        assert!(attempt.error.is_none(), "{status}: {:?}", attempt.error);
    }
    Ok(())
}

#[tokio::test]
async fn the_status_line_decides_whatever_the_body_does() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("odd");
    for behaviour in [Behaviour::StalledBody, Behaviour::HugeBody(64 * 1024 * 1024)] {
        hook.behave(behaviour.clone());
        let (delivery, attempt) = first_attempt(&scene, &hook.url()).await?;
        assert_eq!(delivery.state, "delivered", "{behaviour:?}");
        let body = attempt.response.map(|response| response.body).unwrap_or_default();
        assert!(body.len() <= 4096, "{behaviour:?}: {} bytes are kept", body.len());
        assert!(millis(attempt.duration_ms) <= TIMEOUT + millis(100), "{behaviour:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_compressed_stays_compressed() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("gzip");
    hook.behave(Behaviour::with_header(200, "Content-Encoding", "gzip"));
    let (delivery, attempt) = first_attempt(&scene, &hook.url()).await?;
    assert_eq!(delivery.state, "delivered");
    let response = attempt.response.context("a response")?;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    let asked = hook.received()[0].header("accept-encoding");
    assert!(asked.as_deref().is_none_or(|value| value == "identity"), "{asked:?}");
    Ok(())
}

#[tokio::test]
async fn every_other_status_is_failure() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("bad");
    for status in [300, 304, 400, 401, 404, 410, 418, 429, 500, 503, 599] {
        hook.behave(Behaviour::status(status));
        let (delivery, attempt) = first_attempt(&scene, &hook.url()).await?;
        assert_eq!(delivery.state, "pending", "{status}");
        let error = attempt.error.with_context(|| format!("{status} is no error"))?;
        assert_eq!(error.kind, "status", "{status}");
        assert!(error.message.contains(&status.to_string()), "{}", error.message);
        assert_eq!(attempt.response.map(|response| response.status), Some(status));
        assert!(attempt.next_attempt_at.is_some(), "{status}");
    }
    Ok(())
}

#[tokio::test]
async fn redirects_are_shown_and_not_followed() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let (hook, target) = (scene.hook("moved"), scene.hook("target"));
    for status in [301, 302, 303, 307, 308] {
        hook.behave(Behaviour::redirect(status, &target.url()));
        let (delivery, attempt) = first_attempt(&scene, &hook.url()).await?;
        assert_eq!(delivery.state, "pending", "{status}");
        let error = attempt.error.context("an error")?;
        assert_eq!(error.kind, "status", "{status}");
        assert!(error.message.contains(&target.url()), "{}", error.message);
        let response = attempt.response.context("a response")?;
        assert_eq!(response.header("location"), Some(target.url().as_str()));
    }
    assert!(target.received().is_empty(), "a redirect was followed");
    Ok(())
}

#[tokio::test]
async fn no_answer_is_failure_of_a_kind() -> Result<()> {
    let scene = Scene::start(Config::impatient().timeout("1s")).await?;
    let hook = scene.hook("silent");
    let cases = [
        (Behaviour::Hang, "timeout"),
        (Behaviour::Slow(seconds(3)), "timeout"),
        (Behaviour::InformationalOnly, "timeout"),
        (Behaviour::Garbage, "protocol"),
        (Behaviour::Close, "protocol"),
        (Behaviour::Reset, "protocol"),
    ];
    for (behaviour, kind) in cases {
        hook.behave(behaviour.clone());
        let (delivery, attempt) = first_attempt(&scene, &hook.url()).await?;
        assert_eq!(delivery.state, "pending", "{behaviour:?}");
        let error = attempt.error.with_context(|| format!("{behaviour:?} is no error"))?;
        assert_eq!(error.kind, kind, "{behaviour:?}: {}", error.message);
        assert!(!error.message.is_empty(), "{behaviour:?}");
        assert!(attempt.response.is_none(), "{behaviour:?}");
        assert!(millis(attempt.duration_ms) <= TIMEOUT + millis(100), "{behaviour:?}");
    }
    Ok(())
}

#[tokio::test]
async fn no_connection_is_failure_of_a_kind() -> Result<()> {
    let scene = Scene::start(Config::impatient().timeout("3s").retry("24h", 3)).await?;
    let nobody = Port::reserve()?;
    let cases = [
        (format!("http://{}/", nobody.address()), ["connect", "connect"]),
        // Says something at once, and it is not TLS.
        (format!("https://{}/", scene.mail.address()), ["tls", "tls"]),
        // Behind a firewall the question itself may find no answer.
        ("http://no-such-host.invalid/".to_owned(), ["dns", "timeout"]),
    ];
    for (url, kinds) in cases {
        let (delivery, attempt) = first_attempt(&scene, &url).await?;
        assert_eq!(delivery.state, "pending", "{url}");
        let error = attempt.error.context("an error")?;
        assert!(kinds.contains(&error.kind.as_str()), "{url}: {error:?}");
        assert!(attempt.response.is_none(), "{url}");
    }
    Ok(())
}

#[tokio::test]
async fn an_attempt_ends_at_five_seconds() -> Result<()> {
    let scene = Scene::start(Config::new()).await?;
    let hook = scene.hook("hang");
    hook.behave(Behaviour::Hang);
    scene.endpoint(&hook).await?;
    scene.publish(&json!({})).await?;
    let request = &hook.wait_for_ended(1, seconds(8)).await?[0];
    let took = request.duration().context("an end")?;
    assert!((seconds(4)..seconds(5) + millis(100)).contains(&took), "{took:?}");
    Ok(())
}
