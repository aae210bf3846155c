//! The link: the sockets between nodes, under `ractor_cluster`.
//!
//! Who takes part: [`Link`] starts everything and dials; `accept` takes connections in;
//! `socket` tunes each, gives it its deadlines and hands it to `ractor_cluster`'s node server;
//! [`Tls`] and [`Cookie`] say who may talk; `table` knows every connection and what became of
//! it, tells of peers that come and go ([`Event`]), and ends whoever does not prove itself.
//!
//! The life of a connection: *arriving* (TLS, at most 3 s) → *asked* (the node server has it and
//! exchanges cookie and names, at most 5 s) → *ready* (a [`Peer`], announced by [`Event::Up`]).
//! A ready connection on which nothing is heard for 9 s ends (a peer says something every 1 to
//! 5 s), and so does one that takes nothing for 9 s. The kernel gives up earlier if it can tell.
//!
//! Why the sockets are ours: the node server's own listener makes TLS handshakes inside its
//! accept loop, so that one silent connection keeps everybody out, and it knows no deadline. It
//! cannot be left out, so it is tied to a free port of 127.0.0.1 with TLS that has no
//! certificate, where no handshake can succeed; nobody is told of that port.
//!
//! A session is a hint, never proof of who owns what: the store decides.

mod accept;
mod cookie;
mod peer;
mod socket;
mod table;
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

pub use cookie::{Cookie, CookieError, MIN_COOKIE};
pub use peer::{Event, ParsePeerNameError, Peer, PeerName};
pub use tls::{SERVER_NAME, Tls, TlsError};

use socket::{Hall, Stream};
use table::{Table, Watcher};

use crate::tasks::Tasks;

/// The largest frame that a peer may send: a message of 1 MiB and its envelope. Whoever sends
/// more is disconnected, so senders split what is larger.
pub const MAX_FRAME: u64 = (1 << 20) + (64 << 10);

/// How long the node server may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// What a link needs to know.
#[derive(Debug)]
pub struct Options {
    /// Who this node is.
    pub name: PeerName,
    /// Where others may connect; none for a client, which only dials.
    pub listen: Option<SocketAddr>,
    /// The secret that all peers share.
    pub cookie: Cookie,
    /// Certificates; without them only loopback addresses are listened on and dialled.
    pub tls: Option<Tls>,
    /// Those that the node cannot do without.
    pub tasks: Tasks,
}

/// The sockets between this node and its peers. Clones are cheap and share everything; when
/// the last is dropped, it is as if [`Link::stop`] had been called.
#[derive(Clone, Debug)]
pub struct Link {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    hall: Hall,
    local: Option<SocketAddr>,
    tls: Option<Tls>,
    closing: CancellationToken,
    ended: CancellationToken,
    _closes_when_dropped: DropGuard,
}

/// The link could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The name is none that a peer would accept.
    #[error("the node's name: {0}")]
    Name(#[from] ParsePeerNameError),
    /// Others could listen in.
    #[error(
        "refusing to listen for peers on {0} without TLS: other hosts can reach that address. Set \
         tls_ca, tls_cert and tls_key (scripts/cluster-certs makes them), or listen on 127.0.0.1"
    )]
    Exposed(SocketAddr),
    /// The address cannot be listened on.
    #[error("cannot listen for peers on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The node server did not start.
    #[error("cannot start the node server")]
    Start(#[from] SpawnErr),
}

/// A peer could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host answered that nobody listens there.
    #[error("nobody listens on {0}")]
    Refused(SocketAddr),
    /// Others could listen in.
    #[error("refusing to connect to {0} without TLS: it is on another host")]
    Exposed(SocketAddr),
    /// No connection came about.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The peer, or this node in the peer's eyes, is not who it should be, or is no peer at all.
    #[error("cannot agree on TLS with {address}")]
    Tls {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The link has been stopped.
    #[error("the link has been stopped")]
    Stopped,
}

impl Link {
    /// Starts the link: from then on peers may connect.
    ///
    /// # Errors
    /// If the options cannot be followed, see [`LinkError`].
    pub async fn start(options: Options) -> Result<Self, LinkError> {
        options.name.check()?;
        let listener = match options.listen {
            Some(address) => Some(listen(address, options.tls.is_some()).await?),
            None => None,
        };
        let local = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let (server, running) = node_server(&options).await?;
        let closing = CancellationToken::new();
        let ended = CancellationToken::new();
        let hall = Hall::new(Arc::new(Table::new()), server);
        hall.server
            .cast(NodeServerMessage::SubscribeToEvents {
                id: "postrider.link".to_owned(),
                subscription: Box::new(Watcher(hall.table.clone())),
            })
            .map_err(|error| SpawnErr::StartupFailed(error.into()))?;
        if let Some(listener) = listener {
            let accepting = accept::run(listener, hall.clone(), options.tls.clone());
            // It ends with the link, which then says so itself.
            let accepting = closing.clone().run_until_cancelled_owned(accepting);
            options.tasks.spawn("accepting links", accepting.map(drop));
        }
        let attending = attend(hall.clone(), running, closing.clone(), ended.clone());
        options.tasks.spawn("link", attending);
        let guard = closing.clone().drop_guard();
        let inner =
            Inner { hall, local, tls: options.tls, closing, ended, _closes_when_dropped: guard };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Where peers may connect, with the port that was chosen if it was 0; none for a client.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.local
    }

    /// Dials a peer, and hands the connection to the node server. That the peer is ready is told
    /// by [`Event::Up`], later, if the peer finds this node worthy: with TLS 1.3 a certificate
    /// that it refuses shows only then. Does nothing if this link has dialled the address before
    /// and that connection lives.
    ///
    /// Two peers end with one connection. Which, `ractor_cluster` elects; calls on the other fail.
    /// So do not dial a peer that is up.
    ///
    /// # Errors
    /// If no connection comes about within 3 s, or no TLS within 3 s more.
    pub async fn connect(&self, address: SocketAddr) -> Result<(), ConnectError> {
        let Inner { hall, tls, .. } = &*self.inner;
        if tls.is_none() && !is_loopback(address) {
            return Err(ConnectError::Exposed(address));
        }
        let Some(ticket) = hall.table.dial(address).map_err(|_| ConnectError::Stopped)? else {
            return Ok(());
        };
        let plain = socket::dial(address).await.map_err(|source| match source.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused(address),
            _ => ConnectError::Connect { address, source },
        })?;
        let stream = match tls {
            None => Stream::new(plain, ticket),
            Some(tls) => {
                let agreed = tls.dialled(plain).await;
                Stream::new(agreed.map_err(|source| ConnectError::Tls { address, source })?, ticket)
            }
        };
        hall.hand_over(stream).map_err(|_| ConnectError::Stopped)
    }

    /// The peers that are up.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        self.inner.hall.table.peers()
    }

    /// Tells of peers that come and go, from now on. Whoever falls behind by 1,024 events is told
    /// so (`Lagged`) and looks at [`Link::peers`].
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.hall.table.events()
    }

    /// Stops: nobody is let in any more, every connection ends, and so does the node server.
    pub async fn stop(&self) {
        self.inner.closing.cancel();
        self.inner.ended.cancelled().await;
    }
}

/// Whether the host at this address says itself that nobody listens there. Silence, or any
/// other failure, is no such answer.
pub async fn is_refused(address: SocketAddr) -> bool {
    let outcome = socket::dial(address).await;
    outcome.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether only this host can reach the address.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

async fn listen(address: SocketAddr, has_tls: bool) -> Result<TcpListener, LinkError> {
    if !has_tls && !is_loopback(address) {
        return Err(LinkError::Exposed(address));
    }
    TcpListener::bind(address).await.map_err(|source| LinkError::Listen { address, source })
}

type Running = (ActorRef<NodeServerMessage>, JoinHandle<()>);

/// Starts the node server. Its host name is the boot id: nodes take each other for themselves
/// if host name and port of their (here: useless) listeners agree, and on two hosts two ports
/// of 127.0.0.1 may.
async fn node_server(options: &Options) -> Result<Running, SpawnErr> {
    let server = NodeServer::new(
        0,
        options.cookie.reveal().to_owned(),
        options.name.to_string(),
        options.name.boot.to_string(),
        Some(IncomingEncryptionMode::Tls(tls::impossible())),
        Some(NodeConnectionMode::Isolated),
    )
    .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
    .with_max_inbound_frame_size(MAX_FRAME);
    Actor::spawn(None, server, ()).await
}

/// Stops the node server when the link closes, and cleans up after it, also if it ended by
/// itself.
async fn attend(
    hall: Hall,
    running: JoinHandle<()>,
    closing: CancellationToken,
    ended: CancellationToken,
) {
    tokio::select! {
        () = closing.cancelled() => {
            if hall.server.stop_and_wait(None, Some(STOP_TIMEOUT)).await.is_err() {
                hall.server.kill();
            }
        }
        _ = running => error!("the node server ended by itself: this node has no peers any more"),
    }
    closing.cancel();
    hall.table.close();
    ended.cancel();
}
