//! One attempt over HTTP: the request as it goes over the wire, one deadline over all of it,
//! and what came back, within bounds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use postrider_cluster::route::Phases;
use postrider_domain::delivery::{RequestHead, Response};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::ids::EventId;
use postrider_domain::limits::{
    MAX_RESPONSE_HEADERS_KEPT_BYTES, MAX_RESPONSE_KEPT_BYTES, MAX_RESPONSE_READ_BYTES,
};
use postrider_domain::outcome::{self, ErrorKind, Failure, Outcome};
use postrider_domain::signature;
use postrider_domain::target::{AddressPolicy, TargetUrl};
use postrider_domain::time::Timestamp;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::Instant;

use crate::connections::Connections;
use crate::failure::{self, Towards};
use crate::permits::NODE;
use crate::resolver::{GuardedResolver, ResolverError};
use crate::stopwatch::{Phase, Stopwatch, TimedResolver};

/// How long an idle connection is kept. Shorter than the 5 s after which common servers close
/// theirs, so that a request seldom meets a connection that is closing.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// What every request names itself.
const AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));

/// Makes requests. Clones share their connections.
#[derive(Clone)]
pub struct Sender {
    client: reqwest::Client,
    connections: Connections,
    resolver: GuardedResolver,
    tls: ClientConfig,
    policy: Arc<AddressPolicy>,
    timeout: Duration,
}

/// Why no sender can be made.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// No names could be resolved.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// No certificate could be verified.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client: {}", root(.0))]
    Client(#[from] reqwest::Error),
}

fn root(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What is sent.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) event: EventId,
    pub(crate) event_type: &'a EventTypeName,
    pub(crate) payload: &'a Payload,
}

/// A request that was made, and how it ended.
#[derive(Debug)]
pub struct Sent {
    /// The request's head, as it went over the wire.
    pub request: RequestHead,
    /// What came back.
    pub response: Option<Response>,
    /// What that means.
    pub outcome: Outcome,
    /// How long it took.
    pub duration: Duration,
    /// This machine lacked what a request takes, such as file descriptors. Not the endpoint's
    /// failure, whatever the outcome says.
    pub shortage: Option<io::Error>,
}

impl Sent {
    /// What is recorded of a request that this node could not make, for this `reason`.
    pub(crate) fn unmade(endpoint: &Endpoint, reason: &str) -> Self {
        Self {
            request: RequestHead { url: endpoint.url.as_str().to_owned(), headers: Vec::new() },
            response: None,
            outcome: Outcome::Failure(Failure::new(ErrorKind::Connect, reason)),
            duration: Duration::ZERO,
            shortage: None,
        }
    }

    /// How long it took, in milliseconds.
    #[must_use]
    pub fn duration_ms(&self) -> u32 {
        u32::try_from(self.duration.as_millis()).unwrap_or(u32::MAX)
    }
}

impl Sender {
    /// A sender whose requests go where `policy` allows and take at most `timeout`.
    ///
    /// # Errors
    /// When the system has no DNS configuration or no certificate store.
    pub fn new(policy: AddressPolicy, timeout: Duration) -> Result<Self, SenderError> {
        // Another part of the process may have installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self::with_tls(policy, timeout, tls()?)
    }

    /// The same, with another view of which certificates are good.
    pub(crate) fn with_tls(
        policy: AddressPolicy,
        timeout: Duration,
        tls: ClientConfig,
    ) -> Result<Self, SenderError> {
        let policy = Arc::new(policy);
        let resolver = GuardedResolver::new(policy.clone())?;
        let connections = Connections::default();
        let client = client(tls.clone())
            // For connections that are made in the background when nobody waits for them any
            // more; the deadline of an attempt comes first.
            .connect_timeout(timeout + Duration::from_secs(1))
            .pool_idle_timeout(POOL_IDLE)
            // Many endpoints may share a host, as those of a platform do.
            .pool_max_idle_per_host(NODE)
            .dns_resolver(resolver.clone())
            .connector_layer(connections.clone())
            .build()?;
        Ok(Self { client, connections, resolver, tls, policy, timeout })
    }

    /// How many connections it has made for attempts.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.made()
    }

    /// Makes one attempt at `now`.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        message: Message<'_>,
        now: Timestamp,
    ) -> Sent {
        self.send_by(&self.client, None, endpoint, message, now).await
    }

    /// The same on a connection of its own, so that every phase takes place and can be timed.
    pub(crate) async fn send_timed(
        &self,
        endpoint: &Endpoint,
        message: Message<'_>,
        now: Timestamp,
    ) -> (Sent, Phases) {
        let watch = Stopwatch::new(&endpoint.url);
        let client = self.timed(&watch);
        let sent = self.send_by(&client, Some(&watch), endpoint, message, now).await;
        (sent, watch.stop())
    }

    /// A client for one request.
    fn timed(&self, watch: &Stopwatch) -> reqwest::Client {
        let mut tls = self.tls.clone();
        tls.resumption = Resumption::store(Arc::new(watch.clone()));
        let resolver = TimedResolver { resolver: self.resolver.clone(), watch: watch.clone() };
        client(tls)
            .pool_max_idle_per_host(0)
            .dns_resolver(resolver)
            .connector_layer(watch.clone())
            .build()
            .expect("the same settings made a client at the start")
    }

    async fn send_by(
        &self,
        client: &reqwest::Client,
        watch: Option<&Stopwatch>,
        endpoint: &Endpoint,
        message: Message<'_>,
        now: Timestamp,
    ) -> Sent {
        let start = Instant::now();
        let headers = headers(endpoint, message, now);
        let request = RequestHead {
            url: endpoint.url.as_str().to_owned(),
            headers: recorded(&headers, usize::MAX),
        };
        let body = message.payload.bytes().clone();
        let exchanged = match endpoint.url.check_host(&self.policy) {
            Err(blocked) => Failure::new(ErrorKind::Blocked, &blocked.to_string()).into(),
            Ok(()) => {
                let mut request = reqwest::Request::new(Method::POST, endpoint.url.url().clone());
                *request.headers_mut() = headers;
                *request.body_mut() = Some(body.into());
                self.exchange(client, watch, request, &endpoint.url, start + self.timeout).await
            }
        };
        let Exchanged { response, outcome, shortage } = exchanged;
        Sent { request, response, outcome, duration: start.elapsed(), shortage }
    }

    async fn exchange(
        &self,
        client: &reqwest::Client,
        watch: Option<&Stopwatch>,
        request: reqwest::Request,
        target: &TargetUrl,
        deadline: Instant,
    ) -> Exchanged {
        match tokio::time::timeout_at(deadline, client.execute(request)).await {
            Err(_late) => {
                let message = format!("no answer within {:?}", self.timeout);
                Failure::new(ErrorKind::Timeout, &message).into()
            }
            Ok(Err(error)) => Exchanged {
                shortage: self.shortage(&error, target, deadline).await,
                ..failure::classify(&error).into()
            },
            Ok(Ok(answer)) => {
                if let Some(watch) = watch {
                    watch.enter(Phase::Read);
                }
                let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
                let status = answer.status().as_u16();
                let outcome = outcome::of_status(status, text(LOCATION), text(RETRY_AFTER));
                let headers = recorded(answer.headers(), MAX_RESPONSE_HEADERS_KEPT_BYTES);
                let body = read(answer, deadline).await;
                let response = Some(Response { status, headers, body });
                Exchanged { response, outcome, shortage: None }
            }
        }
    }
}

impl Sender {
    /// The error of the system, if it says that this machine is short of something.
    async fn shortage(
        &self,
        error: &reqwest::Error,
        target: &TargetUrl,
        deadline: Instant,
    ) -> Option<io::Error> {
        let most_likely = |code: &i32| failure::is_shortage(*code, Towards::Ipv4);
        let code = failure::system_error(error).filter(most_likely)?;
        let towards = if error.is_dns() {
            Towards::Dns
        } else {
            // A name was resolved just now, so the answer is at hand.
            let towards = self.resolver.towards(target);
            tokio::time::timeout_at(deadline, towards).await.unwrap_or(Towards::Ipv4)
        };
        failure::is_shortage(code, towards).then(|| io::Error::from_raw_os_error(code))
    }
}

/// What every client that sends webhooks has in common.
fn client(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
}

/// The certificates that the system trusts.
fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut tls = ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// What came of a request on the wire.
struct Exchanged {
    response: Option<Response>,
    outcome: Outcome,
    shortage: Option<io::Error>,
}

impl From<Failure> for Exchanged {
    fn from(failure: Failure) -> Self {
        Self { response: None, outcome: Outcome::Failure(failure), shortage: None }
    }
}

/// Every header of the request, in the order in which they are sent, none left for the client
/// to add.
fn headers(endpoint: &Endpoint, message: Message<'_>, now: Timestamp) -> HeaderMap {
    let id = message.event.to_string();
    let body = message.payload.bytes();
    let signature = signature::header(endpoint.secrets.active(now), &id, now, body);
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(HOST, text(&host(endpoint)));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, body.len().into());
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert("webhook-id", text(&id));
    headers.insert("webhook-timestamp", now.seconds().into());
    headers.insert("webhook-signature", text(&signature));
    headers.insert("webhook-event-type", text(message.event_type.as_str()));
    for (name, value) in endpoint.headers.iter() {
        let name = HeaderName::try_from(name).expect("checked when it was given");
        headers.insert(name, text(value));
    }
    headers
}

fn host(endpoint: &Endpoint) -> String {
    let url = endpoint.url.url();
    let host = url.host_str().expect("checked when it was given");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::try_from(value)
        .expect("ASCII without control characters, checked when it was given")
}

/// Headers as a record keeps them, as long as they fit in `limit` bytes.
fn recorded(headers: &HeaderMap, limit: usize) -> Vec<(String, String)> {
    let mut room = limit;
    let mut kept = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let Some(left) = room.checked_sub(name.as_str().len() + value.len()) else {
            break;
        };
        room = left;
        kept.push((name.as_str().to_owned(), value));
    }
    kept
}

/// The beginning of the answer's body. The status line has decided already, so a body that
/// breaks off or takes too long is simply shorter.
async fn read(mut answer: reqwest::Response, deadline: Instant) -> Bytes {
    let mut kept = BytesMut::new();
    let mut length = 0;
    while length < MAX_RESPONSE_READ_BYTES {
        let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(deadline, answer.chunk()).await else {
            break;
        };
        length += chunk.len();
        let room = MAX_RESPONSE_KEPT_BYTES - kept.len();
        kept.extend_from_slice(&chunk[..room.min(chunk.len())]);
    }
    kept.freeze()
}
