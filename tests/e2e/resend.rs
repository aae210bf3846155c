//! A past event is sent again, to one endpoint or to all that want it.

use anyhow::Result;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Delivery;
use postrider_tests::config::Config;
use postrider_tests::scene::{REFUND, Scene};
use serde_json::{Value, json};

use crate::SOON;

/// Sends an event again and gives to how many endpoints.
async fn resend(scene: &Scene, event: &str, body: &Value) -> Result<u64> {
    let path = scene.account.path(&format!("/events/{event}/resend"));
    let answer = scene.account.api.post(&path, body).await?.expect(202)?;
    Ok(answer["deliveries"].as_u64().unwrap_or_default())
}

async fn received(scene: &Scene, event: &str) -> Result<Vec<Delivery>> {
    scene.account.list(&format!("/events/{event}/deliveries?")).await
}

#[tokio::test]
async fn a_past_event_goes_to_one_endpoint_or_to_all_that_want_it() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let (orders, refunds) = (scene.hook("orders"), scene.hook("refunds"));
    let wants_it = scene.endpoint(&orders).await?;
    let refunds_only = NewEndpoint::at(&refunds.url()).of_types(&[REFUND]);
    let other = scene.account.create(&refunds_only).await?;
    let event = scene.publish(&json!({"n": 1})).await?;
    orders.wait_for_ended(1, SOON).await?;
    assert_eq!(received(&scene, &event.id).await?.len(), 1);

    assert_eq!(resend(&scene, &event.id, &json!({"endpoint": other.id})).await?, 1);
    let again = refunds.wait_for(1, SOON).await?.remove(0);
    assert_eq!(again.webhook_id().as_deref(), Some(event.id.as_str()));
    again.verify(other.signing_secret.as_deref().unwrap_or_default())?;

    assert_eq!(resend(&scene, &event.id, &json!({})).await?, 1);
    let all = orders.wait_for(2, SOON).await?;
    assert_eq!(all[0].body, all[1].body);
    assert_eq!(refunds.received().len(), 1, "it does not want the type");
    let to: Vec<_> = received(&scene, &event.id).await?;
    let to: Vec<_> = to.iter().map(|delivery| delivery.endpoint_id.as_str()).collect();
    assert_eq!(to, [wants_it.id.as_str(), &other.id, &wants_it.id], "the newest first");
    Ok(())
}

#[tokio::test]
async fn what_is_sent_again_to_a_disabled_endpoint_is_held_and_survives_a_kill() -> Result<()> {
    let mut scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("held");
    let endpoint = scene.endpoint(&hook).await?;
    let event = scene.publish(&json!({"n": 1})).await?;
    hook.wait_for_ended(1, SOON).await?;
    scene.account.until_endpoint(&endpoint.id, "is done", SOON, |e| e.pending == 0).await?;
    scene.account.disable(&endpoint.id).await?;
    for body in [json!({}), json!({"endpoint": endpoint.id})] {
        assert_eq!(resend(&scene, &event.id, &body).await?, 1);
    }
    scene.node.kill().await?;
    scene.node.restart().await?;
    let states: Vec<_> = received(&scene, &event.id).await?;
    let states: Vec<_> = states.iter().map(|delivery| delivery.state.as_str()).collect();
    assert_eq!(states, ["held", "held", "delivered"]);
    assert_eq!(hook.received().len(), 1, "nothing is sent while it is disabled");
    scene.account.enable(&endpoint.id, "resume").await?;
    hook.wait_for(3, SOON).await?;

    let path = scene.account.path(&format!("/endpoints/{}", endpoint.id));
    scene.account.api.delete(&path).await?.succeeded()?;
    let path = scene.account.path(&format!("/events/{}/resend", event.id));
    let body = json!({"endpoint": endpoint.id});
    scene.account.api.post(&path, &body).await?.problem(&[409])?;
    assert_eq!(resend(&scene, &event.id, &json!({})).await?, 0);
    Ok(())
}
