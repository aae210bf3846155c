//! What a node sees of the cluster at one moment, as plain data: the shard_manager publishes it, the
//! router and those who answer people read it.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use postrider_domain::assignment::Shard;
use postrider_domain::ids::BootId;
use postrider_domain::node::NodeState;
use postrider_store::Owner;

/// The cluster as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The nodes that have a lease, or had one until lately.
    pub nodes: Vec<NodeView>,
    /// The owner of each shard, by its number.
    pub owners: Vec<Option<Owner>>,
}

/// A node as another one sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// The node, in its present run.
    pub node: BootId,
    /// What its operator calls it.
    pub name: String,
    /// The version that it runs.
    pub version: String,
    /// How it is.
    pub state: NodeState,
    /// Where other nodes reach it; none when it is alone.
    pub address: Option<SocketAddr>,
}

impl View {
    /// Who owns a shard.
    #[must_use]
    pub fn owner(&self, shard: Shard) -> Option<Owner> {
        self.owners.get(usize::from(shard)).copied().flatten()
    }

    /// A node that is in the view.
    #[must_use]
    pub fn node(&self, node: BootId) -> Option<&NodeView> {
        self.nodes.iter().find(|view| view.node == node)
    }

    /// How many shards each node owns; one that owns none is not among them.
    #[must_use]
    pub fn counts(&self) -> HashMap<BootId, usize> {
        let mut counts = HashMap::with_capacity(self.nodes.len());
        for owner in self.owners.iter().flatten() {
            *counts.entry(owner.node).or_default() += 1;
        }
        counts
    }

    /// How many shards nobody owns, or only a node that is dead or that the view does not have.
    #[must_use]
    pub fn unowned(&self) -> usize {
        let living = self.nodes.iter().filter(|node| node.state != NodeState::Dead);
        let living: HashSet<_> = living.map(|node| node.node).collect();
        let owned = self.owners.iter().flatten().filter(|owner| living.contains(&owner.node));
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
    fn shards_of_the_dead_and_of_strangers_are_unowned() {
        let held = |byte| Some(Owner { node: BootId::from_bytes([byte; 16]), epoch: 1 });
        let view = View {
            nodes: vec![node(1, NodeState::Suspect), node(2, NodeState::Dead)],
            owners: vec![held(1), held(1), held(2), held(3), None],
        };
        assert_eq!(view.unowned(), 3);
        assert_eq!(view.counts().get(&BootId::from_bytes([1; 16])), Some(&2));
        assert_eq!(view.owner(2), held(2));
        assert_eq!((view.owner(4), view.owner(5)), (None, None));
    }
}
