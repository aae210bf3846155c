//! Signing secrets and their rotation.

use anyhow::{Context, Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::fixture::Fixture;
use postrider_tests::receiver::Received;
use postrider_tests::wait;
use serde_json::json;

use crate::SOON;

async fn next_request(fixture: &Fixture) -> Result<Received> {
    let hook = fixture.hook("signed");
    let before = hook.received().len();
    fixture.publish(&json!({"n": before})).await?;
    hook.wait_for(before + 1, SOON).await?.pop().context("there is no request")
}

async fn secret(fixture: &Fixture, endpoint: &str) -> Result<String> {
    let path = fixture.account.path(&format!("/endpoints/{endpoint}/secret"));
    let response = fixture.account.api.get(&path).await?.expect(200)?;
    let secret = response["signing_secret"].as_str().or(response["secret"].as_str());
    Ok(secret.context("there is no secret")?.to_owned())
}

async fn rotate(fixture: &Fixture, endpoint: &str, body: serde_json::Value) -> Result<()> {
    let path = fixture.account.path(&format!("/endpoints/{endpoint}/rotate-secret"));
    fixture.account.api.post(&path, &body).await?.succeeded().map(|_| ())
}

fn signatures(request: &Received) -> usize {
    let header = request.header("webhook-signature").unwrap_or_default();
    header.split(' ').filter(|part| part.starts_with("v1,")).count()
}

#[tokio::test]
async fn a_secret_is_returned_only_on_request() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let endpoint = fixture.endpoint(&fixture.hook("signed")).await?;
    let created =
        endpoint.signing_secret.context("the secret is missing from the created endpoint")?;
    ensure!(created.starts_with("whsec_"), "{created}");
    assert_eq!(secret(&fixture, &endpoint.id).await?, created);
    assert!(fixture.account.endpoint(&endpoint.id).await?.signing_secret.is_none());
    Ok(())
}

#[tokio::test]
async fn both_secrets_sign_during_the_overlap() -> Result<()> {
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    let endpoint = fixture.endpoint(&fixture.hook("signed")).await?;
    let old = secret(&fixture, &endpoint.id).await?;
    rotate(&fixture, &endpoint.id, json!({})).await?;
    let new = secret(&fixture, &endpoint.id).await?;
    assert_ne!(old, new);
    for _ in 0..2 {
        let request = next_request(&fixture).await?;
        assert_eq!(signatures(&request), 2);
        request.verify(&old)?;
        request.verify(&new)?;
        // The overlap survives a kill.
        fixture.node.kill().await?;
        fixture.node.restart().await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_old_secret_stops_signing_after_the_overlap() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let endpoint = fixture.endpoint(&fixture.hook("signed")).await?;
    let old = secret(&fixture, &endpoint.id).await?;
    rotate(&fixture, &endpoint.id, json!({"overlap": "1s"})).await?;
    let new = secret(&fixture, &endpoint.id).await?;
    let single = async || Ok(Some(next_request(&fixture).await?).filter(|r| signatures(r) == 1));
    let request = wait::until("only one secret signs", SOON, single).await?;
    request.verify(&new)?;
    assert!(request.verify(&old).is_err(), "the request is still signed with the old secret");
    Ok(())
}
