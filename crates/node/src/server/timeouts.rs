//! Keep-alive and header timeouts. The keep-alive timeout is long: load balancers keep connections
//! open for a minute or more, and must not send a request on a connection that is being closed. The
//! header timeout is short, and starts with the first byte of a request.
//!
//! [`ReadTimeout`] wraps the stream and sees the bytes; [`TrackedService`] wraps the service and
//! knows when a request header has been read and when its response has been sent. They share the
//! connection's [`Phase`]. When a timeout expires, the stream reports end of file, and the HTTP
//! server closes the connection. (Hyper's own header timeout also runs while a connection is idle,
//! so it cannot distinguish the two.)

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a connection may be idle before its first request and between requests.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take to send a request header, from its first byte.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

const _: () =
    assert!(KEEP_ALIVE_TIMEOUT.as_secs() > 60, "load balancers keep idle connections for a minute");

/// What a connection is doing.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Waiting for a request since this instant.
    Idle(Instant),
    /// Reading a request header since this instant.
    Header(Instant),
    /// Handling a request. Its handler enforces its own limits.
    Request,
}

impl Phase {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Idle(since) => Some(since + KEEP_ALIVE_TIMEOUT),
            Self::Header(since) => Some(since + HEADER_TIMEOUT),
            Self::Request => None,
        }
    }
}

/// The phase of a connection. Clones share it.
#[derive(Clone)]
pub(super) struct ConnectionState(Arc<Mutex<Phase>>);

impl ConnectionState {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Phase::Idle(Instant::now()))))
    }

    fn set(&self, phase: Phase) {
        *self.0.lock() = phase;
    }

    /// Bytes were received.
    fn on_read(&self) {
        let mut phase = self.0.lock();
        if let Phase::Idle(_) = *phase {
            *phase = Phase::Header(Instant::now());
        }
    }

    /// Bytes of a response were sent, possibly the last ones: the idle time restarts.
    fn on_write(&self) {
        let mut phase = self.0.lock();
        if let Phase::Idle(since) = &mut *phase {
            *since = Instant::now();
        }
    }
}

/// A stream that reports end of file when its client exceeds a timeout.
pub(super) struct ReadTimeout<S> {
    stream: S,
    state: ConnectionState,
    timer: Pin<Box<Sleep>>,
}

impl<S> ReadTimeout<S> {
    pub(super) fn new(stream: S, state: ConnectionState) -> Self {
        Self { stream, state, timer: Box::pin(tokio::time::sleep(KEEP_ALIVE_TIMEOUT)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadTimeout<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_ready() {
            if buf.filled().len() > before {
                this.state.on_read();
            }
            return read;
        }
        let Some(deadline) = this.state.0.lock().deadline() else { return Poll::Pending };
        if this.timer.deadline() != deadline {
            this.timer.as_mut().reset(deadline);
        }
        this.timer.as_mut().poll(cx).map(Ok)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadTimeout<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if written.is_ready() {
            this.state.on_write();
        }
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        if written.is_ready() {
            this.state.on_write();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A service that tracks when a request starts and when its response has been sent.
pub(super) struct TrackedService {
    app: TowerToHyperService<Router>,
    state: ConnectionState,
}

impl TrackedService {
    pub(super) fn new(app: Router, state: ConnectionState) -> Self {
        Self { app: TowerToHyperService::new(app), state }
    }
}

impl Service<Request<Incoming>> for TrackedService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.state.set(Phase::Request);
        let (answer, state) = (self.app.call(request), self.state.clone());
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(TrackedBody { body, state })))
        })
    }
}

/// A response body. Dropping it makes the connection idle.
struct TrackedBody {
    body: Body,
    state: ConnectionState,
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TrackedBody {
    fn drop(&mut self) {
        self.state.set(Phase::Idle(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{sleep, sleep_until, timeout};

    use super::super::{WRITE_TIMEOUT, connection};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

    /// The client side of a connection to a server.
    fn client() -> DuplexStream {
        let app = Router::new()
            .route("/", get(async || "here"))
            .route("/late", get(async || sleep(KEEP_ALIVE_TIMEOUT * 2).await))
            .route("/read", post(async |body: Bytes| body.len().to_string()));
        let (client, server) = duplex(64 * 1024);
        tokio::spawn(connection(server, app, WRITE_TIMEOUT));
        client
    }

    async fn send_request(client: &mut DuplexStream, request: &[u8]) {
        client.write_all(request).await.expect("it is open");
        let mut first = [0; 15];
        client.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        let mut rest = vec![0; 1024];
        let _ = client.read(&mut rest).await.expect("the rest of it");
    }

    /// Waits until the server closes the connection, and returns how long that took.
    async fn wait_for_close(client: &mut DuplexStream) -> Duration {
        let began = Instant::now();
        let mut rest = [0; 64];
        let end = timeout(KEEP_ALIVE_TIMEOUT * 4, client.read(&mut rest)).await.expect("an end");
        assert_eq!(end.expect("a clean one"), 0);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_after_the_keep_alive_timeout() {
        let mut client = client();
        sleep(KEEP_ALIVE_TIMEOUT - SECOND).await;
        for _ in 0..2 {
            send_request(&mut client, REQUEST).await;
            sleep(KEEP_ALIVE_TIMEOUT - SECOND).await;
        }
        send_request(&mut client, REQUEST).await;
        let rested = wait_for_close(&mut client).await;
        assert!(rested.abs_diff(KEEP_ALIVE_TIMEOUT) < SECOND, "{rested:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_header_is_cut_off_after_the_header_timeout() {
        let mut client = client();
        send_request(&mut client, REQUEST).await;
        // The header timeout starts with the first byte, however late that is.
        sleep(KEEP_ALIVE_TIMEOUT - SECOND).await;
        let began = Instant::now();
        for byte in &REQUEST[..9] {
            client.write_all(&[*byte]).await.expect("it is open");
            sleep(SECOND).await;
        }
        wait_for_close(&mut client).await;
        assert!(began.elapsed().abs_diff(HEADER_TIMEOUT) < SECOND, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_starts_late_gets_the_full_header_timeout() {
        let mut client = client();
        let keep_alive_deadline = Instant::now() + KEEP_ALIVE_TIMEOUT;
        sleep(KEEP_ALIVE_TIMEOUT - SECOND).await;
        let (first, rest) = REQUEST.split_at(5);
        client.write_all(first).await.expect("it is open");
        sleep_until(keep_alive_deadline + HEADER_TIMEOUT / 2).await;
        send_request(&mut client, rest).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_progress_is_not_cut_off() {
        let mut client = client();
        send_request(&mut client, b"GET /late HTTP/1.1\r\nhost: here\r\n\r\n").await;
        client
            .write_all(b"POST /read HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\na")
            .await
            .expect("it is open");
        // Handlers enforce their own timeouts for bodies.
        sleep(KEEP_ALIVE_TIMEOUT * 2).await;
        send_request(&mut client, b"b").await;
    }
}
