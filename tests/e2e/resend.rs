//! Resending a past event to one endpoint or to all subscribers.

use anyhow::Result;
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Delivery;
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, REFUND};
use serde_json::{Value, json};

use crate::SOON;

/// Resends an event and returns the number of new deliveries.
async fn resend(fixture: &Fixture, event: &str, body: &Value) -> Result<u64> {
    let path = fixture.account.path(&format!("/events/{event}/resend"));
    let response = fixture.account.api.post(&path, body).await?.expect(202)?;
    Ok(response["deliveries"].as_u64().unwrap_or_default())
}

async fn deliveries_of(fixture: &Fixture, event: &str) -> Result<Vec<Delivery>> {
    fixture.account.list(&format!("/events/{event}/deliveries?")).await
}

#[tokio::test]
async fn a_past_event_is_resent_to_one_endpoint_or_to_all_subscribers() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let (orders, refunds) = (fixture.hook("orders"), fixture.hook("refunds"));
    let subscribed = fixture.endpoint(&orders).await?;
    let refunds_only = NewEndpoint::at(&refunds.url()).of_types(&[REFUND]);
    let other = fixture.account.create(&refunds_only).await?;
    let event = fixture.publish(&json!({"n": 1})).await?;
    orders.wait_for_ended(1, SOON).await?;
    assert_eq!(deliveries_of(&fixture, &event.id).await?.len(), 1);

    assert_eq!(resend(&fixture, &event.id, &json!({"endpoint": other.id})).await?, 1);
    let again = refunds.wait_for(1, SOON).await?.remove(0);
    assert_eq!(again.webhook_id().as_deref(), Some(event.id.as_str()));
    again.verify(other.signing_secret.as_deref().unwrap_or_default())?;

    assert_eq!(resend(&fixture, &event.id, &json!({})).await?, 1);
    let all = orders.wait_for(2, SOON).await?;
    assert_eq!(all[0].body, all[1].body);
    assert_eq!(
        refunds.received().len(),
        1,
        "the event was resent to an endpoint that is not subscribed"
    );
    let to: Vec<_> = deliveries_of(&fixture, &event.id).await?;
    let to: Vec<_> = to.iter().map(|delivery| delivery.endpoint_id.as_str()).collect();
    assert_eq!(
        to,
        [subscribed.id.as_str(), &other.id, &subscribed.id],
        "the deliveries of an event are not listed newest first"
    );
    Ok(())
}

#[tokio::test]
async fn events_resent_to_a_disabled_endpoint_are_held_and_survive_a_kill() -> Result<()> {
    let mut fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("held");
    let endpoint = fixture.endpoint(&hook).await?;
    let event = fixture.publish(&json!({"n": 1})).await?;
    hook.wait_for_ended(1, SOON).await?;
    fixture
        .account
        .until_endpoint(&endpoint.id, "has no pending delivery", SOON, |e| e.pending == 0)
        .await?;
    fixture.account.disable(&endpoint.id).await?;
    for body in [json!({}), json!({"endpoint": endpoint.id})] {
        assert_eq!(resend(&fixture, &event.id, &body).await?, 1);
    }
    fixture.node.kill().await?;
    fixture.node.restart().await?;
    let states: Vec<_> = deliveries_of(&fixture, &event.id).await?;
    let states: Vec<_> = states.iter().map(|delivery| delivery.state.as_str()).collect();
    assert_eq!(states, ["held", "held", "delivered"]);
    assert_eq!(hook.received().len(), 1, "a delivery was sent to a disabled endpoint");
    fixture.account.enable(&endpoint.id, "resume").await?;
    hook.wait_for(3, SOON).await?;

    let path = fixture.account.path(&format!("/endpoints/{}", endpoint.id));
    fixture.account.api.delete(&path).await?.succeeded()?;
    let path = fixture.account.path(&format!("/events/{}/resend", event.id));
    let body = json!({"endpoint": endpoint.id});
    fixture.account.api.post(&path, &body).await?.problem(&[409])?;
    assert_eq!(resend(&fixture, &event.id, &json!({})).await?, 0);
    Ok(())
}
