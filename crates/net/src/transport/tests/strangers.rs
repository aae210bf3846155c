//! Whoever has no business here.

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

use super::world::{Authority, Node, PATIENCE, SLACK, closed, cookie, join, options};
use crate::transport::accept::{self, Source};
use crate::transport::socket::{MAX_UNPROVED, READY_TIMEOUT};
use crate::transport::table;
use crate::transport::{Cookie, Options, SERVER_NAME, Tls};

/// What ends at once.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Checks that a node has not noticed anything, and still has room for a good peer.
async fn unharmed(mut node: Node, tls: Option<Tls>) {
    node.heard_nothing();
    let mut friend = Node::start(options("friend", tls)).await;
    join(&mut friend, &mut node).await;
}

#[tokio::test]
async fn another_cookie_does_not_get_in() {
    let a = Node::plain("a").await;
    let cookie = Cookie::parse(&"another".repeat(10)).unwrap();
    let mut b = Node::start(Options { cookie, ..options("b", None) }).await;
    b.link.connect(a.address()).await.unwrap();
    b.empty().await;
    b.heard_nothing();
    a.link.connect(b.address()).await.unwrap();
    a.empty().await;
    b.heard_nothing();
    unharmed(a, None).await;
}

/// Dials both ways, and checks that neither takes the other for a peer.
async fn strangers(a: Tls, b: Tls) {
    let mut a = Node::start(options("a", Some(a))).await;
    let mut b = Node::start(options("b", Some(b))).await;
    // With TLS 1.3, whoever dials learns only later that its own certificate was refused.
    _ = b.link.connect(a.address()).await;
    _ = a.link.connect(b.address()).await;
    a.empty().await;
    b.empty().await;
    a.heard_nothing();
    b.heard_nothing();
}

#[tokio::test]
async fn the_certificate_of_another_authority_does_not_get_in() {
    let (one, other) = (Authority::new(), Authority::new());
    strangers(one.issue(), other.issue()).await;
    // Neither does one that trusts us, so that only our side can refuse.
    strangers(one.issue(), other.issue_to_friend_of(&one)).await;
}

#[tokio::test]
async fn an_expired_certificate_does_not_get_in() {
    let authority = Authority::new();
    strangers(authority.issue(), authority.issue_for(&[SERVER_NAME], 2_020)).await;
}

#[tokio::test]
async fn a_certificate_without_the_nodes_name_is_not_dialled() {
    let authority = Authority::new();
    let a = Node::start(options("a", Some(authority.issue()))).await;
    let other = authority.issue_for(&["mail.example.com"], 2_099);
    let mut b = Node::start(options("b", Some(other))).await;
    a.link.connect(b.address()).await.unwrap_err();
    b.empty().await;
    b.heard_nothing();
    unharmed(a, Some(authority.issue())).await;
}

#[tokio::test]
async fn without_a_certificate_nobody_gets_in() {
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

    // Nor does anybody without TLS.
    let mut plain = Node::plain("plain").await;
    plain.link.connect(a.address()).await.unwrap();
    plain.empty().await;
    plain.heard_nothing();
    a.empty().await;
    unharmed(a, Some(authority.issue())).await;
}

/// What strangers say, and how soon that must end.
fn sayings() -> Vec<(&'static str, Vec<u8>, Duration)> {
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
        ("too much", frame(1 << 20, MAX_UNPROVED + 1), AT_ONCE),
    ]
}

#[tokio::test]
async fn whatever_a_stranger_says_without_tls_ends_soon() {
    let a = Node::plain("a").await;
    for (what, bytes, limit) in sayings() {
        let mut stream = TcpStream::connect(a.address()).await.unwrap();
        _ = stream.write_all(&bytes).await;
        assert!(closed(stream).await < limit, "{what}");
    }
    a.empty().await;
    unharmed(a, None).await;
}

#[tokio::test]
async fn whatever_a_stranger_says_instead_of_tls_ends_soon() {
    let authority = Authority::new();
    let a = Node::start(options("a", Some(authority.issue()))).await;
    for (what, bytes, _) in sayings() {
        let mut stream = TcpStream::connect(a.address()).await.unwrap();
        _ = stream.write_all(&bytes).await;
        assert!(closed(stream).await < Duration::from_secs(3) + SLACK, "{what}");
    }
    a.empty().await;
    unharmed(a, Some(authority.issue())).await;
}

#[tokio::test]
async fn whatever_a_stranger_with_a_certificate_says_ends_soon() {
    let authority = Authority::new();
    let a = Node::start(options("a", Some(authority.issue()))).await;
    for (what, bytes, limit) in sayings() {
        let stream = TcpStream::connect(a.address()).await.unwrap();
        let mut stream = authority.issue().dialled(stream).await.unwrap();
        _ = stream.write_all(&bytes).await;
        assert!(closed(stream).await < limit, "{what}");
    }
    a.empty().await;
    unharmed(a, Some(authority.issue())).await;
}

#[tokio::test]
async fn one_byte_a_second_is_not_enough() {
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

/// Keeps saying nothing on 200 connections, while a good peer comes.
async fn crowd(tls: Option<&Authority>) {
    let issue = || tls.map(Authority::issue);
    let mut a = Node::start(options("a", issue())).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(a.address()).await.unwrap());
    }
    let mut friend = Node::start(options("friend", issue())).await;
    timeout(Duration::from_secs(2), join(&mut friend, &mut a)).await.expect("room for a friend");
    assert!(a.link.inner.hall.table.count() <= table::MAX_UNPROVED + 1);
    for stream in silent {
        assert!(closed(stream).await < READY_TIMEOUT + SLACK);
    }
    // A whole crowd later, the friend is still there.
    a.heard_nothing();
    friend.heard_nothing();
    assert_eq!(a.link.peers().len(), 1);
}

#[tokio::test]
async fn a_silent_crowd_keeps_no_peer_out() {
    crowd(None).await;
}

#[tokio::test]
async fn a_silent_crowd_keeps_no_peer_out_with_tls() {
    crowd(Some(&Authority::new())).await;
}

#[tokio::test]
async fn a_session_with_a_name_that_is_no_peers_is_ended() {
    let a = Node::plain("a").await;
    for name in ["stranger", "stranger.boot_1", ""] {
        let server = NodeServer::new(
            0,
            cookie().reveal().to_owned(),
            name.to_owned(),
            "elsewhere".to_owned(),
            Some(IncomingEncryptionMode::Raw),
            Some(NodeConnectionMode::Isolated),
        );
        let (server, running) = Actor::spawn(None, server, ()).await.unwrap();
        let before = a.link.inner.hall.table.seen();
        client_connect(&server, a.address()).await.unwrap();
        let came = || a.link.inner.hall.table.seen() > before;
        super::world::eventually("the stranger came", came).await;
        a.empty().await;
        server.stop(None);
        running.await.unwrap();
    }
    unharmed(a, None).await;
}

/// A listener that fails some times.
struct Flaky {
    failures: usize,
    listener: TcpListener,
}

impl Source for Flaky {
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
async fn accepting_survives_its_failures() {
    let mut a = Node::start(Options { listen: None, ..options("a", None) }).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let source = Flaky { failures: 3, listener };
    let accepting = tokio::spawn(accept::run(source, a.link.inner.hall.clone(), None));
    let mut b = Node::plain("b").await;
    b.link.connect(address).await.unwrap();
    timeout(PATIENCE, async {
        b.up(&a.name).await;
        a.up(&b.name).await;
    })
    .await
    .unwrap();
    accepting.abort();
}
