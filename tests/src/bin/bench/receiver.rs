//! The receiver: answers 200 to everything, at once, unless it is told otherwise, counts, and notes
//! when each event arrived.

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

/// What it says with 500.
const APOLOGY: &str = r#"{"error":"the database is away"}"#;

/// A receiver on a free port of the loopback interface.
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    count: AtomicU64,
    progress: Notify,
    arrivals: std::sync::Mutex<Option<mpsc::UnboundedSender<Arrival>>>,
    manner: watch::Sender<Manner>,
}

/// When requests are answered, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    AtOnce,
    /// At once, with 500.
    Broken,
    /// At once, and now and then with 500 or 429.
    Moody,
    After(Duration),
    /// When the manner is another.
    Later,
}

/// A request that came while somebody watched.
pub struct Arrival {
    /// Its `webhook-id`.
    pub event: String,
    /// Its body.
    pub body: Bytes,
    /// When all of it was there.
    pub at: Instant,
}

impl Arrival {
    /// The number that its payload carries.
    pub fn number(&self) -> Result<u64> {
        let payload: Value = serde_json::from_slice(&self.body)?;
        payload["number"].as_u64().context("a number")
    }
}

impl Receiver {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            count: AtomicU64::new(0),
            progress: Notify::new(),
            arrivals: std::sync::Mutex::default(),
            manner: watch::Sender::new(Manner::AtOnce),
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

    /// What arrives from now on.
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Arrival> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.shared.arrivals.lock().expect("nobody panics with it") = Some(sender);
        receiver
    }

    /// Answers so from now on.
    pub fn answer(&self, manner: Manner) {
        self.shared.manner.send_replace(manner);
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
    let (head, body) = request.into_parts();
    let mut status = StatusCode::OK;
    if let Ok(body) = body.collect().await {
        let at = Instant::now();
        let watched = shared.arrivals.lock().expect("nobody panics with it").clone();
        if let Some(watcher) = watched {
            let event = head.headers.get("webhook-id").and_then(|id| id.to_str().ok());
            let event = event.unwrap_or_default().to_owned();
            let _ = watcher.send(Arrival { event, body: body.to_bytes(), at });
        }
        let number = shared.count.fetch_add(1, Ordering::Relaxed);
        shared.progress.notify_waiters();
        shared.wait_to_answer().await;
        status = shared.status_of(number);
    }
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    if !status.is_success() {
        *response.body_mut() = Full::from(APOLOGY);
    }
    Ok(response)
}

impl Shared {
    /// What the request with this number is answered with.
    fn status_of(&self, number: u64) -> StatusCode {
        match *self.manner.borrow() {
            Manner::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            Manner::Moody if number.is_multiple_of(50) => StatusCode::INTERNAL_SERVER_ERROR,
            Manner::Moody if number.is_multiple_of(77) => StatusCode::TOO_MANY_REQUESTS,
            Manner::AtOnce | Manner::Moody | Manner::After(_) | Manner::Later => StatusCode::OK,
        }
    }

    async fn wait_to_answer(&self) {
        let manner = *self.manner.borrow();
        match manner {
            Manner::AtOnce | Manner::Broken | Manner::Moody => {}
            Manner::After(delay) => tokio::time::sleep(delay).await,
            Manner::Later => {
                let mut manner = self.manner.subscribe();
                // Its sender is here, so it does not end.
                let _ = manner.wait_for(|manner| *manner != Manner::Later).await;
            }
        }
    }
}
