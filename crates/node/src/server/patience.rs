//! How long a connection may wait for its client: long for the next request, as balancers keep
//! connections for a minute and more and must not meet one that is being closed; and not long for the
//! rest of a request's head once it has begun.
//!
//! Who takes part: [`Patient`] is the stream, and sees bytes come and go; [`Watched`] is the service,
//! and knows when a request has been read and when its answer has gone. Between the two stands the
//! connection's [`Phase`]. When the time is over the stream is at its end, which the HTTP server
//! takes as the client's leave. (The HTTP server's own timer for heads runs while a connection rests,
//! too, and cannot tell the two apart.)

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a connection may rest between two requests, and before the first one.
const REST: Duration = Duration::from_secs(75);
/// How long a request's head may take, from its first byte.
const HEAD: Duration = Duration::from_secs(10);

const _: () = assert!(REST.as_secs() > 60, "balancers keep connections for a minute");

/// What a connection is doing.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing, since then.
    Resting(Instant),
    /// A request's head has begun to arrive.
    Head(Instant),
    /// A request is being worked on or answered. Its own limits hold.
    Busy,
}

impl Phase {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Resting(since) => Some(since + REST),
            Self::Head(since) => Some(since + HEAD),
            Self::Busy => None,
        }
    }
}

/// The phase of one connection. Clones share it.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<Phase>>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Phase::Resting(Instant::now()))))
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.lock() = phase;
    }

    /// Bytes came in.
    fn heard(&self) {
        let mut phase = self.lock();
        if let Phase::Resting(_) = *phase {
            *phase = Phase::Head(Instant::now());
        }
    }

    /// Bytes of an answer went out, perhaps its last ones.
    fn told(&self) {
        let mut phase = self.lock();
        if let Phase::Resting(since) = &mut *phase {
            *since = Instant::now();
        }
    }
}

/// A stream that is at its end when its client has taken too long.
pub(super) struct Patient<S> {
    stream: S,
    progress: Progress,
    timer: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, progress: Progress) -> Self {
        Self { stream, progress, timer: Box::pin(tokio::time::sleep(REST)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
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
                this.progress.heard();
            }
            return read;
        }
        let Some(deadline) = this.progress.lock().deadline() else { return Poll::Pending };
        if this.timer.deadline() != deadline {
            this.timer.as_mut().reset(deadline);
        }
        this.timer.as_mut().poll(cx).map(Ok)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if written.is_ready() {
            this.progress.told();
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
            this.progress.told();
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

/// An app that tells when it has a request and when its answer has gone.
pub(super) struct Watched {
    app: TowerToHyperService<Router>,
    progress: Progress,
}

impl Watched {
    pub(super) fn new(app: Router, progress: Progress) -> Self {
        Self { app: TowerToHyperService::new(app), progress }
    }
}

impl Service<Request<Incoming>> for Watched {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.progress.set(Phase::Busy);
        let (answer, progress) = (self.app.call(request), self.progress.clone());
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| Body::new(Leaving { body, progress })))
        })
    }
}

/// The body of an answer. With its end the connection begins to rest.
struct Leaving {
    body: Body,
    progress: Progress,
}

impl HttpBody for Leaving {
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

impl Drop for Leaving {
    fn drop(&mut self) {
        self.progress.set(Phase::Resting(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{sleep, sleep_until, timeout};

    use super::super::{WRITE, connection};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

    /// The client's side of a connection that is served.
    fn client() -> DuplexStream {
        let app = Router::new()
            .route("/", get(async || "here"))
            .route("/late", get(async || sleep(REST * 2).await))
            .route("/read", post(async |body: Bytes| body.len().to_string()));
        let (client, server) = duplex(64 * 1024);
        tokio::spawn(connection(server, app, WRITE));
        client
    }

    async fn ask(client: &mut DuplexStream, request: &[u8]) {
        client.write_all(request).await.expect("it is open");
        let mut first = [0; 15];
        client.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        let mut rest = vec![0; 1024];
        let _ = client.read(&mut rest).await.expect("the rest of it");
    }

    /// Waits until the server closes the connection, and tells how long that took.
    async fn closed(client: &mut DuplexStream) -> Duration {
        let began = Instant::now();
        let mut rest = [0; 64];
        let end = timeout(REST * 4, client.read(&mut rest)).await.expect("an end");
        assert_eq!(end.expect("a clean one"), 0);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_rest() {
        let mut client = client();
        sleep(REST - SECOND).await;
        for _ in 0..2 {
            ask(&mut client, REQUEST).await;
            sleep(REST - SECOND).await;
        }
        ask(&mut client, REQUEST).await;
        let rested = closed(&mut client).await;
        assert!(rested.abs_diff(REST) < SECOND, "{rested:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_must_come() {
        let mut client = client();
        ask(&mut client, REQUEST).await;
        // Whenever it begins, it has its time.
        sleep(REST - SECOND).await;
        let began = Instant::now();
        for byte in &REQUEST[..9] {
            client.write_all(&[*byte]).await.expect("it is open");
            sleep(SECOND).await;
        }
        closed(&mut client).await;
        assert!(began.elapsed().abs_diff(HEAD) < SECOND, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_comes_late_in_a_rest_has_its_time() {
        let mut client = client();
        let rest_is_over = Instant::now() + REST;
        sleep(REST - SECOND).await;
        let (first, rest) = REQUEST.split_at(5);
        client.write_all(first).await.expect("it is open");
        sleep_until(rest_is_over + HEAD / 2).await;
        ask(&mut client, rest).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_worked_on_is_not_cut_off() {
        let mut client = client();
        ask(&mut client, b"GET /late HTTP/1.1\r\nhost: here\r\n\r\n").await;
        client
            .write_all(b"POST /read HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\na")
            .await
            .expect("it is open");
        // How long a body may take is for those who read it to say.
        sleep(REST * 2).await;
        ask(&mut client, b"b").await;
    }
}
