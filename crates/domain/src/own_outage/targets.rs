//! The targets that a node has sent to lately, which tell an outage of its own from theirs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ids::AccountId;

/// How many targets are remembered.
pub const MAX_TARGETS: usize = 64;
/// How many of them may belong to one account.
pub const MAX_PER_ACCOUNT: usize = 2;
/// How long a target counts as reached lately.
pub const LATELY: Duration = Duration::from_secs(24 * 3600);

/// A server that webhooks are sent to, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    pub account: AccountId,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
}

/// A remembered target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub target: Target,
    /// Where and when it was last reached over IPv4 and over IPv6.
    pub ipv4: Option<(SocketAddr, Duration)>,
    pub ipv6: Option<(SocketAddr, Duration)>,
    used_at: Duration,
}

impl Known {
    fn new(target: Target, now: Duration) -> Self {
        Self { target, ipv4: None, ipv6: None, used_at: now }
    }

    fn reached_at(&self) -> Option<Duration> {
        [self.ipv4, self.ipv6].into_iter().flatten().map(|(_, at)| at).max()
    }

    /// Whether it was reached within [`LATELY`] before `now`, over any protocol.
    #[must_use]
    pub fn reached_lately(&self, now: Duration) -> bool {
        self.reached_at().is_some_and(|at| now.saturating_sub(at) < LATELY)
    }

    /// The least important is forgotten first: targets that were never reached, then those that
    /// were not reached for the longest time.
    fn importance(&self) -> (Option<Duration>, Duration) {
        (self.reached_at(), self.used_at)
    }
}

/// The remembered targets. Their number is bounded, and so is each account's share, so that one
/// tenant's targets cannot displace those of the others.
#[derive(Clone, Debug, Default)]
pub struct Targets(Vec<Known>);

impl Targets {
    /// A request to a target begins.
    pub fn used(&mut self, target: &Target, now: Duration) {
        if let Some(known) = self.0.iter_mut().find(|known| known.target == *target) {
            known.used_at = now;
            return;
        }
        let share = |known: &&Known| known.target.account == target.account;
        let account_is_full = self.0.iter().filter(share).count() >= MAX_PER_ACCOUNT;
        if account_is_full || self.0.len() >= MAX_TARGETS {
            let is_candidate = |known: &Known| !account_is_full || share(&known);
            let least = (0..self.0.len())
                .filter(|index| is_candidate(&self.0[*index]))
                .min_by_key(|index| self.0[*index].importance())
                .expect("there are targets");
            // A new target does not displace one that was reached.
            if self.0[least].reached_at().is_some() {
                return;
            }
            self.0.swap_remove(least);
        }
        self.0.push(Known::new(target.clone(), now));
    }

    /// A target was reached at an address.
    pub fn reached(&mut self, target: &Target, address: SocketAddr, now: Duration) {
        let index = match self.0.iter().position(|known| known.target == *target) {
            Some(index) => index,
            None => {
                self.make_room(target.account);
                self.0.push(Known::new(target.clone(), now));
                self.0.len() - 1
            }
        };
        let known = &mut self.0[index];
        known.used_at = now;
        let slot = if address.is_ipv4() { &mut known.ipv4 } else { &mut known.ipv6 };
        *slot = Some((address, now));
    }

    /// Makes room for a target that was reached.
    fn make_room(&mut self, account: AccountId) {
        let share = |known: &Known| known.target.account == account;
        let account_is_full = self.0.iter().filter(|known| share(known)).count() >= MAX_PER_ACCOUNT;
        if !account_is_full && self.0.len() < MAX_TARGETS {
            return;
        }
        let least = (0..self.0.len())
            .filter(|index| !account_is_full || share(&self.0[*index]))
            .min_by_key(|index| self.0[*index].importance());
        self.0.swap_remove(least.expect("there are targets"));
    }

    /// A target failed while others were reached: it no longer counts as reached.
    pub fn failed(&mut self, target: &Target) {
        for known in self.0.iter_mut().filter(|known| known.target == *target) {
            (known.ipv4, known.ipv6) = (None, None);
        }
    }

    /// What is known of a target.
    #[must_use]
    pub fn find(&self, target: &Target) -> Option<&Known> {
        self.0.iter().find(|known| known.target == *target)
    }

    /// The targets, those reached most recently first.
    #[must_use]
    pub fn by_importance(&self) -> Vec<Known> {
        let mut targets = self.0.clone();
        targets.sort_by_key(|known| std::cmp::Reverse(known.importance()));
        targets
    }
}

/// What two targets have in common if they are likely to fail together: the registrable part of the
/// name, or the address. It is an approximation without the Public Suffix List; if it is wrong,
/// unrelated targets count as one, or as many as there are accounts that use them.
#[must_use]
pub fn site(host: &str) -> String {
    let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    if host.parse::<IpAddr>().is_ok() {
        return host;
    }
    let labels: Vec<_> = host.split('.').collect();
    let kept = match labels.as_slice() {
        // A country's second level, as in co.uk or com.au.
        [.., second, country] if country.len() == 2 && second.len() <= 3 => 3,
        _ => 2,
    };
    labels[labels.len().saturating_sub(kept)..].join(".")
}
