//! Which nodes are alive. A node counts as alive while the revision of its lease changes, measured
//! on the observer's own monotonic clock: clocks of different nodes are never compared.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use postrider_domain::ids::BootId;
use postrider_store::Lease;
use tokio::time::Instant;

use postrider_domain::node::NodeState;

/// How often a node renews its lease.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(2);
/// A node whose lease has not been renewed for this long is dead, and its shards are taken over.
pub const LEASE_TTL: Duration = Duration::from_secs(10);
/// A node that has not renewed its lease for this long, by its own clock, fences itself: it starts
/// no new work. This is well before any other node may consider it dead.
pub const SELF_FENCE_AFTER: Duration = Duration::from_secs(6);
/// Time beyond this between two observations is not counted against the observed nodes.
const MAX_OBSERVE_GAP: Duration = Duration::from_secs(1);
/// A node on another host whose process is reported to have exited counts as dead once its lease
/// has not been renewed for this long: even if the report is wrong, the node has fenced itself by
/// then.
const REPORTED_DEAD_AFTER: Duration = SELF_FENCE_AFTER;
/// A node that has not renewed its lease for this long is suspect, and receives no shards.
const SUSPECT_AFTER: Duration = Duration::from_secs(5);
/// How long the lease of a dead node is kept, so that operators can see it.
const DEAD_LEASE_RETENTION: Duration = Duration::from_secs(60);

const _: () = assert!(SELF_FENCE_AFTER.as_millis() * 10 <= LEASE_TTL.as_millis() * 6);

/// The identity of a node.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The id of this run of the node, new at each start.
    pub node: BootId,
    /// The configured name.
    pub name: String,
    /// The address that other nodes connect to.
    pub address: Option<SocketAddr>,
    /// The version of Postrider.
    pub version: String,
}

/// The evidence that a node's process has exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitEvidence {
    /// This host's kernel refused a connection. Conclusive.
    ThisHost,
    /// Another host refused a connection. A firewall may have refused it, so a second sign is
    /// needed: an overdue lease.
    Network,
}

/// The nodes as one observer has seen them.
#[derive(Debug, Default)]
pub struct Membership {
    nodes: HashMap<BootId, ObservedLease>,
    observed_at: Option<Instant>,
}

#[derive(Debug)]
struct ObservedLease {
    lease: Lease,
    /// When the current revision was first observed.
    renewed_at: Instant,
    /// Reported while this revision was the latest one.
    exit: Option<ExitEvidence>,
}

impl Membership {
    /// Records the leases that were read at `now`. Time in which this observer read none, because
    /// its process was paused or the store was unavailable, counts against no node.
    pub fn observe(&mut self, leases: Vec<Lease>, now: Instant) {
        let elapsed = self.observed_at.replace(now).map_or(Duration::ZERO, |at| now - at);
        let unobserved = elapsed.saturating_sub(MAX_OBSERVE_GAP);
        let mut previous = std::mem::take(&mut self.nodes);
        for lease in leases {
            let observed = match previous.remove(&lease.node) {
                Some(observed) if observed.lease.revision == lease.revision => ObservedLease {
                    lease,
                    renewed_at: observed.renewed_at + unobserved,
                    ..observed
                },
                _ => ObservedLease { lease, renewed_at: now, exit: None },
            };
            self.nodes.insert(observed.lease.node, observed);
        }
    }

    /// Records a report that a node's process has exited. With conclusive evidence the node counts
    /// as dead at once, otherwise once it has not renewed its lease for [`REPORTED_DEAD_AFTER`]. A
    /// later renewal cancels the report.
    pub fn report_exit(&mut self, node: BootId, evidence: ExitEvidence) {
        if let Some(observed) = self.nodes.get_mut(&node)
            && observed.exit != Some(ExitEvidence::ThisHost)
        {
            observed.exit = Some(evidence);
        }
    }

    /// The state of a node at `now`; `None` if it has no lease.
    #[must_use]
    pub fn state(&self, node: BootId, now: Instant) -> Option<NodeState> {
        self.nodes.get(&node).map(|observed| observed.state(now))
    }

    /// Every node that has a lease, with its state at `now`, sorted by name.
    #[must_use]
    pub fn nodes(&self, now: Instant) -> Vec<(&Lease, NodeState)> {
        let mut nodes: Vec<_> =
            self.nodes.values().map(|observed| (&observed.lease, observed.state(now))).collect();
        nodes.sort_by(|(a, _), (b, _)| (&a.name, a.node).cmp(&(&b.name, b.node)));
        nodes
    }

    /// The leases of nodes that have been dead for longer than the retention time, as id and
    /// revision.
    #[must_use]
    pub fn long_dead(&self, now: Instant) -> Vec<(BootId, u64)> {
        let long_dead = self
            .nodes
            .values()
            .filter(|observed| now - observed.renewed_at >= LEASE_TTL + DEAD_LEASE_RETENTION);
        long_dead.map(|observed| (observed.lease.node, observed.lease.revision)).collect()
    }
}

impl ObservedLease {
    fn state(&self, now: Instant) -> NodeState {
        let age = now.saturating_duration_since(self.renewed_at);
        let dead_after = match self.exit {
            Some(ExitEvidence::ThisHost) => Duration::ZERO,
            Some(ExitEvidence::Network) => REPORTED_DEAD_AFTER,
            None => LEASE_TTL,
        };
        if age >= dead_after {
            NodeState::Dead
        } else if self.lease.draining {
            NodeState::Draining
        } else if age >= SUSPECT_AFTER {
            NodeState::Suspect
        } else {
            NodeState::Alive
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: BootId = BootId::MIN;

    fn lease(revision: u64) -> Lease {
        Lease {
            node: NODE,
            name: "one".to_owned(),
            address: None,
            version: "1".to_owned(),
            draining: false,
            revision,
            is_readable: true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_is_alive_while_its_revision_changes() {
        let (mut membership, start) = (Membership::default(), Instant::now());
        for step in 0..20 {
            let now = start + RENEW_INTERVAL * step;
            membership.observe(vec![lease(step.into())], now);
            assert_eq!(membership.state(NODE, now), Some(NodeState::Alive));
        }
        let last = start + RENEW_INTERVAL * 19;
        for (after, state) in [
            (SUSPECT_AFTER, NodeState::Suspect),
            (LEASE_TTL - Duration::from_millis(1), NodeState::Suspect),
            (LEASE_TTL, NodeState::Dead),
        ] {
            assert_eq!(membership.state(NODE, last + after), Some(state), "{after:?}");
        }
        membership.observe(vec![lease(20)], last + LEASE_TTL * 2);
        assert_eq!(
            membership.state(NODE, last + LEASE_TTL * 2),
            Some(NodeState::Alive),
            "the node has renewed its lease"
        );
    }

    /// A firewall may refuse connections on behalf of a host.
    #[tokio::test(start_paused = true)]
    async fn a_refused_connection_alone_does_not_make_a_node_dead() {
        let (mut membership, start) = (Membership::default(), Instant::now());
        membership.observe(vec![lease(1)], start);
        membership.report_exit(NODE, ExitEvidence::Network);
        let overdue = start + REPORTED_DEAD_AFTER;
        assert_eq!(membership.state(NODE, start), Some(NodeState::Alive));
        assert_eq!(membership.state(NODE, overdue), Some(NodeState::Dead));
        membership.observe(vec![lease(2)], start + RENEW_INTERVAL);
        assert_eq!(
            membership.state(NODE, overdue),
            Some(NodeState::Alive),
            "the node has renewed its lease"
        );
        membership.report_exit(NODE, ExitEvidence::ThisHost);
        membership.report_exit(NODE, ExitEvidence::Network);
        assert_eq!(membership.state(NODE, overdue), Some(NodeState::Dead));
    }

    #[tokio::test(start_paused = true)]
    async fn an_observer_that_was_paused_does_not_count_the_pause() {
        let (mut membership, start) = (Membership::default(), Instant::now());
        membership.observe(vec![lease(1)], start);
        let resumed_at = start + LEASE_TTL * 6;
        membership.observe(vec![lease(1)], resumed_at);
        assert_eq!(
            membership.state(NODE, resumed_at),
            Some(NodeState::Alive),
            "the node may have renewed meanwhile"
        );
        for step in 1..=10 {
            membership.observe(vec![lease(1)], resumed_at + Duration::from_secs(step));
        }
        let dead = membership.state(NODE, resumed_at + Duration::from_secs(10));
        assert_eq!(dead, Some(NodeState::Dead));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_whose_process_exited_is_dead_at_once_unless_it_renews() {
        let (mut membership, now) = (Membership::default(), Instant::now());
        membership.observe(vec![lease(1)], now);
        membership.report_exit(NODE, ExitEvidence::ThisHost);
        assert_eq!(membership.state(NODE, now), Some(NodeState::Dead));
        membership.observe(vec![lease(1)], now);
        assert_eq!(
            membership.state(NODE, now),
            Some(NodeState::Dead),
            "an unchanged revision does not cancel the report"
        );
        membership.observe(vec![lease(2)], now);
        assert_eq!(membership.state(NODE, now), Some(NodeState::Alive));
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_of_a_dead_node_is_kept_for_a_while() {
        let (mut membership, now) = (Membership::default(), Instant::now());
        membership.observe(vec![lease(1)], now);
        assert_eq!(membership.long_dead(now + LEASE_TTL), []);
        assert_eq!(membership.long_dead(now + LEASE_TTL + DEAD_LEASE_RETENTION), [(NODE, 1)]);
        membership.observe(vec![], now + LEASE_TTL + DEAD_LEASE_RETENTION);
        assert_eq!(membership.state(NODE, now), None);
    }
}
