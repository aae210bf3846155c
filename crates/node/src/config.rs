//! The configuration: a TOML file and environment variables, fully validated at start.
//!
//! [`mod@file`] and [`environment`] produce named raw values, each with its location. The
//! [`reader`] looks them up by name and collects all errors. This module defines the options,
//! their validation and their defaults. Environment variables override the file. [`Config`] holds
//! only parsed values.

mod cluster;
mod dashboard;
mod environment;
mod file;
mod reader;
mod schedule;
mod store;
mod suggest;
#[cfg(test)]
mod tests;
mod toml_value;
mod value;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use postrider_api::Dashboard;
use postrider_delivery::ConnectionLimits;
use postrider_domain::disable::{self, DisableWhen};
use postrider_domain::duration;
use postrider_domain::retry::{self, PolicyError};
use postrider_notify::smtp;
use rustix::system::uname;

use crate::telemetry::Collector;
pub use cluster::{Cluster, Peering};
use reader::Reader;
pub use store::{FoundationDb, HAS_FOUNDATIONDB, NO_FOUNDATIONDB, Store, Subspace};
use value::Problem;

/// All configuration options.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The node's name and data directory.
    pub node: Node,
    /// The HTTP API.
    pub http: Http,
    /// The dashboard's public URL and embedding.
    pub dashboard: Dashboard,
    /// The storage engine.
    pub store: Store,
    /// Shards, and the connections between nodes.
    pub cluster: Cluster,
    /// How webhooks are sent.
    pub delivery: Delivery,
    /// The retry policy, which includes the attempt timeout.
    pub retry: retry::Policy,
    /// How emails are sent.
    pub email: Email,
    /// Telemetry export.
    pub telemetry: Telemetry,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: NodeName,
    /// The data directory; a relative one is relative to the working directory.
    pub data_dir: PathBuf,
}

/// `[http]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    pub listen: SocketAddr,
}

/// `[delivery]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Private networks to which webhooks may be sent.
    pub allow_private_targets: Vec<IpNet>,
    /// When to disable an endpoint.
    pub disable: disable::Policy,
    pub connections: ConnectionLimits,
}

/// `[email]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    pub server: smtp::Server,
    /// The From address.
    pub sender: smtp::FromAddress,
    /// The name in EHLO.
    pub hello: smtp::HelloName,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The OpenTelemetry collector, if configured.
    pub otlp_endpoint: Option<Collector>,
}

/// A node's name: 1 to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(String);

/// The configuration is invalid. Lists every problem.
#[derive(Debug, PartialEq)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

/// The allowed range of the attempt timeout.
const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));
/// The allowed range of the maximum age of connections to endpoints.
const CONNECTION_MAX_AGE_RANGE: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(3_600));

impl Config {
    /// Loads `file`, if given, and applies the overrides in `environment`.
    ///
    /// # Errors
    /// Reports every problem, each with its location.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let mut reader = Reader::default();
        if let Some(path) = file {
            file::read(path, &mut reader)?;
        }
        environment::read(environment, &mut reader);
        Self::build(&mut reader)
    }

    /// A summary for the operator: the retry schedule.
    #[must_use]
    pub fn describe(&self) -> String {
        schedule::table(&self.retry)
    }

    fn build(reader: &mut Reader) -> Result<Self, ConfigError> {
        Self::build_for(reader, HAS_FOUNDATIONDB)
    }

    /// Builds the configuration for a binary with or without the FoundationDB engine.
    fn build_for(reader: &mut Reader, has_foundationdb: bool) -> Result<Self, ConfigError> {
        let config = Self {
            node: Node::build(reader),
            http: Http::build(reader),
            dashboard: dashboard::build(reader),
            store: Store::build(reader, has_foundationdb),
            cluster: Cluster::build(reader),
            delivery: Delivery::build(reader),
            retry: retry_policy(reader),
            email: Email::build(reader),
            telemetry: Telemetry::build(reader),
        };
        reader.report_unknown();
        match reader.take_problems() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(ConfigError { problems }),
        }
    }
}

impl Default for Config {
    /// The configuration of `postrider serve` without a file.
    fn default() -> Self {
        Self::build(&mut Reader::default()).expect("the defaults are valid")
    }
}

impl Node {
    fn build(reader: &mut Reader) -> Self {
        let name = reader.option("node", "name", |text: String| NodeName::parse(&text));
        let data_dir = reader.option("node", "data_dir", |text: String| match text.trim() {
            "" => Err("must not be empty; give the path of a directory"),
            _ => Ok(PathBuf::from(text)),
        });
        Self {
            name: name.unwrap_or_else(|| NodeName("node-1".to_owned())),
            data_dir: data_dir.unwrap_or_else(|| PathBuf::from("postrider-data")),
        }
    }
}

impl Http {
    fn build(reader: &mut Reader) -> Self {
        let listen = reader.option("http", "listen", |text: String| address(&text));
        Self { listen: listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))) }
    }
}

impl Telemetry {
    fn build(reader: &mut Reader) -> Self {
        let endpoint = reader.option("telemetry", "otlp_endpoint", |url: String| {
            if url.trim().is_empty() { Ok(None) } else { url.trim().parse().map(Some) }
        });
        Self { otlp_endpoint: endpoint.flatten() }
    }
}

impl Delivery {
    fn build(reader: &mut Reader) -> Self {
        let allowed = reader.list("delivery", "allow_private_targets", |item| {
            item.parse::<IpNet>().map_err(|_| {
                format!("\"{item}\" must be a network in CIDR form, such as 10.0.0.0/8 or ::1/128")
            })
        });
        let on_gone = reader.option("delivery", "gone_disables", |on: bool| Ok::<_, String>(on));
        let when = reader.option("delivery", "disable_when", |text: String| {
            let named = DisableWhen::ALL.into_iter().find(|when| when.as_str() == text);
            let names = DisableWhen::ALL.map(|when| format!("\"{}\"", when.as_str()));
            named.ok_or_else(|| format!("must be {}", names.join(" or ")))
        });
        let (when, on_gone) = (when.unwrap_or_default(), on_gone.unwrap_or(false));
        let default = ConnectionLimits::default();
        let max_age = reader.option("delivery", "connection_max_age", |text: String| {
            duration_within(CONNECTION_MAX_AGE_RANGE, &text)
        });
        let per_host = reader.option("delivery", "per_host", |count: i64| {
            let max = ConnectionLimits::MAX_PER_HOST;
            let count = usize::try_from(count).ok().filter(|count| (1..=max).contains(count));
            count.ok_or_else(|| format!("must be from 1 to {max}"))
        });
        Self {
            allow_private_targets: allowed.unwrap_or_default(),
            disable: disable::Policy { when, on_gone },
            connections: ConnectionLimits {
                max_age: max_age.unwrap_or(default.max_age),
                per_host: per_host.unwrap_or(default.per_host),
            },
        }
    }
}

impl Email {
    fn build(reader: &mut Reader) -> Self {
        let server = reader.option("email", "smtp_url", |text: String| smtp::Server::parse(&text));
        let sender = reader.option("email", "from", |text: String| smtp::FromAddress::parse(&text));
        let hello = reader.option("email", "hello", |text: String| match text.as_str() {
            "" => Ok(None),
            text => smtp::HelloName::parse(text).map(Some),
        });
        let sender = sender.unwrap_or_else(|| {
            smtp::FromAddress::parse("Postrider <webhooks@example.com>").expect("a valid mailbox")
        });
        let of_machine = || {
            let machine = uname();
            smtp::HelloName::of_machine(&machine.nodename().to_string_lossy(), &sender)
        };
        Self {
            server: server.unwrap_or_else(|| {
                smtp::Server::parse("smtp://127.0.0.1:1025").expect("a valid URL")
            }),
            hello: hello.flatten().unwrap_or_else(of_machine),
            sender,
        }
    }
}

/// Builds the retry policy from `[retry]` and `[delivery] timeout`. The combination is validated
/// only if each value is valid.
fn retry_policy(reader: &mut Reader) -> retry::Policy {
    let default = retry::Policy::default();
    let errors_before = reader.error_count();
    let timeout = reader
        .option("delivery", "timeout", |text: String| duration_within(TIMEOUT_RANGE, &text))
        .unwrap_or(default.timeout());
    let max_retries = reader
        .option("retry", "max_retries", |count: i64| {
            let max = retry::MAX_RETRIES;
            u8::try_from(count)
                .ok()
                .filter(|count| *count <= max)
                .ok_or(format!("must be from 0 to {max}"))
        })
        .unwrap_or(default.max_retries());
    let window = reader
        .option("retry", "window", |text: String| duration::parse(&text))
        .unwrap_or(default.window());
    let factor = reader
        .option("retry", "factor", |factor: f64| Ok::<_, String>(factor))
        .unwrap_or(default.factor());
    let jitter = reader
        .option("retry", "jitter", |jitter: f64| Ok::<_, String>(jitter))
        .unwrap_or(default.jitter());
    if reader.error_count() > errors_before {
        return default;
    }
    retry::Policy::new(max_retries, window, factor, jitter, timeout).unwrap_or_else(|error| {
        let (key, text) = policy_error(&error);
        reader.error("retry", key, text);
        default
    })
}

/// The key at fault, and the message without the key's name, which the error prefixes.
fn policy_error(error: &PolicyError) -> (&'static str, String) {
    let (key, text) = match error {
        PolicyError::MaxRetries | PolicyError::FitsNoWindow { .. } => {
            ("max_retries", error.to_string())
        }
        PolicyError::Factor => ("factor", error.to_string()),
        PolicyError::Jitter => ("jitter", error.to_string()),
        PolicyError::WindowTooLong => ("window", error.to_string()),
        PolicyError::WindowTooSmall { attempts, timeout, smallest } => {
            let text = format!(
                "is too small for {attempts} attempts that may each take {}; the smallest that \
                 fits is {}",
                duration::format(*timeout),
                duration::format(*smallest)
            );
            ("window", text)
        }
    };
    let bare = text.strip_prefix(key).map(|rest| rest.trim().to_owned());
    (key, bare.unwrap_or(text))
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8080 or [::]:8080")
}

fn duration_within(
    (shortest, longest): (Duration, Duration),
    text: &str,
) -> Result<Duration, String> {
    let duration = duration::parse(text).map_err(|error| error.to_string())?;
    if (shortest..=longest).contains(&duration) {
        Ok(duration)
    } else {
        let (shortest, longest) = (duration::format(shortest), duration::format(longest));
        Err(format!("must be from {shortest} to {longest}"))
    }
}

impl NodeName {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if is_plain_name(text) { Ok(Self(text.to_owned())) } else { Err(PLAIN_NAME) }
    }
}

const PLAIN_NAME: &str = "must have 1 to 64 characters, each a letter, a digit, '.', '_' or '-'";

fn is_plain_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

fn path(text: String) -> Result<PathBuf, &'static str> {
    match text.trim() {
        "" => Err("must not be empty; give the path of a file"),
        _ => Ok(PathBuf::from(text)),
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
