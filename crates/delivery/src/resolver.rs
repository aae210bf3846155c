//! Name resolution that returns only allowed addresses. It runs for every new connection, so that a
//! name that resolves to an internal address is blocked even if it was public when configured.
//!
//! An endpoint's name is absolute: search domains never apply. The hosts file comes first. Then A
//! and AAAA are looked up concurrently (RFC 8305 §3), so that a name server that ignores one of
//! them does not delay the other. Results are cached within bounds, and changes to resolv.conf and
//! the hosts file take effect without a restart.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name as DnsName, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;
use parking_lot::Mutex;
use postrider_domain::target::{AddressPolicy, ForbiddenAddress, TargetUrl};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::time::Instant;

use crate::failure::Destination;
use crate::{address_race, connections};

/// How long a result with addresses is cached at least and at most, whatever its TTL.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(5 * 60);
/// How long it is cached at most that a name does not exist.
const MAX_NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// How long to wait for AAAA once A is known (RFC 8305 §8).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);
/// How long a check of the name servers waits before it asks again.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);
/// How often the files are checked for changes.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
#[error("cannot use the system's DNS configuration ({path}): {source}", path = .path.display())]
pub struct ResolverError {
    path: PathBuf,
    source: NetError,
}

/// Why this machine cannot look up names.
#[derive(Debug, thiserror::Error)]
pub enum NameServersError {
    #[error(transparent)]
    Config(#[from] ResolverError),
    #[error("no name server in /etc/resolv.conf answers")]
    Silent,
}

/// Asks this machine's name servers for the root of the DNS, which every resolver knows, and then
/// for `name`, like a webhook to it would.
///
/// # Errors
/// If they answer neither.
pub async fn check_name_servers(name: Option<&str>) -> Result<(), NameServersError> {
    let resolver = GuardedResolver::new(Arc::new(AddressPolicy::default()))?;
    if resolver.knows_the_root().await {
        return Ok(());
    }
    // A resolver of a closed network may know its own names only.
    match name {
        Some(name) if resolver.needs_name_server(name) => match resolver.ask(name).await {
            Answer::Addresses | Answer::Missing => Ok(()),
            Answer::None => Err(NameServersError::Silent),
        },
        _ => Err(NameServersError::Silent),
    }
}

/// A lookup without addresses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("the name does not exist or has no addresses")]
    NotFound,
    #[error("no name server gave a valid answer")]
    Failed(#[source] NetError),
}

/// The HTTP client's resolver. It is fully asynchronous, so that slow lookups block no thread.
#[derive(Clone)]
pub(crate) struct GuardedResolver {
    system: Arc<SystemResolver>,
    policy: Arc<AddressPolicy>,
}

impl GuardedResolver {
    pub(crate) fn new(policy: Arc<AddressPolicy>) -> Result<Self, ResolverError> {
        let files = Files {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            dns_port: 53,
        };
        Ok(Self { system: Arc::new(SystemResolver::load(files)?), policy })
    }

    /// What kind of address a request to this target goes to, considering only allowed addresses.
    /// If the name can no longer be resolved, IPv4 is assumed.
    pub(crate) async fn destination(&self, target: &TargetUrl) -> Destination {
        let url = target.origin();
        let has_ipv4 = match url.domain() {
            Some(name) => match self.system.lookup(name).await {
                Ok(found) => found.iter().any(|ip| ip.is_ipv4() && self.policy.check(*ip).is_ok()),
                Err(_) => true,
            },
            None => url.host_str().is_some_and(|host| !host.starts_with('[')),
        };
        if has_ipv4 { Destination::Ipv4 } else { Destination::Ipv6Only }
    }

    /// Whether a name is resolved by the name servers, and not by the hosts file.
    pub(crate) fn needs_name_server(&self, name: &str) -> bool {
        !self.system.config().hosts.contains_key(&normalize(name))
    }

    /// Asks the name servers for a name, whatever is cached.
    pub(crate) async fn ask(&self, name: &str) -> Answer {
        self.system.config().ask(&normalize(name)).await
    }

    /// Whether the name servers answer for the root of the DNS, which every resolver knows.
    pub(crate) async fn knows_the_root(&self) -> bool {
        let found = self.system.config().uncached.lookup(DnsName::root(), RecordType::NS).await;
        found.map_or_else(|error| error.is_no_records_found(), |_| true)
    }

    /// The addresses of a name that webhooks may be sent to.
    pub(crate) async fn allowed_addresses(
        &self,
        name: &str,
    ) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let mut forbidden = None;
        let mut allowed = Vec::new();
        for ip in self.system.lookup(name).await? {
            match self.policy.check(ip) {
                Ok(()) => allowed.push(SocketAddr::new(ip, 0)),
                Err(error) => forbidden = Some(error),
            }
        }
        match forbidden {
            Some(ForbiddenAddress { host }) if allowed.is_empty() => {
                Err(ForbiddenAddress { host: format!("{name}, which resolves to {host},") }.into())
            }
            _ => Ok(allowed),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            connections::resolving();
            let addresses = guard.allowed_addresses(name.as_str()).await?;
            connections::resolved(&addresses);
            Ok(order(addresses).await)
        })
    }
}

/// Orders the addresses of the current task's request for the client's connector.
pub(crate) async fn order(addresses: Vec<SocketAddr>) -> Addrs {
    let addresses = match connections::port() {
        Some(port) => address_race::fastest_first(addresses, port).await,
        None => addresses,
    };
    Box::new(addresses.into_iter())
}

/// The system's files.
pub(crate) struct Files {
    pub(crate) resolv_conf: PathBuf,
    pub(crate) hosts: PathBuf,
    /// The port of the name servers, which the file cannot set.
    pub(crate) dns_port: u16,
}

/// What changes when a file is written or replaced.
type Stamp = Option<(SystemTime, u64)>;

/// Resolves names according to the system's files, as they are now.
struct SystemResolver {
    files: Files,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    config: Arc<Config>,
    stamps: [Stamp; 2],
    checked_at: Instant,
}

struct Config {
    dns: TokioResolver,
    /// For checks of the name servers, which want an answer soon.
    uncached: TokioResolver,
    hosts: HashMap<String, Vec<IpAddr>>,
}

impl SystemResolver {
    fn load(files: Files) -> Result<Self, ResolverError> {
        let stamps = files.stamps();
        let config = Arc::new(Config::load(&files)?);
        let loaded = Loaded { config, stamps, checked_at: Instant::now() };
        Ok(Self { files, loaded: Mutex::new(loaded) })
    }

    /// The configuration. Reads the files again if they have changed.
    fn config(&self) -> Arc<Config> {
        let mut loaded = self.loaded.lock();
        if loaded.checked_at.elapsed() >= RELOAD_INTERVAL {
            loaded.checked_at = Instant::now();
            let stamps = self.files.stamps();
            if loaded.stamps != stamps {
                match Config::load(&self.files) {
                    Ok(config) => {
                        tracing::info!("the system's DNS configuration has changed; reloaded it");
                        loaded.config = Arc::new(config);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "kept the previous DNS configuration");
                    }
                }
                loaded.stamps = stamps;
            }
        }
        loaded.config.clone()
    }

    /// The addresses of an absolute name, in the order in which to try them.
    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let config = self.config();
        let name = normalize(name);
        match config.hosts.get(&name) {
            Some(found) => Ok(found.clone()),
            None => config.lookup_dns(&name).await,
        }
    }
}

impl Files {
    fn stamps(&self) -> [Stamp; 2] {
        [&self.resolv_conf, &self.hosts].map(|path| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        })
    }
}

impl Config {
    fn load(files: &Files) -> Result<Self, ResolverError> {
        let error = |source| ResolverError { path: files.resolv_conf.clone(), source };
        let text = std::fs::read(&files.resolv_conf).map_err(|source| error(source.into()))?;
        let (config, mut options) = parse_resolv_conf(text).map_err(error)?;
        options.use_hosts_file = ResolveHosts::Never;
        options.positive_min_ttl = Some(MIN_TTL);
        options.positive_max_ttl = Some(MAX_TTL);
        options.negative_max_ttl = Some(MAX_NEGATIVE_TTL);
        let mut name_servers = config.name_servers;
        let connections = name_servers.iter_mut().flat_map(|server| &mut server.connections);
        connections.for_each(|connection| connection.port = files.dns_port);
        // Search domains are left out.
        let config = ResolverConfig::from_name_servers(name_servers);
        let build = |options| {
            let runtime = TokioRuntimeProvider::default();
            let mut dns = TokioResolver::builder_with_config(config.clone(), runtime);
            *dns.options_mut() = options;
            dns.build().map_err(error)
        };
        let mut uncached: ResolverOpts = options.clone();
        (uncached.cache_size, uncached.timeout) = (0, ASK_TIMEOUT);
        let hosts = read_hosts(&files.hosts);
        Ok(Self { dns: build(options)?, uncached: build(uncached)?, hosts })
    }

    /// Asks for both families, and returns the first answer.
    async fn ask(&self, name: &str) -> Answer {
        let Ok(name) = absolute(name) else { return Answer::Missing };
        let families = [RecordType::A, RecordType::AAAA];
        let queries = families.map(|family| query(&self.uncached, name.clone(), family));
        let mut answers: FuturesUnordered<_> = queries.into_iter().collect();
        let mut answer = Answer::None;
        while let Some(found) = answers.next().await {
            match found {
                Ok(addresses) if !addresses.is_empty() => return Answer::Addresses,
                Ok(_) => answer = Answer::Missing,
                Err(_) => {}
            }
        }
        answer
    }

    async fn lookup_dns(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let name = absolute(name)?;
        let (v6, v4) = match select(
            Box::pin(query(&self.dns, name.clone(), RecordType::AAAA)),
            Box::pin(query(&self.dns, name, RecordType::A)),
        )
        .await
        {
            Either::Left((v6, pending)) => match v6 {
                Ok(v6) if !v6.is_empty() => (Ok(v6), grace(pending).await),
                v6 => (v6, pending.await),
            },
            Either::Right((v4, pending)) => match v4 {
                Ok(v4) if !v4.is_empty() => (grace(pending).await, Ok(v4)),
                v4 => (pending.await, v4),
            },
        };
        match (v6, v4) {
            (Ok(v6), Ok(v4)) if v6.is_empty() && v4.is_empty() => Err(LookupError::NotFound),
            (Ok(found), Err(error)) | (Err(error), Ok(found)) if found.is_empty() => Err(error),
            (Err(error), Err(_)) => Err(error),
            (v6, v4) => Ok(alternate(v6.unwrap_or_default(), v4.unwrap_or_default())),
        }
    }
}

/// What the name servers said about a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Addresses,
    /// The name does not exist or has no addresses.
    Missing,
    /// Nothing, or that they could not find out.
    None,
}

fn normalize(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

fn absolute(name: &str) -> Result<DnsName, LookupError> {
    let labels = name.split('.').map(str::as_bytes);
    // No such name can exist. Registration rejects it, but there may be older endpoints.
    let mut name = DnsName::from_labels(labels).map_err(|_| LookupError::NotFound)?;
    // No search domain is appended to an absolute name.
    name.set_fqdn(true);
    Ok(name)
}

/// The addresses of one family; empty if there are none.
async fn query(
    dns: &TokioResolver,
    name: DnsName,
    family: RecordType,
) -> Result<Vec<IpAddr>, LookupError> {
    match dns.lookup(name, family).await {
        Ok(found) => {
            Ok(found.answers().iter().filter_map(|record| record.data.ip_addr()).collect())
        }
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(error) => Err(LookupError::Failed(error)),
    }
}

/// Waits briefly for the other family, since the first has addresses.
async fn grace(
    pending: impl Future<Output = Result<Vec<IpAddr>, LookupError>>,
) -> Result<Vec<IpAddr>, LookupError> {
    tokio::time::timeout(RESOLUTION_DELAY, pending).await.unwrap_or_else(|_| Ok(Vec::new()))
}

/// Alternates between the families, beginning with IPv6 (RFC 8305 §4).
fn alternate(v6: Vec<IpAddr>, v4: Vec<IpAddr>) -> Vec<IpAddr> {
    let longest = v6.len().max(v4.len());
    (0..longest).flat_map(|i| [v6.get(i), v4.get(i)]).flatten().copied().collect()
}

/// The names in a hosts file (hosts(5)), in lower case; empty if the file cannot be read.
fn read_hosts(path: &Path) -> HashMap<String, Vec<IpAddr>> {
    let text = std::fs::read(path).unwrap_or_default();
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        // A zone index (fe80::1%lo) makes no sense for an endpoint.
        let Some(Ok(ip)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for name in words {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let addresses = hosts.entry(name).or_default();
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
    }
    hosts
}

#[cfg(test)]
impl GuardedResolver {
    /// Resolves names by a test's name server.
    pub(crate) fn of_files(files: Files, policy: AddressPolicy) -> Self {
        let system = SystemResolver::load(files).expect("loads");
        Self { system: Arc::new(system), policy: Arc::new(policy) }
    }
}

#[cfg(test)]
mod tests;
