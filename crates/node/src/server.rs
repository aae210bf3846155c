//! The HTTP server under the API: bounded connections, bounded patience, a graceful end.

mod patience;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use patience::{Patient, Progress, Watched};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// Most connections; further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 8192;
/// How long a client may take nothing of an answer that waits to be sent.
const WRITE: Duration = Duration::from_secs(30);
/// The pause after accepting failed, as it does when file descriptors run out.
const PAUSE: Duration = Duration::from_millis(100);
/// How long requests under way have to end.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Serves `app` until `stop`, then lets requests under way end.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let most = most_connections(getrlimit(Resource::Nofile).current);
    serve_at_most(most, listener, app, stop).await;
}

/// How many connections leave half of the files that the process may open to deliveries.
fn most_connections(files: Option<u64>) -> usize {
    let half = files.and_then(|files| usize::try_from(files / 2).ok());
    half.map_or(CONNECTIONS, |half| half.clamp(1, CONNECTIONS))
}

async fn serve_at_most(
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
                let connection = graceful.watch(connection(stream, app.clone(), WRITE));
                tokio::spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(%error, "a connection broke");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

/// The next connection, once there is room for it.
async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = connections.clone().acquire_owned().await.expect("never closed");
    let (stream, _) = listener.accept().await?;
    let _ = stream.set_nodelay(true);
    Ok((stream, permit))
}

type Stream<S> = Pin<Box<TimeoutStream<Patient<S>>>>;

fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    app: Router,
    write: Duration,
) -> http1::Connection<TokioIo<Stream<S>>, Watched> {
    let progress = Progress::new();
    let mut stream = TimeoutStream::new(Patient::new(stream, progress.clone()));
    stream.set_write_timeout(Some(write));
    http1::Builder::new()
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Box::pin(stream)), Watched::new(app, progress))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Much longer than stopping takes, and shorter than an idle connection lasts.
    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn stops_although_every_connection_is_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().route("/", get(async || "here"));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve_at_most(2, listener, app, stop.clone()));
        let _held = (held(address).await, held(address).await);

        stop.cancel();
        let stopped = tokio::time::timeout(PATIENCE, server).await;
        stopped.expect("stops in time").expect("joins");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        // More than the kernel's buffers hold.
        let app = Router::new().route("/", get(async || vec![0; 64 << 20]));
        let mut client = TcpStream::connect(address).await.expect("connects");
        let (stream, _) = listener.accept().await.expect("accepts");
        client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.expect("asks");

        let served = connection(stream, app, Duration::from_millis(50));
        let ended = tokio::time::timeout(PATIENCE, served).await.expect("ends in time");
        assert!(ended.is_err());
    }

    #[test]
    fn connections_leave_files_for_deliveries() {
        assert_eq!(most_connections(Some(1024)), 512);
        assert_eq!(most_connections(Some(1 << 20)), CONNECTIONS);
        assert_eq!(most_connections(None), CONNECTIONS);
        assert_eq!(most_connections(Some(0)), 1);
    }

    /// A connection that has been served and stays open.
    async fn held(server: std::net::SocketAddr) -> TcpStream {
        let mut client = TcpStream::connect(server).await.expect("connects");
        client.write_all(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n").await.expect("asks");
        let mut first = [0; 12];
        client.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        client
    }
}
