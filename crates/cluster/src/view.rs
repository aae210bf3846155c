//! A snapshot of the cluster as one node sees it, as plain data. The shard manager publishes it;
//! the forwarder, the API and the dashboard read it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use postrider_domain::assignment::Shard;
use postrider_domain::ids::BootId;
use postrider_domain::node::NodeState;
use postrider_store::Owner;

/// The cluster as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The nodes that have a lease. A dead node's lease is kept for a while.
    pub nodes: Vec<NodeView>,
    /// The owner of each shard, indexed by shard number.
    pub owners: Vec<Option<Owner>>,
}

/// A node, as another node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// The id of the node's current run.
    pub node: BootId,
    /// The configured name.
    pub name: String,
    /// The version of Postrider.
    pub version: String,
    /// Whether it is alive.
    pub state: NodeState,
    /// The address that other nodes connect to; `None` for a single node.
    pub address: Option<SocketAddr>,
}

impl View {
    /// The owner of a shard.
    #[must_use]
    pub fn owner(&self, shard: Shard) -> Option<Owner> {
        self.owners.get(usize::from(shard)).copied().flatten()
    }

    /// A node in the view.
    #[must_use]
    pub fn node(&self, node: BootId) -> Option<&NodeView> {
        self.nodes.iter().find(|view| view.node == node)
    }

    /// The number of shards of each node. Nodes without shards are left out.
    #[must_use]
    pub fn counts(&self) -> HashMap<BootId, usize> {
        let mut counts = HashMap::with_capacity(self.nodes.len());
        for owner in self.owners.iter().flatten() {
            *counts.entry(owner.node).or_default() += 1;
        }
        counts
    }

    /// The number of shards without a live owner: no owner, a dead one, or one that is not in the
    /// view.
    #[must_use]
    pub fn unowned(&self) -> usize {
        let live = self.nodes.iter().filter(|node| node.state != NodeState::Dead);
        let live_nodes: HashSet<_> = live.map(|node| node.node).collect();
        let owned = self.owners.iter().flatten().filter(|owner| live_nodes.contains(&owner.node));
        self.owners.len() - owned.count()
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::Id;

    use super::*;

    fn node(byte: u8, state: NodeState) -> NodeView {
        NodeView {
            node: BootId::from_bytes([byte; 16]),
            name: format!("node-{byte}"),
            version: "1".to_owned(),
            state,
            address: None,
        }
    }

    #[test]
    fn shards_of_dead_and_unknown_nodes_are_unowned() {
        let owned_by = |byte| Some(Owner { node: BootId::from_bytes([byte; 16]), epoch: 1 });
        let view = View {
            nodes: vec![node(1, NodeState::Suspect), node(2, NodeState::Dead)],
            owners: vec![owned_by(1), owned_by(1), owned_by(2), owned_by(3), None],
        };
        assert_eq!(view.unowned(), 3);
        assert_eq!(view.counts().get(&BootId::from_bytes([1; 16])), Some(&2));
        assert_eq!(view.owner(2), owned_by(2));
        assert_eq!((view.owner(4), view.owner(5)), (None, None));
    }
}
