//! The receiver: returns 200 at once unless configured otherwise, counts requests, and reports
//! arrivals.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

/// The body of error responses.
const ERROR_BODY: &str = r#"{"error":"the database is down"}"#;

/// A receiver on a free port of the loopback interface.
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    count: AtomicU64,
    progress: Notify,
    arrivals: parking_lot::Mutex<Option<mpsc::UnboundedSender<Arrival>>>,
    mode: watch::Sender<ResponseMode>,
}

/// How requests are responded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseMode {
    Immediate,
    /// At once, with 500.
    Failing,
    /// At once, sometimes with 500 or 429.
    Flaky,
    Delayed(Duration),
    /// Not until the mode changes.
    Hanging,
}

/// A request that arrived while arrivals were watched.
pub struct Arrival {
    /// The `webhook-id`.
    pub event: String,
    pub body: Bytes,
    /// The time at which it was complete.
    pub at: Instant,
}

impl Arrival {
    /// The number in the payload.
    pub fn number(&self) -> Result<u64> {
        let payload: Value = serde_json::from_slice(&self.body)?;
        payload["number"].as_u64().context("there is no number")
    }
}

impl Receiver {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            count: AtomicU64::new(0),
            progress: Notify::new(),
            arrivals: parking_lot::Mutex::default(),
            mode: watch::Sender::new(ResponseMode::Immediate),
        });
        tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared })
    }

    /// The number of requests so far.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Waits until `count` requests have arrived.
    pub async fn wait_for_count(&self, count: u64, within: Duration) -> Result<()> {
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

    /// Reports arrivals from now on.
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Arrival> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.shared.arrivals.lock() = Some(sender);
        receiver
    }

    /// Sets the response mode.
    pub fn respond(&self, mode: ResponseMode) {
        self.shared.mode.send_replace(mode);
    }

    /// Stops reporting arrivals.
    pub fn unwatch(&self) {
        *self.shared.arrivals.lock() = None;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| handle(request, &shared));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn handle(
    request: Request<Incoming>,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut status = StatusCode::OK;
    if let Ok(body) = body.collect().await {
        let at = Instant::now();
        let watched = shared.arrivals.lock().clone();
        if let Some(watcher) = watched {
            let event = head.headers.get("webhook-id").and_then(|id| id.to_str().ok());
            let event = event.unwrap_or_default().to_owned();
            let _ = watcher.send(Arrival { event, body: body.to_bytes(), at });
        }
        let number = shared.count.fetch_add(1, Ordering::Relaxed);
        shared.progress.notify_waiters();
        shared.wait_to_respond().await;
        status = shared.status_of(number);
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    if !status.is_success() {
        *response.body_mut() = Full::from(ERROR_BODY);
    }
    Ok(response)
}

impl Shared {
    /// The response status of the request with this number.
    fn status_of(&self, number: u64) -> StatusCode {
        match *self.mode.borrow() {
            ResponseMode::Failing => StatusCode::INTERNAL_SERVER_ERROR,
            ResponseMode::Flaky if number.is_multiple_of(50) => StatusCode::INTERNAL_SERVER_ERROR,
            ResponseMode::Flaky if number.is_multiple_of(77) => StatusCode::TOO_MANY_REQUESTS,
            ResponseMode::Immediate
            | ResponseMode::Flaky
            | ResponseMode::Delayed(_)
            | ResponseMode::Hanging => StatusCode::OK,
        }
    }

    async fn wait_to_respond(&self) {
        let mode = *self.mode.borrow();
        match mode {
            ResponseMode::Immediate | ResponseMode::Failing | ResponseMode::Flaky => {}
            ResponseMode::Delayed(delay) => tokio::time::sleep(delay).await,
            ResponseMode::Hanging => {
                let mut mode = self.mode.subscribe();
                // The sender is in `self`, so this cannot fail.
                let _ = mode.wait_for(|mode| *mode != ResponseMode::Hanging).await;
            }
        }
    }
}
