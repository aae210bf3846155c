//! The receiver over real connections.

use postrider_domain::signature;
use postrider_domain::time::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
/// What fails does so after this long.
const PATIENCE: Duration = Duration::from_secs(10);

struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Timestamp {
        NOW
    }
}

/// What was printed; clones share it.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader is gone.
struct Closed;

impl Write for Closed {
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

struct Listening {
    address: SocketAddr,
    screen: Screen,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn listen(options: cli::Listen) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let screen = Screen::default();
    let out = Box::new(screen.clone());
    let receiver = Receiver::new(options, Arc::new(Stopped), out, Paint::new(false));
    let (stop, stopped) = oneshot::channel();
    let stopped = async move {
        let _ = stopped.await;
    };
    let task = tokio::spawn(receiver.serve(listener, stopped));
    Listening { address, screen, stop, task }
}

impl Listening {
    /// Sends a request and gives the head of the answer.
    async fn send(&self, method: &str, headers: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        let length = body.len();
        let head = format!(
            "{method} /hooks?a=b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             content-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        // The receiver may answer and close before it has read all of a body that is too large.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
        let _ = read.await.expect("an answer in time");
        String::from_utf8(answer).expect("UTF-8")
    }

    async fn end(self) -> String {
        self.stop.send(()).expect("still listening");
        tokio::time::timeout(PATIENCE, self.task).await.expect("ends").expect("does not panic");
        self.screen.text()
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
async fn a_webhook_at_a_glance() {
    let secret = Secret::from_bytes([1; 32]);
    let listening = listen(cli::Listen {
        secrets: vec![Secret::from_bytes([2; 32]), secret.clone()],
        ..options()
    })
    .await;
    let body = b"{\"name\":\"Ada\",\"n\":1.50}";
    let answer = listening.send("POST", &signed(&secret, body), body).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    listening.send("POST", &signed(&secret, body), body).await;
    listening.send("POST", &signed(&secret, body), b"{}").await;

    let screen = listening.end().await;
    for part in [
        "signatures are checked with 2 secrets",
        "2023-11-14T22:13:20.000Z  application.created  evt_1  /hooks?a=b  signature ok  -> 200\n",
        "  {\n    \"name\": \"Ada\",\n    \"n\": 1.50\n  }\n",
        "evt_1  attempt 2 seen here  /hooks",
        "attempt 3 seen here  /hooks?a=b  BAD SIGNATURE: not made with",
        "Webhooks received: 3; different events: 1; bad signatures: 1.\n",
    ] {
        assert!(screen.contains(part), "no {part:?} in:\n{screen}");
    }
    assert!(!screen.contains("webhook-timestamp"), "{screen}");
}

#[tokio::test]
async fn without_a_secret_and_with_headers() {
    let listening = listen(cli::Listen { headers: true, ..options() }).await;
    listening.send("POST", "x-key: a\x01\u{e9}\r\nx-b: c\r\n", b"hello").await;
    listening.send("POST", "x-key: a\u{e9}\r\n", b"hello").await;
    let screen = listening.end().await;
    for part in [
        "signature not checked (give --secret)",
        "(no type)  (no id)",
        "  x-key: a\u{e9}\n",
        "  hello\n",
    ] {
        assert!(screen.contains(part), "no {part:?} in:\n{screen}");
    }
}

#[tokio::test]
async fn answers_as_it_is_told() {
    let failing =
        listen(cli::Listen { fail: Some(503), slow: Some(Duration::from_millis(20)), ..options() })
            .await;
    let began = tokio::time::Instant::now();
    let answer = failing.send("POST", "", b"{}").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert!(failing.end().await.contains("-> 503 after 20ms"));

    let redirecting =
        listen(cli::Listen { redirect: Some("https://example.com/a".to_owned()), ..options() })
            .await;
    let answer = redirecting.send("POST", "", b"{}").await;
    assert!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    assert!(answer.contains("location: https://example.com/a\r\n"), "{answer}");
}

#[tokio::test]
async fn what_is_no_webhook_is_turned_down() {
    let listening = listen(options()).await;
    let answer = listening.send("GET", "", b"").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.contains("allow: POST\r\n"), "{answer}");
    listening.send("POST", "", &vec![b'x'; MAX_BODY + 1]).await;
    let screen = listening.end().await;
    assert!(screen.contains("GET /hooks: not a POST"), "{screen}");
    assert!(screen.contains("has more than 1 MiB; answered 413"), "{screen}");
    assert!(screen.contains("Webhooks received: 0; different events: 0.\n"), "{screen}");
}

#[tokio::test]
async fn ends_when_nobody_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let paint = Paint::new(false);
    let receiver = Receiver::new(options(), Arc::new(Stopped), Box::new(Closed), paint);
    let serving = receiver.serve(listener, std::future::pending());
    tokio::time::timeout(PATIENCE, serving).await.expect("ends");
}

#[tokio::test]
async fn a_port_that_is_taken_is_refused_with_advice() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = taken.local_addr().expect("an address");
    let port = address.port();
    let refused = run(cli::Listen { port, ..options() }, Arc::new(Stopped)).await;
    let said = refused.expect_err("is refused").to_string();
    assert!(said.starts_with(&format!("cannot listen on {address}: ")), "{said}");
    assert!(said.ends_with("; give another with --port"), "{said}");
}
