//! Connections that do not authenticate.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ractor::Actor;
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{IncomingEncryptionMode, NodeServer, client_connect};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::fixture::{Authority, Node, SLACK, TIMEOUT, closed, cookie, join, options};
use crate::transport::accept::{self, Incoming};
use crate::transport::connections;
use crate::transport::socket::{MAX_UNAUTHENTICATED_BYTES, READY_TIMEOUT};
use crate::transport::{Cookie, Options, SERVER_NAME, Tls};

/// The limit for connections that must be closed immediately.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Asserts that a node has published no event and still accepts a peer.
async fn still_accepts_peers(mut node: Node, tls: Option<Tls>) {
    node.no_event();
    let mut peer = Node::start(options("peer", tls)).await;
    join(&mut peer, &mut node).await;
}

#[tokio::test]
async fn a_peer_with_another_cookie_is_rejected() {
    let a = Node::plain("a").await;
    let cookie = Cookie::parse(&"another".repeat(10)).unwrap();
    let mut b = Node::start(Options { cookie, ..options("b", None) }).await;
    b.transport.connect(a.address()).await.unwrap();
    b.empty().await;
    b.no_event();
    a.transport.connect(b.address()).await.unwrap();
    a.empty().await;
    b.no_event();
    still_accepts_peers(a, None).await;
}

/// Dials in both directions, and asserts that neither side accepts the other.
async fn reject_each_other(a: Tls, b: Tls) {
    let mut a = Node::start(options("a", Some(a))).await;
    let mut b = Node::start(options("b", Some(b))).await;
    // With TLS 1.3, the dialling side learns only later that its certificate was rejected.
    _ = b.transport.connect(a.address()).await;
    _ = a.transport.connect(b.address()).await;
    a.empty().await;
    b.empty().await;
    a.no_event();
    b.no_event();
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_rejected() {
    let (one, other) = (Authority::new(), Authority::new());
    reject_each_other(one.issue(), other.issue()).await;
    // The other side trusts this CA, so that only this side can reject it.
    reject_each_other(one.issue(), other.issue_trusting(&one)).await;
}

#[tokio::test]
async fn an_expired_certificate_is_rejected() {
    let authority = Authority::new();
    reject_each_other(authority.issue(), authority.issue_for(&[SERVER_NAME], 2_020)).await;
}

#[tokio::test]
async fn a_certificate_without_the_server_name_is_rejected_when_dialled() {
    let authority = Authority::new();
    let a = Node::start(options("a", Some(authority.issue()))).await;
    let other = authority.issue_for(&["mail.example.com"], 2_099);
    let mut b = Node::start(options("b", Some(other))).await;
    a.transport.connect(b.address()).await.unwrap_err();
    b.empty().await;
    b.no_event();
    still_accepts_peers(a, Some(authority.issue())).await;
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_rejected() {
    let authority = Authority::new();
    let a = Node::start(options("a", Some(authority.issue()))).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.ca()).unwrap()).unwrap();
    let config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(a.address()).await.unwrap();
    let name = ServerName::try_from(SERVER_NAME).unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    assert!(closed(stream).await < AT_ONCE);

    // A peer without TLS is rejected as well.
    let mut plain = Node::plain("plain").await;
    plain.transport.connect(a.address()).await.unwrap();
    plain.empty().await;
    plain.no_event();
    a.empty().await;
    still_accepts_peers(a, Some(authority.issue())).await;
}

/// Inputs of unauthenticated connections, and the time within which each connection must be closed.
fn unauthenticated_inputs() -> Vec<(&'static str, Vec<u8>, Duration)> {
    let frame = |length: u64, body: usize| [length.to_be_bytes().to_vec(), vec![7; body]].concat();
    let late = READY_TIMEOUT + SLACK;
    vec![
        ("nothing", vec![], late),
        ("an HTTP request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), AT_ONCE),
        ("a TLS handshake that goes nowhere", vec![0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3], AT_ONCE),
        ("a frame of 2^60 bytes", frame(1 << 60, 100), AT_ONCE),
        ("a frame of garbage", frame(100, 100), AT_ONCE),
        ("half a frame", frame(100, 50), late),
        ("an empty frame", frame(0, 0), late),
        ("too much", frame(1 << 20, MAX_UNAUTHENTICATED_BYTES + 1), AT_ONCE),
    ]
}

#[tokio::test]
async fn unauthenticated_connections_are_closed_without_tls() {
    let a = Node::plain("a").await;
    for (what, bytes, limit) in unauthenticated_inputs() {
        let mut stream = TcpStream::connect(a.address()).await.unwrap();
        _ = stream.write_all(&bytes).await;
        assert!(closed(stream).await < limit, "{what}");
    }
    a.empty().await;
    still_accepts_peers(a, None).await;
}

#[tokio::test]
async fn unauthenticated_connections_that_send_no_tls_are_closed() {
    let authority = Authority::new();
    let a = Node::start(options("a", Some(authority.issue()))).await;
    for (what, bytes, _) in unauthenticated_inputs() {
        let mut stream = TcpStream::connect(a.address()).await.unwrap();
        _ = stream.write_all(&bytes).await;
        assert!(closed(stream).await < Duration::from_secs(3) + SLACK, "{what}");
    }
    a.empty().await;
    still_accepts_peers(a, Some(authority.issue())).await;
}

#[tokio::test]
async fn unauthenticated_connections_with_a_certificate_are_closed() {
    let authority = Authority::new();
    let a = Node::start(options("a", Some(authority.issue()))).await;
    for (what, bytes, limit) in unauthenticated_inputs() {
        let stream = TcpStream::connect(a.address()).await.unwrap();
        let mut stream = authority.issue().connect(stream).await.unwrap();
        _ = stream.write_all(&bytes).await;
        assert!(closed(stream).await < limit, "{what}");
    }
    a.empty().await;
    still_accepts_peers(a, Some(authority.issue())).await;
}

#[tokio::test]
async fn a_slow_unauthenticated_connection_is_closed() {
    let a = Node::plain("a").await;
    let stream = TcpStream::connect(a.address()).await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let dripping = async move {
        loop {
            _ = writer.write_all(&[0]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let took = tokio::select! { took = closed(reader) => took, () = dripping => unreachable!() };
    assert!(took < READY_TIMEOUT + SLACK, "{took:?}");
}

/// Opens 200 silent connections, and then connects a peer.
async fn silent_connections(tls: Option<&Authority>) {
    let issue = || tls.map(Authority::issue);
    let mut a = Node::start(options("a", issue())).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(a.address()).await.unwrap());
    }
    let mut peer = Node::start(options("peer", issue())).await;
    timeout(Duration::from_secs(2), join(&mut peer, &mut a)).await.expect("the peer is accepted");
    assert!(a.transport.inner.acceptor.connections.count() <= connections::MAX_UNAUTHENTICATED + 1);
    for stream in silent {
        assert!(closed(stream).await < READY_TIMEOUT + SLACK);
    }
    // The peer is still up after all silent connections are closed.
    a.no_event();
    peer.no_event();
    assert_eq!(a.transport.peers().len(), 1);
}

#[tokio::test]
async fn silent_connections_do_not_keep_a_peer_out() {
    silent_connections(None).await;
}

#[tokio::test]
async fn silent_connections_do_not_keep_a_peer_out_with_tls() {
    silent_connections(Some(&Authority::new())).await;
}

#[tokio::test]
async fn a_session_without_a_valid_peer_name_is_closed() {
    let a = Node::plain("a").await;
    for name in ["invalid", "invalid.boot_1", ""] {
        let server = NodeServer::new(
            0,
            cookie().reveal().to_owned(),
            name.to_owned(),
            "elsewhere".to_owned(),
            Some(IncomingEncryptionMode::Raw),
            Some(NodeConnectionMode::Isolated),
        );
        let (server, running) = Actor::spawn(None, server, ()).await.unwrap();
        let before = a.transport.inner.acceptor.connections.total_opened();
        client_connect(&server, a.address()).await.unwrap();
        let is_opened = || a.transport.inner.acceptor.connections.total_opened() > before;
        super::fixture::eventually("the session is opened", is_opened).await;
        a.empty().await;
        server.stop(None);
        running.await.unwrap();
    }
    still_accepts_peers(a, None).await;
}

/// A listener whose first accepts fail.
struct Flaky {
    failures: usize,
    listener: TcpListener,
}

impl Incoming for Flaky {
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        if self.failures > 0 {
            self.failures -= 1;
            const EMFILE: i32 = 24;
            return Err(io::Error::from_raw_os_error(EMFILE));
        }
        self.listener.accept().await
    }
}

#[tokio::test]
async fn the_listener_continues_after_failures() {
    let mut a = Node::start(Options { listen: None, ..options("a", None) }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let source = Flaky { failures: 3, listener };
    let accepting = tokio::spawn(accept::run(source, a.transport.inner.acceptor.clone(), None));
    let mut b = Node::plain("b").await;
    b.transport.connect(address).await.unwrap();
    timeout(TIMEOUT, async {
        b.up(&a.name).await;
        a.up(&b.name).await;
    })
    .await
    .unwrap();
    accepting.abort();
}
