//! Failures of peers and networks.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::fixture::{Authority, Node, SLACK, eventually, join, options};
use super::relay::Relay;
use crate::transport::Tls;
use crate::transport::connections::DOWN_GRACE;
use crate::transport::socket::IDLE_TIMEOUT;

/// Two nodes with a relay between them.
async fn relayed(tls: impl Fn() -> Option<Tls>) -> (Node, Relay, Node) {
    let mut a = Node::start(options("a", tls())).await;
    let mut b = Node::start(options("b", tls())).await;
    let relay = Relay::to(b.address()).await;
    a.transport.connect(relay.address).await.unwrap();
    a.up(&b.name).await;
    b.up(&a.name).await;
    (a, relay, b)
}

/// Cuts the network, and checks that both ends notice within the idle timeout.
async fn partition(tls: impl Fn() -> Option<Tls>) {
    let (mut a, relay, mut b) = relayed(tls).await;
    relay.freeze();
    let start = Instant::now();
    let (names_a, names_b) = (a.name.clone(), b.name.clone());
    tokio::join!(a.down(&names_b), b.down(&names_a));
    assert!(start.elapsed() < IDLE_TIMEOUT + SLACK, "{:?}", start.elapsed());
    // The nodes can connect again over another path.
    join(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_silent_partition_is_detected() {
    partition(|| None).await;
}

#[tokio::test]
async fn a_silent_partition_is_detected_with_tls() {
    let authority = Authority::new();
    partition(|| Some(authority.issue())).await;
}

#[tokio::test]
async fn an_idle_connection_stays_open() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    tokio::time::sleep(2 * IDLE_TIMEOUT).await;
    a.no_event();
    b.no_event();
}

/// Invalid data from a peer that was authenticated before.
fn invalid_frames() -> [Vec<u8>; 3] {
    let announced: u64 = 1 << 60;
    [b"GET / HTTP/1.1\r\n\r\n".to_vec(), announced.to_be_bytes().to_vec(), vec![0xff; 100_000]]
}

async fn sends_invalid_frames(tls: impl Fn() -> Option<Tls>) {
    for bytes in invalid_frames() {
        let (mut a, relay, mut b) = relayed(&tls).await;
        relay.inject(&bytes).await;
        assert!(b.down(&a.name).await < Duration::from_secs(1));
        assert!(a.down(&b.name).await < Duration::from_secs(1));
        join(&mut b, &mut a).await;
    }
}

#[tokio::test]
async fn a_peer_that_sends_invalid_frames_is_disconnected_at_once() {
    sends_invalid_frames(|| None).await;
}

#[tokio::test]
async fn a_peer_that_sends_invalid_frames_is_disconnected_at_once_with_tls() {
    let authority = Authority::new();
    sends_invalid_frames(|| Some(authority.issue())).await;
}

#[tokio::test]
async fn the_exit_of_a_peer_is_noticed_at_once() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    let name = a.name.clone();
    drop(a);
    assert!(b.down(&name).await < Duration::from_millis(200));
    assert_eq!(b.transport.peers(), []);
}

#[tokio::test]
async fn an_unauthenticated_connection_delays_the_down_event_only_briefly() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    let _silent = TcpStream::connect(b.address()).await.unwrap();
    eventually("the silent connection is accepted", || {
        b.transport.inner.acceptor.connections.count() == 2
    })
    .await;
    let name = a.name.clone();
    drop(a);
    let took = b.down(&name).await;
    assert!((DOWN_GRACE / 2..DOWN_GRACE + SLACK).contains(&took), "{took:?}");
}
