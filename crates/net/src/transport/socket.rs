//! One connection: how it is tuned, what ends it, and how the node server gets it.

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

use super::table::{Table, Ticket, Way};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection lives that does not become ready.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection lives on which nothing is heard. Peers send a ping every 1 to 5 s.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(9);
/// How long a peer may take nothing of what there is for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(9);
/// How long the kernel waits for a peer's host to acknowledge.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(10);
/// When, and how often, the kernel asks whether a silent peer's host still knows the connection.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// The most that is read from a peer that has not proved yet that it knows the cookie.
pub(super) const MAX_UNPROVED: usize = 64 << 10;

/// Where connections are handed over. Clones are cheap and share everything.
#[derive(Clone, Debug)]
pub(super) struct Hall {
    pub(super) table: Arc<Table>,
    pub(super) server: ActorRef<NodeServerMessage>,
}

/// The node server is gone.
#[derive(Debug)]
pub(super) struct Gone;

impl Hall {
    pub(super) fn new(table: Arc<Table>, server: ActorRef<NodeServerMessage>) -> Self {
        Self { table, server }
    }

    /// Hands a connection to the node server, and ends it if it is not ready in time.
    pub(super) fn hand_over(&self, stream: Stream) -> Result<(), Gone> {
        let serial = stream.ticket.serial;
        let is_server = stream.ticket.way == Way::In;
        let opened =
            NodeServerMessage::ConnectionOpenedExternal { stream: Box::new(stream), is_server };
        self.server.cast(opened).map_err(|_| Gone)?;
        let table = self.table.clone();
        tokio::spawn(async move {
            sleep(READY_TIMEOUT).await;
            table.expire(serial);
        });
        Ok(())
    }
}

/// Connects, and tunes the socket.
pub(super) async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await??;
    if stream.local_addr()? == stream.peer_addr()? {
        // Two ends of one socket: by chance it got the very port that it dialled, which can
        // only be if nobody listens there.
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    tune(&stream)?;
    Ok(stream)
}

/// Sets what the kernel does for a connection.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(2),
    )
}

/// A connection that the node server can take.
pub(super) struct Stream {
    bytes: Pin<Box<TimeoutStream<Box<dyn Bytes>>>>,
    ticket: Ticket,
}

trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

impl Stream {
    pub(super) fn new(
        bytes: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        ticket: Ticket,
    ) -> Self {
        let mut bytes = TimeoutStream::new(Box::new(bytes) as Box<dyn Bytes>);
        bytes.set_read_timeout(Some(IDLE_TIMEOUT));
        bytes.set_write_timeout(Some(WRITE_TIMEOUT));
        Self { bytes: Box::pin(bytes), ticket }
    }
}

impl ClusterBidiStream for Stream {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (reader, writer) = tokio::io::split(self.bytes);
        (Box::new(Wary { reader, ticket: self.ticket, left: MAX_UNPROVED }), Box::new(writer))
    }

    /// By this the table recognizes the session.
    fn peer_label(&self) -> Option<String> {
        Some(self.ticket.serial.to_string())
    }
}

/// Reads little from a peer until it has proved itself: the node server puts whatever it reads
/// into mailboxes without bounds. It also keeps the ticket for as long as the connection is read.
struct Wary<R> {
    reader: R,
    ticket: Ticket,
    left: usize,
}

impl<R: AsyncRead + Unpin> AsyncRead for Wary<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.reader).poll_read(cx, buf);
        if outcome.is_pending() || self.ticket.is_proved() {
            return outcome;
        }
        let read = buf.filled().len() - before;
        match self.left.checked_sub(read) {
            Some(left) => {
                self.left = left;
                outcome
            }
            None => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the peer says too much before it has proved that it knows the cookie",
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
    async fn the_kernel_watches_over_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = dial(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_TIMEOUT));
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE);
    }

    /// Both halves of a connection, as the node server gets them, and its other end.
    fn halves() -> (BoxRead, BoxWrite, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(1_024);
        let table = Arc::new(Table::new());
        let ticket = table.admit(SocketAddr::from(([127, 0, 0, 1], 1))).unwrap();
        let (reader, writer) = Box::new(Stream::new(near, ticket)).split();
        (reader, writer, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_given_up() {
        let (mut reader, _writer, mut far) = halves();
        far.write_all(&[1]).await.unwrap();
        reader.read_u8().await.unwrap();
        let start = Instant::now();
        let error = reader.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (_reader, mut writer, _far) = halves();
        let start = Instant::now();
        let error = writer.write_all(&[0; 2_048]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), WRITE_TIMEOUT.as_secs());
    }
}
