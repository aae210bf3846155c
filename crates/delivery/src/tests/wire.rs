use std::time::Duration;

use postrider_domain::attempt::Exchange;
use postrider_domain::endpoint::{Endpoint, Ordering};
use postrider_domain::event::Payload;
use postrider_domain::headers::CustomHeaders;
use postrider_domain::ids::EventId;
use postrider_domain::limits::MAX_RESPONSE_READ_TIME;
use postrider_domain::outcome::{ErrorKind, Outcome};
use postrider_domain::target::{AddressPolicy, TargetUrl};
use postrider_domain::time::Clock;
use tokio::net::TcpListener;

use super::fixture::{
    Answer, Fixture, OK, RealClock, Receiver, build_sender, fast_retries, loopback, name,
};
use crate::sender::Webhook;
use crate::{ConnectionLimits, Sender};

pub(super) async fn send(sender: &Sender, endpoint: &Endpoint) -> Exchange {
    let payload = Payload::from_stored("{\"a\" : 1}".into());
    let webhook = Webhook { event: EventId::MIN, event_type: &name("a"), payload: &payload };
    let sent = sender.send(endpoint, webhook, RealClock.now()).await;
    let sent = sent.expect("this machine has the resources for a request");
    sent.read(MAX_RESPONSE_READ_TIME).await
}

async fn send_to(url: &str) -> Exchange {
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.build_endpoint(url, Ordering::Parallel);
    let sender = build_sender(Duration::from_millis(300));
    send(&sender, &endpoint).await
}

async fn answered(answer: Answer) -> Exchange {
    let receiver = Receiver::start(move |_| answer).await;
    send_to(&receiver.url).await
}

pub(super) fn kind(exchange: &Exchange) -> Option<ErrorKind> {
    match &exchange.outcome {
        Outcome::Success { .. } => None,
        Outcome::Failure(failure) => Some(failure.kind),
    }
}

#[tokio::test]
async fn the_recorded_request_is_the_request_on_the_wire() {
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(fast_retries()).await;
    let mut endpoint = fixture.build_endpoint(&receiver.url, Ordering::Parallel);
    let sender = build_sender(Duration::from_secs(5));
    let spellings = [
        ("x-api-key", ["content-type", "webhook-id", "webhook-timestamp", "webhook-signature"]),
        ("X-Api-Key", ["Content-Type", "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"]),
    ];
    for (custom, [content_type, id, timestamp, signature]) in [spellings, spellings].concat() {
        endpoint.headers = CustomHeaders::parse([(custom.to_owned(), "k".to_owned())]).unwrap();
        let exchange = send(&sender, &endpoint).await;
        assert_eq!(kind(&exchange), None);
        let (head, body) = receiver.next().await;
        let mut recorded = "POST /hook?x=1 HTTP/1.1\r\n".to_owned();
        for (name, value) in &exchange.request.headers {
            recorded.push_str(&format!("{name}: {value}\r\n"));
        }
        assert_eq!(head, recorded + "\r\n");
        assert_eq!(body, "{\"a\" : 1}");
        assert_eq!(exchange.request.url, receiver.url);
        let header = |name: &str| {
            let value = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
            head.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in {head}"))
        };
        assert_eq!([header(content_type), header(custom)], ["application/json", "k"]);
        let (id, at, signature) = (header(id), header(timestamp), header(signature));
        assert!(endpoint.secrets.current.verifies(&id, &at, body.as_bytes(), &signature));
    }
}

#[tokio::test]
async fn path_and_query_are_sent_as_they_were_given() {
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(fast_retries()).await;
    let sender = build_sender(Duration::from_secs(5));
    let origin = receiver.url.strip_suffix("/hook?x=1").unwrap().to_owned();
    for (given, sent) in [
        ("/a/%2e%2e/b/../c//d?", "/a/%2e%2e/b/../c//d?"),
        ("/%c3%A4;x?q='a'&b=&&c", "/%c3%A4;x?q='a'&b=&&c"),
        ("/{{token}}/\"?f[]={1}", "/{{token}}/\"?f[]={1}"),
        ("/\u{e4} b", "/%C3%A4%20b"),
    ] {
        let endpoint = fixture.build_endpoint(&format!("{origin}{given}"), Ordering::Parallel);
        let exchange = send(&sender, &endpoint).await;
        let payload = Payload::from_stored("{}".into());
        let webhook = Webhook { event: EventId::MIN, event_type: &name("a"), payload: &payload };
        let (test_event, _) = sender.send_timed(&endpoint, webhook, RealClock.now()).await;
        for exchange in [exchange, test_event] {
            assert_eq!(kind(&exchange), None, "{given}");
            let (head, _) = receiver.next().await;
            assert_eq!(head.lines().next(), Some(format!("POST {sent} HTTP/1.1").as_str()));
            assert_eq!(exchange.request.url, format!("{origin}{sent}"));
        }
    }
    assert_eq!(sender.connections_opened(), 1);
}

#[tokio::test]
async fn the_status_line_decides_the_outcome() {
    let exchange = answered(Answer::Bytes("HTTP/1.1 204 Fine\r\n\r\n")).await;
    assert_eq!(kind(&exchange), None);
    for bytes in [
        "HTTP/1.1 301 M\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 404 N\r\ncontent-length: 2\r\n\r\nno",
    ] {
        let exchange = answered(Answer::Bytes(bytes)).await;
        assert_eq!(kind(&exchange), Some(ErrorKind::Status), "{bytes}");
        assert!(exchange.response.is_some());
    }
}

#[tokio::test]
async fn a_body_that_never_ends_affects_only_the_duration() {
    let exchange =
        answered(Answer::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")).await;
    assert_eq!(kind(&exchange), None);
    assert_eq!(exchange.response.as_ref().unwrap().body.as_ref(), b"half");
    assert!(exchange.duration >= Duration::from_millis(300));
}

#[tokio::test]
async fn only_interim_responses_are_a_timeout() {
    let exchange =
        answered(Answer::Bytes("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n")).await;
    assert_eq!(kind(&exchange), Some(ErrorKind::Timeout));
}

#[tokio::test]
async fn each_failure_has_its_kind() {
    assert_eq!(kind(&answered(Answer::Hang).await), Some(ErrorKind::Timeout));
    assert_eq!(kind(&answered(Answer::Close).await), Some(ErrorKind::Protocol));
    assert_eq!(
        kind(&answered(Answer::Bytes("SSH-2.0-OpenSSH\r\n")).await),
        Some(ErrorKind::Protocol)
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let refused = send_to(&format!("http://{address}/")).await;
    assert_eq!(kind(&refused), Some(ErrorKind::Connect));
    let message = refused.outcome.error().unwrap().message;
    assert!(message.contains("the connection was refused; check"), "{message}");
    let unknown = send_to("http://unknown.invalid/").await;
    assert!(matches!(kind(&unknown), Some(ErrorKind::Dns | ErrorKind::Timeout)));
    let receiver =
        Receiver::start(|_| Answer::Bytes("HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n")).await;
    let tls = receiver.url.replace("http://", "https://");
    assert_eq!(
        kind(&send_to(&tls).await),
        Some(ErrorKind::Timeout),
        "it never reads a whole request"
    );
    let speaks_first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tls = format!("https://{}/", speaks_first.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = speaks_first.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad\r\n\r\n")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    });
    assert_eq!(kind(&send_to(&tls).await), Some(ErrorKind::Tls));
}

/// With IPv6, the connection is refused. Without it, the OS returns EADDRNOTAVAIL, which is not
/// resource exhaustion.
#[tokio::test]
async fn an_unreachable_ipv6_address_is_a_connect_failure() {
    let policy = || AddressPolicy::new(vec!["::1/128".parse().expect("a network")]);
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = Endpoint {
        url: TargetUrl::parse("http://[::1]:9/", &policy()).expect("a URL"),
        ..fixture.build_endpoint("http://127.0.0.1:9/", Ordering::Parallel)
    };
    let exchange = send(
        &Sender::new(policy(), Duration::from_secs(5), ConnectionLimits::default()).unwrap(),
        &endpoint,
    )
    .await;
    assert_eq!(kind(&exchange), Some(ErrorKind::Connect));
}

#[tokio::test]
async fn forbidden_addresses_are_blocked_at_send_time_too() {
    let mut receiver = Receiver::start(|_| OK).await;
    let fixture = Fixture::new(fast_retries()).await;
    let public =
        Sender::new(AddressPolicy::default(), Duration::from_secs(5), ConnectionLimits::default())
            .unwrap();
    let port = receiver.url.rsplit(':').next().unwrap().to_owned();
    for host in ["127.0.0.1", "localhost"] {
        let mut endpoint = fixture.build_endpoint(&receiver.url, Ordering::Parallel);
        endpoint.url = TargetUrl::parse(&format!("http://{host}:{port}"), &loopback()).unwrap();
        let exchange = send(&public, &endpoint).await;
        assert_eq!(kind(&exchange), Some(ErrorKind::Blocked), "{host}: {:?}", exchange.outcome);
    }
    // The hosts file resolves localhost to a loopback address.
    let sender = build_sender(Duration::from_secs(5));
    let mut endpoint = fixture.build_endpoint(&receiver.url, Ordering::Parallel);
    endpoint.url = TargetUrl::parse(&format!("http://localhost:{port}"), &loopback()).unwrap();
    assert_eq!(kind(&send(&sender, &endpoint).await), None);
    receiver.next().await;
}

#[tokio::test]
async fn recorded_responses_are_bounded() {
    let body: &'static str = Box::leak("x".repeat(100_000).into_boxed_str());
    let bytes: &'static str = Box::leak(
        format!("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{body}").into_boxed_str(),
    );
    let exchange = answered(Answer::Bytes(bytes)).await;
    assert_eq!(exchange.response.unwrap().body.len(), 4096);
}

#[tokio::test]
async fn the_target_of_a_redirect_may_be_any_text() {
    let exchange =
        answered(Answer::Bytes("HTTP/1.1 302 Found\r\nlocation: /é\r\ncontent-length: 0\r\n\r\n"));
    let error = exchange.await.outcome.error().map(|failure| failure.message.clone());
    assert!(error.is_some_and(|message| message.contains("redirect to /é")));
}

#[tokio::test]
async fn a_response_is_not_read_for_long_once_its_status_is_known() {
    let unfinished = Answer::Bytes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart");
    let receiver = Receiver::start(move |_| unfinished).await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.build_endpoint(&receiver.url, Ordering::Parallel);
    let exchange = send(&build_sender(Duration::from_secs(3600)), &endpoint).await;
    assert_eq!(kind(&exchange), None);
    assert_eq!(exchange.response.unwrap().body, "part");
}

#[tokio::test]
async fn a_request_on_a_connection_that_was_closing_is_sent_again() {
    let mut receiver = Receiver::start(|number| match number {
        1 => Answer::Close,
        _ => OK,
    })
    .await;
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.build_endpoint(&receiver.url, Ordering::Parallel);
    let sender = build_sender(Duration::from_secs(5));
    for _ in 0..2 {
        assert_eq!(kind(&send(&sender, &endpoint).await), None);
    }
    let (first, second, again) =
        (receiver.next().await, receiver.next().await, receiver.next().await);
    assert_eq!(first.1, again.1);
    assert_eq!(second, again, "the same request, with the same webhook-id");
    assert_eq!(sender.connections_opened(), 2);
}

#[tokio::test]
async fn a_request_on_a_new_connection_is_sent_once() {
    let mut receiver = Receiver::start(|_| Answer::Close).await;
    let exchange = send_to(&receiver.url).await;
    assert_eq!(kind(&exchange), Some(ErrorKind::Protocol));
    receiver.next().await;
    assert_eq!(receiver.waiting(), 0);
}

#[tokio::test]
async fn invalid_response_headers_do_not_change_the_outcome() {
    let many: String = (0..1_000).map(|number| format!("x-h{number}: v\r\n")).collect();
    for headers in [
        many.as_str(),
        "x-a: 1\r\n  folded\r\n",
        "x-a : 1\r\n",
        "PHP Warning: cannot load a library\r\n",
        "garbage\r\n",
        ": no name\r\n",
        "x-a: a\u{1}b\r\n",
        "x-a: caf\u{e9}\r\n",
    ] {
        let response = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 2\r\n\r\nok");
        let exchange = answered(Answer::Bytes(response.leak())).await;
        assert_eq!(kind(&exchange), None, "{headers:.40} {:?}", exchange.outcome);
        assert_eq!(exchange.response.unwrap().body.as_ref(), b"ok", "{headers:.40}");
    }
}
