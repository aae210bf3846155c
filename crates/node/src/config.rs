//! The configuration: a TOML file and the environment, checked to the last value at start.
//!
//! Who takes part: [`mod@file`] and [`environment`] turn what was written into named values, each
//! with the place where it stands; the [`reader`] hands them out by name and collects every
//! complaint; this module says which options there are, what each may be, and what it is when
//! nobody says. The environment wins over the file. What comes out holds parsed values alone.

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

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use postrider_api::Dashboard;
use postrider_domain::retry::{self, PolicyError};
use postrider_domain::{disable, duration};
use postrider_notify::smtp;

use crate::telemetry::Collector;
pub use cluster::{Cluster, Company};
use reader::{Problem, Reader};
pub use store::{FoundationDb, HAS_FOUNDATIONDB, NO_FOUNDATIONDB, Store, Subspace};

/// Everything that the operator can choose.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who this node is and where its data lie.
    pub node: Node,
    /// Where the HTTP API listens.
    pub http: Http,
    /// How people reach the dashboard.
    pub dashboard: Dashboard,
    /// Where the records are kept.
    pub store: Store,
    /// What the nodes of a cluster have in common.
    pub cluster: Cluster,
    /// How webhooks are sent.
    pub delivery: Delivery,
    /// When a failed delivery is tried again; it holds the time for an attempt, too.
    pub retry: retry::Policy,
    /// How emails are sent.
    pub email: Email,
    /// Whom the node tells of itself.
    pub telemetry: Telemetry,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The data directory; a relative one is relative to the working directory.
    pub data_dir: PathBuf,
}

/// `[http]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address of the API.
    pub listen: SocketAddr,
}

/// `[delivery]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Networks that webhooks may go to although they are not public.
    pub allow_private_targets: Vec<IpNet>,
    /// When an endpoint is disabled.
    pub disable: disable::Policy,
}

/// `[email]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// The mail server.
    pub server: smtp::Server,
    /// Who the emails are from.
    pub sender: smtp::Sender,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// The collector, if there is one.
    pub otlp_endpoint: Option<Collector>,
}

/// A node's name: 1 to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(String);

/// The configuration is refused, for all of these reasons.
#[derive(Debug, PartialEq)]
pub struct Refused {
    problems: Vec<Problem>,
}

/// Bounds of the time for an attempt.
const TIMEOUT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));

impl Config {
    /// Reads `file`, if there is one, and what `environment` overrides.
    ///
    /// # Errors
    /// With everything that is wrong, each with its place.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Refused> {
        let mut reader = Reader::default();
        if let Some(path) = file {
            file::read(path, &mut reader)?;
        }
        environment::read(environment, &mut reader);
        Self::build(&mut reader)
    }

    /// What an operator wants to see of it before trusting it: when retries are made.
    #[must_use]
    pub fn describe(&self) -> String {
        schedule::table(&self.retry)
    }

    fn build(reader: &mut Reader) -> Result<Self, Refused> {
        Self::build_for(reader, HAS_FOUNDATIONDB)
    }

    /// For a build that has the engine of FoundationDB, or one that has not.
    fn build_for(reader: &mut Reader, has_foundationdb: bool) -> Result<Self, Refused> {
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
        reader.refuse_unknown();
        match reader.take_problems() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(Refused { problems }),
        }
    }
}

impl Default for Config {
    /// What `postrider serve` without a file does.
    fn default() -> Self {
        Self::build(&mut Reader::default()).expect("the defaults are good values")
    }
}

impl Node {
    fn build(reader: &mut Reader) -> Self {
        let name = reader.option("node", "name", |text: String| NodeName::parse(&text));
        let data_dir = reader.option("node", "data_dir", |text: String| match text.trim() {
            "" => Err("must name a directory"),
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
        Self {
            allow_private_targets: allowed.unwrap_or_default(),
            disable: disable::Policy { on_gone: on_gone.unwrap_or(false) },
        }
    }
}

impl Email {
    fn build(reader: &mut Reader) -> Self {
        let server = reader.option("email", "smtp_url", |text: String| smtp::Server::parse(&text));
        let sender = reader.option("email", "from", |text: String| smtp::Sender::parse(&text));
        Self {
            server: server.unwrap_or_else(|| {
                smtp::Server::parse("smtp://127.0.0.1:1025").expect("a good URL")
            }),
            sender: sender.unwrap_or_else(|| {
                smtp::Sender::parse("Postrider <webhooks@example.com>").expect("a good mailbox")
            }),
        }
    }
}

/// The schedule that `[retry]` and `[delivery] timeout` make together. What is wrong with one
/// value alone has been said by then, and hides what might be wrong with them together.
fn retry_policy(reader: &mut Reader) -> retry::Policy {
    let default = retry::Policy::default();
    let complaints = reader.complaints();
    let timeout = reader
        .option("delivery", "timeout", |text: String| timeout(&text))
        .unwrap_or(default.timeout());
    let max_retries = reader
        .option("retry", "max_retries", |count: i64| {
            let most = retry::MAX_RETRIES;
            u8::try_from(count)
                .ok()
                .filter(|count| *count <= most)
                .ok_or(format!("must be from 0 to {most}"))
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
    if reader.complaints() > complaints {
        return default;
    }
    retry::Policy::new(max_retries, window, factor, jitter, timeout).unwrap_or_else(|error| {
        let (key, text) = explain(&error);
        reader.complain("retry", key, text);
        default
    })
}

/// Which key is to blame, and the reason without the key's name, which stands before it.
fn explain(error: &PolicyError) -> (&'static str, String) {
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

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration::parse(text).map_err(|error| error.to_string())?;
    let (shortest, longest) = TIMEOUT;
    if (shortest..=longest).contains(&timeout) {
        Ok(timeout)
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

/// What a plain name is.
const PLAIN_NAME: &str = "must have 1 to 64 characters, each a letter, a digit, '.', '_' or '-'";

fn is_plain_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

fn path(text: String) -> Result<PathBuf, &'static str> {
    match text.trim() {
        "" => Err("must name a file"),
        _ => Ok(PathBuf::from(text)),
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Refused {
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

impl std::error::Error for Refused {}
