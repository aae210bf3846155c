//! A client for services that publish events to a Postrider cluster by actor message.
//!
//! [`Client::join`] connects to a cluster without becoming one of its nodes. A background task
//! connects to the seeds, discovers the other nodes through any of them, and maintains a session
//! with each. Calls are distributed round-robin over the connected nodes.
//!
//! - **Backpressure.** At most [`MAX_IN_FLIGHT`] calls of a client and its clones run at once;
//!   further calls wait without a time limit.
//! - **Timeouts.** A running call fails after [`CALL_TIMEOUT`], including all retries.
//! - **Retries.** If a node fails or is overloaded, the client repeats the call on another node if
//!   that is safe. Publishing is always safe, because every request carries an idempotency key; the
//!   client generates one if the caller passes `None`. Enabling and disabling an endpoint is
//!   repeated only if no node can have executed it.
//!
//! There is no authorization per account: a client that has the cluster's cookie (and, with TLS, a
//! certificate) can act for every account. See [`messages`] for the protocol and its limits.
//!
//! # Example
//!
//! ```no_run
//! use std::path::Path;
//!
//! use postrider_client::{Client, Cookie, NewEvent, Options};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::join(Options {
//!         name: "billing".to_owned(),
//!         seeds: vec!["127.0.0.1:7946".parse()?, "127.0.0.1:7947".parse()?],
//!         cookie: Cookie::read(Path::new("cluster.cookie"))?,
//!         // Needed to reach nodes on other hosts.
//!         tls: None,
//!     })
//!     .await?;
//!
//!     let account = "acct_06b2k1d5h3vqf8m2c9r7t4w0xg".parse()?;
//!     let event = NewEvent {
//!         event_type: "invoice.paid".to_owned(),
//!         payload: r#"{"invoice": 17}"#.into(),
//!     };
//!     // With an explicit key, the call is safe to repeat even after this program crashes.
//!     let key = Some("invoice-17-paid".to_owned());
//!     let receipt = client.publish(account, event, key).await?;
//!     println!("{} is durable; {} endpoints will receive it", receipt.id, receipt.deliveries);
//!
//!     let endpoint = "ep_06b2k1d5h3vqf8m2c9r7t4w0xg".parse()?;
//!     let status = client.endpoint_status(account, endpoint).await?;
//!     println!("{} has {} deliveries pending", status.name, status.pending);
//!     client.leave().await;
//!     Ok(())
//! }
//! ```
//!
//! # Limitations
//!
//! Create at most one client per process, and none in a process that runs a node: ractor's process
//! groups are global to the process.

#![warn(missing_docs)]

mod sessions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use postrider_domain::backoff::Backoff;
use postrider_domain::ids::{AccountId, BootId, DeliveryId, EndpointId, Id};
use postrider_net::gateway::{self, GatewayMessage};
use postrider_net::tasks::Tasks;
use postrider_net::transport::{self, PeerName, Transport, TransportError};
use ractor::ActorRef;
use rand::TryRng;
use rand::rngs::SysRng;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub use postrider_net::messages::{
    self, CallError, CallErrorKind, ClusterStatus, DeliveryStatus, EndpointStatus, HeldChoice,
    NewEvent, Receipt,
};
pub use postrider_net::transport::{Cookie, CookieError, Tls, TlsError};

use messages::{
    Call, DeliveryRef, EnableEndpoint, EndpointRef, Publish, PublishBatch, Reply, Request,
};

/// The maximum number of calls in flight per client. Further calls wait for one to finish. This is
/// half of what one gateway accepts, so that a single client cannot overload it.
pub const MAX_IN_FLIGHT: usize = gateway::MAX_CALLS / 2;
/// The timeout of a call once it is in flight, including all retries.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The timeout of a single attempt. Transactions of the store take at most 5 s.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(6);
/// How long [`Client::join`] waits for the first session.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(15);
/// The delays before retries.
const BACKOFF: Backoff =
    Backoff { initial: Duration::from_millis(20), max: Duration::from_secs(1) };

/// Options for [`Client::join`].
#[derive(Debug)]
pub struct Options {
    /// The name of this client in the nodes' logs: 1 to 64 letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Addresses of one or more nodes. The client discovers the others from them.
    pub seeds: Vec<SocketAddr>,
    /// The secret that the cluster's nodes share.
    pub cookie: Cookie,
    /// The CA, and this client's certificate and key. Required to connect to nodes on other hosts.
    pub tls: Option<Tls>,
}

/// A client of a Postrider cluster. Cloning is cheap; clones share all sessions. Dropping the last
/// clone closes them, like [`Client::leave`].
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    traceparent: Option<Arc<str>>,
}

struct Shared {
    transport: Transport,
    sessions: AbortHandle,
    permits: Semaphore,
    next_gateway: AtomicUsize,
    /// Unique to this client. Prefix of the idempotency keys that it generates.
    boot: BootId,
    next_key: AtomicU64,
}

/// An error from [`Client::join`].
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The operating system provided no random bytes.
    #[error("the operating system provided no random bytes")]
    Random(#[source] rand::rngs::SysError),
    /// The transport could not start.
    #[error("cannot start the client's transport")]
    Transport(#[from] TransportError),
    /// No session was established within [`JOIN_TIMEOUT`]. The debug log has the error of each
    /// seed.
    #[error(
        "no node accepted a session within {JOIN_TIMEOUT:?}; check the seeds, the cookie and the TLS files"
    )]
    NoGateway,
}

/// Whether a call may be retried after a gateway may have executed it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RetrySafety {
    /// Repeating it has no further effect.
    Safe,
    /// Repeating it could undo a concurrent change by someone else.
    Unsafe,
}

impl Client {
    /// Joins a cluster. Returns once the first session is established.
    ///
    /// # Errors
    ///
    /// - [`JoinError::Random`] if the operating system provides no random bytes.
    /// - [`JoinError::Transport`] if the transport cannot start.
    /// - [`JoinError::NoGateway`] if no session is established within [`JOIN_TIMEOUT`].
    pub async fn join(options: Options) -> Result<Self, JoinError> {
        let Options { name, seeds, cookie, tls } = options;
        let mut bytes = [0; 16];
        SysRng.try_fill_bytes(&mut bytes).map_err(JoinError::Random)?;
        let boot = BootId::from_bytes(bytes);
        let name = PeerName { name, boot };
        // Not supervised: if a task fails, calls fail and their callers see it.
        let tasks = Tasks::new();
        let transport =
            Transport::start(transport::Options { name, listen: None, cookie, tls, tasks }).await?;
        let sessions = tokio::spawn(sessions::maintain(transport.clone(), seeds)).abort_handle();
        let client = Self {
            shared: Arc::new(Shared {
                transport,
                sessions,
                permits: Semaphore::new(MAX_IN_FLIGHT),
                next_gateway: AtomicUsize::new(0),
                boot,
                next_key: AtomicU64::new(0),
            }),
            traceparent: None,
        };
        match client.pick_gateway(Instant::now() + JOIN_TIMEOUT).await {
            Some(_) => Ok(client),
            None => {
                client.leave().await;
                Err(JoinError::NoGateway)
            }
        }
    }

    /// Returns a client that shares this client's sessions and sends `traceparent` (W3C Trace
    /// Context, at most 128 bytes) with each call, so that the nodes' spans join that trace.
    #[must_use]
    pub fn in_trace(&self, traceparent: &str) -> Self {
        Self { shared: self.shared.clone(), traceparent: Some(traceparent.into()) }
    }

    /// Publishes an event to the subscribed endpoints of an account. Returns once the event is
    /// durable.
    ///
    /// `event.payload` is JSON text of at most 256 KiB; see [`NewEvent`]. `idempotency_key` has 1 to 256 visible
    /// ASCII characters: if the same event was accepted with the same key within the last 24 hours,
    /// the original receipt is returned and no event is created. If it is `None`, the client
    /// generates a key, which protects against duplicates only within this call.
    ///
    /// # Errors
    ///
    /// The error's [`kind`](CallError::kind) is usually one of:
    ///
    /// - `Invalid` if the event is invalid, with all problems;
    /// - `NotFound` if the account does not exist;
    /// - `Conflict` if the idempotency key was used with a different request;
    /// - `Unavailable` or `Overloaded` if the cluster could not accept the event in time;
    /// - `TimedOut` or `ConnectionLost` if no node replied. The event may have been accepted: call
    ///   again with the same key.
    pub async fn publish(
        &self,
        account: AccountId,
        event: NewEvent,
        idempotency_key: Option<String>,
    ) -> Result<Receipt, CallError> {
        let idempotency_key = Some(idempotency_key.unwrap_or_else(|| self.new_idempotency_key()));
        let request = Request::Publish(Publish { account, event, idempotency_key });
        match self.call(request, RetrySafety::Safe).await? {
            Reply::Published(receipt) => Ok(receipt),
            other => Err(unexpected_reply(&other)),
        }
    }

    /// Publishes a batch of events atomically: either all are accepted or none. Returns once all
    /// are durable, with one receipt per event, in the order of `events`.
    ///
    /// A batch has 1 to 1,000 events ([`messages::MAX_EVENTS`]) of at most 1 MiB together
    /// ([`messages::MAX_EVENTS_BYTES`]). `idempotency_key` applies to the whole batch, as in
    /// [`Self::publish`].
    ///
    /// # Errors
    ///
    /// As for [`Self::publish`], and `TooLarge` if the batch exceeds a limit.
    pub async fn publish_batch(
        &self,
        account: AccountId,
        events: Vec<NewEvent>,
        idempotency_key: Option<String>,
    ) -> Result<Vec<Receipt>, CallError> {
        let idempotency_key = Some(idempotency_key.unwrap_or_else(|| self.new_idempotency_key()));
        let request = Request::PublishBatch(PublishBatch { account, events, idempotency_key });
        match self.call(request, RetrySafety::Safe).await? {
            Reply::PublishedBatch(receipts) => Ok(receipts),
            other => Err(unexpected_reply(&other)),
        }
    }

    /// Returns the status of an endpoint: its state, and its pending and held deliveries.
    ///
    /// # Errors
    ///
    /// `NotFound` if the account has no such endpoint; `Unavailable`, `Overloaded`, `TimedOut` or
    /// `ConnectionLost` if no node could reply in time.
    pub async fn endpoint_status(
        &self,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<EndpointStatus, CallError> {
        let request = Request::EndpointStatus(EndpointRef { account, endpoint });
        self.call_endpoint(request, RetrySafety::Safe).await
    }

    /// Enables an endpoint, and sends or discards its held deliveries according to `held`. Returns
    /// the status afterwards. Has no effect on an endpoint that is already enabled.
    ///
    /// # Errors
    ///
    /// As for [`Self::endpoint_status`]. After `TimedOut` or `ConnectionLost`, the endpoint may or
    /// may not be enabled: the client does not repeat the call, because someone else may have
    /// disabled the endpoint in the meantime.
    pub async fn enable_endpoint(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        held: HeldChoice,
    ) -> Result<EndpointStatus, CallError> {
        let request = Request::EnableEndpoint(EnableEndpoint { account, endpoint, held });
        self.call_endpoint(request, RetrySafety::Unsafe).await
    }

    /// Disables an endpoint: its pending and new deliveries are held. Returns the status
    /// afterwards. Has no effect on an endpoint that is already disabled.
    ///
    /// # Errors
    ///
    /// As for [`Self::enable_endpoint`].
    pub async fn disable_endpoint(
        &self,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<EndpointStatus, CallError> {
        let request = Request::DisableEndpoint(EndpointRef { account, endpoint });
        self.call_endpoint(request, RetrySafety::Unsafe).await
    }

    /// Returns the status of a delivery, with its attempts.
    ///
    /// # Errors
    ///
    /// As for [`Self::endpoint_status`]; `NotFound` if the account has no such delivery.
    pub async fn delivery_status(
        &self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<DeliveryStatus, CallError> {
        let request = Request::DeliveryStatus(DeliveryRef { account, delivery });
        match self.call(request, RetrySafety::Safe).await? {
            Reply::Delivery(status) => Ok(status),
            other => Err(unexpected_reply(&other)),
        }
    }

    /// Returns one node's view of the cluster: its nodes, and the number of shards.
    ///
    /// # Errors
    ///
    /// `Overloaded`, `TimedOut` or `ConnectionLost` if no node could reply in time.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, CallError> {
        match self.call(Request::ClusterStatus, RetrySafety::Safe).await? {
            Reply::Cluster(status) => Ok(status),
            other => Err(unexpected_reply(&other)),
        }
    }

    /// Closes all sessions of this client and its clones. Calls in flight, and later calls, fail
    /// with `ConnectionLost`.
    pub async fn leave(&self) {
        self.shared.sessions.abort();
        self.shared.permits.close();
        self.shared.transport.stop().await;
    }

    async fn call_endpoint(
        &self,
        request: Request,
        retry: RetrySafety,
    ) -> Result<EndpointStatus, CallError> {
        match self.call(request, retry).await? {
            Reply::Endpoint(status) => Ok(status),
            other => Err(unexpected_reply(&other)),
        }
    }

    /// Calls gateways in turn until one replies, within [`CALL_TIMEOUT`].
    async fn call(&self, request: Request, retry: RetrySafety) -> Result<Reply, CallError> {
        let _permit = self.shared.permits.acquire().await.map_err(|_| {
            CallError::new(CallErrorKind::ConnectionLost, "the client has left the cluster")
        })?;
        let call = Call { request, traceparent: self.traceparent.as_deref().map(str::to_owned) };
        let bytes = call.encode()?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut failures = 0;
        loop {
            let Some(gateway) = self.pick_gateway(deadline).await else {
                return Err(CallError::new(CallErrorKind::ConnectionLost, "no node is connected"));
            };
            let timeout = ATTEMPT_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
            let outcome = match gateway::call_raw(&gateway, bytes.clone(), timeout).await {
                Ok(answer) => messages::decode_reply(&answer),
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if may_retry(&error, retry) => {
                    failures += 1;
                    let delay = BACKOFF.delay(failures, rand::random());
                    if Instant::now() + delay >= deadline {
                        return Err(error);
                    }
                    tracing::debug!(%error, "call failed; retrying");
                    tokio::time::sleep(delay).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// The next gateway in round-robin order. Waits for one to connect until `deadline`.
    async fn pick_gateway(&self, deadline: Instant) -> Option<ActorRef<GatewayMessage>> {
        let mut failures = 0;
        loop {
            let mut gateways = gateway::remote();
            if !gateways.is_empty() {
                let turn = self.shared.next_gateway.fetch_add(1, Ordering::Relaxed);
                return Some(gateways.swap_remove(turn % gateways.len()));
            }
            failures += 1;
            let delay = BACKOFF.delay(failures, rand::random());
            if Instant::now() + delay > deadline {
                return None;
            }
            tokio::time::sleep(delay).await;
        }
    }

    fn new_idempotency_key(&self) -> String {
        let number = self.shared.next_key.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.shared.boot)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The transport stops when its last clone is dropped.
        self.sessions.abort();
    }
}

fn may_retry(error: &CallError, retry: RetrySafety) -> bool {
    match retry {
        RetrySafety::Safe => error.is_retryable(),
        RetrySafety::Unsafe => error.kind == CallErrorKind::Overloaded,
    }
}

fn unexpected_reply(reply: &Reply) -> CallError {
    CallError::new(CallErrorKind::Malformed, format!("unexpected reply: {reply:?}"))
}
