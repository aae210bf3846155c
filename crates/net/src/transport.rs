//! The transport: connections between nodes, below `ractor_cluster`.
//!
//! - [`Transport`] starts and stops everything, and dials peers.
//! - `accept` accepts connections.
//! - `socket` sets socket options and timeouts, and passes each connection to `ractor_cluster`'s
//!   node server.
//! - [`Tls`] and [`Cookie`] authenticate peers.
//! - `connections` tracks every connection, publishes [`PeerEvent`]s, and closes connections that do
//!   not authenticate in time.
//!
//! # Connections
//!
//! | State | Meaning | Limit |
//! |---|---|---|
//! | handshaking | the TLS handshake is in progress | 3 s |
//! | authenticating | the node server exchanges cookie and names | 5 s |
//! | ready | a [`Peer`], announced by [`PeerEvent::Up`] | closed after 9 s without data |
//!
//! A peer sends a ping every 1 to 5 s, so a connection without data for 9 s is dead. A connection
//! on which nothing can be written for 9 s is closed as well. TCP keepalive detects some failures
//! earlier.
//!
//! # Limits
//!
//! | Limit | Value | Reason |
//! |---|---|---|
//! | [`MAX_FRAME_BYTES`] | 1 MiB + 64 KiB | a message of 1 MiB and its envelope |
//! | inbound connections | 256 | bounds memory and file descriptors |
//! | of these, not yet authenticated | 64 | the oldest one is evicted for a new one |
//! | bytes read before authentication | 64 KiB | the node server's mailboxes are unbounded |
//!
//! # Rejected: the node server's own listener
//!
//! The listener of `ractor_cluster`'s node server performs TLS handshakes inside its accept loop,
//! so that a single silent connection blocks all others, and it has no timeouts. It cannot be
//! disabled. It is therefore bound to a free port of 127.0.0.1 that is not announced, with a TLS
//! configuration without a certificate, so that every handshake on it fails.
//!
//! A session is only a hint, never proof of ownership: the store decides which node owns a shard.

mod accept;
mod connections;
mod cookie;
mod peer;
mod socket;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ractor::{Actor, ActorRef, SpawnErr};
use ractor_cluster::node::NodeConnectionMode;
use ractor_cluster::{IncomingEncryptionMode, NodeServer, NodeServerMessage};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::error;

pub use cookie::{Cookie, CookieError, MIN_COOKIE_CHARS};
pub use peer::{ParsePeerNameError, Peer, PeerEvent, PeerName};
pub use tls::{SERVER_NAME, Tls, TlsError};

use connections::{Connections, SessionWatcher};
use socket::{Acceptor, Stream};

use crate::tasks::Tasks;

/// The maximum size of a frame: a message of 1 MiB and its envelope. A peer that sends a larger one
/// is disconnected, so senders split larger messages.
pub const MAX_FRAME_BYTES: u64 = (1 << 20) + (64 << 10);

/// How long the node server may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Options for [`Transport::start`].
#[derive(Debug)]
pub struct Options {
    /// The name of this node.
    pub name: PeerName,
    /// The address to listen on; `None` for a client, which only dials.
    pub listen: Option<SocketAddr>,
    /// The secret that all peers share.
    pub cookie: Cookie,
    /// The certificates. Without them, only loopback addresses can be listened on and dialled.
    pub tls: Option<Tls>,
    /// Reports tasks of the transport that end unexpectedly.
    pub tasks: Tasks,
}

/// The connections between this node and its peers. Clones are cheap and share everything. Dropping
/// the last clone stops the transport, like [`Transport::stop`].
#[derive(Clone, Debug)]
pub struct Transport {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    acceptor: Acceptor,
    local: Option<SocketAddr>,
    tls: Option<Tls>,
    closing: CancellationToken,
    ended: CancellationToken,
    _closes_when_dropped: DropGuard,
}

/// The transport could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Peers would reject the name.
    #[error("invalid node name: {0}")]
    Name(#[from] ParsePeerNameError),
    /// The traffic would not be encrypted, and the address is not on this host.
    #[error(
        "refusing to listen for peers on {0} without TLS: other hosts can reach that address. Set \
         tls_ca, tls_cert and tls_key (scripts/cluster-certs creates them), or listen on 127.0.0.1"
    )]
    Exposed(SocketAddr),
    /// The address cannot be bound.
    #[error("cannot listen for peers on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The node server did not start.
    #[error("cannot start the node server")]
    Start(#[from] SpawnErr),
}

/// Connecting to a peer failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host refused the connection: no process listens on the port.
    #[error("connection refused by {0}: no process listens on this port")]
    Refused(SocketAddr),
    /// The traffic would not be encrypted, and the address is not on this host.
    #[error("refusing to connect to {0} without TLS: the address is on another host")]
    Exposed(SocketAddr),
    /// The connection could not be opened.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The TLS handshake failed: one side rejected the other's certificate, or the other side is
    /// not a peer.
    #[error("the TLS handshake with {address} failed")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: io::Error,
    },
    /// The transport has been stopped.
    #[error("the transport has been stopped")]
    Stopped,
}

impl Transport {
    /// Starts the transport. Peers may connect from then on.
    ///
    /// # Errors
    /// See [`TransportError`].
    pub async fn start(options: Options) -> Result<Self, TransportError> {
        options.name.validate()?;
        let listener = match options.listen {
            Some(address) => Some(listen(address, options.tls.is_some()).await?),
            None => None,
        };
        let local = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let (server, running) = node_server(&options).await?;
        let closing = CancellationToken::new();
        let ended = CancellationToken::new();
        let acceptor = Acceptor::new(Arc::new(Connections::new()), server);
        acceptor
            .server
            .cast(NodeServerMessage::SubscribeToEvents {
                id: "postrider.transport".to_owned(),
                subscription: Box::new(SessionWatcher(acceptor.connections.clone())),
            })
            .map_err(|error| SpawnErr::StartupFailed(error.into()))?;
        if let Some(listener) = listener {
            let accepting = accept::run(listener, acceptor.clone(), options.tls.clone());
            // Stops together with the transport, whose own task reports an unexpected end.
            let accepting = closing.clone().run_until_cancelled_owned(accepting);
            options.tasks.spawn("peer listener", accepting.map(drop));
        }
        let supervising = supervise(acceptor.clone(), running, closing.clone(), ended.clone());
        options.tasks.spawn("transport", supervising);
        let guard = closing.clone().drop_guard();
        let inner = Inner {
            acceptor,
            local,
            tls: options.tls,
            closing,
            ended,
            _closes_when_dropped: guard,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The address that the transport listens on, with the actual port; `None` for a client.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local
    }

    /// Dials a peer, and passes the connection to the node server. Returns before the peer is
    /// ready, which [`PeerEvent::Up`] announces later. The event does not follow if the peer rejects
    /// this node; with TLS 1.3 even the rejection of a certificate shows only after this method has
    /// returned. Does nothing if the transport has already dialled the address and the connection
    /// is open.
    ///
    /// If two peers have two connections, `ractor_cluster` closes one of them, and calls on it
    /// fail. Do not dial a peer that is up.
    ///
    /// # Errors
    /// If no connection is opened within 3 s, or the TLS handshake takes longer than another 3 s.
    pub async fn connect(&self, address: SocketAddr) -> Result<(), ConnectError> {
        let Inner { acceptor, tls, .. } = &*self.inner;
        if tls.is_none() && !is_loopback(address) {
            return Err(ConnectError::Exposed(address));
        }
        let Some(slot) = acceptor.connections.dial(address).map_err(|_| ConnectError::Stopped)?
        else {
            return Ok(());
        };
        let plain = socket::dial(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused(address),
            _ => ConnectError::Connect { address, source },
        })?;
        let stream = match tls {
            None => Stream::new(plain, slot),
            Some(tls) => {
                let connected = tls.connect(plain).await;
                Stream::new(
                    connected.map_err(|source| ConnectError::Tls { address, source })?,
                    slot,
                )
            }
        };
        acceptor.hand_over(stream).map_err(|_| ConnectError::Stopped)
    }

    /// The peers that are up.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.inner.acceptor.connections.peers()
    }

    /// Subscribes to events. A receiver that falls behind by 1,024 events gets `Lagged` and should
    /// read [`Transport::peers`].
    #[must_use]
    pub fn peer_events(&self) -> broadcast::Receiver<PeerEvent> {
        self.inner.acceptor.connections.peer_events()
    }

    /// Stops accepting connections, closes all of them, and stops the node server.
    pub async fn stop(&self) {
        self.inner.closing.cancel();
        self.inner.ended.cancelled().await;
    }
}

/// Whether the host at this address refuses a connection, which proves that no process listens on
/// the port. Silence and other failures prove nothing.
pub async fn is_refused(address: SocketAddr) -> bool {
    let outcome = socket::dial(address).await;
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether only this host can reach the address.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

async fn listen(address: SocketAddr, has_tls: bool) -> Result<TcpListener, TransportError> {
    if !has_tls && !is_loopback(address) {
        return Err(TransportError::Exposed(address));
    }
    TcpListener::bind(address).await.map_err(|source| TransportError::Listen { address, source })
}

type Running = (ActorRef<NodeServerMessage>, JoinHandle<()>);

/// Starts the node server. Its host name is the boot id: a node mistakes a peer for itself if the
/// host name and port of their (here unused) listeners match, and two hosts may choose the same
/// port of 127.0.0.1.
async fn node_server(options: &Options) -> Result<Running, SpawnErr> {
    let server = NodeServer::new(
        0,
        options.cookie.reveal().to_owned(),
        options.name.to_string(),
        options.name.boot.to_string(),
        Some(IncomingEncryptionMode::Tls(tls::reject_all())),
        Some(NodeConnectionMode::Isolated),
    )
    .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
    .with_max_inbound_frame_size(MAX_FRAME_BYTES);
    Actor::spawn(None, server, ()).await
}

/// Stops the node server when the transport closes, and cleans up after it, even if the node server
/// ended unexpectedly.
async fn supervise(
    acceptor: Acceptor,
    running: JoinHandle<()>,
    closing: CancellationToken,
    ended: CancellationToken,
) {
    tokio::select! {
        () = closing.cancelled() => {
            if acceptor.server.stop_and_wait(None, Some(STOP_TIMEOUT)).await.is_err() {
                acceptor.server.kill();
            }
        }
        _ = running => error!("the node server ended unexpectedly; this node has lost all peers"),
    }
    closing.cancel();
    acceptor.connections.close();
    ended.cancel();
}
