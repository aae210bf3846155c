//! The receiver: answers 200 to everything, counts, and notes when each event arrived.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// A receiver on a free port of the loopback interface.
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    count: AtomicU64,
    progress: Notify,
    arrivals: std::sync::Mutex<Option<mpsc::UnboundedSender<(Bytes, Instant)>>>,
}

impl Receiver {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            count: AtomicU64::new(0),
            progress: Notify::new(),
            arrivals: std::sync::Mutex::default(),
        });
        tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared })
    }

    /// How many requests have come.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Waits until `count` requests have come.
    pub async fn reached(&self, count: u64, within: Duration) -> Result<()> {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            let progress = self.shared.progress.notified();
            if self.count() >= count {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, progress).await.is_err() {
                bail!("{} of {count} requests arrived within {within:?}", self.count());
            }
        }
    }

    /// The bodies that arrive from now on, each with its time.
    pub fn watch(&self) -> mpsc::UnboundedReceiver<(Bytes, Instant)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.shared.arrivals.lock().expect("nobody panics with it") = Some(sender);
        receiver
    }

    /// No longer keeps bodies.
    pub fn unwatch(&self) {
        *self.shared.arrivals.lock().expect("nobody panics with it") = None;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &shared));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if let Ok(body) = request.into_body().collect().await {
        let now = Instant::now();
        let watched = shared.arrivals.lock().expect("nobody panics with it").clone();
        if let Some(watcher) = watched {
            let _ = watcher.send((body.to_bytes(), now));
        }
        shared.count.fetch_add(1, Ordering::Relaxed);
        shared.progress.notify_waiters();
    }
    Ok(Response::new(Full::default()))
}
