//! Peers and networks that fail.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::relay::Relay;
use super::world::{Authority, Node, SLACK, eventually, join, options};
use crate::transport::Tls;
use crate::transport::socket::IDLE_TIMEOUT;
use crate::transport::table::GRACE;

/// Two nodes with a relay between them.
async fn relayed(tls: impl Fn() -> Option<Tls>) -> (Node, Relay, Node) {
    let mut a = Node::start(options("a", tls())).await;
    let mut b = Node::start(options("b", tls())).await;
    let relay = Relay::to(b.address()).await;
    a.link.connect(relay.address).await.unwrap();
    a.up(&b.name).await;
    b.up(&a.name).await;
    (a, relay, b)
}

/// Cuts the cable, and checks that both ends notice within the idle limit.
async fn partition(tls: impl Fn() -> Option<Tls>) {
    let (mut a, relay, mut b) = relayed(tls).await;
    relay.freeze();
    let start = Instant::now();
    let (names_a, names_b) = (a.name.clone(), b.name.clone());
    tokio::join!(a.down(&names_b), b.down(&names_a));
    assert!(start.elapsed() < IDLE_TIMEOUT + SLACK, "{:?}", start.elapsed());
    // They find each other again by another way.
    join(&mut a, &mut b).await;
}

#[tokio::test]
async fn a_silent_partition_is_noticed() {
    partition(|| None).await;
}

#[tokio::test]
async fn a_silent_partition_is_noticed_with_tls() {
    let authority = Authority::new();
    partition(|| Some(authority.issue())).await;
}

#[tokio::test]
async fn an_idle_connection_stays() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    tokio::time::sleep(2 * IDLE_TIMEOUT).await;
    a.heard_nothing();
    b.heard_nothing();
}

/// What a peer gone mad says, after all went well.
fn madness() -> [Vec<u8>; 3] {
    let announced: u64 = 1 << 60;
    [b"GET / HTTP/1.1\r\n\r\n".to_vec(), announced.to_be_bytes().to_vec(), vec![0xff; 100_000]]
}

async fn goes_mad(tls: impl Fn() -> Option<Tls>) {
    for bytes in madness() {
        let (mut a, relay, mut b) = relayed(&tls).await;
        relay.inject(&bytes).await;
        assert!(b.down(&a.name).await < Duration::from_secs(1));
        assert!(a.down(&b.name).await < Duration::from_secs(1));
        join(&mut b, &mut a).await;
    }
}

#[tokio::test]
async fn a_peer_that_goes_mad_is_gone_at_once() {
    goes_mad(|| None).await;
}

#[tokio::test]
async fn a_peer_that_goes_mad_is_gone_at_once_with_tls() {
    let authority = Authority::new();
    goes_mad(|| Some(authority.issue())).await;
}

#[tokio::test]
async fn a_peer_that_dies_is_gone_at_once() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    let name = a.name.clone();
    drop(a);
    assert!(b.down(&name).await < Duration::from_millis(200));
    assert_eq!(b.link.peers(), []);
}

#[tokio::test]
async fn a_stranger_at_the_door_delays_the_news_but_little() {
    let (mut a, mut b) = (Node::plain("a").await, Node::plain("b").await);
    join(&mut a, &mut b).await;
    let _silent = TcpStream::connect(b.address()).await.unwrap();
    eventually("the stranger came", || b.link.inner.hall.table.count() == 2).await;
    let name = a.name.clone();
    drop(a);
    let took = b.down(&name).await;
    assert!((GRACE / 2..GRACE + SLACK).contains(&took), "{took:?}");
}
