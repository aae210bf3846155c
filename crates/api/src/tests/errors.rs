use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::Request;
use postrider_store::kv::memory::{Faults, Memory};
use serde_json::{Value, json};

use super::harness::{OPERATOR, TestApp, request};

#[tokio::test]
async fn unknown_paths_methods_and_ids_are_rejected() {
    let app = TestApp::new().await;
    for path in ["/nothing", "/nothing/more", "/v2/accounts"] {
        app.send(request(None, &format!("GET {path}"), "")).await.assert_problem(404);
    }
    app.as_operator("GET /v1/nothing", Value::Null).await.assert_problem(404);
    let response = app.as_operator("PUT /v1/accounts", Value::Null).await;
    response.assert_problem(405);
    let allow = response.headers["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    for method in ["GET", "PUT", "DELETE"] {
        let call = format!("{method} /v1/event-types/a%ff");
        app.as_operator(&call, Value::Null).await.assert_problem(404);
    }
    app.send(request(None, "GET /docs/%ff", "")).await.assert_problem(404);
    let account = app.account().await;
    for call in ["GET /nothing", "GET /endpoints/x", "GET /events/ep_x", "GET /deliveries/%ff"] {
        app.as_account(&account, call, Value::Null).await.assert_problem(404);
    }
}

#[tokio::test]
async fn invalid_json_and_media_types_are_rejected() {
    let app = TestApp::new().await;
    for body in ["", "{", "nul", "{\"a\":1}x", "\u{feff}{}"] {
        app.send(request(Some(OPERATOR), "POST /v1/accounts", body)).await.assert_problem(400);
    }
    let utf8 = request(Some(OPERATOR), "POST /v1/accounts", b"{\"name\":\"\xff\"}".to_vec());
    app.send(utf8).await.assert_problem(400);
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let mut request = request(Some(OPERATOR), "POST /v1/accounts", "{}");
        request.headers_mut().insert("content-type", media_type.parse().unwrap());
        app.send(request).await.assert_problem(415);
    }
    for media_type in ["Application/JSON; charset=utf-8", "application/x+json"] {
        let mut request = request(Some(OPERATOR), "POST /v1/accounts", "{}");
        request.headers_mut().insert("content-type", media_type.parse().unwrap());
        app.send(request).await.assert_problem(422);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_gets_413() {
    let app = TestApp::new().await;
    let mut declared = request(Some(OPERATOR), "POST /v1/accounts", "");
    declared.headers_mut().insert("content-length", "262145".parse().unwrap());
    app.send(declared).await.assert_problem(413);
    let piece = Ok::<_, Infallible>(Bytes::from(vec![b' '; 64 * 1024]));
    let endless = Body::from_stream(stream::repeat(piece));
    app.send(request(Some(OPERATOR), "POST /v1/accounts", endless)).await.assert_problem(413);
}

/// A request with a body of `count` chunks of 64 KiB, and a counter of the chunks read.
fn pieces(count: usize) -> (Request<Body>, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let counter = read.clone();
    let body = stream::iter(0..count).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(Bytes::from(vec![b' '; 64 * 1024]))
    });
    (request(Some(OPERATOR), "POST /v1/accounts", Body::from_stream(body)), read)
}

#[tokio::test]
async fn an_oversized_body_is_drained_up_to_a_limit() {
    let app = TestApp::new().await;
    for (declared, sent, expected) in [(true, 40, 40), (false, 40, 40), (true, 500, 65)] {
        let (mut request, read) = pieces(sent);
        if declared {
            request.headers_mut().insert("content-length", (sent * 64 * 1024).into());
        }
        let response = app.send(request).await;
        response.assert_problem(413);
        assert_eq!(response.headers["connection"], "close");
        assert_eq!(
            read.load(Ordering::Relaxed),
            expected,
            "chunks read of {sent}, length declared: {declared}"
        );
    }

    let (mut expecting, read) = pieces(40);
    expecting.headers_mut().insert("content-length", (40 * 64 * 1024).into());
    expecting.headers_mut().insert("expect", "100-continue".parse().unwrap());
    app.send(expecting).await.assert_problem(413);
    assert_eq!(read.load(Ordering::Relaxed), 0, "the body was read without a 100 Continue");
}

#[tokio::test(start_paused = true)]
async fn an_oversized_body_that_never_arrives_gets_413() {
    let app = TestApp::new().await;
    let stuck = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let mut stuck = request(Some(OPERATOR), "POST /v1/accounts", stuck);
    stuck.headers_mut().insert("content-length", "262145".parse().unwrap());
    app.send(stuck).await.assert_problem(413);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_arrives_times_out() {
    let app = TestApp::new().await;
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{"))]);
    let stuck = Body::from_stream(first.chain(stream::pending()));
    app.send(request(Some(OPERATOR), "POST /v1/accounts", stuck)).await.assert_problem(408);
}

#[tokio::test]
async fn an_incomplete_body_gets_400() {
    let app = TestApp::new().await;
    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]);
    let broken = Body::from_stream(broken);
    app.send(request(Some(OPERATOR), "POST /v1/accounts", broken)).await.assert_problem(400);
}

#[tokio::test]
async fn requests_over_the_concurrency_limit_get_429() {
    let app = TestApp::new().await;
    let mut waiting = Vec::new();
    for _ in 0..crate::web::limits::MAX_IN_FLIGHT {
        let stuck = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let request = request(Some(OPERATOR), "POST /v1/accounts", stuck);
        let mut call = Box::pin(app.send(request));
        assert!(futures::poll!(&mut call).is_pending());
        waiting.push(call);
    }
    let rejected = app.as_operator("GET /v1/accounts", Value::Null).await;
    rejected.assert_problem(429);
    assert_eq!(rejected.headers["retry-after"], "1");
    assert_eq!(app.send(request(None, "GET /healthz", "")).await.status, 200);
    drop(waiting);
    app.as_operator("GET /v1/accounts", Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_panic_in_a_handler_gets_500() {
    let app = TestApp::new().await;
    let account = app.account().await;
    app.event_type("test.panic").await;
    let call = format!("POST /endpoints/{}/test", app.endpoint(&account).await);
    let body = json!({"event_type": "test.panic"});
    let response = app.as_account(&account, &call, body).await;
    response.assert_problem(500);
    assert!(!String::from_utf8_lossy(&response.bytes).contains("asked"));
    app.as_account(&account, "GET /endpoints", Value::Null).await.expect(200);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_keeps_conflicting_gets_503() {
    let memory = Memory::with_faults(1, Faults::default());
    let app = TestApp::with_store(memory.clone()).await;
    let account = app.account().await;
    app.event_type("a.b").await;
    memory.set_faults(Faults { conflict: 1.0, ..Faults::default() });
    let event = json!({"event_type": "a.b", "payload": 1});
    let response = app.as_account(&account, "POST /events", event).await;
    response.assert_problem(503);
    assert_eq!(response.headers["retry-after"], "1");
}

#[tokio::test]
async fn health_and_metrics_need_no_key() {
    let app = TestApp::new().await;
    for (path, text) in
        [("/healthz", "ok\n"), ("/readyz", "ready\n"), ("/metrics", "postrider_up 1\n")]
    {
        let response = app.send(request(None, &format!("GET {path}"), "")).await;
        assert_eq!((response.status.as_u16(), response.bytes.as_slice()), (200, text.as_bytes()));
    }
    let metrics = app.send(request(None, "GET /metrics", "")).await;
    assert!(
        metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4")
    );
}
