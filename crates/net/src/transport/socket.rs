//! A single connection: its socket options, its timeouts, and how it is passed to the node server.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ractor::ActorRef;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream, NodeServerMessage};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;

use super::connections::{ConnectionSlot, Connections, Direction};

/// The timeout for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that is not ready after this time is closed.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection without received data for this time is closed. Peers send a ping every 1 to 5 s.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(9);
/// A connection on which nothing can be written for this time is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(9);
/// How long the kernel waits for a peer's host to acknowledge data (`TCP_USER_TIMEOUT`).
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(10);
/// The idle time before the kernel sends keepalive probes, and the interval between them.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// The maximum number of bytes read from a peer before it has proved that it knows the cookie.
pub(super) const MAX_UNAUTHENTICATED_BYTES: usize = 64 << 10;

/// Passes connections to the node server. Clones are cheap and share everything.
#[derive(Clone, Debug)]
pub(super) struct Acceptor {
    pub(super) connections: Arc<Connections>,
    pub(super) server: ActorRef<NodeServerMessage>,
}

/// The node server has stopped.
#[derive(Debug)]
pub(super) struct NodeServerStopped;

impl Acceptor {
    pub(super) fn new(connections: Arc<Connections>, server: ActorRef<NodeServerMessage>) -> Self {
        Self { connections, server }
    }

    /// Passes a connection to the node server, and closes it if it is not ready in time.
    pub(super) fn hand_over(&self, stream: Stream) -> Result<(), NodeServerStopped> {
        let connection_id = stream.slot.connection_id;
        let is_server = stream.slot.direction == Direction::Inbound;
        let opened =
            NodeServerMessage::ConnectionOpenedExternal { stream: Box::new(stream), is_server };
        self.server.cast(opened).map_err(|_| NodeServerStopped)?;
        let connections = self.connections.clone();
        tokio::spawn(async move {
            sleep(READY_TIMEOUT).await;
            connections.expire(connection_id);
        });
        Ok(())
    }
}

/// Opens a connection and sets its socket options.
pub(super) async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    if stream.local_addr()? == stream.peer_addr()? {
        // A TCP self-connect: the kernel assigned the dialled port as the local one, which is only
        // possible if no process listens on it.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    tune(&stream)?;
    Ok(stream)
}

/// Sets the socket options of a connection.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(2),
    )
}

/// A connection that can be passed to the node server.
pub(super) struct Stream {
    bytes: Pin<Box<TimeoutStream<Box<dyn Bytes>>>>,
    slot: ConnectionSlot,
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

impl Stream {
    pub(super) fn new(
        bytes: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        slot: ConnectionSlot,
    ) -> Self {
        let mut bytes = TimeoutStream::new(Box::new(bytes) as Box<dyn Bytes>);
        bytes.set_read_timeout(Some(IDLE_TIMEOUT));
        bytes.set_write_timeout(Some(WRITE_TIMEOUT));
        Self { bytes: Box::pin(bytes), slot }
    }
}

impl ClusterBidiStream for Stream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (reader, writer) = tokio::io::split(self.bytes);
        (
            Box::new(PreAuthLimit {
                reader,
                slot: self.slot,
                remaining: MAX_UNAUTHENTICATED_BYTES,
            }),
            Box::new(writer),
        )
    }

    /// The label by which [`Connections`] recognizes the session.
    fn peer_label(&self) -> Option<String> {
        Some(self.slot.connection_id.to_string())
    }
}

/// Limits the bytes read from a peer until it is authenticated: the node server puts everything
/// that it reads into unbounded mailboxes. Also keeps the slot for as long as the connection is
/// read.
struct PreAuthLimit<R> {
    reader: R,
    slot: ConnectionSlot,
    remaining: usize,
}

impl<R: AsyncRead + Unpin> AsyncRead for PreAuthLimit<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.reader).poll_read(cx, buf);
        if outcome.is_pending() || self.slot.is_authenticated() {
            return outcome;
        }
        let read = buf.filled().len() - before;
        match self.remaining.checked_sub(read) {
            Some(remaining) => {
                self.remaining = remaining;
                outcome
            }
            None => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the peer sent too much data before it was authenticated",
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn socket_options_are_set() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = dial(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_TIMEOUT));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
    }

    /// Both halves of a connection, as the node server gets them, and the peer's end.
    fn halves() -> (BoxRead, BoxWrite, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(1_024);
        let connections = Arc::new(Connections::new());
        let slot = connections.admit(SocketAddr::from(([127, 0, 0, 1], 1))).unwrap();
        let (reader, writer) = Box::new(Stream::new(near, slot)).split();
        (reader, writer, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_received_data_times_out() {
        let (mut reader, _writer, mut far) = halves();
        far.write_all(&[1]).await.unwrap();
        reader.read_u8().await.unwrap();
        let start = Instant::now();
        let error = reader.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_accepts_no_data_times_out() {
        let (_reader, mut writer, _far) = halves();
        let start = Instant::now();
        let error = writer.write_all(&[0; 2_048]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
    }
}
