//! `postrider listen`: a local receiver for trying Postrider out.

use anyhow::{Context, Result, ensure};
use postrider_tests::binary::Running;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER};
use postrider_tests::port::Port;
use serde_json::json;

use crate::SOON;

/// Starts `postrider listen` with these arguments and creates an endpoint for it.
async fn listen(fixture: &Fixture, port: &Port, arguments: &[&str]) -> Result<(Running, Endpoint)> {
    let url = format!("http://{}/tried", port.address());
    let endpoint = fixture.account.create(&NewEndpoint::at(&url)).await?;
    let secret = endpoint.signing_secret.clone().context("there is no secret")?;
    let number = port.number().to_string();
    let required = ["listen", "--port", number.as_str(), "--secret", secret.as_str()];
    let running = Running::start(&[&required[..], arguments].concat())?;
    running.wait_for_output(&number, SOON).await?;
    Ok((running, endpoint))
}

#[tokio::test]
async fn listen_prints_each_webhook_and_verifies_its_signature() -> Result<()> {
    let (fixture, port) = (Fixture::start(Config::short_retries()).await?, Port::reserve()?);
    let (listening, endpoint) = listen(&fixture, &port, &[]).await?;
    let event = fixture.publish(&json!({"greeting": "hello"})).await?;
    let output = listening.wait_for_output(&event.id, SOON).await?;
    for word in [ORDER, "greeting", "hello", "signature ok"] {
        ensure!(output.contains(word), "no {word:?} in {output}");
    }
    ensure!(!output.contains("BAD"), "{output}");
    let healthy = |endpoint: &Endpoint| endpoint.pending == 0 && endpoint.failure_count == 0;
    fixture
        .account
        .until_endpoint(&endpoint.id, "has received its delivery", SOON, healthy)
        .await?;
    ensure!(listening.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn listen_reports_an_invalid_signature() -> Result<()> {
    let (fixture, port) = (Fixture::start(Config::short_retries()).await?, Port::reserve()?);
    let (listening, endpoint) = listen(&fixture, &port, &[]).await?;
    let path = fixture.account.path(&format!("/endpoints/{}/rotate-secret", endpoint.id));
    let rotated = fixture.account.api.post(&path, &json!({"overlap": "1ms"})).await?;
    if rotated.status >= 400 {
        // An overlap this short may be rejected; one second is short enough.
        fixture.account.api.post(&path, &json!({"overlap": "1s"})).await?.succeeded()?;
    }
    let reported = async || {
        fixture.publish(&json!({})).await?;
        Ok(listening
            .wait_for_output("BAD SIGNATURE", std::time::Duration::from_millis(200))
            .await
            .ok())
    };
    postrider_tests::wait::until("listen reports a bad signature", SOON, reported).await?;
    Ok(())
}

#[tokio::test]
async fn listen_can_fail_delay_and_redirect() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let cases: [(&[&str], &str, Option<u16>); 3] = [
        (&["--fail", "503"], "status", Some(503)),
        (&["--slow", "10s"], "timeout", None),
        (&["--redirect", "https://example.com/"], "status", Some(302)),
    ];
    for (arguments, kind, status) in cases {
        let port = Port::reserve()?;
        let (_listening, endpoint) = listen(&fixture, &port, arguments).await?;
        let tested = fixture.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
        let error = tested.error.context("there is no error")?;
        ensure!(error.kind == kind, "{arguments:?}: {error:?}");
        let answered = tested.response.map(|response| response.status);
        ensure!(answered == status, "{arguments:?}: {answered:?}");
    }
    Ok(())
}
