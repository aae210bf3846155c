//! Observes: reads the leases and owners from the store, and publishes the view of them.

use std::sync::Arc;

use postrider_domain::assignment::Fence;
use postrider_domain::node::NodeState;
use postrider_store::kv::Error;
use postrider_store::{Lease, Owner, Ownership};
use tokio::time::Instant;

use super::Reconciler;
use crate::membership::Identity;
use crate::view::{NodeView, View};

impl Reconciler {
    pub(super) async fn observe(&mut self) -> Result<(), Error> {
        self.observations += 1;
        let leases = match self.lease_renewer {
            Some(_) => self.records.leases().await?,
            None => vec![self.synthetic_lease()],
        };
        let now = Instant::now();
        for lease in leases.iter().filter(|lease| !lease.is_readable) {
            if self.membership.state(lease.node, now).is_none() {
                tracing::warn!(node = %lease.node, "a node's lease cannot be decoded; it may be of a later version");
            }
        }
        self.membership.observe(leases, now);
        for (node, evidence) in self.reported_exits.drain() {
            self.membership.report_exit(node, evidence);
        }
        let since = self.ownership.as_ref().map(|ownership| ownership.version);
        if let Some(new) = self.records.ownership(since).await? {
            self.note_moves(&new, now);
            self.ownership = Some(new);
        }
        Ok(())
    }

    /// The lease that a single node would read if it renewed one before every observation.
    pub(super) fn synthetic_lease(&self) -> Lease {
        let Identity { node, name, address, version } = self.me.clone();
        Lease {
            node,
            name,
            address,
            version,
            draining: self.leaving,
            revision: self.observations,
            is_readable: true,
        }
    }

    pub(super) fn note_moves(&mut self, new: &Ownership, now: Instant) {
        let Some(old) = &self.ownership else { return };
        for (shard, (before, after)) in (0..).zip(old.owners.iter().zip(&new.owners)) {
            let (Some(before), Some(after)) = (before, after) else { continue };
            let previous_owner_alive = self.membership.state(before.node, now);
            let previous_owner_alive =
                previous_owner_alive.is_some_and(|state| state != NodeState::Dead);
            if before.node != after.node && previous_owner_alive {
                self.moved_at.insert(shard, now);
            }
        }
    }

    /// Applies a claim of this node to the owners last read. The next pass reads them again anyway.
    pub(super) fn note_owner(&mut self, Fence { shard, epoch, node }: Fence) {
        if let Some(ownership) = &mut self.ownership {
            ownership.owners[usize::from(shard)] = Some(Owner { epoch, node });
        }
    }

    pub(super) fn publish(&self) {
        let now = Instant::now();
        let nodes = self.membership.nodes(now);
        let view = View {
            nodes: nodes.into_iter().map(|(lease, state)| node_view(lease, state)).collect(),
            owners: self.ownership.as_ref().map(|o| o.owners.clone()).unwrap_or_default(),
        };
        self.view.send_if_modified(|current| {
            let differs = **current != view;
            if differs {
                *current = Arc::new(view);
            }
            differs
        });
    }

    /// Removes the leases of nodes that have been dead for a long time.
    pub(super) async fn remove_dead_leases(&self) -> Result<(), Error> {
        for (node, revision) in self.membership.long_dead(Instant::now()) {
            if node != self.me.node {
                self.records.remove_lease(node, revision).await?;
            }
        }
        Ok(())
    }
}

fn node_view(lease: &Lease, state: NodeState) -> NodeView {
    NodeView {
        node: lease.node,
        name: lease.name.clone(),
        version: lease.version.clone(),
        address: lease.address,
        state,
    }
}
