//! Test events: one attempt, shown exactly as it went over the wire, without effect on the
//! endpoint's statistics or state.

use anyhow::{Context, Result};
use postrider_tests::client::NewEndpoint;
use postrider_tests::client::records::Phases;
use postrider_tests::config::Config;
use postrider_tests::fixture::{Fixture, ORDER, REFUND};
use postrider_tests::receiver::Behaviour;
use postrider_tests::wait::{millis, seconds};
use serde_json::json;

#[tokio::test]
async fn a_test_event_shows_exactly_what_went_over_the_wire() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("tested");
    hook.set_behaviour(Behaviour::with_body(201, "seen"));
    let new = NewEndpoint::at(&hook.url()).header("X-Team", "Blue").of_types(&[REFUND]);
    let endpoint = fixture.account.create(&new).await?;
    let body = json!({"event_type": ORDER});
    let tested = fixture.account.test(&endpoint.id, &body).await?;

    let [wire] = &hook.received()[..] else { panic!("{} requests", hook.received().len()) };
    assert_eq!(tested.request.headers, wire.headers());
    assert_eq!(tested.request.body.as_bytes(), &wire.body[..]);
    assert_eq!(tested.request.method, "POST");
    assert_eq!(tested.request.url, hook.url());
    wire.verify(&endpoint.signing_secret.unwrap_or_default())?;
    // Without a payload, the example of the event type is sent.
    assert_eq!(wire.json()?, json!({"order": 1, "total": "12.50"}));
    let response = tested.response.context("there is no response")?;
    assert_eq!((response.status, response.body.as_str()), (201, "seen"));
    assert_eq!(response.header("content-type"), Some("text/plain"));
    assert!(tested.error.is_none());
    Ok(())
}

#[tokio::test]
async fn a_test_event_sends_the_given_payload_unchanged() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("tested");
    let endpoint = fixture.endpoint(&hook).await?;
    let path = fixture.account.path(&format!("/endpoints/{}/test", endpoint.id));
    let body = format!(r#"{{"event_type":"{ORDER}","payload":{{ "mine" :1.0 }}}}"#);
    let post = http::Method::POST;
    fixture.account.api.send(post, &path, &[], Some(body)).await?.expect(200)?;
    assert_eq!(&hook.received()[0].body[..], br#"{ "mine" :1.0 }"#);
    Ok(())
}

#[tokio::test]
async fn a_failed_test_event_is_neither_retried_nor_counted() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("tested");
    let endpoint = fixture.endpoint(&hook).await?;
    let cases = [
        (Behaviour::status(500), Some(500), "status"),
        (Behaviour::redirect(302, "/elsewhere"), Some(302), "status"),
        (Behaviour::Hang, None, "timeout"),
        (Behaviour::Close, None, "protocol"),
    ];
    for (n, (behaviour, status, kind)) in (1..).zip(cases) {
        hook.set_behaviour(behaviour);
        let tested = fixture.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
        assert_eq!(tested.response.map(|response| response.status), status, "{kind}");
        let error = tested.error.context("there is no error")?;
        assert_eq!(error.kind, kind, "{}", error.message);
        assert_eq!(hook.received().len(), n, "a failed test event was retried");
        assert_eq!(tested.request.headers, hook.received()[n - 1].headers());
    }
    let after = fixture.account.endpoint(&endpoint.id).await?;
    assert_eq!((after.failure_count, after.pending, after.state.as_str()), (0, 0, "enabled"));
    assert!(after.last_error.is_none() && after.disabled.is_none());
    assert!(fixture.account.deliveries(&endpoint.id).await?.is_empty());
    assert!(fixture.account.events().await?.is_empty());

    // The endpoint's next request is a real event, not a retry of the test.
    hook.set_behaviour(Behaviour::default());
    let event = fixture.publish(&json!({"real": true})).await?;
    let received = hook.wait_for(5, seconds(10)).await?;
    assert_eq!(received[4].webhook_id(), Some(event.id));
    Ok(())
}

#[tokio::test]
async fn a_test_event_shows_the_duration_of_each_phase() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("tested");
    let endpoint = fixture.endpoint(&hook).await?;
    hook.set_behaviour(Behaviour::Slow(millis(100)));
    for _ in 0..2 {
        let tested = fixture.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
        let Phases { dns_ms, connect_ms, tls_ms, wait_ms, read_ms } = tested.phases;
        assert_eq!(
            (dns_ms, tls_ms),
            (None, None),
            "an IP address without TLS has no DNS and TLS phases"
        );
        let connect = connect_ms.context("a test event did not open a new connection")?;
        let (wait, read) = (wait_ms.context("no wait phase")?, read_ms.context("no read phase")?);
        assert!(connect > 0.0 && wait >= 100.0 && read >= 0.0, "{:?}", tested.phases);
        assert!(connect + wait + read <= tested.duration_ms as f64 + 1.0, "{tested:?}");
    }
    hook.set_behaviour(Behaviour::Hang);
    let tested = fixture.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
    assert!(tested.phases.wait_ms.is_some() && tested.phases.read_ms.is_none(), "{tested:?}");
    Ok(())
}

#[tokio::test]
async fn a_disabled_endpoint_can_be_tested() -> Result<()> {
    let fixture = Fixture::start(Config::short_retries()).await?;
    let hook = fixture.hook("tested");
    let endpoint = fixture.endpoint(&hook).await?;
    fixture.account.disable(&endpoint.id).await?;
    let tested = fixture.account.test(&endpoint.id, &json!({"event_type": ORDER})).await?;
    assert_eq!(tested.response.map(|response| response.status), Some(200));
    assert_eq!(fixture.account.endpoint(&endpoint.id).await?.state, "disabled");
    Ok(())
}
