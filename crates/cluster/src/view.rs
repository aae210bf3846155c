//! What a node knows of the cluster at one moment: the keeper's picture, for all who ask.

use std::net::SocketAddr;

use postrider_domain::ids::BootId;
use postrider_store::Owner;

/// The cluster as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Every node that has a lease, itself included.
    pub nodes: Vec<NodeView>,
    /// Who owns each shard, by shard; none for one that was never owned.
    pub owners: Vec<Option<Owner>>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeView {
    /// The node, in its present run.
    pub node: BootId,
    /// Its name.
    pub name: String,
    /// The version of Postrider that it runs.
    pub version: String,
    /// Where other nodes reach it.
    pub address: Option<SocketAddr>,
    /// How it is.
    pub state: NodeState,
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// It renews its lease.
    Alive,
    /// It does, and gives its shards away.
    Draining,
    /// It has not for a while.
    Suspect,
    /// It has not for so long that its shards are taken.
    Dead,
}

impl View {
    /// The node that owns a shard, be it alive or not.
    #[must_use]
    pub fn owner(&self, shard: u16) -> Option<BootId> {
        self.owners.get(usize::from(shard)).copied().flatten().map(|owner| owner.node)
    }

    /// A node by its id.
    #[must_use]
    pub fn node(&self, node: BootId) -> Option<&NodeView> {
        self.nodes.iter().find(|view| view.node == node)
    }

    /// How many shards a node owns.
    #[must_use]
    pub fn shards_of(&self, node: BootId) -> usize {
        self.owners.iter().flatten().filter(|owner| owner.node == node).count()
    }

    /// Shards whose owner is not there: taken by nobody, or by a node that is dead.
    #[must_use]
    pub fn unowned(&self) -> usize {
        let is_there =
            |owner: &Owner| self.node(owner.node).is_some_and(|node| node.state != NodeState::Dead);
        self.owners.iter().filter(|owner| !owner.as_ref().is_some_and(is_there)).count()
    }
}

impl NodeState {
    /// Its name, in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}
