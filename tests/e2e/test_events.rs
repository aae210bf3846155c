//! Test events: one attempt, shown exactly as it went over the wire, and it counts for nothing.

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Phases;
use postrider_tests::config::Config;
use postrider_tests::receiver::Behaviour;
use postrider_tests::scene::{ORDER, REFUND, Scene};
use postrider_tests::wait::{millis, seconds};
use serde_json::json;

#[tokio::test]
async fn shows_exactly_what_went_over_the_wire() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("tested");
    hook.behave(Behaviour::with_body(201, "seen"));
    let new = NewEndpoint::at(&hook.url()).header("X-Team", "Blue").of_types(&[REFUND]);
    let endpoint = scene.account.create(&new).await?;
    let body = json!({"event_type": ORDER});
    let tested = scene.account.test(&endpoint.id, &body).await?;

    let [wire] = &hook.received()[..] else { panic!("{} requests", hook.received().len()) };
    assert_eq!(tested.request.headers, wire.headers());
    assert_eq!(tested.request.body.as_bytes(), &wire.body[..]);
    assert_eq!(tested.request.method, "POST");
    assert_eq!(tested.request.url, hook.url());
    wire.verify(&endpoint.signing_secret.unwrap_or_default())?;
    // The example of its type, unless another payload is given.
    assert_eq!(wire.json()?, json!({"order": 1, "total": "12.50"}));
    let response = tested.response.context("a response")?;
    assert_eq!((response.status, response.body.as_str()), (201, "seen"));
    assert_eq!(response.header("content-type"), Some("text/plain"));
    assert!(tested.error.is_none());
    Ok(())
}

#[tokio::test]
async fn sends_the_payload_that_it_is_given() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("tested");
    let endpoint = scene.endpoint(&hook).await?;
    let path = scene.account.path(&format!("/endpoints/{}/test", endpoint.id));
    let body = format!(r#"{{"event_type":"{ORDER}","payload":{{ "mine" :1.0 }}}}"#);
    let post = http::Method::POST;
    scene.account.api.send(post, &path, &[], Some(body)).await?.expect(200)?;
    assert_eq!(&hook.received()[0].body[..], br#"{ "mine" :1.0 }"#);
    Ok(())
}

#[tokio::test]
async fn a_failure_is_shown_not_retried_and_not_counted() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("tested");
    let endpoint = scene.endpoint(&hook).await?;
    let cases = [
        (Behaviour::status(500), Some(500), "status"),
        (Behaviour::redirect(302, "/elsewhere"), Some(302), "status"),
        (Behaviour::Hang, None, "timeout"),
        (Behaviour::Close, None, "protocol"),
    ];
    for (n, (behaviour, status, kind)) in (1..).zip(cases) {
        hook.behave(behaviour);
        let tested = scene.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
        assert_eq!(tested.response.map(|response| response.status), status, "{kind}");
        let error = tested.error.context("an error")?;
        assert_eq!(error.kind, kind, "{}", error.message);
        assert_eq!(hook.received().len(), n, "a test event is sent once");
        assert_eq!(tested.request.headers, hook.received()[n - 1].headers());
    }
    let after = scene.account.endpoint(&endpoint.id).await?;
    assert_eq!((after.failure_count, after.pending, after.state.as_str()), (0, 0, "enabled"));
    assert!(after.last_error.is_none() && after.disabled.is_none());
    assert!(scene.account.deliveries(&endpoint.id).await?.is_empty());
    assert!(scene.account.events().await?.is_empty());

    // The next thing that the endpoint gets is a real event, no retry of a test.
    hook.behave(Behaviour::default());
    let event = scene.publish(&json!({"real": true})).await?;
    let received = hook.wait_for(5, seconds(10)).await?;
    assert_eq!(received[4].webhook_id(), Some(event.id));
    Ok(())
}

#[tokio::test]
async fn the_time_of_each_phase_is_shown() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("tested");
    let endpoint = scene.endpoint(&hook).await?;
    hook.behave(Behaviour::Slow(millis(100)));
    for _ in 0..2 {
        let tested = scene.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
        let Phases { dns_ms, connect_ms, tls_ms, wait_ms, read_ms } = tested.phases;
        assert_eq!((dns_ms, tls_ms), (None, None), "an address, and no TLS");
        let connect = connect_ms.context("each test makes a connection of its own")?;
        let (wait, read) = (wait_ms.context("an answer")?, read_ms.context("a body")?);
        assert!(connect > 0.0 && wait >= 100.0 && read >= 0.0, "{:?}", tested.phases);
        assert!(connect + wait + read <= tested.duration_ms as f64 + 1.0, "{tested:?}");
    }
    hook.behave(Behaviour::Hang);
    let tested = scene.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
    assert!(tested.phases.wait_ms.is_some() && tested.phases.read_ms.is_none(), "{tested:?}");
    Ok(())
}

#[tokio::test]
async fn a_disabled_endpoint_can_be_tested() -> Result<()> {
    let scene = Scene::start(Config::impatient()).await?;
    let hook = scene.hook("tested");
    let endpoint = scene.endpoint(&hook).await?;
    scene.account.disable(&endpoint.id).await?;
    let tested = scene.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
    assert_eq!(tested.response.map(|response| response.status), Some(200));
    assert_eq!(scene.account.endpoint(&endpoint.id).await?.state, "disabled");
    Ok(())
}
