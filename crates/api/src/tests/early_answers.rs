//! Answers to requests whose bodies nobody has read, over real connections: a server that closes one
//! with unread bytes on it resets it, and the client never sees the answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::harness::{House, OPERATOR, request};
use crate::web::limits::MAX_IN_FLIGHT;

/// More than the kernel and the server take in before somebody reads it, and less than a server
/// that refuses it still listens to.
const BODY: usize = 3 * 1024 * 1024;
/// How often each is tried: whether an answer gets lost depends on timing.
const TIMES: usize = 20;
/// Far more than an answer takes.
const PATIENCE: Duration = Duration::from_secs(30);

async fn serve(house: &House) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = house.app.clone();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Sends a request in whole, as many clients do before they listen, and gives the answer's head.
async fn ask(server: SocketAddr, call: &str, headers: &str, body: usize) -> String {
    let mut client = TcpStream::connect(server).await.unwrap();
    exchange(&mut client, call, headers, body).await
}

async fn exchange(client: &mut TcpStream, call: &str, headers: &str, body: usize) -> String {
    let head = format!("{call} HTTP/1.1\r\nhost: here\r\ncontent-length: {body}\r\n{headers}\r\n");
    let exchange = async {
        client.write_all(head.as_bytes()).await?;
        client.write_all(&vec![b' '; body]).await?;
        let mut answer = Vec::new();
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            if client.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("an answer in time");
    answer.unwrap_or_else(|error| panic!("{call}: {error}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_early_answer_arrives() {
    let house = House::new().await;
    let account = house.account().await;
    let server = serve(&house).await;
    let operator = format!("authorization: Bearer {OPERATOR}\r\n");
    let own = format!("authorization: Bearer {}\r\n", account.key);
    let events = format!("POST /v1/accounts/{}/events", account.id);
    let endpoint = house.endpoint(&account).await;
    let rotate = format!("DELETE /v1/accounts/{}/endpoints/{endpoint}", account.id);
    let refused = [
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
        // Not a refusal, and yet nobody reads the body.
        (200, "GET /healthz", ""),
        (204, &rotate, &own),
    ];
    for (status, call, headers) in refused {
        // The last one does what it says once.
        let times = if status == 204 { 1 } else { TIMES };
        for _ in 0..times {
            let answer = ask(server, call, headers, BODY).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{call}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_finds_no_room_is_told_so() {
    let house = House::new().await;
    let server = serve(&house).await;
    let operator = format!("authorization: Bearer {OPERATOR}\r\n");
    let mut waiting = Vec::new();
    for _ in 0..MAX_IN_FLIGHT {
        let stuck = stream::pending::<Result<Bytes, Infallible>>();
        let request = request(Some(OPERATOR), "POST /v1/accounts", Body::from_stream(stuck));
        let mut call = Box::pin(house.send(request));
        assert!(futures::poll!(&mut call).is_pending());
        waiting.push(call);
    }
    for _ in 0..TIMES {
        let answer = ask(server, "POST /v1/accounts", &operator, BODY).await;
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    }
    drop(waiting);
    house.operator("GET /v1/accounts", Value::Null).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_body_was_read_after_all_goes_on() {
    let house = House::new().await;
    let server = serve(&house).await;
    let mut client = TcpStream::connect(server).await.unwrap();
    for _ in 0..3 {
        let answer = exchange(&mut client, "HEAD /v1/accounts", "", BODY).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_to_an_end_ends_the_connection() {
    let house = House::new().await;
    let stuck = stream::pending::<Result<Bytes, Infallible>>();
    let request = request(None, "POST /v1/accounts", Body::from_stream(stuck));
    let answer = house.send(request).await;
    answer.assert_problem(401);
    assert_eq!(answer.headers["connection"], "close");
}
