//! Whether failures are this node's own outage, rather than the endpoints' failures.
//!
//! A node whose name servers are silent, whose network is down or which has no file descriptors
//! left cannot reach any endpoint. Those attempts say nothing about the endpoints, so they are not
//! counted. The rule has three parts, all pure:
//!
//! - [`Targets`] remembers the targets that this node sends to, at most two for each account, and
//!   when each was last reached.
//! - After a failure in which the target gave no sign of life, the node checks its surroundings: it
//!   looks up the names of those targets and connects to them. [`weigh`] decides what the results
//!   say. A single target that is reached shows that this node works. Only if at least
//!   [`MIN_UNRELATED`] targets fail that belong to different accounts *and* to different sites is
//!   the node at fault. So neither one customer's dead host, nor a tenant with a thousand dead
//!   names, nor a dead provider that all tenants share is mistaken for an outage.
//! - [`OwnOutage`] is the state. In an outage, one request at a time is sent, and the checks go on.
//!   Once one succeeds, the limit doubles every second.
//!
//! Targets that have never been reached are weak evidence, because they may never have existed.
//! They count only while this node has not reached any target, as after a start during an outage.
//!
//! [`ClockOffsets`] is a rule of its own: it compares this node's clock with those of the
//! endpoints, because receivers reject signatures with a wrong time.
//!
//! Times are the node's monotonic uptime.

use std::time::Duration;

use crate::ids::AccountId;
use crate::time::Timestamp;

mod clock_offsets;
mod targets;

pub use clock_offsets::{ClockOffsets, TOLERANCE, may_reject_the_time};
pub use targets::{Known, LATELY, MAX_PER_ACCOUNT, MAX_TARGETS, Target, Targets, site};

/// How many unrelated targets must fail, and none be reached, before the node is at fault.
pub const MIN_UNRELATED: usize = 3;
/// How long the limit of requests stays the same after an outage before it doubles.
const DOUBLING_INTERVAL: Duration = Duration::from_secs(1);

/// What this node needs in order to reach a target. Each can fail on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Facility {
    /// Its name servers.
    Dns,
    Ipv4,
    /// For targets that have only IPv6 addresses.
    Ipv6,
}

/// What an outage consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The name servers do not resolve names.
    Dns,
    /// No target can be connected to.
    Network,
    /// No target can be connected to over IPv6, but over IPv4.
    Ipv6,
    /// The process has no file descriptors or memory left.
    Resources,
    /// The clock is so wrong that receivers reject the signatures.
    Clock,
}

impl Cause {
    pub const ALL: [Self; 5] = [Self::Dns, Self::Network, Self::Ipv6, Self::Resources, Self::Clock];

    /// The name in metrics, the API and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Network => "network",
            Self::Ipv6 => "ipv6",
            Self::Resources => "resources",
            Self::Clock => "clock",
        }
    }

    /// What is wrong, for the operator.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Dns => "its name servers do not resolve names",
            Self::Network => "it cannot connect to any endpoint",
            Self::Ipv6 => "it cannot connect to any endpoint over IPv6",
            Self::Resources => "it has run out of file descriptors or memory",
            Self::Clock => "its clock differs from those of the endpoints",
        }
    }

    /// Whether the node's limits of requests are lowered. Otherwise only few endpoints are affected.
    #[must_use]
    pub const fn lowers_limits(self) -> bool {
        match self {
            Self::Dns | Self::Network | Self::Resources => true,
            Self::Ipv6 | Self::Clock => false,
        }
    }

    /// Whether a target that needs `facility` is affected.
    const fn affects(self, facility: Facility) -> bool {
        match self {
            Self::Network | Self::Resources => true,
            Self::Dns => matches!(facility, Facility::Dns),
            Self::Ipv6 => matches!(facility, Facility::Ipv6),
            Self::Clock => false,
        }
    }
}

/// An outage of a node, as its operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    pub cause: Cause,
    /// When it was noticed.
    pub since: Timestamp,
}

/// What one probe of a target showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub account: AccountId,
    /// See [`site`].
    pub site: String,
    /// Whether the target had been reached lately.
    pub reached_lately: bool,
    /// Whether it was reached now.
    pub reached: bool,
}

/// What a check says about one facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It works.
    Works,
    /// It does not work, which is not the endpoints' fault.
    Broken,
    /// There is too little evidence. Failures count.
    Unclear,
}

/// What the results of a check say about a facility. `proof` is what the machine itself knows: for
/// example, that it has no route to an address that it has reached lately.
#[must_use]
pub fn weigh(observations: &[Observation], proof: bool) -> Finding {
    if observations.iter().any(|seen| seen.reached) {
        return Finding::Works;
    }
    let reached_lately = observations.iter().any(|seen| seen.reached_lately);
    let evidence: Vec<_> = observations
        .iter()
        .filter(|seen| seen.reached_lately || !reached_lately)
        .map(|seen| (seen.account, seen.site.as_str()))
        .collect();
    if proof || unrelated(&evidence) >= MIN_UNRELATED { Finding::Broken } else { Finding::Unclear }
}

/// The largest number of targets of which no two have the account or the site in common: a maximum
/// matching of accounts and sites, up to [`MIN_UNRELATED`].
fn unrelated(targets: &[(AccountId, &str)]) -> usize {
    let mut accounts: Vec<_> = targets.iter().map(|(account, _)| *account).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let mut matched: Vec<(&str, AccountId)> = Vec::new();
    for account in accounts {
        augment(account, targets, &mut matched, &mut Vec::new());
        if matched.len() >= MIN_UNRELATED {
            break;
        }
    }
    matched.len()
}

/// Finds a site for an account, moving other accounts to other sites of theirs if necessary.
fn augment<'a>(
    account: AccountId,
    targets: &[(AccountId, &'a str)],
    matched: &mut Vec<(&'a str, AccountId)>,
    visited: &mut Vec<&'a str>,
) -> bool {
    for (_, site) in targets.iter().filter(|(owner, _)| *owner == account) {
        if visited.contains(site) {
            continue;
        }
        visited.push(site);
        match matched.iter().position(|(taken, _)| taken == site) {
            None => {
                matched.push((site, account));
                return true;
            }
            Some(index) => {
                if augment(matched[index].1, targets, matched, visited) {
                    matched[index].1 = account;
                    return true;
                }
            }
        }
    }
    false
}

/// The result of one check of the surroundings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Whether the process can open sockets.
    pub has_resources: bool,
    pub dns: Finding,
    pub ipv4: Finding,
    pub ipv6: Finding,
}

impl Check {
    /// What it says about a facility.
    #[must_use]
    pub const fn of(&self, facility: Facility) -> Finding {
        match facility {
            Facility::Dns => self.dns,
            Facility::Ipv4 => self.ipv4,
            Facility::Ipv6 => self.ipv6,
        }
    }

    fn cause(&self) -> Option<Cause> {
        let is_broken = |facility| self.of(facility) == Finding::Broken;
        if !self.has_resources {
            Some(Cause::Resources)
        } else if is_broken(Facility::Ipv4) && self.ipv6 != Finding::Works {
            Some(Cause::Network)
        } else if is_broken(Facility::Dns) {
            Some(Cause::Dns)
        } else if is_broken(Facility::Ipv6) {
            Some(Cause::Ipv6)
        } else {
            None
        }
    }

    /// Whether it shows that an outage is over. Unclear results do not.
    fn ends(&self, cause: Cause) -> bool {
        match cause {
            Cause::Resources => self.has_resources,
            Cause::Network => self.ipv4 == Finding::Works || self.ipv6 == Finding::Works,
            Cause::Dns => self.dns == Finding::Works,
            Cause::Ipv6 => self.ipv6 == Finding::Works,
            Cause::Clock => true,
        }
    }
}

/// The state of a node's surroundings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnOutage {
    /// No outage.
    #[default]
    None,
    /// An outage: of what is affected, one request at a time is sent.
    Ongoing {
        cause: Cause,
        /// When it was noticed.
        since: Duration,
    },
    /// An outage that has ended: sending resumes step by step.
    Ended {
        cause: Cause,
        /// When it ended.
        at: Duration,
    },
}

/// How many requests may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// To all targets.
    pub all: usize,
    /// To targets whose names must be resolved.
    pub names: usize,
}

impl OwnOutage {
    /// Applies the result of a check.
    #[must_use]
    pub fn after_check(self, check: &Check, now: Duration) -> Self {
        match (self, check.cause()) {
            (Self::Ongoing { since, .. }, Some(cause)) => Self::Ongoing { cause, since },
            (Self::Ongoing { cause, .. }, None) if check.ends(cause) => {
                Self::Ended { cause, at: now }
            }
            (Self::None | Self::Ended { .. }, Some(cause)) => Self::Ongoing { cause, since: now },
            (unchanged, None) => unchanged,
        }
    }

    /// A request failed because the process had run out of resources.
    #[must_use]
    pub fn after_exhaustion(self, now: Duration) -> Self {
        let cause = Cause::Resources;
        match self {
            Self::Ongoing { since, .. } => Self::Ongoing { cause, since },
            Self::None | Self::Ended { .. } => Self::Ongoing { cause, since: now },
        }
    }

    /// The limits at a time, for a node that otherwise has up to `max` requests in flight.
    #[must_use]
    pub fn limits(self, now: Duration, max: usize) -> Limits {
        let (cause, limit) = match self {
            Self::None => return Limits { all: max, names: max },
            Self::Ongoing { cause, .. } => (cause, 1),
            Self::Ended { cause, at } => {
                let doublings = now.saturating_sub(at).as_secs() / DOUBLING_INTERVAL.as_secs();
                let doublings = u32::try_from(doublings).unwrap_or(u32::MAX);
                (cause, 1_usize.checked_shl(doublings).unwrap_or(max).clamp(1, max))
            }
        };
        match cause {
            Cause::Network | Cause::Resources => Limits { all: limit, names: max },
            Cause::Dns => Limits { all: max, names: limit },
            // Most endpoints are not affected; the others pause by themselves.
            Cause::Ipv6 | Cause::Clock => Limits { all: max, names: max },
        }
    }

    /// Forgets an outage once nothing is limited any more.
    #[must_use]
    pub fn settled(self, now: Duration, max: usize) -> Self {
        match self {
            Self::Ended { .. } if self.limits(now, max) == (Limits { all: max, names: max }) => {
                Self::None
            }
            unchanged => unchanged,
        }
    }

    /// The cause of the current outage.
    #[must_use]
    pub const fn cause(self) -> Option<Cause> {
        match self {
            Self::Ongoing { cause, .. } => Some(cause),
            Self::None | Self::Ended { .. } => None,
        }
    }

    /// Why a failed attempt does not count, if it does not. The attempt needed `facility`, began at
    /// `began`, and `check` was made after it failed, or if it timed out, shortly before.
    #[must_use]
    pub fn excuse(self, facility: Facility, began: Duration, check: &Check) -> Option<Cause> {
        match self {
            Self::Ongoing { cause, .. } if cause.affects(facility) => Some(cause),
            // It ran during the outage.
            Self::Ended { cause, at } if cause.affects(facility) && began < at => Some(cause),
            _ if check.of(facility) == Finding::Broken => match facility {
                Facility::Dns => Some(Cause::Dns),
                Facility::Ipv4 => Some(Cause::Network),
                Facility::Ipv6 => Some(Cause::Ipv6),
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
