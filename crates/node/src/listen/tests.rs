//! Tests of the receiver over real connections.

use postrider_domain::signature;
use postrider_domain::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const TIMEOUT: Duration = Duration::from_secs(10);

struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// The printed output. Clones share it.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    fn text(&self) -> String {
        let bytes = self.0.lock().clone();
        String::from_utf8(bytes).expect("UTF-8")
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A closed pipe.
struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options() -> cli::Listen {
    cli::Listen {
        port: 0,
        host: [127, 0, 0, 1].into(),
        secrets: Vec::new(),
        fail: None,
        slow: None,
        redirect: None,
        headers: false,
    }
}

struct TestReceiver {
    address: SocketAddr,
    output: Output,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn listen(options: cli::Listen) -> TestReceiver {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let output = Output::default();
    let out = Box::new(output.clone());
    let receiver = Receiver::new(options, Arc::new(FixedClock), out, Style::new(false));
    let (stop, stopped) = oneshot::channel();
    let stopped = async move {
        let _ = stopped.await;
    };
    let task = tokio::spawn(receiver.serve(listener, stopped));
    TestReceiver { address, output, stop, task }
}

impl TestReceiver {
    /// Sends a request and returns the response.
    async fn send(&self, method: &str, headers: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        let length = body.len();
        let head = format!(
            "{method} /hooks?a=b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        // The receiver may respond and close before it has read the whole of an oversized body.
        let _ = stream.write_all(body).await;
        let mut response = Vec::new();
        let read = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut response));
        let _ = read.await.expect("a response in time");
        String::from_utf8(response).expect("UTF-8")
    }

    async fn stop(self) -> String {
        self.stop.send(()).expect("still listening");
        tokio::time::timeout(TIMEOUT, self.task).await.expect("ends").expect("does not panic");
        self.output.text()
    }
}

fn signed(secret: &Secret, body: &[u8]) -> String {
    let signature = signature::header([secret].into_iter(), "evt_1", NOW, body);
    let seconds = NOW.seconds();
    format!(
        "webhook-id: evt_1\r\nwebhook-timestamp: {seconds}\r\nwebhook-signature: {signature}\r\n\
         webhook-event-type: application.created\r\n"
    )
}

#[tokio::test]
async fn prints_a_summary_and_the_body_of_each_webhook() {
    let secret = Secret::from_bytes([1; 32]);
    let receiver = listen(cli::Listen {
        secrets: vec![Secret::from_bytes([2; 32]), secret.clone()],
        ..options()
    })
    .await;
    let body = b"{\"name\":\"Ada\",\"n\":1.50}";
    let response = receiver.send("POST", &signed(&secret, body), body).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    receiver.send("POST", &signed(&secret, body), body).await;
    receiver.send("POST", &signed(&secret, body), b"{}").await;

    let output = receiver.stop().await;
    for part in [
        "signatures are verified with 2 secrets",
        "2023-11-14T22:13:20.000Z  application.created  evt_1  /hooks?a=b  signature ok  -> 200\n",
        "  {\n    \"name\": \"Ada\",\n    \"n\": 1.50\n  }\n",
        "evt_1  received 2 times  /hooks",
        "received 3 times  /hooks?a=b  BAD SIGNATURE: does not match",
        "Webhooks received: 3; distinct events: 1; rejected: 1.\n",
    ] {
        assert!(output.contains(part), "no {part:?} in:\n{output}");
    }
    assert!(!output.contains("webhook-timestamp"), "{output}");
}

#[tokio::test]
async fn prints_headers_and_skips_verification_without_a_secret() {
    let receiver = listen(cli::Listen { headers: true, ..options() }).await;
    receiver.send("POST", "x-key: a\x01\u{e9}\r\nx-b: c\r\n", b"hello").await;
    receiver.send("POST", "x-key: a\u{e9}\r\n", b"hello").await;
    let output = receiver.stop().await;
    for part in [
        "signature not verified (set --secret)",
        "(no event type)  (no id)",
        "  x-key: a\u{e9}\n",
        "  hello\n",
    ] {
        assert!(output.contains(part), "no {part:?} in:\n{output}");
    }
}

#[tokio::test]
async fn responds_as_configured() {
    let failing =
        listen(cli::Listen { fail: Some(503), slow: Some(Duration::from_millis(20)), ..options() })
            .await;
    let began = tokio::time::Instant::now();
    let response = failing.send("POST", "", b"{}").await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert!(failing.stop().await.contains("-> 503 after 20ms"));

    let redirecting =
        listen(cli::Listen { redirect: Some("https://example.com/a".to_owned()), ..options() })
            .await;
    let response = redirecting.send("POST", "", b"{}").await;
    assert!(response.starts_with("HTTP/1.1 302 "), "{response}");
    assert!(response.contains("location: https://example.com/a\r\n"), "{response}");
}

#[tokio::test]
async fn requests_that_are_not_webhooks_are_rejected() {
    let receiver = listen(options()).await;
    let response = receiver.send("GET", "", b"").await;
    assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
    assert!(response.contains("allow: POST\r\n"), "{response}");
    receiver.send("POST", "", &vec![b'x'; MAX_BODY + 1]).await;
    let output = receiver.stop().await;
    assert!(output.contains("GET /hooks: not a POST request"), "{output}");
    assert!(output.contains("body exceeds 1 MiB; responded with 413"), "{output}");
    assert!(output.contains("Webhooks received: 0; distinct events: 0.\n"), "{output}");
}

#[tokio::test]
async fn stops_when_its_output_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let style = Style::new(false);
    let receiver = Receiver::new(options(), Arc::new(FixedClock), Box::new(ClosedPipe), style);
    let serving = receiver.serve(listener, std::future::pending());
    tokio::time::timeout(TIMEOUT, serving).await.expect("ends");
}

#[tokio::test]
async fn a_port_in_use_is_reported_with_a_hint() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let port = address.port();
    let result = run(cli::Listen { port, ..options() }, Arc::new(FixedClock)).await;
    let error = result.expect_err("the port is in use").to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    assert!(error.ends_with("; choose another port with --port"), "{error}");
}
