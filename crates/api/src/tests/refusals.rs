use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::Request;
use postrider_store::kv::memory::{Faults, Memory};
use serde_json::{Value, json};

use super::harness::{House, OPERATOR, request};

#[tokio::test]
async fn what_is_not_there() {
    let house = House::new().await;
    for path in ["/nothing", "/nothing/more", "/v2/accounts"] {
        house.send(request(None, &format!("GET {path}"), "")).await.assert_problem(404);
    }
    house.operator("GET /v1/nothing", Value::Null).await.assert_problem(404);
    let answer = house.operator("PUT /v1/accounts", Value::Null).await;
    answer.assert_problem(405);
    let allow = answer.headers["allow"].to_str().unwrap();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    for method in ["GET", "PUT", "DELETE"] {
        let call = format!("{method} /v1/event-types/a%ff");
        house.operator(&call, Value::Null).await.assert_problem(404);
    }
    house.send(request(None, "GET /docs/%ff", "")).await.assert_problem(404);
    let account = house.account().await;
    for call in ["GET /nothing", "GET /endpoints/x", "GET /events/ep_x", "GET /deliveries/%ff"] {
        house.own(&account, call, Value::Null).await.assert_problem(404);
    }
}

#[tokio::test]
async fn bodies_that_are_no_json() {
    let house = House::new().await;
    for body in ["", "{", "nul", "{\"a\":1}x", "\u{feff}{}"] {
        house.send(request(Some(OPERATOR), "POST /v1/accounts", body)).await.assert_problem(400);
    }
    let utf8 = request(Some(OPERATOR), "POST /v1/accounts", b"{\"name\":\"\xff\"}".to_vec());
    house.send(utf8).await.assert_problem(400);
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let mut request = request(Some(OPERATOR), "POST /v1/accounts", "{}");
        request.headers_mut().insert("content-type", media_type.parse().unwrap());
        house.send(request).await.assert_problem(415);
    }
    for media_type in ["Application/JSON; charset=utf-8", "application/x+json"] {
        let mut request = request(Some(OPERATOR), "POST /v1/accounts", "{}");
        request.headers_mut().insert("content-type", media_type.parse().unwrap());
        house.send(request).await.assert_problem(422);
    }
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let house = House::new().await;
    let mut declared = request(Some(OPERATOR), "POST /v1/accounts", "");
    declared.headers_mut().insert("content-length", "262145".parse().unwrap());
    house.send(declared).await.assert_problem(413);
    let piece = Ok::<_, Infallible>(Bytes::from(vec![b' '; 64 * 1024]));
    let endless = Body::from_stream(stream::repeat(piece));
    house.send(request(Some(OPERATOR), "POST /v1/accounts", endless)).await.assert_problem(413);
}

/// A request with a body of so many pieces of 64 KiB, and what counts those
/// that were read.
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
async fn the_rest_of_a_body_that_is_too_large_is_read_within_bounds() {
    let house = House::new().await;
    for (declared, sent, expected) in [(true, 40, 40), (false, 40, 40), (true, 500, 65)] {
        let (mut request, read) = pieces(sent);
        if declared {
            request.headers_mut().insert("content-length", (sent * 64 * 1024).into());
        }
        let answer = house.send(request).await;
        answer.assert_problem(413);
        assert_eq!(answer.headers["connection"], "close");
        assert_eq!(read.load(Ordering::Relaxed), expected, "of {sent}, declared: {declared}");
    }

    let (mut expecting, read) = pieces(40);
    expecting.headers_mut().insert("content-length", (40 * 64 * 1024).into());
    expecting.headers_mut().insert("expect", "100-continue".parse().unwrap());
    house.send(expecting).await.assert_problem(413);
    assert_eq!(read.load(Ordering::Relaxed), 0, "it was not asked for");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_large_and_does_not_arrive() {
    let house = House::new().await;
    let stuck = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let mut stuck = request(Some(OPERATOR), "POST /v1/accounts", stuck);
    stuck.headers_mut().insert("content-length", "262145".parse().unwrap());
    house.send(stuck).await.assert_problem(413);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive() {
    let house = House::new().await;
    let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{"))]);
    let stuck = Body::from_stream(first.chain(stream::pending()));
    house.send(request(Some(OPERATOR), "POST /v1/accounts", stuck)).await.assert_problem(408);
}

#[tokio::test]
async fn a_body_that_breaks_off() {
    let house = House::new().await;
    let broken = stream::iter([Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("gone"))]);
    let broken = Body::from_stream(broken);
    house.send(request(Some(OPERATOR), "POST /v1/accounts", broken)).await.assert_problem(400);
}

#[tokio::test]
async fn too_many_requests_at_once() {
    let house = House::new().await;
    let mut waiting = Vec::new();
    for _ in 0..crate::web::limits::MAX_IN_FLIGHT {
        let stuck = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let request = request(Some(OPERATOR), "POST /v1/accounts", stuck);
        let mut call = Box::pin(house.send(request));
        assert!(futures::poll!(&mut call).is_pending());
        waiting.push(call);
    }
    let refused = house.operator("GET /v1/accounts", Value::Null).await;
    refused.assert_problem(429);
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(house.send(request(None, "GET /healthz", "")).await.status, 200);
    drop(waiting);
    house.operator("GET /v1/accounts", Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let house = House::new().await;
    let account = house.account().await;
    house.event_type("test.panic").await;
    let call = format!("POST /endpoints/{}/test", house.endpoint(&account).await);
    let body = json!({"event_type": "test.panic"});
    let answer = house.own(&account, &call, body).await;
    answer.assert_problem(500);
    assert!(!String::from_utf8_lossy(&answer.bytes).contains("asked"));
    house.own(&account, "GET /endpoints", Value::Null).await.expect(200);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer() {
    let memory = Memory::with_faults(1, Faults::default());
    let house = House::over(memory.clone()).await;
    let account = house.account().await;
    house.event_type("a.b").await;
    memory.set_faults(Faults { conflict: 1.0, ..Faults::default() });
    let event = json!({"event_type": "a.b", "payload": 1});
    let answer = house.own(&account, "POST /events", event).await;
    answer.assert_problem(503);
    assert_eq!(answer.headers["retry-after"], "1");
}

#[tokio::test]
async fn those_who_watch_need_no_key() {
    let house = House::new().await;
    for (path, text) in
        [("/healthz", "ok\n"), ("/readyz", "ready\n"), ("/metrics", "postrider_up 1\n")]
    {
        let answer = house.send(request(None, &format!("GET {path}"), "")).await;
        assert_eq!((answer.status.as_u16(), answer.bytes.as_slice()), (200, text.as_bytes()));
    }
    let metrics = house.send(request(None, "GET /metrics", "")).await;
    assert!(
        metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4")
    );
}
