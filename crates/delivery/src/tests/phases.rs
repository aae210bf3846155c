use std::sync::Arc;
use std::time::Duration;

use postrider_cluster::route::Phases;
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

use super::wire::kind;
use super::world::{RealClock, World, hasty, loopback, name};
use crate::sender::Message;
use crate::{Sender, Sent};

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a receiver dawdles where a phase is to be long.
const DAWDLE: Duration = Duration::from_millis(40);

async fn time(sender: &Sender, url: &str) -> (Sent, Phases) {
    let world = World::new(hasty()).await;
    let endpoint = world.build_endpoint(url, Ordering::Parallel);
    let payload = Payload::from_stored("{}".into());
    let message = Message { event: EventId::MIN, event_type: &name("a"), payload: &payload };
    let (sent, phases) = sender.send_timed(&endpoint, message, RealClock.now()).await;
    let Phases { dns, connect, tls, wait, read } = phases;
    let sum: Duration = [dns, connect, tls, wait, read].into_iter().flatten().sum();
    assert!(sum <= sent.duration, "{phases:?} in {:?}", sent.duration);
    (sent, phases)
}

fn sender() -> Sender {
    Sender::new(loopback(), TIMEOUT).unwrap()
}

/// The phases that took place.
fn happened(phases: Phases) -> Vec<&'static str> {
    let Phases { dns, connect, tls, wait, read } = phases;
    let all = [("dns", dns), ("connect", connect), ("tls", tls), ("wait", wait), ("read", read)];
    all.into_iter().filter(|(_, took)| took.is_some()).map(|(name, _)| name).collect()
}

/// Answers one request late, and the body later still.
async fn dawdle(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut request = Vec::new();
    while !request.ends_with(b"{}") {
        stream.read_buf(&mut request).await.unwrap();
    }
    tokio::time::sleep(DAWDLE).await;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
    stream.flush().await.unwrap();
    tokio::time::sleep(DAWDLE * 2).await;
    stream.write_all(b"late").await.unwrap();
    stream.flush().await.unwrap();
    // The other end closes first.
    let _ = stream.read_buf(&mut request).await;
}

/// A port at which `serve` gets every connection.
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
async fn each_phase_has_its_own_time() {
    let port = serve(dawdle).await;
    let sender = sender();
    for (host, expected) in [
        ("127.0.0.1", &["connect", "wait", "read"][..]),
        ("localhost", &["dns", "connect", "wait", "read"]),
    ] {
        // The second one would find an idle connection, if any were kept.
        for _ in 0..2 {
            let (sent, phases) = time(&sender, &format!("http://{host}:{port}/")).await;
            assert_eq!(kind(&sent), None, "{:?}", sent.outcome);
            assert_eq!(sent.response.unwrap().body.as_ref(), b"late");
            assert_eq!(happened(phases), expected);
            assert!(phases.connect.unwrap() > Duration::ZERO);
            assert!(phases.wait.unwrap() >= DAWDLE, "{phases:?}");
            assert!(phases.read.unwrap() >= DAWDLE, "{phases:?}");
        }
    }
}

#[tokio::test]
async fn a_handshake_is_told_apart_from_its_connection() {
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
            tokio::time::sleep(DAWDLE * 3).await;
            if let Ok(stream) = acceptor.accept(stream).await {
                dawdle(stream).await;
            }
        }
    });
    let url = format!("https://localhost:{}/", port.await);

    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let trusting = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let trusting = Sender::with_tls(loopback(), TIMEOUT, trusting).unwrap();
    // A ticket of the first handshake would shorten the second, if any were kept.
    for _ in 0..2 {
        let (sent, phases) = time(&trusting, &url).await;
        assert_eq!(kind(&sent), None, "{:?}", sent.outcome);
        assert_eq!(happened(phases), ["dns", "connect", "tls", "wait", "read"]);
        assert!(phases.tls.unwrap() >= DAWDLE * 2, "{phases:?}");
        assert!(phases.connect < phases.tls, "{phases:?}");
        assert!(phases.wait.unwrap() >= DAWDLE, "{phases:?}");
    }

    let (sent, phases) = time(&sender(), &url).await;
    assert_eq!(kind(&sent), Some(ErrorKind::Tls), "nobody vouches for it: {:?}", sent.outcome);
    assert_eq!(happened(phases), ["dns", "connect", "tls"]);
    assert!(phases.tls.unwrap() >= DAWDLE * 2, "{phases:?}");
}

#[tokio::test]
async fn a_failure_shows_the_phases_until_then() {
    let hasty = Sender::new(loopback(), DAWDLE * 3).unwrap();
    let silent = serve(async |stream: TcpStream| {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let silent = silent.await;
    let (sent, phases) = time(&hasty, &format!("http://127.0.0.1:{silent}/")).await;
    assert_eq!(kind(&sent), Some(ErrorKind::Timeout));
    assert_eq!(happened(phases), ["connect", "wait"]);
    assert!(phases.wait.unwrap() >= DAWDLE * 2, "{phases:?}");

    let closing = serve(async |mut stream: TcpStream| {
        let _ = stream.read_buf(&mut Vec::new()).await;
    });
    let (sent, phases) = time(&sender(), &format!("http://127.0.0.1:{}/", closing.await)).await;
    assert_eq!(kind(&sent), Some(ErrorKind::Protocol));
    assert_eq!(happened(phases), ["connect", "wait"]);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (sent, phases) = time(&sender(), &format!("http://{address}/")).await;
    assert_eq!(kind(&sent), Some(ErrorKind::Connect));
    assert_eq!(happened(phases), ["connect"]);

    let (sent, phases) = time(&hasty, "http://no-such-host.invalid/").await;
    // Behind a firewall the question itself may find no answer.
    assert!(matches!(kind(&sent), Some(ErrorKind::Dns | ErrorKind::Timeout)), "{sent:?}");
    assert_eq!(happened(phases), ["dns"]);

    let public = Sender::new(Default::default(), TIMEOUT).unwrap();
    let (sent, phases) = time(&public, "http://127.0.0.1:9/").await;
    assert_eq!(kind(&sent), Some(ErrorKind::Blocked));
    assert_eq!(phases, Phases::default());
}
