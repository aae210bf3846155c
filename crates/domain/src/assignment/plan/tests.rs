//! Plans for random clusters, and histories of clusters whose nodes join and leave while each node
//! carries out its part of the plan, sometimes late.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::ids::Id;

/// A cluster at one moment.
#[derive(Clone, Debug)]
struct Cluster {
    nodes: Vec<Node>,
    shard_owners: Vec<ShardOwner>,
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    boot: BootId,
    name: String,
    state: MemberState,
}

impl Node {
    fn alive(boot: BootId, name: impl Into<String>) -> Self {
        Self { boot, name: name.into(), state: MemberState::Alive }
    }
}

fn boot(number: u32) -> BootId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    BootId::from_bytes(bytes)
}

fn unowned_shards(count: usize) -> Vec<ShardOwner> {
    vec![ShardOwner { owner: None, movable: true }; count]
}

impl Cluster {
    /// Nodes `node-0`, `node-1` and so on, in their first run.
    fn of(nodes: u32, shards: usize) -> Self {
        let nodes = (0..nodes).map(|n| Node::alive(boot(n), format!("node-{n}"))).collect();
        Self { nodes, shard_owners: unowned_shards(shards) }
    }

    fn members(&self) -> Vec<Member<'_>> {
        let member = |n: &'_ Node| (n.boot, n.state);
        self.nodes
            .iter()
            .map(|n| (n.name.as_str(), member(n)))
            .map(|(name, (node, state))| Member { node, name, state })
            .collect()
    }

    fn plan(&self, me: BootId) -> Plan {
        plan(&self.members(), &self.shard_owners, me)
    }

    fn with_state(&self, state: MemberState) -> BTreeSet<BootId> {
        self.nodes.iter().filter(|n| n.state == state).map(|n| n.boot).collect()
    }

    /// The nodes that own a share: suspects only if there are no living nodes.
    fn alive(&self) -> BTreeSet<BootId> {
        let alive = self.with_state(MemberState::Alive);
        if alive.is_empty() { self.with_state(MemberState::Suspect) } else { alive }
    }

    /// The nodes that keep their shards and claim none.
    fn suspects(&self) -> BTreeSet<BootId> {
        &self.with_state(MemberState::Suspect) - &self.alive()
    }

    fn draining(&self) -> BTreeSet<BootId> {
        self.with_state(MemberState::Draining)
    }

    fn is_retained(&self, shard_owner: &ShardOwner) -> bool {
        shard_owner.owner.is_some_and(|owner| self.suspects().contains(&owner))
    }

    fn band(&self) -> Band {
        let kept = self.shard_owners.iter().filter(|it| self.is_retained(it)).count();
        Band::of(self.shard_owners.len() - kept, self.alive().len())
    }

    /// The number of shards per living node.
    fn loads(&self) -> BTreeMap<BootId, usize> {
        let mut loads: BTreeMap<_, _> = self.alive().into_iter().map(|node| (node, 0)).collect();
        for owner in self.shard_owners.iter().filter_map(|it| it.owner) {
            if let Some(load) = loads.get_mut(&owner) {
                *load += 1;
            }
        }
        loads
    }

    fn owned_by(&self, node: BootId) -> BTreeSet<Shard> {
        (0..)
            .zip(&self.shard_owners)
            .filter(|(_, it)| it.owner == Some(node))
            .map(|(s, _)| s)
            .collect()
    }

    fn unowned(&self) -> BTreeSet<Shard> {
        let owners = &self.alive() | &self.suspects();
        let is_unowned = |it: &ShardOwner| it.owner.is_none_or(|owner| !owners.contains(&owner));
        (0..).zip(&self.shard_owners).filter(|(_, it)| is_unowned(it)).map(|(s, _)| s).collect()
    }

    /// The combined plans of all nodes.
    fn all_changes(&self) -> BTreeSet<(Shard, Option<BootId>, BootId)> {
        let mut all = BTreeSet::new();
        for node in &self.nodes {
            let Plan { claims, moves } = self.plan(node.boot);
            let claims = claims.into_iter().map(|shard| (shard, None, node.boot));
            let moves = moves.into_iter().map(|(shard, target)| (shard, Some(node.boot), target));
            all.extend(claims.chain(moves));
        }
        all
    }

    fn carry_out(&mut self, (shard, source, target): (Shard, Option<BootId>, BootId)) {
        let between_living = source.is_some_and(|source| self.alive().contains(&source));
        self.shard_owners[usize::from(shard)] =
            ShardOwner { owner: Some(target), movable: !between_living };
    }

    /// Carries out plans, a minute apart, until there is nothing left to do. Returns the number of
    /// shards that changed owners.
    fn settle(&mut self) -> usize {
        let before = self.shard_owners.clone();
        for _ in 0..=2 * MOVES_DIVISOR + 1 {
            let all = self.all_changes();
            if all.is_empty() {
                let changed =
                    before.iter().zip(&self.shard_owners).filter(|(a, b)| a.owner != b.owner);
                return changed.count();
            }
            for change in all {
                self.carry_out(change);
            }
            for shard_owner in &mut self.shard_owners {
                shard_owner.movable = true;
            }
        }
        panic!("the cluster does not settle: {self:?}");
    }

    fn assert_settled(&self) {
        let alive = self.alive();
        assert!(self.all_changes().is_empty(), "the plan is not empty");
        if alive.is_empty() {
            return;
        }
        assert!(self.unowned().is_empty(), "a shard is unowned");
        let Band { min, max, .. } = self.band();
        let shards = self.loads().values().sum::<usize>() as f64;
        let fair = shards / alive.len() as f64;
        for (node, load) in self.loads() {
            assert!((min..=max).contains(&load), "{node} owns {load} of {min} to {max}");
            // Within a tenth of the fair share, or within one shard.
            let off = (load as f64 - fair).abs();
            assert!(off <= fair / 10.0 + 1e-9 || off < 1.0, "{node} owns {load}, fair is {fair}");
        }
    }
}

/// Nodes with few names, so that some share one, and owners that need not be members.
fn any_cluster(blocked: f64) -> impl Strategy<Value = Cluster> {
    let state = prop_oneof![
        7 => Just(MemberState::Alive),
        2 => Just(MemberState::Suspect),
        2 => Just(MemberState::Draining),
    ];
    let node = (0_u32..6, state);
    let shard = (prop::option::weighted(0.95, any::<Index>()), prop::bool::weighted(1.0 - blocked));
    (prop::collection::vec(node, 0..10), 0_u32..4, prop::collection::vec(shard, 0..200)).prop_map(
        |(nodes, dead, shards)| {
            let nodes: Vec<_> = (0_u32..)
                .zip(nodes)
                .map(|(number, (name, state))| Node {
                    boot: boot(number),
                    name: format!("node-{name}"),
                    state,
                })
                .collect();
            let owners = nodes.len() + dead as usize;
            // The square root makes the loads uneven.
            let owner = |index: Index| {
                let drawn = (index.index(owners * owners) as f64).sqrt();
                boot(drawn as u32)
            };
            let shard_owners = shards
                .into_iter()
                .map(|(index, movable)| ShardOwner {
                    owner: index.filter(|_| owners > 0).map(owner),
                    movable,
                })
                .collect();
            Cluster { nodes, shard_owners }
        },
    )
}

proptest! {
    /// Together the parts are one assignment: no shard appears twice, all unowned shards are
    /// assigned at once, and no shard moves that must not.
    #[test]
    fn the_parts_of_all_nodes_are_consistent(cluster in any_cluster(0.3)) {
        let (alive, draining) = (cluster.alive(), cluster.draining());
        let suspects = cluster.suspects();
        let all = cluster.all_changes();
        let shards: BTreeSet<_> = all.iter().map(|(shard, ..)| *shard).collect();
        prop_assert_eq!(shards.len(), all.len(), "a shard has two targets");
        if alive.is_empty() {
            prop_assert!(all.is_empty());
        } else {
            prop_assert!(cluster.unowned().is_subset(&shards));
        }
        let mut rebalanced = 0;
        for (shard, source, target) in all {
            let shard_owner = cluster.shard_owners[usize::from(shard)];
            prop_assert!(alive.contains(&target), "the target is not alive");
            prop_assert!(!shard_owner.owner.is_some_and(|owner| suspects.contains(&owner)));
            match source {
                None => {
                    let owner = shard_owner.owner;
                    prop_assert!(!owner.is_some_and(|o| alive.contains(&o) || draining.contains(&o)));
                }
                Some(source) => {
                    prop_assert_eq!(shard_owner.owner, Some(source));
                    prop_assert!(source != target);
                    if alive.contains(&source) {
                        prop_assert!(shard_owner.movable);
                        rebalanced += 1;
                    }
                }
            }
        }
        prop_assert!(rebalanced <= (cluster.shard_owners.len() / 10).max(1));
    }

    #[test]
    fn the_order_of_the_members_does_not_matter(
        (cluster, shuffled) in any_cluster(0.1).prop_flat_map(|cluster| {
            let shuffled = Just(cluster.nodes.clone()).prop_shuffle();
            (Just(cluster), shuffled)
        }),
    ) {
        let other = Cluster { nodes: shuffled, shard_owners: cluster.shard_owners.clone() };
        for node in &cluster.nodes {
            prop_assert_eq!(cluster.plan(node.boot), other.plan(node.boot));
        }
    }

    #[test]
    fn a_node_that_is_not_a_member_has_nothing_to_do(cluster in any_cluster(0.1), number in 10_u32..20) {
        prop_assert_eq!(cluster.plan(boot(number)), Plan::default());
    }

    /// No node claims unowned shards beyond its fair share.
    #[test]
    fn no_node_claims_beyond_its_fair_share(cluster in any_cluster(1.0)) {
        prop_assume!(!cluster.alive().is_empty());
        let before = cluster.loads();
        let mut after = cluster.clone();
        after.all_changes().into_iter().for_each(|change| after.carry_out(change));
        prop_assert!(after.unowned().is_empty());
        let fair = cluster.band().fair;
        for (node, load) in after.loads() {
            prop_assert!(load <= fair.max(before[&node]), "{} owns {} of {}", node, load, fair);
        }
    }

    /// From any initial state the cluster settles with the minimum number of moves: the unowned
    /// shards, plus the excess or the remaining shortage, whichever is greater.
    #[test]
    fn the_cluster_settles_with_the_fewest_moves(mut cluster in any_cluster(0.0)) {
        if cluster.alive().is_empty() {
            prop_assert!(cluster.all_changes().is_empty());
            return Ok(());
        }
        let Band { min, max, .. } = cluster.band();
        let unowned = cluster.unowned().len();
        let loads = cluster.loads();
        let too_many: usize = loads.values().map(|load| load.saturating_sub(max)).sum();
        let too_few: usize = loads.values().map(|load| min.saturating_sub(*load)).sum();
        let needed = unowned + too_many.max(too_few.saturating_sub(unowned));
        prop_assert_eq!(cluster.settle(), needed);
        cluster.assert_settled();
    }

    /// After any part of a plan has been carried out, the new plan is the rest of it.
    #[test]
    fn a_partially_executed_plan_is_continued(
        (cluster, all, done) in any_cluster(0.2).prop_flat_map(|cluster| {
            let all: Vec<_> = cluster.all_changes().into_iter().collect();
            let done = subsequence(all.clone(), 0..=all.len());
            (Just(cluster), Just(all), done)
        }),
    ) {
        let mut cluster = cluster;
        let rest: BTreeSet<_> = all.iter().filter(|c| !done.contains(c)).copied().collect();
        let is_cut_short = if cluster.unowned().is_empty() {
            all.len() == (cluster.shard_owners.len() / MOVES_DIVISOR).max(1)
        } else {
            rest.is_empty()
        };
        done.into_iter().for_each(|change| cluster.carry_out(change));
        let now = cluster.all_changes();
        prop_assert!(rest.is_subset(&now), "{:?} became {:?}", rest, now);
        prop_assert!(is_cut_short || rest == now, "{:?} became {:?}", rest, now);
    }

    /// When a node leaves, exactly its shards change owners.
    #[test]
    fn losing_a_node_moves_only_its_shards(
        nodes in 2_u32..12, shards in 0_usize..300, index in any::<Index>(), drained in any::<bool>(),
    ) {
        let mut cluster = Cluster::of(nodes, shards);
        cluster.settle();
        let index = index.index(cluster.nodes.len());
        let lost = cluster.owned_by(cluster.nodes[index].boot);
        if drained {
            cluster.nodes[index].state = MemberState::Draining;
        } else {
            cluster.nodes.remove(index);
        }
        let changed: BTreeSet<_> = cluster.all_changes().iter().map(|(shard, ..)| *shard).collect();
        prop_assert_eq!(&changed, &lost);
        prop_assert_eq!(cluster.settle(), lost.len());
        cluster.assert_settled();
    }

    /// A joining node gets at most its fair share, and no other node gets a shard.
    #[test]
    fn a_join_moves_at_most_the_fair_share(nodes in 1_u32..12, shards in 0_usize..300) {
        let mut cluster = Cluster::of(nodes, shards);
        cluster.settle();
        let before = cluster.clone();
        let new = Node::alive(boot(nodes), format!("node-{nodes}"));
        cluster.nodes.push(new.clone());
        let moved = cluster.settle();
        cluster.assert_settled();
        prop_assert!(moved <= cluster.band().fair, "{} moved", moved);
        prop_assert_eq!(cluster.owned_by(new.boot).len(), moved);
        for node in &before.nodes {
            prop_assert!(cluster.owned_by(node.boot).is_subset(&before.owned_by(node.boot)));
        }
    }

    /// A restarted node that immediately replaces its previous run gets its shards back.
    #[test]
    fn a_restarted_node_gets_its_shards_back(
        nodes in 1_u32..12, shares in 1_usize..30, index in any::<Index>(),
    ) {
        let mut cluster = Cluster::of(nodes, nodes as usize * shares);
        cluster.settle();
        let index = index.index(cluster.nodes.len());
        let owned = cluster.owned_by(cluster.nodes[index].boot);
        cluster.nodes[index].boot = boot(nodes);
        prop_assert_eq!(cluster.settle(), owned.len());
        let back = cluster.owned_by(boot(nodes));
        // If other nodes have capacity too, one of them may be preferred for a shard.
        prop_assert!(back.is_subset(&owned));
        prop_assert!(back.len() >= cluster.band().min);
    }
}

#[test]
fn a_restarted_cluster_has_the_same_owners() {
    let mut first = Cluster::of(5, 256);
    first.settle();
    let mut second = first.clone();
    for node in &mut second.nodes {
        node.boot = boot(100 + u32::from(node.boot.bytes()[3]));
    }
    second.settle();
    for (old, new) in first.nodes.iter().zip(&second.nodes) {
        assert_eq!(first.owned_by(old.boot), second.owned_by(new.boot));
    }
}

#[test]
fn fewer_shards_than_nodes() {
    let mut cluster = Cluster::of(3, 2);
    assert_eq!(cluster.settle(), 2);
    cluster.assert_settled();
    let mut crowded = Cluster::of(3, 2);
    crowded.shard_owners.fill(ShardOwner { owner: Some(boot(1)), movable: true });
    assert_eq!(crowded.settle(), 1);
    crowded.assert_settled();
}

#[test]
fn the_later_of_two_runs_of_a_node_is_preferred() {
    let mut cluster = Cluster::of(2, 1);
    cluster.nodes[1].name = "node-0".to_owned();
    assert_eq!(cluster.plan(boot(0)), Plan::default());
    assert_eq!(cluster.plan(boot(1)).claims, [0]);
}

#[test]
fn a_shard_that_has_just_moved_stays() {
    let mut cluster = Cluster::of(2, 100);
    cluster.shard_owners.fill(ShardOwner { owner: Some(boot(0)), movable: false });
    assert!(cluster.all_changes().is_empty());
    for shard in [7, 70] {
        cluster.shard_owners[shard].movable = true;
    }
    assert_eq!(
        cluster.all_changes(),
        [(7, Some(boot(0)), boot(1)), (70, Some(boot(0)), boot(1))].into()
    );
    cluster.nodes[0].state = MemberState::Draining;
    assert_eq!(cluster.all_changes().len(), 100);
}

#[test]
fn a_suspect_keeps_its_shards_and_claims_none_while_another_node_is_alive() {
    let mut cluster = Cluster::of(4, 90);
    cluster.settle();
    cluster.nodes[2].state = MemberState::Suspect;
    assert!(cluster.all_changes().is_empty(), "the suspect may recover");
    let own = cluster.owned_by(boot(2));
    cluster.nodes[0].state = MemberState::Draining;
    cluster.nodes.remove(3);
    cluster.settle();
    assert_eq!(cluster.owned_by(boot(2)), own);
    assert_eq!(
        cluster.owned_by(boot(1)).len(),
        90 - own.len(),
        "the remaining node claims all others"
    );
    // Without living nodes, the suspect is the only candidate.
    cluster.nodes[1].state = MemberState::Draining;
    cluster.settle();
    assert_eq!(cluster.owned_by(boot(2)).len(), 90);
}

#[test]
fn nothing_is_claimed_without_living_nodes() {
    let mut cluster = Cluster::of(1, 8);
    cluster.nodes[0].state = MemberState::Draining;
    assert!(cluster.all_changes().is_empty());
    cluster.shard_owners.fill(ShardOwner { owner: Some(boot(0)), movable: true });
    assert!(cluster.all_changes().is_empty());
}

mod history;
mod scale;
