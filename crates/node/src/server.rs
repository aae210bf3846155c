//! The HTTP server for the API: a limit on connections, timeouts for slow clients, and graceful
//! shutdown.

mod timeouts;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use rustix::process::{Resource, getrlimit};
use timeouts::{ConnectionState, ReadTimeout, TrackedService};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// Further connections wait in the kernel's backlog.
const MAX_CONNECTIONS: usize = 8192;
/// How long a client may read nothing of a pending response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// The delay after `accept` failed, for example because the process is out of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long requests in flight may take to finish after the server was stopped.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves `app` until `stop`, then finishes the requests in flight.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let limit = connection_limit(getrlimit(Resource::Nofile).current);
    serve_with_limit(limit, listener, app, stop).await;
}

/// Limits connections to half of the open files, to leave the other half for deliveries.
fn connection_limit(files: Option<u64>) -> usize {
    let half = files.and_then(|files| usize::try_from(files / 2).ok());
    half.map_or(MAX_CONNECTIONS, |half| half.clamp(1, MAX_CONNECTIONS))
}

async fn serve_with_limit(
    connections: usize,
    listener: TcpListener,
    app: Router,
    stop: CancellationToken,
) {
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(connections));
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &connections) => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, permit)) => {
                let connection = graceful.watch(connection(stream, app.clone(), WRITE_TIMEOUT));
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "connection failed");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
}

/// Accepts the next connection once there is a free permit.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    let _ = stream.set_nodelay(true);
    Ok((stream, permit))
}

type Stream<S> = Pin<Box<TimeoutStream<ReadTimeout<S>>>>;

fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    app: Router,
    write: Duration,
) -> http1::Connection<TokioIo<Stream<S>>, TrackedService> {
    let state = ConnectionState::new();
    let mut stream = TimeoutStream::new(ReadTimeout::new(stream, state.clone()));
    stream.set_write_timeout(Some(write));
    http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Box::pin(stream)), TrackedService::new(app, state))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Much longer than stopping takes, and shorter than the keep-alive timeout.
    const TIMEOUT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn stops_while_all_connections_are_in_use() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().route("/", get(async || "here"));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve_with_limit(2, listener, app, stop.clone()));
        let _idle = (idle_connection(address).await, idle_connection(address).await);

        stop.cancel();
        let stopped = tokio::time::timeout(TIMEOUT, server).await;
        stopped.expect("stops in time").expect("joins");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_disconnected() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        // Larger than the kernel's buffers.
        let app = Router::new().route("/", get(async || vec![0; 64 << 20]));
        let mut client = TcpStream::connect(address).await.expect("connects");
        let (stream, _) = listener.accept().await.expect("accepts");
        client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.expect("asks");

        let served = connection(stream, app, Duration::from_millis(50));
        let ended = tokio::time::timeout(TIMEOUT, served).await.expect("ends in time");
        assert!(ended.is_err());
    }

    #[test]
    fn half_of_the_open_files_are_left_for_deliveries() {
        assert_eq!(connection_limit(Some(1024)), 512);
        assert_eq!(connection_limit(Some(1 << 20)), MAX_CONNECTIONS);
        assert_eq!(connection_limit(None), MAX_CONNECTIONS);
        assert_eq!(connection_limit(Some(0)), 1);
    }

    /// A connection that has served a request and is still open.
    async fn idle_connection(server: std::net::SocketAddr) -> TcpStream {
        let mut client = TcpStream::connect(server).await.expect("connects");
        client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.expect("asks");
        let mut first = [0; 12];
        client.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        client
    }
}
