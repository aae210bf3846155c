//! Chooses among several addresses of a host (Happy Eyeballs, RFC 8305 §5). The client library
//! races IPv6 against IPv4, but tries the addresses of one family one after the other, each until
//! its connection times out: a dead first address would fail every attempt. So if a family has
//! several addresses, a connection to each is tried, and the first that succeeds is used.

use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::sleep;

/// How long one address is tried before the next one is tried, too (RFC 8305 §8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The maximum number of addresses that are tried.
const MAX_ADDRESSES: usize = 8;

/// Puts the address that accepts a connection first. If there is none, the order stays, and the
/// client finds out why.
pub(crate) async fn fastest_first(mut addresses: Vec<SocketAddr>, port: u16) -> Vec<SocketAddr> {
    let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    if v4 <= 1 && addresses.len() - v4 <= 1 {
        return addresses;
    }
    if let Some(fastest) = race(&addresses, port).await {
        addresses.swap(0, fastest);
    }
    addresses
}

/// The index of the first address that accepts a connection.
async fn race(addresses: &[SocketAddr], port: u16) -> Option<usize> {
    let connect = async |index: usize| {
        let address = SocketAddr::new(addresses[index].ip(), port);
        TcpStream::connect(address).await.ok().map(|_| index)
    };
    let mut attempts = FuturesUnordered::new();
    for index in 0..addresses.len().min(MAX_ADDRESSES) {
        attempts.push(connect(index));
        let next = sleep(ATTEMPT_DELAY);
        tokio::pin!(next);
        // A failed attempt starts the next one at once.
        tokio::select! {
            Some(connected) = attempts.next() => if connected.is_some() { return connected },
            () = &mut next => {}
        }
    }
    while let Some(connected) = attempts.next().await {
        if connected.is_some() {
            return connected;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        SocketAddr::new(text.parse().unwrap(), 0)
    }

    #[tokio::test]
    async fn an_address_that_accepts_connections_comes_first() {
        let listener = TcpListener::bind("127.0.0.3:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let all = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"].map(address);
        let sorted = fastest_first(all.to_vec(), port).await;
        assert_eq!(sorted, ["127.0.0.3", "127.0.0.2", "127.0.0.1", "127.0.0.4"].map(address));
    }

    #[tokio::test]
    async fn the_order_stays_if_no_address_accepts_connections() {
        let all = ["127.0.0.1", "127.0.0.2"].map(address).to_vec();
        assert_eq!(fastest_first(all.clone(), 1).await, all);
    }

    #[tokio::test]
    async fn one_address_in_each_family_is_left_to_the_client() {
        let all = ["::1", "127.0.0.1"].map(address).to_vec();
        assert_eq!(fastest_first(all.clone(), 1).await, all);
    }
}
