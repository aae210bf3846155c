//! Peers that find each other.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::world::{Authority, Node, PATIENCE, SLACK, eventually, join, name, options};
use crate::transport::table::GRACE;
use crate::transport::{ConnectError, Event, Link, LinkError, Options, PeerName, is_refused};

#[tokio::test]
async fn two_nodes_find_each_other() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    let (at_a, at_b) = join(&mut a, &mut b).await;
    assert_eq!((&at_a.name, &at_b.name), (&b.name, &a.name));
    assert_eq!(at_a.address, b.address());
    assert_eq!(a.link.peers(), std::slice::from_ref(&at_a));
    assert_eq!(b.link.peers(), [at_b]);
    let sessions = a.sessions().await;
    assert_eq!(sessions.iter().map(|session| session.node_id).collect::<Vec<_>>(), [at_a.node_id]);
}

#[tokio::test]
async fn two_nodes_find_each_other_with_tls() {
    let authority = Authority::new();
    let mut a = Node::start(options("a", Some(authority.issue()))).await;
    let mut b = Node::start(options("b", Some(authority.issue()))).await;
    join(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_client_listens_nowhere() {
    let mut node = Node::plain("node").await;
    let mut client = Node::start(Options { listen: None, ..options("client", None) }).await;
    assert_eq!(client.link.local_addr(), None);
    join(&mut client, &mut node).await;
}

#[tokio::test]
async fn a_name_with_dots_is_understood() {
    let (mut a, mut b) = (Node::plain("a.b_c-1").await, Node::plain("b..").await);
    join(&mut a, &mut b).await;
}

#[tokio::test]
async fn dialling_again_changes_nothing() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    for _ in 0..10 {
        a.link.connect(b.address()).await.unwrap();
    }
    assert_eq!(a.sessions().await.len(), 1);
    assert_eq!(a.link.inner.hall.table.count(), 1);
    a.heard_nothing();
    b.heard_nothing();
}

#[tokio::test]
async fn dialling_oneself_comes_to_nothing() {
    let mut a = Node::plain("a").await;
    a.link.connect(a.address()).await.unwrap();
    a.empty().await;
    a.heard_nothing();
}

/// The peer that is up after all events so far; panics if it ever went down.
fn still_up(node: &mut Node, name: &PeerName) {
    while let Ok(event) = node.events.try_recv() {
        assert!(matches!(&event, Event::Up(peer) if peer.name == *name), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_dial_each_other_at_once_end_with_one_connection() {
    for _ in 0..20 {
        let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
        let (one, other) = tokio::join!(a.link.connect(b.address()), b.link.connect(a.address()));
        one.and(other).unwrap();
        a.up(&b.name).await;
        b.up(&a.name).await;
        let counts =
            || (a.link.inner.hall.table.count(), b.link.inner.hall.table.count()) == (1, 1);
        eventually("each has one connection", counts).await;
        // Whatever is to be told is told by then.
        tokio::time::sleep(2 * GRACE).await;
        still_up(&mut a, &b.name);
        still_up(&mut b, &a.name);
        for (node, peer) in [(&a, &b), (&b, &a)] {
            let [session] = &node.sessions().await[..] else { panic!("not one session") };
            let [known] = &node.link.peers()[..] else { panic!("not one peer") };
            assert_eq!((known.node_id, &known.name), (session.node_id, &peer.name));
        }
    }
}

/// Where `ractor_cluster` believes that a node can be reached: its own listener.
async fn hidden_listener(of: &Node, as_seen_by: &Node) -> SocketAddr {
    let sessions = as_seen_by.sessions().await;
    let peer = sessions[0].peer_name.as_ref().unwrap();
    let (host, port) = peer.connection_string.split_once(':').unwrap();
    assert_eq!(host, of.name.boot.to_string());
    SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
}

#[tokio::test]
async fn nothing_comes_in_through_the_node_servers_own_listener() {
    let authority = Authority::new();
    let mut a = Node::start(options("a", Some(authority.issue()))).await;
    let mut b = Node::start(options("b", Some(authority.issue()))).await;
    join(&mut a, &mut b).await;
    let hidden = hidden_listener(&a, &b).await;

    let mut c = Node::start(options("c", Some(authority.issue()))).await;
    let error = c.link.connect(hidden).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    let mut plain = Node::plain("plain").await;
    plain.link.connect(hidden).await.unwrap();
    plain.empty().await;
    plain.heard_nothing();

    // It wants TLS, and answers anything else with an alert (RFC 8446 §6).
    let mut stream = TcpStream::connect(hidden).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    const ALERT: u8 = 21;
    assert_eq!(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap(), ALERT);

    // One that says nothing there keeps nobody out.
    let _silent = TcpStream::connect(hidden).await.unwrap();
    join(&mut c, &mut a).await;
}

#[tokio::test]
async fn without_tls_only_loopback_is_used() {
    for exposed in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7946"] {
        let listen = Some(exposed.parse().unwrap());
        let error = Link::start(Options { listen, ..options("a", None) }).await.unwrap_err();
        assert!(matches!(error, LinkError::Exposed(_)), "{error}");
        assert!(error.to_string().contains("scripts/cluster-certs"), "{error}");
    }
    for fine in ["127.0.0.1:0", "127.1.2.3:0"] {
        let listen = Some(fine.parse().unwrap());
        Link::start(Options { listen, ..options("a", None) }).await.unwrap();
    }
    let node = Node::plain("a").await;
    let error = node.link.connect("192.0.2.1:7946".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Exposed(_)), "{error}");

    let listen = Some("0.0.0.0:0".parse().unwrap());
    let tls = Some(Authority::new().issue());
    Link::start(Options { listen, ..options("a", tls) }).await.unwrap();
}

#[tokio::test]
async fn a_bad_name_or_a_taken_address_is_refused() {
    let error = Link::start(Options { name: name("a b"), ..options("a", None) }).await.unwrap_err();
    assert!(matches!(error, LinkError::Name(_)), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = Some(taken.local_addr().unwrap());
    let error = Link::start(Options { listen, ..options("a", None) }).await.unwrap_err();
    assert!(matches!(error, LinkError::Listen { .. }), "{error}");
}

#[tokio::test]
async fn a_refused_connection_is_told_from_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert!(!is_refused(address).await);
    let node = Node::start(options("a", Some(Authority::new().issue()))).await;

    // It takes the connection, and never says a word.
    let start = Instant::now();
    let error = node.link.connect(address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");
    assert!(start.elapsed() < Duration::from_secs(3) + SLACK);

    drop(listener);
    assert!(is_refused(address).await);
    let error = node.link.connect(address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused(_)), "{error}");
}

#[tokio::test]
async fn a_link_that_stops_lets_go_of_everything() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    let address = a.address();
    let clone = a.link.clone();
    timeout(PATIENCE, clone.stop()).await.unwrap();
    a.down(&b.name).await;
    assert!(b.down(&a.name).await < Duration::from_secs(1));
    assert_eq!((a.link.peers(), b.link.peers()), (vec![], vec![]));
    let error = a.link.connect(b.address()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Stopped), "{error}");
    eventually("nobody listens", || std::net::TcpStream::connect(address).is_err()).await;
    timeout(PATIENCE, a.link.stop()).await.unwrap();
    drop(clone);
}
