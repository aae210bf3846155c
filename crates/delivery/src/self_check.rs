//! Checks whether this node can still reach anything: asks its name servers for the names of the
//! targets that it sends to, and connects to those targets without sending anything. Which targets
//! they are, and what the results mean, is decided by `domain::own_outage`.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use postrider_domain::own_outage::{self, Check, Finding, Known, LATELY, Observation, Target};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::{self, Destination};
use crate::resolver::{Answer, GuardedResolver};

/// How long a check takes at most.
pub(crate) const CHECK_TIMEOUT: Duration = Duration::from_millis(1_200);
/// How many targets are probed first. If one of them answers, no other is probed.
const FIRST_PROBES: usize = 2;
/// How long they alone are probed.
const FIRST_PROBES_DELAY: Duration = Duration::from_millis(200);

/// What a check found.
pub(crate) struct Findings {
    pub(crate) check: Check,
    /// Targets that were connected to.
    pub(crate) reached: Vec<(Target, SocketAddr)>,
    /// Targets that failed although others were reached.
    pub(crate) failed: Vec<Target>,
}

/// A target that was probed.
struct Probed {
    target: Target,
    observation: Observation,
    address: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Ipv4,
    Ipv6,
}

/// Checks the surroundings by probing `targets`, the most important first. `now` decides which of
/// them were reached lately.
pub(crate) async fn run(resolver: &GuardedResolver, targets: &[Known], now: Duration) -> Findings {
    let deadline = Instant::now() + CHECK_TIMEOUT;
    let has_resources = has_resources();
    let (dns, ipv4, ipv6) = futures::join!(
        check_dns(resolver, targets, now, deadline),
        check_protocol(Protocol::Ipv4, resolver, targets, now, deadline),
        check_protocol(Protocol::Ipv6, resolver, targets, now, deadline),
    );
    let check =
        Check { has_resources, dns, ipv4: weigh(&ipv4, targets), ipv6: weigh(&ipv6, targets) };
    let mut findings = Findings { check, reached: Vec::new(), failed: Vec::new() };
    for (finding, probed) in [(check.ipv4, ipv4), (check.ipv6, ipv6)] {
        for Probed { target, address, observation } in probed {
            match address {
                Some(address) if observation.reached => findings.reached.push((target, address)),
                _ if finding == Finding::Works => findings.failed.push(target),
                _ => {}
            }
        }
    }
    // A target with addresses of both families may be reached over one of them.
    findings.failed.retain(|failed| findings.reached.iter().all(|(target, _)| target != failed));
    findings
}

/// What the probes of one protocol say. If this machine has no route to an address that it has
/// reached lately, it has lost its route.
fn weigh(probed: &[Probed], targets: &[Known]) -> Finding {
    let lost_route = |probed: &Probed| {
        let known = targets.iter().find(|known| known.target == probed.target);
        let reached = known.into_iter().flat_map(|known| [known.ipv4, known.ipv6]).flatten();
        probed.observation.reached_lately
            && probed.address.is_some_and(|address| {
                reached.map(|(ip, _)| ip).any(|ip| ip == address) && !has_route(address)
            })
    };
    let observations: Vec<_> = probed.iter().map(|probed| probed.observation.clone()).collect();
    own_outage::weigh(&observations, probed.iter().any(lost_route))
}

/// Whether the process can open another socket.
fn has_resources() -> bool {
    let opened = UdpSocket::bind((IpAddr::from([0, 0, 0, 0]), 0));
    !opened.is_err_and(|error| {
        let is_exhaustion = |code| failure::is_resource_exhaustion(code, Destination::Ipv6Only);
        error.raw_os_error().is_some_and(is_exhaustion)
    })
}

/// Whether this machine has a route to an address. Nothing is sent.
fn has_route(address: SocketAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let connected = UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address));
    !connected.is_err_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkDown
                | io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::InvalidInput
        )
    })
}

/// Asks the name servers for the targets' names. They owe an answer for the root of the DNS: if
/// there is none for it, nor for any target, they do not work.
async fn check_dns(
    resolver: &GuardedResolver,
    targets: &[Known],
    now: Duration,
    deadline: Instant,
) -> Finding {
    let named: Vec<_> = targets
        .iter()
        .filter(|known| known.target.host.parse::<IpAddr>().is_err())
        .filter(|known| resolver.needs_name_server(&known.target.host))
        .collect();
    if named.is_empty() {
        return Finding::Unclear;
    }
    let any_reached = named.iter().any(|known| known.reached_lately(now));
    let probes = named.into_iter().map(|known| {
        let reached_lately = known.reached_lately(now);
        let probe = async move {
            let asked = timeout_at(deadline, resolver.ask(&known.target.host)).await;
            let reached = match asked.unwrap_or(Answer::None) {
                Answer::Addresses => true,
                // A name that never existed proves little: the answer may come from a cache.
                Answer::Missing => reached_lately || !any_reached,
                Answer::None => false,
            };
            observation(&known.target, reached_lately, reached)
        };
        Box::pin(probe) as BoxFuture<'_, _>
    });
    let probing = staged(probes.collect(), |seen: &Observation| seen.reached);
    let root = async { timeout_at(deadline, resolver.knows_the_root()).await.unwrap_or(false) };
    tokio::pin!(root);
    tokio::pin!(probing);
    // Only if no target's name is answered is the root's answer waited for.
    tokio::select! {
        biased;
        observations = &mut probing => {
            let answered = observations.iter().any(|seen| seen.reached);
            let proof = !answered && !root.await;
            own_outage::weigh(&observations, proof)
        }
        knows_the_root = &mut root => own_outage::weigh(&probing.await, !knows_the_root),
    }
}

/// Connects to the targets over one protocol.
async fn check_protocol(
    protocol: Protocol,
    resolver: &GuardedResolver,
    targets: &[Known],
    now: Duration,
    deadline: Instant,
) -> Vec<Probed> {
    let probes = targets.iter().filter_map(|known| {
        let reached = match protocol {
            Protocol::Ipv4 => known.ipv4,
            Protocol::Ipv6 => known.ipv6,
        };
        let reached_lately = reached.is_some_and(|(_, at)| now.saturating_sub(at) < LATELY);
        // Whether other targets have IPv6 addresses at all is not known.
        if !reached_lately && protocol == Protocol::Ipv6 {
            return None;
        }
        let address = reached.map(|(address, _)| address);
        let probe = async move {
            let address = match address {
                Some(address) => address,
                None => timeout_at(deadline, find_ipv4(resolver, &known.target)).await.ok()??,
            };
            let reached = timeout_at(deadline, answers(address)).await.unwrap_or(false);
            let observation = observation(&known.target, reached_lately, reached);
            Some(Probed { target: known.target.clone(), observation, address: Some(address) })
        };
        Some(Box::pin(probe) as BoxFuture<'_, _>)
    });
    let is_reached =
        |probed: &Option<Probed>| probed.as_ref().is_some_and(|probed| probed.observation.reached);
    staged(probes.collect(), is_reached).await.into_iter().flatten().collect()
}

/// An IPv4 address of a target that was never reached.
async fn find_ipv4(resolver: &GuardedResolver, target: &Target) -> Option<SocketAddr> {
    let ip = match target.host.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) => {
            let found = resolver.allowed_addresses(&target.host).await.ok()?;
            found.iter().map(SocketAddr::ip).find(IpAddr::is_ipv4)?
        }
    };
    ip.is_ipv4().then(|| SocketAddr::new(ip, target.port))
}

/// Whether anything answers at an address, and be it that it refuses the connection.
async fn answers(address: SocketAddr) -> bool {
    match TcpStream::connect(address).await {
        Ok(_) => true,
        Err(error) => matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
        ),
    }
}

fn observation(target: &Target, reached_lately: bool, reached: bool) -> Observation {
    let site = own_outage::site(&target.host);
    Observation { account: target.account, site, reached_lately, reached }
}

/// Runs the first probes, and soon all others, until the result of one is decisive. Returns the
/// results so far.
async fn staged<T>(probes: Vec<BoxFuture<'_, T>>, is_decisive: impl Fn(&T) -> bool) -> Vec<T> {
    let mut rest = probes.into_iter();
    let mut running: FuturesUnordered<_> = rest.by_ref().take(FIRST_PROBES).collect();
    let mut results = Vec::new();
    let first = async {
        while let Some(result) = running.next().await {
            results.push(result);
            if is_decisive(results.last().expect("just added")) {
                return true;
            }
        }
        false
    };
    let delay = sleep(FIRST_PROBES_DELAY);
    let decided = tokio::select! {
        decided = first => decided,
        () = delay => false,
    };
    if decided {
        return results;
    }
    running.extend(rest);
    while let Some(result) = running.next().await {
        results.push(result);
        if is_decisive(results.last().expect("just added")) {
            break;
        }
    }
    results
}
