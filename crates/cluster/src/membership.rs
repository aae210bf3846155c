//! Who is alive. A node is judged by whether its lease's revision moves, on the observer's own
//! monotonic clock: no clock of one node is ever held against that of another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use postrider_domain::ids::BootId;
use postrider_store::Lease;
use tokio::time::Instant;

use postrider_domain::node::NodeState;

/// How often a node renews its lease.
pub const RENEW_EVERY: Duration = Duration::from_secs(2);
/// A node whose revision has stood still for so long is dead: its shards are taken.
pub const TTL: Duration = Duration::from_secs(10);
/// A node that has not renewed for so long, by its own clock, begins nothing more. Well before
/// anybody else may take it for dead.
pub const SELF_STOP: Duration = Duration::from_secs(6);
/// An observer that has not looked for longer than this was blind meanwhile.
const LOOKS: Duration = Duration::from_secs(1);
/// A node on another host that is reported to have ended counts as dead once its lease has not moved for
/// this long: by then it has stopped by itself.
const MISSED: Duration = SELF_STOP;
/// A node that has stood still for so long is suspect: no shard is given to it.
const SUSPECT: Duration = Duration::from_secs(5);
/// How long the lease of a dead node is kept, for people to see.
const KEPT: Duration = Duration::from_secs(60);

const _: () = assert!(SELF_STOP.as_millis() * 10 <= TTL.as_millis() * 6);

/// Who this node is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its id, new at each start.
    pub node: BootId,
    /// Its name.
    pub name: String,
    /// Where other nodes reach it.
    pub address: Option<SocketAddr>,
    /// The version of Postrider that it runs.
    pub version: String,
}

/// How it is known that a node's process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitEvidence {
    /// From this host's kernel: it is certain.
    ThisHost,
    /// From a refused connection to another host. A firewall may have refused it, so a second sign is
    /// needed.
    Network,
}

/// What one observer has seen of the nodes.
#[derive(Debug, Default)]
pub struct Membership {
    nodes: HashMap<BootId, Seen>,
    observed: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    lease: Lease,
    /// When the revision was first seen.
    moved: Instant,
    /// Its process is said to have ended, as of this revision.
    ended: Option<ExitEvidence>,
}

impl Membership {
    /// Takes in the leases that stand in the store at `now`. Time in which this observer did not
    /// look, since it slept or the store was away, is held against nobody.
    pub fn observe(&mut self, leases: Vec<Lease>, now: Instant) {
        let since = self.observed.replace(now).map_or(Duration::ZERO, |at| now - at);
        let blind = since.saturating_sub(LOOKS);
        let mut before = std::mem::take(&mut self.nodes);
        for lease in leases {
            let seen = match before.remove(&lease.node) {
                Some(seen) if seen.lease.revision == lease.revision => {
                    Seen { lease, moved: seen.moved + blind, ..seen }
                }
                _ => Seen { lease, moved: now, ended: None },
            };
            self.nodes.insert(seen.lease.node, seen);
        }
    }

    /// Notes that a node's process has ended. It counts as dead at once if that is certain, and
    /// otherwise when it has not renewed its lease for [`MISSED`]; in either case unless it renews its
    /// lease after all.
    pub fn ended(&mut self, node: BootId, evidence: ExitEvidence) {
        if let Some(seen) = self.nodes.get_mut(&node)
            && seen.ended != Some(ExitEvidence::ThisHost)
        {
            seen.ended = Some(evidence);
        }
    }

    /// How a node is at `now`; none if it has no lease.
    #[must_use]
    pub fn state(&self, node: BootId, now: Instant) -> Option<NodeState> {
        self.nodes.get(&node).map(|seen| seen.state(now))
    }

    /// Every node that has a lease, and how it is at `now`, by name.
    #[must_use]
    pub fn nodes(&self, now: Instant) -> Vec<(&Lease, NodeState)> {
        let mut nodes: Vec<_> =
            self.nodes.values().map(|seen| (&seen.lease, seen.state(now))).collect();
        nodes.sort_by(|(a, _), (b, _)| (&a.name, a.node).cmp(&(&b.name, b.node)));
        nodes
    }

    /// Leases of nodes that have been dead for so long that nobody need see them.
    #[must_use]
    pub fn forgotten(&self, now: Instant) -> Vec<(BootId, u64)> {
        let long_dead = self.nodes.values().filter(|seen| now - seen.moved >= TTL + KEPT);
        long_dead.map(|seen| (seen.lease.node, seen.lease.revision)).collect()
    }
}

impl Seen {
    fn state(&self, now: Instant) -> NodeState {
        let still = now.saturating_duration_since(self.moved);
        let dead_after = match self.ended {
            Some(ExitEvidence::ThisHost) => Duration::ZERO,
            Some(ExitEvidence::Network) => MISSED,
            None => TTL,
        };
        if still >= dead_after {
            NodeState::Dead
        } else if self.lease.draining {
            NodeState::Draining
        } else if still >= SUSPECT {
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
    async fn a_node_lives_while_its_revision_moves() {
        let (mut membership, start) = (Membership::default(), Instant::now());
        for step in 0..20 {
            let now = start + RENEW_EVERY * step;
            membership.observe(vec![lease(step.into())], now);
            assert_eq!(membership.state(NODE, now), Some(NodeState::Alive));
        }
        let last = start + RENEW_EVERY * 19;
        for (after, state) in [
            (SUSPECT, NodeState::Suspect),
            (TTL - Duration::from_millis(1), NodeState::Suspect),
            (TTL, NodeState::Dead),
        ] {
            assert_eq!(membership.state(NODE, last + after), Some(state), "{after:?}");
        }
        membership.observe(vec![lease(20)], last + TTL * 2);
        assert_eq!(membership.state(NODE, last + TTL * 2), Some(NodeState::Alive), "it is back");
    }

    /// A firewall may refuse connections in the place of a host.
    #[tokio::test(start_paused = true)]
    async fn the_network_alone_does_not_say_that_a_node_is_dead() {
        let (mut membership, start) = (Membership::default(), Instant::now());
        membership.observe(vec![lease(1)], start);
        membership.ended(NODE, ExitEvidence::Network);
        let missed = start + MISSED;
        assert_eq!(membership.state(NODE, start), Some(NodeState::Alive));
        assert_eq!(membership.state(NODE, missed), Some(NodeState::Dead));
        membership.observe(vec![lease(2)], start + RENEW_EVERY);
        assert_eq!(membership.state(NODE, missed), Some(NodeState::Alive), "it renews its lease");
        membership.ended(NODE, ExitEvidence::ThisHost);
        membership.ended(NODE, ExitEvidence::Network);
        assert_eq!(membership.state(NODE, missed), Some(NodeState::Dead));
    }

    #[tokio::test(start_paused = true)]
    async fn an_observer_that_slept_does_not_blame_the_others() {
        let (mut membership, start) = (Membership::default(), Instant::now());
        membership.observe(vec![lease(1)], start);
        let woken = start + TTL * 6;
        membership.observe(vec![lease(1)], woken);
        assert_eq!(membership.state(NODE, woken), Some(NodeState::Alive), "nobody could renew");
        for step in 1..=10 {
            membership.observe(vec![lease(1)], woken + Duration::from_secs(step));
        }
        let dead = membership.state(NODE, woken + Duration::from_secs(10));
        assert_eq!(dead, Some(NodeState::Dead));
    }

    #[tokio::test(start_paused = true)]
    async fn an_ended_process_is_dead_at_once_unless_it_renews() {
        let (mut membership, now) = (Membership::default(), Instant::now());
        membership.observe(vec![lease(1)], now);
        membership.ended(NODE, ExitEvidence::ThisHost);
        assert_eq!(membership.state(NODE, now), Some(NodeState::Dead));
        membership.observe(vec![lease(1)], now);
        assert_eq!(membership.state(NODE, now), Some(NodeState::Dead), "it stays so");
        membership.observe(vec![lease(2)], now);
        assert_eq!(membership.state(NODE, now), Some(NodeState::Alive));
    }

    #[tokio::test(start_paused = true)]
    async fn the_dead_are_shown_for_a_while() {
        let (mut membership, now) = (Membership::default(), Instant::now());
        membership.observe(vec![lease(1)], now);
        assert_eq!(membership.forgotten(now + TTL), []);
        assert_eq!(membership.forgotten(now + TTL + KEPT), [(NODE, 1)]);
        membership.observe(vec![], now + TTL + KEPT);
        assert_eq!(membership.state(NODE, now), None);
    }
}
