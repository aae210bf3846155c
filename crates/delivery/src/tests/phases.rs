use std::sync::Arc;
use std::time::Duration;

use postrider_domain::attempt::{Exchange, Phases};
use postrider_domain::endpoint::Ordering;
use postrider_domain::event::Payload;
use postrider_domain::ids::EventId;
use postrider_domain::outcome::ErrorKind;
use postrider_domain::time::Clock;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::fixture::{Fixture, RealClock, build_sender, fast_retries, loopback, name};
use super::name_server::NameServer;
use super::wire::kind;
use crate::resolver::GuardedResolver;
use crate::sender::{self, Webhook};
use crate::{ConnectionLimits, Sender};

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a receiver delays a phase that should be slow.
const DELAY: Duration = Duration::from_millis(40);

async fn time(sender: &Sender, url: &str) -> (Exchange, Phases) {
    let fixture = Fixture::new(fast_retries()).await;
    let endpoint = fixture.build_endpoint(url, Ordering::Parallel);
    let payload = Payload::from_stored("{}".into());
    let webhook = Webhook { event: EventId::MIN, event_type: &name("a"), payload: &payload };
    let (exchange, phases) = sender.send_timed(&endpoint, webhook, RealClock.now()).await;
    let Phases { dns, connect, tls, wait, read } = phases;
    let sum: Duration = [dns, connect, tls, wait, read].into_iter().flatten().sum();
    assert!(sum <= exchange.duration, "{phases:?} in {:?}", exchange.duration);
    (exchange, phases)
}

fn sender() -> Sender {
    build_sender(TIMEOUT)
}

/// The phases that occurred.
fn occurred(phases: Phases) -> Vec<&'static str> {
    let Phases { dns, connect, tls, wait, read } = phases;
    let all = [("dns", dns), ("connect", connect), ("tls", tls), ("wait", wait), ("read", read)];
    all.into_iter().filter(|(_, took)| took.is_some()).map(|(name, _)| name).collect()
}

/// Answers one request slowly, with an even slower body.
async fn respond_slowly(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = Vec::new();
    while !request.ends_with(b"{}") {
        stream.read_buf(&mut request).await.unwrap();
    }
    tokio::time::sleep(DELAY).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(DELAY * 2).await;
    stream.write_all(b"late").await.unwrap();
    stream.flush().await.unwrap();
    // Wait for the client to close first.
    let _ = stream.read_buf(&mut request).await;
}

/// Listens on a port and passes every connection to `serve`.
async fn serve<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    port
}

#[tokio::test]
async fn each_phase_is_timed_separately() {
    let port = serve(respond_slowly).await;
    let sender = sender();
    for (host, expected) in [
        ("127.0.0.1", &["connect", "wait", "read"][..]),
        ("localhost", &["dns", "connect", "wait", "read"]),
    ] {
        // The second request would reuse an idle connection, if any were kept.
        for _ in 0..2 {
            let (exchange, phases) = time(&sender, &format!("http://{host}:{port}/")).await;
            assert_eq!(kind(&exchange), None, "{:?}", exchange.outcome);
            assert_eq!(exchange.response.unwrap().body.as_ref(), b"late");
            assert_eq!(occurred(phases), expected);
            assert!(phases.connect.unwrap() > Duration::ZERO);
            assert!(phases.wait.unwrap() >= DELAY, "{phases:?}");
            assert!(phases.read.unwrap() >= DELAY, "{phases:?}");
        }
    }
}

#[tokio::test]
async fn a_silent_name_server_is_a_failure_of_name_resolution() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = NameServer::start(60, |_, _| None).await;
    let sender = Sender::with_resolver(
        GuardedResolver::of_files(server.files(), loopback()),
        loopback(),
        Duration::from_millis(300),
        ConnectionLimits::default(),
        sender::tls().expect("certificates"),
    );
    let (exchange, phases) = time(&sender.expect("a sender"), "http://silent.test/").await;
    assert_eq!(kind(&exchange), Some(ErrorKind::Dns), "{:?}", exchange.outcome);
    assert_eq!(occurred(phases), ["dns"]);
}

#[tokio::test]
async fn the_tls_handshake_is_timed_separately_from_connecting() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], signing_key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let port = serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            tokio::time::sleep(DELAY * 3).await;
            if let Ok(stream) = acceptor.accept(stream).await {
                respond_slowly(stream).await;
            }
        }
    });
    let url = format!("https://localhost:{}/", port.await);

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let trusting = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let trusting =
        Sender::with_tls(loopback(), TIMEOUT, ConnectionLimits::default(), trusting).unwrap();
    // A session ticket of the first handshake would shorten the second, if any were kept.
    for _ in 0..2 {
        let (exchange, phases) = time(&trusting, &url).await;
        assert_eq!(kind(&exchange), None, "{:?}", exchange.outcome);
        assert_eq!(occurred(phases), ["dns", "connect", "tls", "wait", "read"]);
        assert!(phases.tls.unwrap() >= DELAY * 2, "{phases:?}");
        assert!(phases.connect < phases.tls, "{phases:?}");
        assert!(phases.wait.unwrap() >= DELAY, "{phases:?}");
    }

    let (exchange, phases) = time(&sender(), &url).await;
    assert_eq!(
        kind(&exchange),
        Some(ErrorKind::Tls),
        "the certificate is not trusted: {:?}",
        exchange.outcome
    );
    assert_eq!(occurred(phases), ["dns", "connect", "tls"]);
    assert!(phases.tls.unwrap() >= DELAY * 2, "{phases:?}");
}

#[tokio::test]
async fn a_failed_request_has_the_phases_before_the_failure() {
    let short_timeout = build_sender(DELAY * 3);
    let silent = serve(async |stream: TcpStream| {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let silent = silent.await;
    let (exchange, phases) = time(&short_timeout, &format!("http://127.0.0.1:{silent}/")).await;
    assert_eq!(kind(&exchange), Some(ErrorKind::Timeout));
    assert_eq!(occurred(phases), ["connect", "wait"]);
    assert!(phases.wait.unwrap() >= DELAY * 2, "{phases:?}");

    let closing = serve(async |mut stream: TcpStream| {
        let _ = stream.read_buf(&mut Vec::new()).await;
    });
    let (exchange, phases) = time(&sender(), &format!("http://127.0.0.1:{}/", closing.await)).await;
    assert_eq!(kind(&exchange), Some(ErrorKind::Protocol));
    assert_eq!(occurred(phases), ["connect", "wait"]);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (exchange, phases) = time(&sender(), &format!("http://{address}/")).await;
    assert_eq!(kind(&exchange), Some(ErrorKind::Connect));
    assert_eq!(occurred(phases), ["connect"]);

    let (exchange, phases) = time(&short_timeout, "http://no-such-host.invalid/").await;
    // Behind a firewall the DNS query itself may time out.
    assert!(matches!(kind(&exchange), Some(ErrorKind::Dns | ErrorKind::Timeout)), "{exchange:?}");
    assert_eq!(occurred(phases), ["dns"]);

    let public = Sender::new(Default::default(), TIMEOUT, Default::default()).unwrap();
    let (exchange, phases) = time(&public, "http://127.0.0.1:9/").await;
    assert_eq!(kind(&exchange), Some(ErrorKind::Blocked));
    assert_eq!(phases, Phases::default());
}
