//! Responses sent before the request body was read, over real connections. A server that closes a
//! connection with unread bytes resets it, and the client never sees the response.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::harness::{OPERATOR, TestApp, request};
use crate::web::limits::MAX_IN_FLIGHT;

/// More than the kernel and the server buffer, and less than the server drains after rejecting a
/// request.
const BODY: usize = 3 * 1024 * 1024;
/// Repetitions of each request: whether a response is lost depends on timing.
const REPETITIONS: usize = 20;
/// Far longer than any response takes.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

async fn serve(app: &TestApp) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = app.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Sends a whole request before reading, as many clients do, and returns the response's head.
async fn ask(server: SocketAddr, call: &str, headers: &str, body: usize) -> String {
    let mut client = TcpStream::connect(server).await.unwrap();
    exchange(&mut client, call, headers, body).await
}

async fn exchange(client: &mut TcpStream, call: &str, headers: &str, body: usize) -> String {
    let head = format!("{call} HTTP/1.1\r\nhost: here\r\ncontent-length: {body}\r\n{headers}\r\n");
    let exchange = async {
        client.write_all(head.as_bytes()).await?;
        client.write_all(&vec![b' '; body]).await?;
        let mut response = Vec::new();
        while !response.windows(4).any(|end| end == b"\r\n\r\n") {
            if client.read_buf(&mut response).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&response).into_owned())
    };
    let response = tokio::time::timeout(RESPONSE_TIMEOUT, exchange)
        .await
        .expect("the response arrives in time");
    response.unwrap_or_else(|error| panic!("{call}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_arrives_even_if_the_body_was_not_read() {
    let app = TestApp::new().await;
    let account = app.account().await;
    let server = serve(&app).await;
    let operator = format!("authorization: Bearer {OPERATOR}\r\n");
    let own = format!("authorization: Bearer {}\r\n", account.key);
    let events = format!("POST /v1/accounts/{}/events", account.id);
    let endpoint = app.endpoint(&account).await;
    let delete = format!("DELETE /v1/accounts/{}/endpoints/{endpoint}", account.id);
    let rejected = [
        (401, "POST /v1/accounts", "authorization: Bearer nobody's\r\n"),
        (401, "POST /v1/accounts", ""),
        (403, "POST /v1/accounts", &own),
        (404, "POST /v1/accounts/acct_nobodys/events", &own),
        (404, "POST /v1/nothing", &own),
        (404, "POST /nothing", ""),
        (405, "PUT /v1/accounts", &operator),
        (405, "POST /healthz", ""),
        (400, &events, &format!("{own}idempotency-key: a\r\nidempotency-key: b\r\n")),
        (413, &events, &own),
        (415, &events, &format!("{own}content-type: text/plain\r\n")),
        (403, "POST /dashboard/sign-in", "sec-fetch-site: cross-site\r\n"),
        (303, "POST /dashboard/accounts/new", ""),
        (405, "POST /dashboard/assets/nothing/at-all", ""),
        (405, "POST /docs", ""),
        // Succeeds without reading the body.
        (200, "GET /healthz", ""),
        (204, &delete, &own),
    ];
    for (status, call, headers) in rejected {
        // The endpoint can be deleted only once.
        let times = if status == 204 { 1 } else { REPETITIONS };
        for _ in 0..times {
            let response = ask(server, call, headers, BODY).await;
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{call}: {response}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_over_the_concurrency_limit_receives_its_429() {
    let app = TestApp::new().await;
    let server = serve(&app).await;
    let operator = format!("authorization: Bearer {OPERATOR}\r\n");
    let mut waiting = Vec::new();
    for _ in 0..MAX_IN_FLIGHT {
        let stuck = stream::pending::<Result<Bytes, Infallible>>();
        let request = request(Some(OPERATOR), "POST /v1/accounts", Body::from_stream(stuck));
        let mut call = Box::pin(app.send(request));
        assert!(futures::poll!(&mut call).is_pending());
        waiting.push(call);
    }
    for _ in 0..REPETITIONS {
        let response = ask(server, "POST /v1/accounts", &operator, BODY).await;
        assert!(response.starts_with("HTTP/1.1 429 "), "{response}");
        assert!(response.contains("retry-after: 1\r\n"), "{response}");
    }
    drop(waiting);
    app.as_operator("GET /v1/accounts", Value::Null).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_stays_open_once_the_body_was_drained() {
    let app = TestApp::new().await;
    let server = serve(&app).await;
    let mut client = TcpStream::connect(server).await.unwrap();
    for _ in 0..3 {
        let response = exchange(&mut client, "HEAD /v1/accounts", "", BODY).await;
        assert!(response.starts_with("HTTP/1.1 401 "), "{response}");
        assert!(!response.contains("connection: close"), "{response}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_endless_body_closes_the_connection() {
    let app = TestApp::new().await;
    let stuck = stream::pending::<Result<Bytes, Infallible>>();
    let request = request(None, "POST /v1/accounts", Body::from_stream(stuck));
    let response = app.send(request).await;
    response.assert_problem(401);
    assert_eq!(response.headers["connection"], "close");
}
