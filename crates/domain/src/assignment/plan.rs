//! Which shards a node claims and which it hands over: a pure function of the members and the
//! current owners.
//!
//! Every node computes the same assignment for the whole cluster and carries out its own part.
//! There is no leader, and two nodes with the same view never want the same shard. A plan does one
//! of two things:
//!
//! 1. **Assign unowned shards**, all of them at once: shards of dead nodes are claimed by their new
//!    owners, shards of draining nodes are handed over by them. A shard goes to the preferred node
//!    (`rendezvous`) with capacity (`balance`).
//! 2. **Rebalance** between living nodes, but only if no shard is unowned and a node is outside its
//!    band. It takes the minimum number of moves, from the most to the least loaded nodes, a
//!    bounded number per plan.
//!
//! Nodes carry out their plans step by step and concurrently, and plan again after every
//! observation. Plans are therefore stable: after any part of a plan has been carried out, the new
//! plan is the rest of it (and more, if the bound had cut it short). This is why one plan never
//! does both, and why sources and targets are matched in the order of their names rather than by
//! current load.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::Shard;
use super::balance::Band;
use super::rendezvous::NodeHash;
use crate::ids::BootId;

/// One plan moves at most one in this many shards between living nodes, but at least one.
const MOVES_DIVISOR: usize = 10;

/// A node in the plan's input. Two members can have the same name: a restarted node, and its
/// previous run that has not been detected as dead yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Unique among the members.
    pub node: BootId,
    /// The name, stable across restarts.
    pub name: &'a str,
    pub state: MemberState,
}

/// The state of a member. Dead nodes are not members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberState {
    /// Owns its share.
    Alive,
    /// Has not renewed its lease for a while, but may recover. It keeps its shards, and claims none
    /// while there are living nodes, which can start work at once.
    Suspect,
    /// Is shutting down or cannot work: it hands over its shards and claims none.
    Draining,
}

/// The stored ownership of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardOwner {
    /// The owner, dead or alive. `None` before the first claim.
    pub owner: Option<BootId>,
    /// Whether rebalancing may move the shard. It may not if the shard moved between living nodes
    /// within the last minute.
    pub movable: bool,
}

/// One node's part of the assignment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Unowned shards to claim.
    pub claims: Vec<Shard>,
    /// Own shards to hand over, each with its new owner, most urgent first.
    pub moves: Vec<(Shard, BootId)>,
}

/// Computes the part of `me` in the assignment of all shards (`shard_owners`, by shard) to
/// `members`, whose order does not matter. For a node that is not a member the plan is empty.
#[must_use]
pub fn plan(members: &[Member<'_>], shard_owners: &[ShardOwner], me: BootId) -> Plan {
    let mut own = Plan::default();
    for change in assign_shards(members, shard_owners) {
        match change.source {
            None if change.target == me => own.claims.push(change.shard),
            Some(source) if source == me => own.moves.push((change.shard, change.target)),
            _ => {}
        }
    }
    own
}

/// A change of a shard's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    shard: Shard,
    /// The owner that hands the shard over. `None` if the target claims it.
    source: Option<BootId>,
    target: BootId,
}

/// The changes of all nodes.
fn assign_shards(members: &[Member<'_>], shard_owners: &[ShardOwner]) -> Vec<Change> {
    let Some(mut assignment) = Assignment::of(members, shard_owners) else { return vec![] };
    if assignment.unowned.is_empty() {
        assignment.rebalance(shard_owners.len())
    } else {
        assignment.assign_unowned()
    }
}

/// The nodes that can own shards with their current loads, and the shards that need a new owner.
/// Shards that a suspect node keeps are excluded.
struct Assignment {
    /// Sorted by name and then by boot id, so that every node sees the same order.
    candidates: Vec<Candidate>,
    /// In ascending order, each with the draining node that hands it over, if any.
    unowned: Vec<(Shard, Option<BootId>)>,
    band: Band,
}

struct Candidate {
    node: BootId,
    hash: NodeHash,
    load: usize,
    /// The shards that it may hand over.
    movable: Vec<Shard>,
}

impl Assignment {
    /// `None` if no node can own a shard.
    fn of(members: &[Member<'_>], shard_owners: &[ShardOwner]) -> Option<Self> {
        let with = |state| members.iter().filter(move |m| m.state == state);
        let nodes = |state| with(state).map(|m| m.node).collect::<HashSet<_>>();
        let mut candidates: Vec<_> = with(MemberState::Alive).collect();
        let mut suspects = nodes(MemberState::Suspect);
        if candidates.is_empty() {
            // Without living nodes, suspects are the best candidates there are.
            candidates = with(MemberState::Suspect).collect();
            suspects.clear();
        }
        if candidates.is_empty() {
            return None;
        }
        candidates.sort_unstable_by_key(|member| (member.name, member.node));
        let retained = |it: &ShardOwner| it.owner.is_some_and(|owner| suspects.contains(&owner));
        let shards: Vec<_> =
            (0..=Shard::MAX).zip(shard_owners).filter(|(_, it)| !retained(it)).collect();
        let band = Band::of(shards.len(), candidates.len());
        let candidates = candidates.into_iter().map(Candidate::of).collect();
        let mut assignment = Self { candidates, unowned: vec![], band };
        assignment.distribute(&shards, &nodes(MemberState::Draining));
        Some(assignment)
    }

    /// Adds every shard to its owner, or to the unowned shards.
    fn distribute(&mut self, shards: &[(Shard, &ShardOwner)], draining: &HashSet<BootId>) {
        let candidates: HashMap<_, _> = self.candidates.iter().map(|c| c.node).zip(0..).collect();
        for &(shard, shard_owner) in shards {
            match shard_owner.owner.and_then(|owner| candidates.get(&owner)) {
                Some(&candidate) => self.candidates[candidate].add(shard, shard_owner.movable),
                None => {
                    let source = shard_owner.owner.filter(|owner| draining.contains(owner));
                    self.unowned.push((shard, source));
                }
            }
        }
    }

    /// Assigns every unowned shard to the preferred node with capacity. No node exceeds the fair
    /// share. Once the remaining shards are only enough to lift all nodes to the minimum, they go
    /// to the nodes below it.
    fn assign_unowned(&mut self) -> Vec<Change> {
        let Band { min, fair, .. } = self.band;
        let mut reserved: usize = self.candidates.iter().map(|c| min.saturating_sub(c.load)).sum();
        let mut remaining = self.unowned.len();
        let mut changes = Vec::with_capacity(remaining);
        for &(shard, source) in &self.unowned {
            let limit = if remaining > reserved { fair } else { min };
            let candidate = best(&mut self.candidates, shard, limit);
            if candidate.load < min {
                reserved -= 1;
            }
            candidate.load += 1;
            remaining -= 1;
            changes.push(Change { shard, source, target: candidate.node });
        }
        changes
    }

    /// Moves shards between living nodes until each is within its band or the plan's bound is
    /// reached.
    fn rebalance(&mut self, shards: usize) -> Vec<Change> {
        let Transfers { releases, claims } = self.transfers();
        let targets = expand(&claims);
        let mut moves = Vec::with_capacity(targets.len());
        let mut next = 0;
        for (source, count) in releases.into_iter().enumerate() {
            for run in targets[next..next + count].chunk_by(|a, b| a.candidate == b.candidate) {
                let target = &self.candidates[run[0].candidate];
                let (hash, target) = (target.hash, target.node);
                let source = &mut self.candidates[source];
                let shards = source.release(run.len(), hash);
                let change = |shard| Change { shard, source: Some(source.node), target };
                moves.extend(run.iter().zip(shards.into_iter().map(change)));
            }
            next += count;
        }
        // The target that needs the most shards comes first.
        moves.sort_by_key(|(claim, _)| Reverse(claim.remaining));
        moves.truncate((shards / MOVES_DIVISOR).max(1));
        moves.into_iter().map(|(_, change)| change).collect()
    }

    /// How many shards each node releases and claims: the minimum that restores balance, each from
    /// the most loaded node with a movable shard to the least loaded one.
    ///
    /// Each move helps the most loaded node while it is above the band, and the least loaded one
    /// while it is below. So the number of moves is the total excess or the total shortage,
    /// whichever is greater. No node both releases and claims: a source keeps `max`, or `min` once
    /// only shortages remain; a target stays at `min`, or at or below `max` once only excesses
    /// remain.
    fn transfers(&self) -> Transfers {
        let Band { min, max, .. } = self.band;
        let candidates = || self.candidates.iter().enumerate();
        let mut fullest: BinaryHeap<_> =
            candidates().map(|(candidate, node)| (node.load, Reverse(candidate))).collect();
        let mut emptiest: BinaryHeap<_> =
            candidates().map(|(candidate, node)| Reverse((node.load, candidate))).collect();
        let mut releases = vec![0; self.candidates.len()];
        let mut claims = vec![0; self.candidates.len()];
        while let Some((load, Reverse(source))) = fullest.pop() {
            if releases[source] == self.candidates[source].movable.len() {
                continue;
            }
            let Some(Reverse((lightest, target))) = emptiest.pop() else { break };
            if load <= max && (lightest >= min || load <= min) {
                break;
            }
            releases[source] += 1;
            claims[target] += 1;
            fullest.push((load - 1, Reverse(source)));
            emptiest.push(Reverse((lightest + 1, target)));
        }
        Transfers { releases, claims }
    }
}

impl Candidate {
    fn of(member: &Member<'_>) -> Self {
        Self { node: member.node, hash: NodeHash::of(member.name), load: 0, movable: vec![] }
    }

    fn add(&mut self, shard: Shard, movable: bool) {
        self.load += 1;
        if movable {
            self.movable.push(shard);
        }
    }

    /// Removes the `count` movable shards with the best scores for the target, best first.
    fn release(&mut self, count: usize, target: NodeHash) -> Vec<Shard> {
        let by_score = |shard: &Shard| Reverse(target.score(*shard));
        if count < self.movable.len() {
            self.movable.select_nth_unstable_by_key(count, by_score);
        }
        let rest = self.movable.split_off(count);
        let mut released = std::mem::replace(&mut self.movable, rest);
        released.sort_unstable_by_key(by_score);
        released
    }
}

/// The candidate with the best score among those below `limit`; of two runs of one node, the later.
/// When a whole cluster starts, this visits every pair of node and shard.
fn best(candidates: &mut [Candidate], shard: Shard, limit: usize) -> &mut Candidate {
    let (mut best, mut highest) = (None, 0);
    for (index, candidate) in candidates.iter().enumerate() {
        if candidate.load < limit {
            let score = candidate.hash.score(shard);
            if score >= highest {
                (best, highest) = (Some(index), score);
            }
        }
    }
    &mut candidates[best.expect("the fair shares of all nodes add up to all shards")]
}

/// How many shards each candidate releases and claims.
struct Transfers {
    releases: Vec<usize>,
    claims: Vec<usize>,
}

/// One shard for a candidate to claim.
#[derive(Clone, Copy)]
struct Claim {
    candidate: usize,
    /// How many more it claims after this one.
    remaining: usize,
}

/// One entry per claimed shard, in the order of the candidates.
fn expand(claims: &[usize]) -> Vec<Claim> {
    claims
        .iter()
        .enumerate()
        .flat_map(|(candidate, count)| {
            (0..*count).rev().map(move |remaining| Claim { candidate, remaining })
        })
        .collect()
}

#[cfg(test)]
mod tests;
