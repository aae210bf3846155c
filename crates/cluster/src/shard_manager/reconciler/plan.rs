//! Plans: which shards this node claims, and which it hands to other nodes.

use postrider_domain::assignment::{Member, MemberState, Plan, ShardOwner, plan};
use postrider_domain::node::NodeState;
use postrider_store::Lease;
use tokio::time::Instant;

use super::{MIN_RESIDENCE, Reconciler};

impl Reconciler {
    pub(super) fn plan(&self) -> Plan {
        let Some(ownership) = &self.ownership else { return Plan::default() };
        let now = Instant::now();
        let nodes = self.membership.nodes(now);
        let members: Vec<Member<'_>> =
            nodes.iter().filter_map(|(lease, state)| self.member(lease, *state)).collect();
        if !members.iter().any(|member| member.node == self.me.node) {
            return Plan::default();
        }
        let shard_owners: Vec<ShardOwner> = (0..)
            .zip(&ownership.owners)
            .map(|(shard, owner)| ShardOwner {
                owner: owner.map(|owner| owner.node),
                movable: self.moved_at.get(&shard).is_none_or(|at| now - *at >= MIN_RESIDENCE),
            })
            .collect();
        plan(&members, &shard_owners, self.me.node)
    }

    pub(super) fn member<'a>(&self, lease: &'a Lease, state: NodeState) -> Option<Member<'a>> {
        // Such a node must not receive shards even before its lease says that it drains.
        let leaves = (self.leaving || self.yielding) && lease.node == self.me.node;
        let member_state = match state {
            NodeState::Dead => return None,
            _ if leaves => MemberState::Draining,
            NodeState::Alive if lease.is_readable => MemberState::Alive,
            // Keeps its shards: a node whose lease cannot be decoded may be a healthy later
            // version.
            NodeState::Alive | NodeState::Suspect => MemberState::Suspect,
            NodeState::Draining => MemberState::Draining,
        };
        Some(Member { node: lease.node, name: &lease.name, state: member_state })
    }

    pub(super) fn has_targets(&self) -> bool {
        let nodes = self.membership.nodes(Instant::now());
        let can_take = |state| matches!(state, NodeState::Alive | NodeState::Suspect);
        nodes.iter().any(|(lease, state)| lease.node != self.me.node && can_take(*state))
    }
}
