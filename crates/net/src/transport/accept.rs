//! Accepts connections. Each is set up in a separate task, so that none waits for another.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::Tls;
use super::connections::{ConnectionSlot, Direction};
use super::socket::{Acceptor, Stream, tune};

/// The delay after a failed accept. If the process is out of file descriptors, the next accept
/// would fail immediately.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// A source of inbound connections.
pub(super) trait Incoming: Send + 'static {
    /// The next connection.
    fn next(&mut self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send;
}

impl Incoming for TcpListener {
    async fn next(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept().await
    }
}

/// Accepts connections until it is dropped.
pub(super) async fn run(mut incoming: impl Incoming, acceptor: Acceptor, tls: Option<Tls>) {
    loop {
        let (stream, address) = match incoming.next().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "accepting a connection failed; retrying");
                sleep(ACCEPT_RETRY_INTERVAL).await;
                continue;
            }
        };
        if let Some(slot) = acceptor.connections.admit(address) {
            tokio::spawn(set_up(stream, address, slot, acceptor.clone(), tls.clone()));
        }
    }
}

/// Sets up a connection and passes it to the node server, unless its slot is evicted first.
async fn set_up(
    stream: TcpStream,
    address: SocketAddr,
    slot: ConnectionSlot,
    acceptor: Acceptor,
    tls: Option<Tls>,
) {
    let evicted = slot.evicted.clone();
    let handshake = async move {
        tune(&stream)?;
        Ok(match tls {
            None => Stream::new(stream, slot),
            Some(tls) => Stream::new(tls.accept(stream).await?, slot),
        })
    };
    match evicted.run_until_cancelled(handshake).await {
        None => debug!(%address, "evicted an incoming connection before its handshake finished"),
        Some(Err::<_, io::Error>(error)) => {
            debug!(%address, %error, "rejected an incoming connection");
            acceptor.connections.note_unauthenticated(Direction::Inbound, address);
        }
        // The node server stops only together with the transport.
        Some(Ok(stream)) => _ = acceptor.hand_over(stream),
    }
}
