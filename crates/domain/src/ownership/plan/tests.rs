//! Plans of random clusters, and histories: clusters whose nodes come and go while each carries
//! out its part of the plan, some of it late.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::*;
use crate::ids::Id;

/// A cluster at one moment.
#[derive(Clone, Debug)]
struct Cluster {
    nodes: Vec<Node>,
    holdings: Vec<Holding>,
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    boot: BootId,
    name: String,
    standing: Standing,
}

impl Node {
    fn alive(boot: BootId, name: impl Into<String>) -> Self {
        Self { boot, name: name.into(), standing: Standing::Alive }
    }
}

fn boot(number: u32) -> BootId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    BootId::from_bytes(bytes)
}

fn orphans(count: usize) -> Vec<Holding> {
    vec![Holding { owner: None, movable: true }; count]
}

impl Cluster {
    /// `node-0` and so on, on their first run.
    fn of(nodes: u32, shards: usize) -> Self {
        let nodes = (0..nodes).map(|n| Node::alive(boot(n), format!("node-{n}"))).collect();
        Self { nodes, holdings: orphans(shards) }
    }

    fn members(&self) -> Vec<Member<'_>> {
        let member = |n: &'_ Node| (n.boot, n.standing);
        self.nodes
            .iter()
            .map(|n| (n.name.as_str(), member(n)))
            .map(|(name, (node, standing))| Member { node, name, standing })
            .collect()
    }

    fn plan(&self, me: BootId) -> Plan {
        plan(&self.members(), &self.holdings, me)
    }

    fn standing(&self, standing: Standing) -> BTreeSet<BootId> {
        self.nodes.iter().filter(|n| n.standing == standing).map(|n| n.boot).collect()
    }

    /// Those who own a share: the silent only while there is nobody else.
    fn alive(&self) -> BTreeSet<BootId> {
        let alive = self.standing(Standing::Alive);
        if alive.is_empty() { self.standing(Standing::Suspect) } else { alive }
    }

    /// Those who keep what they have and take nothing.
    fn suspects(&self) -> BTreeSet<BootId> {
        &self.standing(Standing::Suspect) - &self.alive()
    }

    fn draining(&self) -> BTreeSet<BootId> {
        self.standing(Standing::Draining)
    }

    fn is_kept(&self, holding: &Holding) -> bool {
        holding.owner.is_some_and(|owner| self.suspects().contains(&owner))
    }

    fn band(&self) -> Band {
        let kept = self.holdings.iter().filter(|holding| self.is_kept(holding)).count();
        Band::of(self.holdings.len() - kept, self.alive().len())
    }

    /// How many shards each living node owns.
    fn loads(&self) -> BTreeMap<BootId, usize> {
        let mut loads: BTreeMap<_, _> = self.alive().into_iter().map(|node| (node, 0)).collect();
        for owner in self.holdings.iter().filter_map(|h| h.owner) {
            if let Some(load) = loads.get_mut(&owner) {
                *load += 1;
            }
        }
        loads
    }

    fn owned_by(&self, node: BootId) -> BTreeSet<Shard> {
        (0..).zip(&self.holdings).filter(|(_, h)| h.owner == Some(node)).map(|(s, _)| s).collect()
    }

    fn homeless(&self) -> BTreeSet<Shard> {
        let at_home = &self.alive() | &self.suspects();
        let is_homeless = |h: &Holding| h.owner.is_none_or(|owner| !at_home.contains(&owner));
        (0..).zip(&self.holdings).filter(|(_, h)| is_homeless(h)).map(|(s, _)| s).collect()
    }

    /// The plans of all nodes together.
    fn whole(&self) -> BTreeSet<(Shard, Option<BootId>, BootId)> {
        let mut whole = BTreeSet::new();
        for node in &self.nodes {
            let Plan { claims, moves } = self.plan(node.boot);
            let claims = claims.into_iter().map(|shard| (shard, None, node.boot));
            let moves = moves.into_iter().map(|(shard, heir)| (shard, Some(node.boot), heir));
            whole.extend(claims.chain(moves));
        }
        whole
    }

    fn carry_out(&mut self, (shard, giver, heir): (Shard, Option<BootId>, BootId)) {
        let between_living = giver.is_some_and(|giver| self.alive().contains(&giver));
        self.holdings[usize::from(shard)] = Holding { owner: Some(heir), movable: !between_living };
    }

    /// Carries out plans until nothing is left to do, a minute after each other, and counts the
    /// shards that changed their owner.
    fn settle(&mut self) -> usize {
        let before = self.holdings.clone();
        for _ in 0..=2 * MOVES_PART + 1 {
            let whole = self.whole();
            if whole.is_empty() {
                let changed = before.iter().zip(&self.holdings).filter(|(a, b)| a.owner != b.owner);
                return changed.count();
            }
            for change in whole {
                self.carry_out(change);
            }
            for holding in &mut self.holdings {
                holding.movable = true;
            }
        }
        panic!("it does not settle: {self:?}");
    }

    fn assert_settled(&self) {
        let alive = self.alive();
        assert!(self.whole().is_empty(), "something is left to do");
        if alive.is_empty() {
            return;
        }
        assert!(self.homeless().is_empty(), "somebody owns every shard");
        let Band { least, most, .. } = self.band();
        let shards = self.loads().values().sum::<usize>() as f64;
        let fair = shards / alive.len() as f64;
        for (node, load) in self.loads() {
            assert!((least..=most).contains(&load), "{node} owns {load} of {least} to {most}");
            // A tenth, or the whole shard next to the fair share.
            let off = (load as f64 - fair).abs();
            assert!(off <= fair / 10.0 + 1e-9 || off < 1.0, "{node} owns {load}, fair is {fair}");
        }
    }
}

/// Nodes under few names, so that some share one, and owners that need not be among them.
fn any_cluster(blocked: f64) -> impl Strategy<Value = Cluster> {
    let standing = prop_oneof![
        7 => Just(Standing::Alive),
        2 => Just(Standing::Suspect),
        2 => Just(Standing::Draining),
    ];
    let node = (0_u32..6, standing);
    let shard = (prop::option::weighted(0.95, any::<Index>()), prop::bool::weighted(1.0 - blocked));
    (prop::collection::vec(node, 0..10), 0_u32..4, prop::collection::vec(shard, 0..200)).prop_map(
        |(nodes, dead, shards)| {
            let nodes: Vec<_> = (0_u32..)
                .zip(nodes)
                .map(|(number, (name, standing))| Node {
                    boot: boot(number),
                    name: format!("node-{name}"),
                    standing,
                })
                .collect();
            let owners = nodes.len() + dead as usize;
            // The square root makes some much fuller than others.
            let owner = |index: Index| {
                let drawn = (index.index(owners * owners) as f64).sqrt();
                boot(drawn as u32)
            };
            let holdings = shards
                .into_iter()
                .map(|(index, movable)| Holding {
                    owner: index.filter(|_| owners > 0).map(owner),
                    movable,
                })
                .collect();
            Cluster { nodes, holdings }
        },
    )
}

proptest! {
    /// The parts are one assignment: no shard twice, the ownerless all and at once, and none
    /// moved that must stay.
    #[test]
    fn the_parts_make_one_whole(cluster in any_cluster(0.3)) {
        let (alive, draining) = (cluster.alive(), cluster.draining());
        let suspects = cluster.suspects();
        let whole = cluster.whole();
        let shards: BTreeSet<_> = whole.iter().map(|(shard, ..)| *shard).collect();
        prop_assert_eq!(shards.len(), whole.len(), "a shard has two heirs");
        if alive.is_empty() {
            prop_assert!(whole.is_empty());
        } else {
            prop_assert!(cluster.homeless().is_subset(&shards));
        }
        let mut levelled = 0;
        for (shard, giver, heir) in whole {
            let holding = cluster.holdings[usize::from(shard)];
            prop_assert!(alive.contains(&heir), "the heir is not alive");
            prop_assert!(!holding.owner.is_some_and(|owner| suspects.contains(&owner)));
            match giver {
                None => {
                    let owner = holding.owner;
                    prop_assert!(!owner.is_some_and(|o| alive.contains(&o) || draining.contains(&o)));
                }
                Some(giver) => {
                    prop_assert_eq!(holding.owner, Some(giver));
                    prop_assert!(giver != heir);
                    if alive.contains(&giver) {
                        prop_assert!(holding.movable);
                        levelled += 1;
                    }
                }
            }
        }
        prop_assert!(levelled <= (cluster.holdings.len() / 10).max(1));
    }

    #[test]
    fn the_order_of_the_members_does_not_matter(
        (cluster, shuffled) in any_cluster(0.1).prop_flat_map(|cluster| {
            let shuffled = Just(cluster.nodes.clone()).prop_shuffle();
            (Just(cluster), shuffled)
        }),
    ) {
        let other = Cluster { nodes: shuffled, holdings: cluster.holdings.clone() };
        for node in &cluster.nodes {
            prop_assert_eq!(cluster.plan(node.boot), other.plan(node.boot));
        }
    }

    #[test]
    fn strangers_have_nothing_to_do(cluster in any_cluster(0.1), number in 10_u32..20) {
        prop_assert_eq!(cluster.plan(boot(number)), Plan::default());
    }

    /// Nobody takes an ownerless shard beyond its fair share.
    #[test]
    fn nobody_takes_too_much(cluster in any_cluster(1.0)) {
        prop_assume!(!cluster.alive().is_empty());
        let before = cluster.loads();
        let mut after = cluster.clone();
        after.whole().into_iter().for_each(|change| after.carry_out(change));
        prop_assert!(after.homeless().is_empty());
        let fair = cluster.band().fair;
        for (node, load) in after.loads() {
            prop_assert!(load <= fair.max(before[&node]), "{} owns {} of {}", node, load, fair);
        }
    }

    /// From any beginning it settles, and with no more moves than balance asks for: the
    /// ownerless, and of the others as many as are too many or, without the ownerless, too few.
    #[test]
    fn it_settles_with_the_least_moves(mut cluster in any_cluster(0.0)) {
        if cluster.alive().is_empty() {
            prop_assert!(cluster.whole().is_empty());
            return Ok(());
        }
        let Band { least, most, .. } = cluster.band();
        let homeless = cluster.homeless().len();
        let loads = cluster.loads();
        let too_many: usize = loads.values().map(|load| load.saturating_sub(most)).sum();
        let too_few: usize = loads.values().map(|load| least.saturating_sub(*load)).sum();
        let needed = homeless + too_many.max(too_few.saturating_sub(homeless));
        prop_assert_eq!(cluster.settle(), needed);
        cluster.assert_settled();
    }

    /// Whichever part of a plan has been carried out, the plan from there is the rest of it.
    #[test]
    fn a_plan_that_is_half_done_goes_on_as_it_was(
        (cluster, whole, done) in any_cluster(0.2).prop_flat_map(|cluster| {
            let whole: Vec<_> = cluster.whole().into_iter().collect();
            let done = subsequence(whole.clone(), 0..=whole.len());
            (Just(cluster), Just(whole), done)
        }),
    ) {
        let mut cluster = cluster;
        let rest: BTreeSet<_> = whole.iter().filter(|c| !done.contains(c)).copied().collect();
        let goes_on = if cluster.homeless().is_empty() {
            whole.len() == (cluster.holdings.len() / MOVES_PART).max(1)
        } else {
            rest.is_empty()
        };
        done.into_iter().for_each(|change| cluster.carry_out(change));
        let now = cluster.whole();
        prop_assert!(rest.is_subset(&now), "{:?} became {:?}", rest, now);
        prop_assert!(goes_on || rest == now, "{:?} became {:?}", rest, now);
    }

    /// When one goes, exactly its shards change their owner.
    #[test]
    fn a_loss_moves_only_what_was_lost(
        nodes in 2_u32..12, shards in 0_usize..300, who in any::<Index>(), drained in any::<bool>(),
    ) {
        let mut cluster = Cluster::of(nodes, shards);
        cluster.settle();
        let who = who.index(cluster.nodes.len());
        let lost = cluster.owned_by(cluster.nodes[who].boot);
        if drained {
            cluster.nodes[who].standing = Standing::Draining;
        } else {
            cluster.nodes.remove(who);
        }
        let changed: BTreeSet<_> = cluster.whole().iter().map(|(shard, ..)| *shard).collect();
        prop_assert_eq!(&changed, &lost);
        prop_assert_eq!(cluster.settle(), lost.len());
        cluster.assert_settled();
    }

    /// One that joins gets at most its fair share, and the others get nothing.
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

    /// A node that is started anew, and is seen at once in place of its former self, gets
    /// back what it owned.
    #[test]
    fn a_restarted_node_gets_its_own_back(
        nodes in 1_u32..12, shares in 1_usize..30, who in any::<Index>(),
    ) {
        let mut cluster = Cluster::of(nodes, nodes as usize * shares);
        cluster.settle();
        let who = who.index(cluster.nodes.len());
        let owned = cluster.owned_by(cluster.nodes[who].boot);
        cluster.nodes[who].boot = boot(nodes);
        prop_assert_eq!(cluster.settle(), owned.len());
        let back = cluster.owned_by(boot(nodes));
        // When the others have room too, a shard may suit one of them better.
        prop_assert!(back.is_subset(&owned));
        prop_assert!(back.len() >= cluster.band().least);
    }
}

#[test]
fn a_cluster_that_starts_anew_is_as_it_was() {
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
    crowded.holdings.fill(Holding { owner: Some(boot(1)), movable: true });
    assert_eq!(crowded.settle(), 1);
    crowded.assert_settled();
}

#[test]
fn of_two_runs_of_a_node_the_later_is_preferred() {
    let mut cluster = Cluster::of(2, 1);
    cluster.nodes[1].name = "node-0".to_owned();
    assert_eq!(cluster.plan(boot(0)), Plan::default());
    assert_eq!(cluster.plan(boot(1)).claims, [0]);
}

#[test]
fn what_has_just_moved_stays() {
    let mut cluster = Cluster::of(2, 100);
    cluster.holdings.fill(Holding { owner: Some(boot(0)), movable: false });
    assert!(cluster.whole().is_empty());
    for shard in [7, 70] {
        cluster.holdings[shard].movable = true;
    }
    assert_eq!(cluster.whole(), [(7, Some(boot(0)), boot(1)), (70, Some(boot(0)), boot(1))].into());
    cluster.nodes[0].standing = Standing::Draining;
    assert_eq!(cluster.whole().len(), 100);
}

#[test]
fn a_silent_node_keeps_its_own_and_takes_nothing_while_somebody_is_alive() {
    let mut cluster = Cluster::of(4, 90);
    cluster.settle();
    cluster.nodes[2].standing = Standing::Suspect;
    assert!(cluster.whole().is_empty(), "it may yet come back in time");
    let own = cluster.owned_by(boot(2));
    cluster.nodes[0].standing = Standing::Draining;
    cluster.nodes.remove(3);
    cluster.settle();
    assert_eq!(cluster.owned_by(boot(2)), own);
    assert_eq!(cluster.owned_by(boot(1)).len(), 90 - own.len(), "the one that is left takes all");
    // With nobody else there, it is the one to be hoped for.
    cluster.nodes[1].standing = Standing::Draining;
    cluster.settle();
    assert_eq!(cluster.owned_by(boot(2)).len(), 90);
}

#[test]
fn nobody_alive_claims_nothing() {
    let mut cluster = Cluster::of(1, 8);
    cluster.nodes[0].standing = Standing::Draining;
    assert!(cluster.whole().is_empty());
    cluster.holdings.fill(Holding { owner: Some(boot(0)), movable: true });
    assert!(cluster.whole().is_empty());
}

mod history;
mod scale;
