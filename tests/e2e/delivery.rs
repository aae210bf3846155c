//! Events arrive: whom they reach, and as what.

use anyhow::Result;
use postrider_tests::client::NewEndpoint;
use postrider_tests::config::Config;
use postrider_tests::port::Port;
use postrider_tests::receiver::Behaviour;
use postrider_tests::scene::{ORDER, REFUND, Scene};
use serde_json::json;

use crate::SOON;

#[tokio::test]
async fn the_payload_arrives_byte_for_byte_and_signed() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("orders");
    let new = NewEndpoint::at(&hook.url()).header("X-Api-Key", "s3cret").header("x-empty", "");
    let endpoint = scene.account.create(&new).await?;
    // Spacing, number forms, escapes, the order of keys and a repeated key must all survive.
    let payload = "{ \"b\":1.0 ,\"a\": 1e2,\n\t\"text\":\"\\u00e9 é \\/ 😀\", \"n\":12345678901234567890123, \"b\":[ ] }";
    let accepted = scene.account.publish(ORDER, payload).await?;
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
async fn any_json_is_a_payload() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("any");
    scene.endpoint(&hook).await?;
    let payloads = ["null", "true", "-0.0", "\"text\"", "[]", "[1, 2]", "{}"];
    for payload in payloads {
        scene.account.publish(ORDER, payload).await?;
    }
    let mut bodies: Vec<_> = hook.wait_for(payloads.len(), SOON).await?;
    bodies.sort_by_key(|request| request.webhook_id());
    let bodies: Vec<_> = bodies.iter().map(|r| String::from_utf8_lossy(&r.body)).collect();
    assert_eq!(bodies, payloads);
    Ok(())
}

#[tokio::test]
async fn endpoints_get_the_types_that_they_asked_for() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hooks = ["all", "orders", "both", "none"].map(|name| scene.hook(name));
    let types: [&[&str]; 4] = [&["*"], &[ORDER], &[ORDER, REFUND], &[]];
    for (hook, types) in hooks.iter().zip(types) {
        scene.account.create(&NewEndpoint::at(&hook.url()).of_types(types)).await?;
    }
    let refund = scene.account.publish(REFUND, "{}").await?;
    let order = scene.account.publish(ORDER, "{}").await?;
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
async fn a_subscription_counts_from_the_call_that_made_it() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    assert_eq!(scene.publish(&json!({"n": 0})).await?.deliveries, 0, "nobody listens yet");
    let hook = scene.hook("late");
    let endpoint = scene.endpoint(&hook).await?;
    assert_eq!(scene.publish(&json!({"n": 1})).await?.deliveries, 1);
    scene.account.change(&endpoint.id, &json!({"event_types": [REFUND]})).await?;
    assert_eq!(scene.publish(&json!({"n": 2})).await?.deliveries, 0);
    let deleted = scene.account.path(&format!("/endpoints/{}", endpoint.id));
    scene.account.api.delete(&deleted).await?.succeeded()?;
    assert_eq!(scene.account.publish(REFUND, "{}").await?.deliveries, 0);
    let received = hook.wait_for(1, SOON).await?;
    assert_eq!(received[0].json()?, json!({"n": 1}));
    Ok(())
}

#[tokio::test]
async fn a_batch_is_delivered_whole() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("batch");
    scene.endpoint(&hook).await?;
    let payloads: Vec<_> = (0..100).map(|n| format!("{{\"n\": {n} }}")).collect();
    let events: Vec<_> = payloads.iter().map(|text| (ORDER, text.as_str())).collect();
    let answer = scene.account.try_publish_batch(&events).await?.expect(202)?;
    let ids: Vec<_> = answer["data"].as_array().into_iter().flatten().collect();
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
async fn the_record_shows_what_went_over_the_wire() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("record");
    hook.behave(Behaviour::with_body(202, "thank you"));
    let endpoint = scene.endpoint(&hook).await?;
    let event = scene.publish(&json!({"n": 1})).await?;
    hook.wait_for_ended(1, SOON).await?;
    let delivery = scene.account.delivery_of(&event.id, &endpoint.id).await?;
    let delivered = |d: &postrider_tests::client::records::Delivery| d.state == "delivered";
    let delivery =
        scene.account.until_delivery(&delivery.id, "is delivered", SOON, delivered).await?;

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
    let endpoint = scene.account.endpoint(&endpoint.id).await?;
    assert_eq!((endpoint.pending, endpoint.failure_count), (0, 0));
    assert_eq!(endpoint.oldest_pending_at, None);
    Ok(())
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_asked() -> Result<()> {
    let port = Port::reserve()?;
    let nobody = format!("http://{}", port.address());
    let config = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .into_iter()
        .fold(Config::impatient(), |config, name| config.env(name, &nobody));
    let scene = Scene::start(config).await?;
    let hook = scene.hook("direct");
    scene.endpoint(&hook).await?;
    scene.publish(&json!({})).await?;
    hook.wait_for(1, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_accepted_survives_a_kill_and_a_stop() -> Result<()> {
    let mut scene = Scene::start(Config::new()).await?;
    let hook = scene.hook("later");
    hook.behave(Behaviour::Hang);
    scene.endpoint(&hook).await?;
    let killed = scene.publish(&json!({"n": 1})).await?;
    hook.wait_for(1, SOON).await?;
    scene.node.kill().await?;
    hook.behave(Behaviour::default());
    scene.node.restart().await?;
    let received = hook.wait_for(2, SOON).await?;
    assert_eq!(received[1].webhook_id(), Some(killed.id));

    let accepted = scene.publish(&json!({"n": 2})).await?;
    scene.node.stop().await?;
    scene.node.restart().await?;
    let received = hook.wait_for(3, SOON).await?;
    assert_eq!(received[2].webhook_id(), Some(accepted.id));
    Ok(())
}

#[tokio::test]
async fn lists_are_newest_first_and_paged() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("list");
    let endpoint = scene.endpoint(&hook).await?;
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.insert(0, scene.publish(&json!({"n": n})).await?.id);
    }
    let page = scene.account.api.get(&scene.account.path("/events?limit=3")).await?.expect(200)?;
    assert_eq!(page["data"].as_array().map(Vec::len), Some(3));
    let path = format!("/events?limit=3&cursor={}", page["next_cursor"].as_str().unwrap_or(""));
    let second = scene.account.api.get(&scene.account.path(&path)).await?.expect(200)?;
    assert_eq!(second["data"][0]["id"].as_str(), Some(ids[3].as_str()));
    let all: Vec<_> = scene.account.events().await?.into_iter().map(|event| event.id).collect();
    assert_eq!(all, ids);

    let deliveries = scene.account.deliveries(&endpoint.id).await?;
    let events: Vec<_> = deliveries.into_iter().map(|delivery| delivery.event_id).collect();
    assert_eq!(events, ids);
    let none = format!("/endpoints/{}/deliveries?event_type={REFUND}&", endpoint.id);
    let none: Vec<postrider_tests::client::records::Delivery> = scene.account.list(&none).await?;
    assert!(none.is_empty());
    Ok(())
}
