//! Signing secrets and their rotation.

use anyhow::{Context, Result, ensure};
use postrider_tests::config::Config;
use postrider_tests::receiver::Received;
use postrider_tests::scene::Scene;
use postrider_tests::wait;
use serde_json::json;

use crate::SOON;

async fn next(scene: &Scene) -> Result<Received> {
    let hook = scene.hook("signed");
    let before = hook.received().len();
    scene.publish(&json!({"n": before})).await?;
    hook.wait_for(before + 1, SOON).await?.pop().context("a request")
}

async fn secret(scene: &Scene, endpoint: &str) -> Result<String> {
    let path = scene.account.path(&format!("/endpoints/{endpoint}/secret"));
    let answer = scene.account.api.get(&path).await?.expect(200)?;
    let secret = answer["signing_secret"].as_str().or(answer["secret"].as_str());
    Ok(secret.context("a secret")?.to_owned())
}

async fn rotate(scene: &Scene, endpoint: &str, body: serde_json::Value) -> Result<()> {
    let path = scene.account.path(&format!("/endpoints/{endpoint}/rotate-secret"));
    scene.account.api.post(&path, &body).await?.succeeded().map(|_| ())
}

fn signatures(request: &Received) -> usize {
    let header = request.header("webhook-signature").unwrap_or_default();
    header.split(' ').filter(|part| part.starts_with("v1,")).count()
}

#[tokio::test]
async fn a_secret_is_shown_on_demand_and_not_in_the_endpoint() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let endpoint = scene.endpoint(&scene.hook("signed")).await?;
    let created = endpoint.signing_secret.context("shown at its creation")?;
    ensure!(created.starts_with("whsec_"), "{created}");
    assert_eq!(secret(&scene, &endpoint.id).await?, created);
    assert!(scene.account.endpoint(&endpoint.id).await?.signing_secret.is_none());
    Ok(())
}

#[tokio::test]
async fn while_they_overlap_both_sign() -> Result<()> {
    let mut scene = Scene::start(Config::impatient()).await?;
    let endpoint = scene.endpoint(&scene.hook("signed")).await?;
    let old = secret(&scene, &endpoint.id).await?;
    rotate(&scene, &endpoint.id, json!({})).await?;
    let new = secret(&scene, &endpoint.id).await?;
    assert_ne!(old, new);
    for _ in 0..2 {
        let request = next(&scene).await?;
        assert_eq!(signatures(&request), 2);
        request.verify(&old)?;
        request.verify(&new)?;
        // So it stays over a kill.
        scene.node.kill().await?;
        scene.node.restart().await?;
    }
    Ok(())
}

#[tokio::test]
async fn after_the_overlap_the_old_one_is_worthless() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let endpoint = scene.endpoint(&scene.hook("signed")).await?;
    let old = secret(&scene, &endpoint.id).await?;
    rotate(&scene, &endpoint.id, json!({"overlap": "1s"})).await?;
    let new = secret(&scene, &endpoint.id).await?;
    let single = async || Ok(Some(next(&scene).await?).filter(|r| signatures(r) == 1));
    let request = wait::until("one secret signs", SOON, single).await?;
    request.verify(&new)?;
    assert!(request.verify(&old).is_err(), "signed with the old secret");
    Ok(())
}
