//! One attempt over HTTP: the exact request, one deadline until the response's status, and the rest
//! of the response within bounds.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, LOCATION, RETRY_AFTER, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use postrider_domain::attempt::{Exchange, Phases, RequestHead, Response};
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::ids::EventId;
use postrider_domain::limits::{
    MAX_RESPONSE_HEADERS_KEPT_BYTES, MAX_RESPONSE_KEPT_BYTES, MAX_RESPONSE_READ_BYTES,
    MAX_RESPONSE_READ_TIME,
};
use postrider_domain::outcome::{self, ErrorKind, Failure, Outcome};
use postrider_domain::signature;
use postrider_domain::target::{AddressPolicy, TargetUrl};
use postrider_domain::time::Timestamp;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use crate::clients::{self, Clients, Settings, Spelling};
use crate::connections::{self, ConnectionCounter, ConnectionLimits, Opening, Step};
use crate::failure::{self, Destination};
use crate::reach::Reach;
use crate::request_url;
use crate::resolver::{GuardedResolver, ResolverError};
use crate::stopwatch::{Phase, Stopwatch, TimedResolver};

const USER_AGENT_VALUE: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));

/// Sends webhooks. Clones share their connections.
#[derive(Clone)]
pub struct Sender {
    clients: Clients,
    policy: Arc<AddressPolicy>,
    timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The system's DNS configuration is unusable.
    #[error(transparent)]
    Resolver(#[from] ResolverError),
    /// TLS could not be set up, for example without a certificate store.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client: {}", root_cause(.0))]
    Client(#[from] reqwest::Error),
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The event to send.
#[derive(Clone, Copy)]
pub(crate) struct Webhook<'a> {
    pub(crate) event: EventId,
    pub(crate) event_type: &'a EventTypeName,
    pub(crate) payload: &'a Payload,
}

/// This machine ran out of a resource, such as file descriptors. That is not the endpoint's
/// failure, whatever the outcome says.
#[derive(Debug, thiserror::Error)]
#[error("ran out of resources for requests: {source}")]
pub struct OutOfResources {
    pub source: io::Error,
    /// The exchange, to be recorded if the error persists for one delivery alone.
    pub exchange: Box<Exchange>,
}

/// An attempt whose outcome is known. The rest of the response is still to be read.
pub(crate) struct Sent {
    exchange: Exchange,
    pub(crate) reach: Reach,
    rest: Option<reqwest::Response>,
    start: Instant,
    deadline: Instant,
}

impl Sent {
    /// Reads the rest of the response for up to `time`, and only until the attempt's deadline.
    pub(crate) async fn read(self, time: Duration) -> Exchange {
        let Self { mut exchange, rest, start, deadline, .. } = self;
        if let (Some(response), Some(rest)) = (&mut exchange.response, rest) {
            response.body = read_body(rest, deadline.min(Instant::now() + time)).await;
            exchange.duration = start.elapsed();
        }
        exchange
    }
}

/// The exchange of a request that this node could not make, for the given `reason`.
pub(crate) fn never_sent(endpoint: &Endpoint, reason: &str) -> Exchange {
    Exchange {
        request: RequestHead { url: endpoint.url.sent_url(), headers: Vec::new() },
        response: None,
        outcome: Outcome::Failure(Failure::new(ErrorKind::Connect, reason)),
        duration: Duration::ZERO,
    }
}

impl Sender {
    /// Creates a sender that connects only to addresses allowed by `policy`, with a `timeout` from
    /// the start of name resolution to the response's status.
    ///
    /// # Errors
    /// If the system has no DNS configuration or no certificate store.
    pub fn new(
        policy: AddressPolicy,
        timeout: Duration,
        limits: ConnectionLimits,
    ) -> Result<Self, SenderError> {
        // Another part of the process may have installed a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self::with_tls(policy, timeout, limits, tls()?)
    }

    /// Like [`Self::new`], with a given TLS configuration.
    pub(crate) fn with_tls(
        policy: AddressPolicy,
        timeout: Duration,
        limits: ConnectionLimits,
        tls: ClientConfig,
    ) -> Result<Self, SenderError> {
        let resolver = GuardedResolver::new(Arc::new(policy.clone()))?;
        Self::with_resolver(resolver, policy, timeout, limits, tls)
    }

    /// Like [`Self::with_tls`], with a given resolver.
    pub(crate) fn with_resolver(
        resolver: GuardedResolver,
        policy: AddressPolicy,
        timeout: Duration,
        limits: ConnectionLimits,
        tls: ClientConfig,
    ) -> Result<Self, SenderError> {
        let connections = ConnectionCounter::default();
        let clients = Clients::new(Settings { tls, resolver, connections, limits, timeout })?;
        Ok(Self { clients, policy: Arc::new(policy), timeout })
    }

    pub(crate) fn resolver(&self) -> &GuardedResolver {
        &self.clients.settings().resolver
    }

    /// The maximum number of concurrent requests to one host and port.
    pub(crate) fn per_host(&self) -> usize {
        self.clients.settings().limits.per_host
    }

    /// Number of connections opened for attempts so far.
    pub(crate) fn connections_opened(&self) -> u64 {
        self.clients.settings().connections.count()
    }

    /// Sends a webhook, signed at `now`. If it was sent on a connection that the endpoint was about
    /// to close, it is sent once more on a new connection.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        webhook: Webhook<'_>,
        now: Timestamp,
    ) -> Result<Sent, OutOfResources> {
        self.send_with(None, endpoint, webhook, now).await
    }

    /// Like [`Self::send`], but on a new connection, so that every phase occurs and can be timed.
    pub(crate) async fn send_timed(
        &self,
        endpoint: &Endpoint,
        webhook: Webhook<'_>,
        now: Timestamp,
    ) -> (Exchange, Phases) {
        let watch = Stopwatch::new(&endpoint.url);
        let exchange = match self.send_with(Some(&watch), endpoint, webhook, now).await {
            Ok(sent) => sent.read(MAX_RESPONSE_READ_TIME).await,
            Err(error) => *error.exchange,
        };
        (exchange, watch.stop())
    }

    /// Creates a client for one timed request.
    fn timed_client(&self, watch: &Stopwatch, spelling: Spelling) -> reqwest::Client {
        let Settings { tls, resolver, .. } = self.clients.settings();
        let mut tls = tls.clone();
        tls.resumption = Resumption::store(Arc::new(watch.clone()));
        let resolver = TimedResolver { resolver: resolver.clone(), watch: watch.clone() };
        clients::builder(tls, spelling)
            .pool_max_idle_per_host(0)
            .dns_resolver(resolver)
            .connector_layer(watch.clone())
            .build()
            .expect("the same settings worked when the sender was created")
    }

    async fn send_with(
        &self,
        watch: Option<&Stopwatch>,
        endpoint: &Endpoint,
        webhook: Webhook<'_>,
        now: Timestamp,
    ) -> Result<Sent, OutOfResources> {
        let start = Instant::now();
        let deadline = start + self.timeout;
        let headers = headers(endpoint, webhook, now);
        let spelling = Spelling::of(&endpoint.headers);
        let request = RequestHead {
            url: endpoint.url.sent_url(),
            headers: record_headers(&headers, |name| spelling.apply(name), usize::MAX),
        };
        let reply = match endpoint.url.check_host(&self.policy) {
            Err(blocked) => Failure::new(ErrorKind::Blocked, &blocked.to_string()).into(),
            Ok(()) => {
                let attempt = Attempt { endpoint, webhook, spelling, signed_at: now, deadline };
                match watch {
                    None => self.execute(attempt, headers).await,
                    Some(watch) => self.execute_timed(watch, attempt, headers).await,
                }
            }
        };
        let Reply { response, rest, outcome, reach, resource_error } = reply;
        let exchange = Exchange { request, response, outcome, duration: start.elapsed() };
        match resource_error {
            None => Ok(Sent { exchange, reach, rest, start, deadline }),
            Some(source) => Err(OutOfResources { source, exchange: Box::new(exchange) }),
        }
    }

    /// Sends a request on an open connection, if there is one. The endpoint may be closing it at
    /// the same time, which says nothing about the endpoint's health (RFC 9112 §9.3.1). So if it
    /// breaks before a response has arrived, the request is sent once more, on a new connection.
    async fn execute(&self, attempt: Attempt<'_>, headers: HeaderMap) -> Reply {
        let Attempt { endpoint, webhook, spelling, signed_at, .. } = attempt;
        let host = endpoint.url.origin().host_str().unwrap_or_default();
        let client = self.clients.reusing(host, spelling);
        let (mut sent, mut opening) = self.send_request(&client, attempt, headers).await;
        if let Ok(Err(error)) = &sent
            && opening.step == Step::Reused
            && failure::is_broken_connection(error)
        {
            let same_headers = self::headers(endpoint, webhook, signed_at);
            (sent, opening) =
                self.send_request(self.clients.fresh(spelling), attempt, same_headers).await;
        }
        self.reply(None, sent, opening, attempt).await
    }

    /// Sends a request on a new connection and times its phases.
    async fn execute_timed(
        &self,
        watch: &Stopwatch,
        attempt: Attempt<'_>,
        headers: HeaderMap,
    ) -> Reply {
        let client = self.timed_client(watch, attempt.spelling);
        let (sent, opening) = self.send_request(&client, attempt, headers).await;
        self.reply(Some(watch), sent, opening, attempt).await
    }

    /// Sends a request. Returns what happened to its connection, too.
    async fn send_request(
        &self,
        client: &reqwest::Client,
        attempt: Attempt<'_>,
        headers: HeaderMap,
    ) -> (Result<reqwest::Result<reqwest::Response>, Elapsed>, Opening) {
        let url = request_url::of(&attempt.endpoint.url);
        let port = url.port_or_known_default().unwrap_or_default();
        let mut request = reqwest::Request::new(Method::POST, url);
        *request.headers_mut() = headers;
        *request.body_mut() = Some(attempt.webhook.payload.bytes().clone().into());
        let sending = tokio::time::timeout_at(attempt.deadline, client.execute(request));
        connections::observe(port, sending).await
    }

    async fn reply(
        &self,
        watch: Option<&Stopwatch>,
        sent: Result<reqwest::Result<reqwest::Response>, Elapsed>,
        opening: Opening,
        Attempt { endpoint, signed_at, deadline, .. }: Attempt<'_>,
    ) -> Reply {
        match sent {
            Err(Elapsed { .. }) => Reply {
                reach: Reach::of_timeout(opening, &endpoint.url),
                ..failure::of_timeout(opening.step, self.timeout).into()
            },
            Ok(Err(error)) => Reply {
                reach: Reach::of_error(&error, opening, &endpoint.url),
                resource_error: self.resource_error(&error, &endpoint.url, deadline).await,
                ..failure::classify(&error).into()
            },
            Ok(Ok(response)) => {
                if let Some(watch) = watch {
                    watch.enter(Phase::Read);
                }
                // Some servers send a Location that is not ASCII.
                let value = |name| response.headers().get(name).map(HeaderValue::as_bytes);
                let text = |name| value(name).map(String::from_utf8_lossy);
                let status = response.status().as_u16();
                let reach = Reach::Answered(response.remote_addr());
                let retry_after = text(RETRY_AFTER).and_then(|value| {
                    outcome::retry_after(&value, text(DATE).as_deref(), signed_at)
                });
                let outcome = outcome::of_status(status, text(LOCATION).as_deref(), retry_after);
                let headers = record_headers(
                    response.headers(),
                    HeaderName::to_string,
                    MAX_RESPONSE_HEADERS_KEPT_BYTES,
                );
                let head = Response { status, headers, body: Bytes::new() };
                Reply {
                    response: Some(head),
                    rest: Some(response),
                    outcome,
                    reach,
                    resource_error: None,
                }
            }
        }
    }
}

impl Sender {
    /// The system error behind `error`, if it says that this machine ran out of a resource.
    async fn resource_error(
        &self,
        error: &reqwest::Error,
        target: &TargetUrl,
        deadline: Instant,
    ) -> Option<io::Error> {
        let may_be_exhaustion =
            |code: &i32| failure::is_resource_exhaustion(*code, Destination::Ipv4);
        let code = failure::system_error(error).filter(may_be_exhaustion)?;
        let destination = if error.is_dns() {
            Destination::Dns
        } else {
            // The name was resolved just now, so the result is cached.
            let destination = self.clients.settings().resolver.destination(target);
            tokio::time::timeout_at(deadline, destination).await.unwrap_or(Destination::Ipv4)
        };
        failure::is_resource_exhaustion(code, destination)
            .then(|| io::Error::from_raw_os_error(code))
    }
}

/// Trusts the system's certificate store.
pub(crate) fn tls() -> Result<ClientConfig, rustls::Error> {
    let mut tls = ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

/// A webhook on its way.
#[derive(Clone, Copy)]
struct Attempt<'a> {
    endpoint: &'a Endpoint,
    webhook: Webhook<'a>,
    spelling: Spelling,
    signed_at: Timestamp,
    deadline: Instant,
}

struct Reply {
    /// Without its body.
    response: Option<Response>,
    rest: Option<reqwest::Response>,
    outcome: Outcome,
    reach: Reach,
    resource_error: Option<io::Error>,
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let (outcome, reach) = (Outcome::Failure(failure), Reach::Answered(None));
        Self { response: None, rest: None, outcome, reach, resource_error: None }
    }
}

/// All headers of the request, in sending order. The client adds none.
fn headers(endpoint: &Endpoint, webhook: Webhook<'_>, now: Timestamp) -> HeaderMap {
    let id = webhook.event.to_string();
    let body = webhook.payload.bytes();
    let signature = signature::header(endpoint.secrets.active(now), &id, now, body);
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(HOST, text(&host(endpoint)));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_LENGTH, body.len().into());
    headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert("webhook-id", text(&id));
    headers.insert("webhook-timestamp", now.seconds().into());
    headers.insert("webhook-signature", text(&signature));
    headers.insert("webhook-event-type", text(webhook.event_type.as_str()));
    for (name, value) in endpoint.headers.iter() {
        let name = HeaderName::try_from(name).expect("validated on input");
        headers.insert(name, text(value));
    }
    headers
}

fn host(endpoint: &Endpoint) -> String {
    let url = endpoint.url.origin();
    let host = url.host_str().expect("validated on input");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn text(value: &str) -> HeaderValue {
    HeaderValue::try_from(value).expect("ASCII without control characters, validated on input")
}

/// The headers to record, named by `name_of`, up to a total of `limit` bytes.
fn record_headers(
    headers: &HeaderMap,
    name_of: impl Fn(&HeaderName) -> String,
    limit: usize,
) -> Vec<(String, String)> {
    let mut remaining = limit;
    let mut recorded = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let Some(left) = remaining.checked_sub(name.as_str().len() + value.len()) else {
            break;
        };
        remaining = left;
        recorded.push((name_of(name), value));
    }
    recorded
}

/// Reads the beginning of the response body. The status line has already decided the outcome, so a
/// body that breaks off or takes too long is simply truncated.
async fn read_body(mut response: reqwest::Response, deadline: Instant) -> Bytes {
    let mut body = BytesMut::new();
    let mut length = 0;
    while length < MAX_RESPONSE_READ_BYTES {
        let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(deadline, response.chunk()).await else {
            break;
        };
        length += chunk.len();
        let remaining = MAX_RESPONSE_KEPT_BYTES - body.len();
        body.extend_from_slice(&chunk[..remaining.min(chunk.len())]);
    }
    body.freeze()
}
