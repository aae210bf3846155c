//! Delivery of events: which endpoints receive them, and the request they receive.

use anyhow::Result;
use postrider_tests::client::NewEndpoint;
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER, REFUND};
use postrider_tests::port::Port;
use postrider_tests::receiver::Behaviour;
use serde_json::json;

use crate::SOON;

#[tokio::test]
async fn the_payload_arrives_byte_for_byte_and_signed() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("orders");
    let new = NewEndpoint::at(&hook.url()).header("X-Api-Key", "s3cret").header("x-empty", "");
    let endpoint = fixture.account.create(&new).await?;
    // Whitespace, number formats, escapes, key order and a duplicate key must all survive.
    let payload = "{ \"b\":1.0 ,\"a\": 1e2,\n\t\"text\":\"\\u00e9 é \\/ 😀\", \"n\":12345678901234567890123, \"b\":[ ] }";
    let accepted = fixture.account.publish(ORDER, payload).await?;
    assert_eq!(accepted.deliveries, 1);

    let request = &hook.wait_for(1, SOON).await?[0];
    assert_eq!(String::from_utf8_lossy(&request.body), payload);
    assert_eq!(request.request_line(), "POST /orders HTTP/1.1");
    request.verify(&endpoint.signing_secret.unwrap_or_default())?;
    let header = |name| request.header(name).unwrap_or_default();
    assert_eq!(header("webhook-id"), accepted.id);
    assert_eq!(header("webhook-event-type"), ORDER);
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-api-key"), "s3cret");
    assert_eq!(request.header("x-empty").as_deref(), Some(""));
    assert!(header("user-agent").starts_with("Postrider/"), "{}", header("user-agent"));
    let stamp: i64 = header("webhook-timestamp").parse()?;
    assert!((stamp - request.arrived.as_second()).abs() <= 1, "{stamp}");
    Ok(())
}

#[tokio::test]
async fn any_json_value_is_a_valid_payload() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("any");
    fixture.endpoint(&hook).await?;
    let payloads = ["null", "true", "-0.0", "\"text\"", "[]", "[1, 2]", "{}"];
    for payload in payloads {
        fixture.account.publish(ORDER, payload).await?;
    }
    let mut bodies: Vec<_> = hook.wait_for(payloads.len(), SOON).await?;
    bodies.sort_by_key(|request| request.webhook_id());
    let bodies: Vec<_> = bodies.iter().map(|r| String::from_utf8_lossy(&r.body)).collect();
    assert_eq!(bodies, payloads);
    Ok(())
}

#[tokio::test]
async fn endpoints_receive_only_their_event_types() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hooks = ["all", "orders", "both", "none"].map(|name| fixture.hook(name));
    let types: [&[&str]; 4] = [&["*"], &[ORDER], &[ORDER, REFUND], &[]];
    for (hook, types) in hooks.iter().zip(types) {
        fixture.account.create(&NewEndpoint::at(&hook.url()).of_types(types)).await?;
    }
    let refund = fixture.account.publish(REFUND, "{}").await?;
    let order = fixture.account.publish(ORDER, "{}").await?;
    assert_eq!((refund.deliveries, order.deliveries), (2, 3));

    let ids = |hook: usize| {
        let mut ids: Vec<_> =
            hooks[hook].received().iter().filter_map(|r| r.webhook_id()).collect();
        ids.sort();
        ids
    };
    hooks[0].wait_for(2, SOON).await?;
    hooks[1].wait_for(1, SOON).await?;
    hooks[2].wait_for(2, SOON).await?;
    assert_eq!(ids(0), [refund.id.clone(), order.id.clone()]);
    assert_eq!(ids(1), std::slice::from_ref(&order.id));
    assert_eq!(ids(2), [refund.id, order.id]);
    assert!(hooks[3].received().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_subscription_applies_from_the_moment_it_is_acknowledged() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    assert_eq!(fixture.publish(&json!({"n": 0})).await?.deliveries, 0, "there is no endpoint yet");
    let hook = fixture.hook("late");
    let endpoint = fixture.endpoint(&hook).await?;
    assert_eq!(fixture.publish(&json!({"n": 1})).await?.deliveries, 1);
    fixture.account.change(&endpoint.id, &json!({"event_types": [REFUND]})).await?;
    assert_eq!(fixture.publish(&json!({"n": 2})).await?.deliveries, 0);
    let deleted = fixture.account.path(&format!("/endpoints/{}", endpoint.id));
    fixture.account.api.delete(&deleted).await?.succeeded()?;
    assert_eq!(fixture.account.publish(REFUND, "{}").await?.deliveries, 0);
    let received = hook.wait_for(1, SOON).await?;
    assert_eq!(received[0].json()?, json!({"n": 1}));
    Ok(())
}

#[tokio::test]
async fn every_event_of_a_batch_is_delivered() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("batch");
    fixture.endpoint(&hook).await?;
    let payloads: Vec<_> = (0..100).map(|n| format!("{{\"n\": {n} }}")).collect();
    let events: Vec<_> = payloads.iter().map(|text| (ORDER, text.as_str())).collect();
    let response = fixture.account.try_publish_batch(&events).await?.expect(202)?;
    let ids: Vec<_> = response["data"].as_array().into_iter().flatten().collect();
    assert_eq!(ids.len(), 100);
    let received = hook.wait_for(100, SOON).await?;
    for (id, payload) in ids.iter().zip(&payloads) {
        let request = received.iter().find(|r| r.webhook_id().as_deref() == id["id"].as_str());
        let body = request.map(|request| String::from_utf8_lossy(&request.body).into_owned());
        assert_eq!(body.as_ref(), Some(payload));
    }
    Ok(())
}

#[tokio::test]
async fn the_delivery_record_shows_what_went_over_the_wire() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("record");
    hook.set_behaviour(Behaviour::with_body(202, "thank you"));
    let endpoint = fixture.endpoint(&hook).await?;
    let event = fixture.publish(&json!({"n": 1})).await?;
    hook.wait_for_ended(1, SOON).await?;
    let delivery = fixture.account.delivery_of(&event.id, &endpoint.id).await?;
    let delivered = |d: &postrider_tests::client::records::Delivery| d.state == "delivered";
    let delivery =
        fixture.account.until_delivery(&delivery.id, "is delivered", SOON, delivered).await?;

    let wire = &hook.received()[0];
    let [attempt] = &delivery.attempts[..] else { panic!("{} attempts", delivery.attempts.len()) };
    assert_eq!((attempt.number, attempt.request.method.as_str()), (1, "POST"));
    assert_eq!(attempt.request.url, hook.url());
    assert_eq!(attempt.request.headers, wire.headers());
    assert_eq!(attempt.request.body.as_bytes(), &wire.body[..]);
    let response = attempt.response.as_ref().map(|r| (r.status, r.body.as_str()));
    assert_eq!(response, Some((202, "thank you")));
    assert!(attempt.error.is_none() && attempt.next_attempt_at.is_none());
    assert!(delivery.finished_at.is_some() && delivery.next_attempt_at.is_none());
    let endpoint = fixture.account.endpoint(&endpoint.id).await?;
    assert_eq!((endpoint.pending, endpoint.failure_count), (0, 0));
    assert_eq!(endpoint.oldest_pending_at, None);
    Ok(())
}

#[tokio::test]
async fn proxy_variables_in_the_environment_are_ignored() -> Result<()> {
    let port = Port::reserve()?;
    let closed_port = format!("http://{}", port.address());
    let config = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .fold(Config::short_retries(), |config, name| config.env(name, &closed_port));
    let fixture = Fixture::start(config).await?;
    let hook = fixture.hook("direct");
    fixture.endpoint(&hook).await?;
    fixture.publish(&json!({})).await?;
    hook.wait_for(1, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn accepted_events_survive_a_kill_and_a_restart() -> Result<()> {
    let mut fixture = Fixture::start(Config::new()).await?;
    let hook = fixture.hook("later");
    hook.set_behaviour(Behaviour::Hang);
    fixture.endpoint(&hook).await?;
    let killed = fixture.publish(&json!({"n": 1})).await?;
    hook.wait_for(1, SOON).await?;
    fixture.node.kill().await?;
    hook.set_behaviour(Behaviour::default());
    fixture.node.restart().await?;
    let received = hook.wait_for(2, SOON).await?;
    assert_eq!(received[1].webhook_id(), Some(killed.id));

    let accepted = fixture.publish(&json!({"n": 2})).await?;
    fixture.node.stop().await?;
    fixture.node.restart().await?;
    let received = hook.wait_for(3, SOON).await?;
    assert_eq!(received[2].webhook_id(), Some(accepted.id));
    Ok(())
}

#[tokio::test]
async fn lists_are_paged_newest_first() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("list");
    let endpoint = fixture.endpoint(&hook).await?;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.insert(0, fixture.publish(&json!({"n": n})).await?.id);
    }
    let page =
        fixture.account.api.get(&fixture.account.path("/events?limit=3")).await?.expect(200)?;
    assert_eq!(page["data"].as_array().map(Vec::len), Some(3));
    let path = format!("/events?limit=3&cursor={}", page["next_cursor"].as_str().unwrap_or(""));
    let second = fixture.account.api.get(&fixture.account.path(&path)).await?.expect(200)?;
    assert_eq!(second["data"][0]["id"].as_str(), Some(ids[3].as_str()));
    let all: Vec<_> = fixture.account.events().await?.into_iter().map(|event| event.id).collect();
    assert_eq!(all, ids);

    let deliveries = fixture.account.deliveries(&endpoint.id).await?;
    let events: Vec<_> = deliveries.into_iter().map(|delivery| delivery.event_id).collect();
    assert_eq!(events, ids);
    let none = format!("/endpoints/{}/deliveries?event_type={REFUND}&", endpoint.id);
    let none: Vec<postrider_tests::client::records::Delivery> = fixture.account.list(&none).await?;
    assert!(none.is_empty());
    Ok(())
}
