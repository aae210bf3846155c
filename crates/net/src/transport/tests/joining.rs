//! Peers that connect to each other.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::fixture::{Authority, Node, SLACK, TIMEOUT, eventually, join, name, options};
use crate::transport::connections::DOWN_GRACE;
use crate::transport::{
    ConnectError, Options, PeerEvent, PeerName, Transport, TransportError, is_refused,
};

#[tokio::test]
async fn two_nodes_connect() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    let (at_a, at_b) = join(&mut a, &mut b).await;
    assert_eq!((&at_a.name, &at_b.name), (&b.name, &a.name));
    assert_eq!(at_a.address, b.address());
    assert_eq!(a.transport.peers(), std::slice::from_ref(&at_a));
    assert_eq!(b.transport.peers(), [at_b]);
    let sessions = a.sessions().await;
    assert_eq!(sessions.iter().map(|session| session.node_id).collect::<Vec<_>>(), [at_a.node_id]);
}

#[tokio::test]
async fn two_nodes_connect_with_tls() {
    let authority = Authority::new();
    let mut a = Node::start(options("a", Some(authority.issue()))).await;
    let mut b = Node::start(options("b", Some(authority.issue()))).await;
    join(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_client_does_not_listen() {
    let mut node = Node::plain("node").await;
    let mut client = Node::start(Options { listen: None, ..options("client", None) }).await;
    assert_eq!(client.transport.local_addr(), None);
    join(&mut client, &mut node).await;
}

#[tokio::test]
async fn a_name_may_contain_dots() {
    let (mut a, mut b) = (Node::plain("a.b_c-1").await, Node::plain("b..").await);
    join(&mut a, &mut b).await;
}

#[tokio::test]
async fn dialling_again_changes_nothing() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    for _ in 0..10 {
        a.transport.connect(b.address()).await.unwrap();
    }
    assert_eq!(a.sessions().await.len(), 1);
    assert_eq!(a.transport.inner.acceptor.connections.count(), 1);
    a.no_event();
    b.no_event();
}

#[tokio::test]
async fn dialling_oneself_has_no_effect() {
    let mut a = Node::plain("a").await;
    a.transport.connect(a.address()).await.unwrap();
    a.empty().await;
    a.no_event();
}

/// Asserts that the peer has not gone down in the events so far.
fn still_up(node: &mut Node, name: &PeerName) {
    while let Ok(event) = node.events.try_recv() {
        assert!(matches!(&event, PeerEvent::Up(peer) if peer.name == *name), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_that_dial_each_other_at_once_keep_one_connection() {
    for _ in 0..20 {
        let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
        let (one, other) =
            tokio::join!(a.transport.connect(b.address()), b.transport.connect(a.address()));
        one.and(other).unwrap();
        a.up(&b.name).await;
        b.up(&a.name).await;
        let counts = || {
            (
                a.transport.inner.acceptor.connections.count(),
                b.transport.inner.acceptor.connections.count(),
            ) == (1, 1)
        };
        eventually("each has one connection", counts).await;
        // All events have been published by then.
        tokio::time::sleep(2 * DOWN_GRACE).await;
        still_up(&mut a, &b.name);
        still_up(&mut b, &a.name);
        for (node, peer) in [(&a, &b), (&b, &a)] {
            let [session] = &node.sessions().await[..] else { panic!("not one session") };
            let [known] = &node.transport.peers()[..] else { panic!("not one peer") };
            assert_eq!((known.node_id, &known.name), (session.node_id, &peer.name));
        }
    }
}

/// The address of the node server's own listener.
async fn hidden_listener(of: &Node, as_seen_by: &Node) -> SocketAddr {
    let sessions = as_seen_by.sessions().await;
    let peer = sessions[0].peer_name.as_ref().unwrap();
    let (host, port) = peer.connection_string.split_once(':').unwrap();
    assert_eq!(host, of.name.boot.to_string());
    SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
}

#[tokio::test]
async fn the_node_servers_own_listener_accepts_no_connection() {
    let authority = Authority::new();
    let mut a = Node::start(options("a", Some(authority.issue()))).await;
    let mut b = Node::start(options("b", Some(authority.issue()))).await;
    join(&mut a, &mut b).await;
    let hidden = hidden_listener(&a, &b).await;

    let mut c = Node::start(options("c", Some(authority.issue()))).await;
    let error = c.transport.connect(hidden).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    let mut plain = Node::plain("plain").await;
    plain.transport.connect(hidden).await.unwrap();
    plain.empty().await;
    plain.no_event();

    // The listener expects TLS, and replies to anything else with an alert (RFC 8446 §6).
    let mut stream = TcpStream::connect(hidden).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    const ALERT: u8 = 21;
    assert_eq!(timeout(TIMEOUT, stream.read_u8()).await.unwrap().unwrap(), ALERT);

    // A silent connection to it does not keep peers out.
    let _silent = TcpStream::connect(hidden).await.unwrap();
    join(&mut c, &mut a).await;
}

#[tokio::test]
async fn only_loopback_addresses_are_allowed_without_tls() {
    for exposed in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7946"] {
        let listen = Some(exposed.parse().unwrap());
        let error = Transport::start(Options { listen, ..options("a", None) }).await.unwrap_err();
        assert!(matches!(error, TransportError::Exposed(_)), "{error}");
        assert!(error.to_string().contains("scripts/cluster-certs"), "{error}");
    }
    for fine in ["127.0.0.1:0", "127.1.2.3:0"] {
        let listen = Some(fine.parse().unwrap());
        Transport::start(Options { listen, ..options("a", None) }).await.unwrap();
    }
    let node = Node::plain("a").await;
    let error = node.transport.connect("192.0.2.1:7946".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Exposed(_)), "{error}");

    let listen = Some("0.0.0.0:0".parse().unwrap());
    let tls = Some(Authority::new().issue());
    Transport::start(Options { listen, ..options("a", tls) }).await.unwrap();
}

#[tokio::test]
async fn an_invalid_name_or_an_address_in_use_is_rejected() {
    let error =
        Transport::start(Options { name: name("a b"), ..options("a", None) }).await.unwrap_err();
    assert!(matches!(error, TransportError::Name(_)), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = Some(taken.local_addr().unwrap());
    let error = Transport::start(Options { listen, ..options("a", None) }).await.unwrap_err();
    assert!(matches!(error, TransportError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn a_refused_connection_is_distinguished_from_other_failures() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert!(!is_refused(address).await);
    let node = Node::start(options("a", Some(Authority::new().issue()))).await;

    // The listener accepts the connection and never sends anything.
    let start = Instant::now();
    let error = node.transport.connect(address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3) + SLACK);

    drop(listener);
    assert!(is_refused(address).await);
    let error = node.transport.connect(address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused(_)), "{error}");
}

#[tokio::test]
async fn a_transport_that_stops_releases_everything() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    let address = a.address();
    let clone = a.transport.clone();
    timeout(TIMEOUT, clone.stop()).await.unwrap();
    a.down(&b.name).await;
    assert!(b.down(&a.name).await < Duration::from_secs(1));
    assert_eq!((a.transport.peers(), b.transport.peers()), (vec![], vec![]));
    let error = a.transport.connect(b.address()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Stopped), "{error}");
    eventually("the port is closed", || std::net::TcpStream::connect(address).is_err()).await;
    timeout(TIMEOUT, a.transport.stop()).await.unwrap();
    drop(clone);
}
