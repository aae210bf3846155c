//! The HTTP clients. Their idle connections are reused, but only up to a maximum age, so that a
//! busy endpoint follows its DNS records to another server. The client library does not bound the
//! age of a connection, so whole clients are replaced. There are several, which are replaced at
//! different times, so that not all connections end at once. A client also determines how header
//! names are spelled ([`Spelling`]).

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use parking_lot::Mutex;
use postrider_domain::headers::CustomHeaders;
use rustls::ClientConfig;
use tokio::time::Instant;

use crate::connections::{ConnectionCounter, ConnectionLimits};
use crate::resolver::GuardedResolver;

/// The number of clients for each spelling. Each serves a part of the hosts.
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
    lower_case: ClientSet,
    title_case: ClientSet,
}

/// The clients for one spelling.
#[derive(Clone)]
struct ClientSet {
    spelling: Spelling,
    reusing: Arc<[Mutex<Reusing>]>,
    /// Opens a connection for each request.
    fresh: reqwest::Client,
}

/// How the names of a request's headers are spelled. HTTP ignores case, but some receivers do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// `webhook-id`
    LowerCase,
    /// `Webhook-Id`
    TitleCase,
}

impl Spelling {
    /// The spelling for an endpoint's requests: that of its custom headers, as far as the client
    /// allows.
    pub(crate) fn of(headers: &CustomHeaders) -> Self {
        let has_capitals = |name: &str| name.bytes().any(|byte| byte.is_ascii_uppercase());
        if headers.iter().any(|(name, _)| has_capitals(name)) {
            Self::TitleCase
        } else {
            Self::LowerCase
        }
    }

    /// A header name as it is sent.
    pub(crate) fn apply(self, name: &HeaderName) -> String {
        let name = name.as_str();
        if self == Self::LowerCase {
            return name.to_owned();
        }
        let mut begins_word = true;
        let capitalize = |letter: char| {
            let capital = if begins_word { letter.to_ascii_uppercase() } else { letter };
            begins_word = letter == '-';
            capital
        };
        name.chars().map(capitalize).collect()
    }
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
        Ok(Self {
            lower_case: ClientSet::new(&settings, Spelling::LowerCase)?,
            title_case: ClientSet::new(&settings, Spelling::TitleCase)?,
            settings: Arc::new(settings),
        })
    }

    /// The client for a host, which may have an open connection to it.
    pub(crate) fn reusing(&self, host: &str, spelling: Spelling) -> reqwest::Client {
        self.set(spelling).reusing(&self.settings, host)
    }

    /// A client that opens a new connection.
    pub(crate) fn fresh(&self, spelling: Spelling) -> &reqwest::Client {
        &self.set(spelling).fresh
    }

    fn set(&self, spelling: Spelling) -> &ClientSet {
        match spelling {
            Spelling::LowerCase => &self.lower_case,
            Spelling::TitleCase => &self.title_case,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl ClientSet {
    fn new(settings: &Settings, spelling: Spelling) -> Result<Self, reqwest::Error> {
        let now = Instant::now();
        let reusing = (1..=CLIENTS).map(|number| {
            let replace_at = now + settings.limits.max_age * number / CLIENTS;
            Ok(Mutex::new(Reusing { client: settings.reusing_client(spelling)?, replace_at }))
        });
        Ok(Self {
            spelling,
            reusing: reusing.collect::<Result<_, reqwest::Error>>()?,
            fresh: settings.client(spelling).pool_max_idle_per_host(0).build()?,
        })
    }

    fn reusing(&self, settings: &Settings, host: &str) -> reqwest::Client {
        let number = BuildHasherDefault::<DefaultHasher>::new().hash_one(host) % u64::from(CLIENTS);
        let mut reusing = self.reusing[usize::try_from(number).expect("a small number")].lock();
        let now = Instant::now();
        // If no client can be built, the old one still works.
        if now >= reusing.replace_at
            && let Ok(client) = settings.reusing_client(self.spelling)
        {
            *reusing = Reusing { client, replace_at: now + settings.limits.max_age };
        }
        reusing.client.clone()
    }
}

impl Settings {
    fn reusing_client(&self, spelling: Spelling) -> Result<reqwest::Client, reqwest::Error> {
        self.client(spelling)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(self.limits.per_host)
            .build()
    }

    fn client(&self, spelling: Spelling) -> reqwest::ClientBuilder {
        builder(self.tls.clone(), spelling)
            // Bounds connections that continue in the background after their attempt has ended; the
            // attempt's own deadline is earlier.
            .connect_timeout(self.timeout + Duration::from_secs(1))
            .dns_resolver(self.resolver.clone())
            .connector_layer(self.connections.clone())
    }
}

/// The settings shared by all clients that send webhooks.
pub(crate) fn builder(tls: ClientConfig, spelling: Spelling) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder();
    let builder = match spelling {
        Spelling::LowerCase => builder,
        Spelling::TitleCase => builder.http1_title_case_headers(),
    };
    builder
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .http1_only()
        // The status line decides the outcome. Headers that break the rules are ignored.
        .http1_max_headers(MAX_RESPONSE_HEADERS)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
}
