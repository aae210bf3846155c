//! `postrider listen`: the receiver for a first try.

use anyhow::{Context, Result, ensure};
use postrider_tests::binary::Running;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Endpoint;
use postrider_tests::config::Config;
use postrider_tests::port::Port;
use postrider_tests::scene::{ORDER, Scene};
use serde_json::json;

use crate::SOON;

/// Listens with these arguments, and gives an endpoint that leads there.
async fn listen(scene: &Scene, port: &Port, arguments: &[&str]) -> Result<(Running, Endpoint)> {
    let url = format!("http://{}/tried", port.address());
    let endpoint = scene.account.create(&NewEndpoint::at(&url)).await?;
    let secret = endpoint.signing_secret.clone().context("a secret")?;
    let number = port.number().to_string();
    let own = ["listen", "--port", number.as_str(), "--secret", secret.as_str()];
    let running = Running::start(&[&own[..], arguments].concat())?;
    running.says(&number, SOON).await?;
    Ok((running, endpoint))
}

#[tokio::test]
async fn prints_each_webhook_and_checks_its_signature() -> Result<()> {
    let (scene, port) = (Scene::start(Config::impatient()).await?, Port::reserve()?);
    let (listening, endpoint) = listen(&scene, &port, &[]).await?;
    let event = scene.publish(&json!({"greeting": "hello"})).await?;
    let said = listening.says(&event.id, SOON).await?;
    for word in [ORDER, "greeting", "hello", "signature ok"] {
        ensure!(said.contains(word), "no {word:?} in {said}");
    }
    ensure!(!said.contains("BAD"), "{said}");
    let well = |endpoint: &Endpoint| endpoint.pending == 0 && endpoint.failure_count == 0;
    scene.account.until_endpoint(&endpoint.id, "is delivered to", SOON, well).await?;
    ensure!(listening.stop().await?.success());
    Ok(())
}

#[tokio::test]
async fn says_so_when_a_signature_is_wrong() -> Result<()> {
    let (scene, port) = (Scene::start(Config::impatient()).await?, Port::reserve()?);
    let (listening, endpoint) = listen(&scene, &port, &[]).await?;
    let path = scene.account.path(&format!("/endpoints/{}/rotate-secret", endpoint.id));
    let rotated = scene.account.api.post(&path, &json!({"overlap": "1ms"})).await?;
    if rotated.status >= 400 {
        // No overlap at all may be refused; a second passes soon enough.
        scene.account.api.post(&path, &json!({"overlap": "1s"})).await?.succeeded()?;
    }
    let wrong = async || {
        scene.publish(&json!({})).await?;
        Ok(listening.says("BAD SIGNATURE", std::time::Duration::from_millis(200)).await.ok())
    };
    postrider_tests::wait::until("the signature is wrong", SOON, wrong).await?;
    Ok(())
}

#[tokio::test]
async fn misbehaves_on_purpose() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let cases: [(&[&str], &str, Option<u16>); 3] = [
        (&["--fail", "503"], "status", Some(503)),
        (&["--slow", "10s"], "timeout", None),
        (&["--redirect", "https://example.com/"], "status", Some(302)),
    ];
    for (arguments, kind, status) in cases {
        let port = Port::reserve()?;
        let (_listening, endpoint) = listen(&scene, &port, arguments).await?;
        let tested = scene.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
        let error = tested.error.context("an error")?;
        ensure!(error.kind == kind, "{arguments:?}: {error:?}");
        let answered = tested.response.map(|response| response.status);
        ensure!(answered == status, "{arguments:?}: {answered:?}");
    }
    Ok(())
}
