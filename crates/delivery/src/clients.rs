//! The HTTP clients. Their idle connections are reused, but only up to a maximum age, so that a
//! busy endpoint follows its DNS records to another server. The client library does not bound the
//! age of a connection, so whole clients are replaced. There are several, which are replaced at
//! different times, so that not all connections end at once.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::connections::{ConnectionCounter, ConnectionLimits};
use crate::resolver::GuardedResolver;

/// The number of clients. Each serves a part of the hosts.
const CLIENTS: u32 = 8;
/// How long an idle connection is kept open. Common servers close theirs after 5 s; a shorter time
/// makes it rare that a request is sent on a closing connection.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The maximum number of header lines in a response. The status line decides the outcome, so many
/// headers must not turn a success into a failure; the size of the head is bounded separately.
const MAX_RESPONSE_HEADERS: usize = 1_024;

/// The clients. Clones share them.
#[derive(Clone)]
pub(crate) struct Clients {
    settings: Arc<Settings>,
    reusing: Arc<[Mutex<Reusing>]>,
    /// Opens a connection for each request.
    fresh: reqwest::Client,
}

/// A client that reuses its connections until it is replaced.
struct Reusing {
    client: reqwest::Client,
    replace_at: Instant,
}

pub(crate) struct Settings {
    pub(crate) tls: ClientConfig,
    pub(crate) resolver: GuardedResolver,
    pub(crate) connections: ConnectionCounter,
    pub(crate) limits: ConnectionLimits,
    pub(crate) timeout: Duration,
}

impl Clients {
    pub(crate) fn new(settings: Settings) -> Result<Self, reqwest::Error> {
        let now = Instant::now();
        let reusing = (1..=CLIENTS).map(|number| {
            let replace_at = now + settings.limits.max_age * number / CLIENTS;
            Ok(Mutex::new(Reusing { client: settings.reusing_client()?, replace_at }))
        });
        Ok(Self {
            reusing: reusing.collect::<Result<_, reqwest::Error>>()?,
            fresh: settings.client().pool_max_idle_per_host(0).build()?,
            settings: Arc::new(settings),
        })
    }

    /// The client for a host, which may have an open connection to it.
    pub(crate) fn reusing(&self, host: &str) -> reqwest::Client {
        let number = BuildHasherDefault::<DefaultHasher>::new().hash_one(host) % u64::from(CLIENTS);
        let mut reusing = self.reusing[usize::try_from(number).expect("a small number")].lock();
        let now = Instant::now();
        // If no client can be built, the old one still works.
        if now >= reusing.replace_at
            && let Ok(client) = self.settings.reusing_client()
        {
            *reusing = Reusing { client, replace_at: now + self.settings.limits.max_age };
        }
        reusing.client.clone()
    }

    /// A client that opens a new connection.
    pub(crate) fn fresh(&self) -> &reqwest::Client {
        &self.fresh
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Settings {
    fn reusing_client(&self) -> Result<reqwest::Client, reqwest::Error> {
        self.client()
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(self.limits.per_host)
            .build()
    }

    fn client(&self) -> reqwest::ClientBuilder {
        builder(self.tls.clone())
            // Bounds connections that continue in the background after their attempt has ended; the
            // attempt's own deadline is earlier.
            .connect_timeout(self.timeout + Duration::from_secs(1))
            .dns_resolver(self.resolver.clone())
            .connector_layer(self.connections.clone())
    }
}

/// The settings shared by all clients that send webhooks.
pub(crate) fn builder(tls: ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        // Some receivers expect the usual spelling, although names are case-insensitive.
        .http1_title_case_headers()
        // The status line decides the outcome. Headers that break the rules are ignored.
        .http1_max_headers(MAX_RESPONSE_HEADERS)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
}
