//! Publishing by actor message from outside the nodes.
//!
//! Who takes part: a [`Client`] joins a cluster of Postrider nodes without being one of them. Its
//! keeper (in `sessions`) connects to the seeds, learns from any gateway which nodes there are, and
//! keeps a session with each. Calls go round over the gateways that are up; each call has a timeout,
//! and the calls in flight are bounded, so that who calls more waits. A call that a dying node leaves
//! unanswered goes to another one, if it is safe to do it twice: publishing always is, for every
//! request has an idempotency key, made here if the caller gives none.
//!
//! A client announces nothing and subscribes to nothing; whoever has the cluster's cookie, and with
//! TLS a certificate, may do everything, for every account. What the messages mean, and their
//! limits, is told in [`messages`].
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
//!     // The key makes it safe to call again after a crash of this program, too.
//!     let key = Some("invoice-17-paid".to_owned());
//!     let receipt = client.publish(account, event, key).await?;
//!     println!("{} is durable and goes to {} endpoints", receipt.id, receipt.deliveries);
//!
//!     let endpoint = "ep_06b2k1d5h3vqf8m2c9r7t4w0xg".parse()?;
//!     let status = client.endpoint_status(account, endpoint).await?;
//!     println!("{} has {} deliveries pending", status.name, status.pending);
//!     client.leave().await;
//!     Ok(())
//! }
//! ```
//!
//! ractor keeps process groups for the whole process: have one client a process, and none in a
//! process that is a node.

mod sessions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use postrider_domain::ids::{AccountId, BootId, DeliveryId, EndpointId, Id};
use postrider_net::gateway::{self, GatewayMessage};
use postrider_net::tasks::Tasks;
use postrider_net::transport::{self, Link, LinkError, PeerName};
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
    Call, EnableEndpoint, OfDelivery, OfEndpoint, Publish, PublishBatch, Reply, Request,
};

/// Most calls in flight at once. Whoever makes more waits for one to end. It is half of what one
/// gateway has places for, so that a client by itself overloads none.
pub const MAX_IN_FLIGHT: usize = gateway::MAX_CALLS / 2;
/// How long a call may take, with all that it takes to find a gateway that answers.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long one gateway may take for it. A transaction of the store ends within 5 s.
const TRY_TIMEOUT: Duration = Duration::from_secs(6);
/// How long [`Client::join`] waits for the first gateway.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(15);
/// The first pause before a call is repeated; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a client joins.
#[derive(Debug)]
pub struct Options {
    /// What the nodes' logs call this client: 1 to 64 letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Addresses of some nodes; the others are learned from them.
    pub seeds: Vec<SocketAddr>,
    /// The cluster's secret.
    pub cookie: Cookie,
    /// Certificates; needed to reach nodes on other hosts.
    pub tls: Option<Tls>,
}

/// A client of a cluster. Clones are cheap and share everything; when the last one is dropped, it is
/// as if [`Client::leave`] had been called.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    traceparent: Option<Arc<str>>,
}

struct Shared {
    link: Link,
    keeper: AbortHandle,
    places: Semaphore,
    turn: AtomicUsize,
    /// What the keys of this client's requests begin with; nobody else's do.
    boot: BootId,
    requests: AtomicU64,
}

/// Why a client could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    Random(#[source] rand::rngs::SysError),
    /// The link could not be started.
    #[error("cannot start the client's link")]
    Link(#[from] LinkError),
    /// No gateway came up. The log tells why each seed was not reached.
    #[error("no gateway came up within {JOIN_TIMEOUT:?}: are the seeds, cookie and TLS right?")]
    NoGateway,
}

/// Whether a call may be done twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It has the same effect.
    Safe,
    /// It could undo what another has done in between, so it is not repeated once a gateway may
    /// have done it.
    Unsafe,
}

impl Client {
    /// Joins a cluster: returns when the first gateway is up.
    ///
    /// # Errors
    /// When the link cannot be started, or no gateway comes up within [`JOIN_TIMEOUT`].
    pub async fn join(options: Options) -> Result<Self, JoinError> {
        let Options { name, seeds, cookie, tls } = options;
        let mut bytes = [0; 16];
        SysRng.try_fill_bytes(&mut bytes).map_err(JoinError::Random)?;
        let boot = BootId::from_bytes(bytes);
        let name = PeerName { name, boot };
        // Nobody watches a client's tasks: what it does not get done, its callers see.
        let tasks = Tasks::new();
        let link =
            Link::start(transport::Options { name, listen: None, cookie, tls, tasks }).await?;
        let keeper = tokio::spawn(sessions::keep(link.clone(), seeds)).abort_handle();
        let client = Self {
            shared: Arc::new(Shared {
                link,
                keeper,
                places: Semaphore::new(MAX_IN_FLIGHT),
                turn: AtomicUsize::new(0),
                boot,
                requests: AtomicU64::new(0),
            }),
            traceparent: None,
        };
        match client.gateway_until(Instant::now() + JOIN_TIMEOUT).await {
            Some(_) => Ok(client),
            None => {
                client.leave().await;
                Err(JoinError::NoGateway)
            }
        }
    }

    /// The same client, whose calls belong to the trace of a W3C `traceparent`.
    #[must_use]
    pub fn in_trace(&self, traceparent: &str) -> Self {
        Self { shared: self.shared.clone(), traceparent: Some(traceparent.into()) }
    }

    /// Publishes an event: returns when it is durable. Without a key one is made, which holds for
    /// this call alone.
    ///
    /// # Errors
    /// As [`Request::Publish`] says, and `TimedOut` or `Lost` when no gateway answered. It may have
    /// been accepted then: call again with the same key.
    pub async fn publish(
        &self,
        account: AccountId,
        event: NewEvent,
        idempotency_key: Option<String>,
    ) -> Result<Receipt, CallError> {
        let idempotency_key = Some(idempotency_key.unwrap_or_else(|| self.new_key()));
        let request = Request::Publish(Publish { account, event, idempotency_key });
        match self.call(request, Repeat::Safe).await? {
            Reply::Published(receipt) => Ok(receipt),
            other => Err(strange(&other)),
        }
    }

    /// Publishes 1 to 1,000 events of at most 1 MiB together, all or none: returns when they are
    /// durable, with a receipt for each in their order. Without a key one is made, which holds for
    /// this call alone.
    ///
    /// # Errors
    /// As for [`Self::publish`], and `TooLarge` when they are too many.
    pub async fn publish_batch(
        &self,
        account: AccountId,
        events: Vec<NewEvent>,
        idempotency_key: Option<String>,
    ) -> Result<Vec<Receipt>, CallError> {
        let idempotency_key = Some(idempotency_key.unwrap_or_else(|| self.new_key()));
        let request = Request::PublishBatch(PublishBatch { account, events, idempotency_key });
        match self.call(request, Repeat::Safe).await? {
            Reply::PublishedBatch(receipts) => Ok(receipts),
            other => Err(strange(&other)),
        }
    }

    /// How an endpoint fares.
    ///
    /// # Errors
    /// `NotFound`, or that nobody answered.
    pub async fn endpoint_status(
        &self,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<EndpointStatus, CallError> {
        let request = Request::EndpointStatus(OfEndpoint { account, endpoint });
        self.endpoint(request, Repeat::Safe).await
    }

    /// Enables an endpoint, and tells how it fares then.
    ///
    /// # Errors
    /// `NotFound`, or that nobody answered: then it is not known whether it is enabled.
    pub async fn enable_endpoint(
        &self,
        account: AccountId,
        endpoint: EndpointId,
        held: HeldChoice,
    ) -> Result<EndpointStatus, CallError> {
        let request = Request::EnableEndpoint(EnableEndpoint { account, endpoint, held });
        self.endpoint(request, Repeat::Unsafe).await
    }

    /// Disables an endpoint, and tells how it fares then.
    ///
    /// # Errors
    /// `NotFound`, or that nobody answered: then it is not known whether it is disabled.
    pub async fn disable_endpoint(
        &self,
        account: AccountId,
        endpoint: EndpointId,
    ) -> Result<EndpointStatus, CallError> {
        let request = Request::DisableEndpoint(OfEndpoint { account, endpoint });
        self.endpoint(request, Repeat::Unsafe).await
    }

    /// What became of a delivery, attempt by attempt.
    ///
    /// # Errors
    /// `NotFound`, or that nobody answered.
    pub async fn delivery_status(
        &self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<DeliveryStatus, CallError> {
        let request = Request::DeliveryStatus(OfDelivery { account, delivery });
        match self.call(request, Repeat::Safe).await? {
            Reply::Delivery(status) => Ok(status),
            other => Err(strange(&other)),
        }
    }

    /// Which nodes there are, as one of them sees it.
    ///
    /// # Errors
    /// That nobody answered.
    pub async fn cluster_status(&self) -> Result<ClusterStatus, CallError> {
        match self.call(Request::ClusterStatus, Repeat::Safe).await? {
            Reply::Cluster(status) => Ok(status),
            other => Err(strange(&other)),
        }
    }

    /// Ends the sessions. Calls in flight fail.
    pub async fn leave(&self) {
        self.shared.keeper.abort();
        self.shared.places.close();
        self.shared.link.stop().await;
    }

    async fn endpoint(
        &self,
        request: Request,
        repeat: Repeat,
    ) -> Result<EndpointStatus, CallError> {
        match self.call(request, repeat).await? {
            Reply::Endpoint(status) => Ok(status),
            other => Err(strange(&other)),
        }
    }

    /// Calls one gateway after another until one answers, within [`CALL_TIMEOUT`].
    async fn call(&self, request: Request, repeat: Repeat) -> Result<Reply, CallError> {
        let _place =
            self.shared.places.acquire().await.map_err(|_| {
                CallError::new(CallErrorKind::Lost, "the client has left the cluster")
            })?;
        let call = Call { request, traceparent: self.traceparent.as_deref().map(str::to_owned) };
        let bytes = call.encode()?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(gateway) = self.gateway_until(deadline).await else {
                return Err(CallError::new(CallErrorKind::Lost, "no gateway is up"));
            };
            let timeout = TRY_TIMEOUT.min(deadline.saturating_duration_since(Instant::now()));
            let outcome = match gateway::call_raw(&gateway, bytes.clone(), timeout).await {
                Ok(answer) => messages::decode_reply(&answer),
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if may_repeat(&error, repeat) && Instant::now() + pause < deadline => {
                    tracing::debug!(%error, "a call is repeated");
                    tokio::time::sleep(pause).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
                outcome => return outcome,
            }
        }
    }

    /// The gateway whose turn it is, as soon as there is one.
    async fn gateway_until(&self, deadline: Instant) -> Option<ActorRef<GatewayMessage>> {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut gateways = gateway::remote();
            if !gateways.is_empty() {
                let turn = self.shared.turn.fetch_add(1, Ordering::Relaxed);
                return Some(gateways.swap_remove(turn % gateways.len()));
            }
            if Instant::now() + pause > deadline {
                return None;
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    fn new_key(&self) -> String {
        let number = self.shared.requests.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}", self.shared.boot)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The link ends by itself with its last clone.
        self.keeper.abort();
    }
}

fn may_repeat(error: &CallError, repeat: Repeat) -> bool {
    match repeat {
        Repeat::Safe => error.is_retryable(),
        Repeat::Unsafe => error.kind == CallErrorKind::Overloaded,
    }
}

fn strange(reply: &Reply) -> CallError {
    CallError::new(CallErrorKind::Malformed, format!("no answer to that: {reply:?}"))
}
