//! Histories of a cluster in rounds. In each round every node observes the cluster, plans and
//! carries out its plan. A slow node carries it out in the next round, after the others have acted.
//! A change whose precondition no longer holds fails, like a compare-and-set in the store.

use super::*;

/// The rounds in the minute during which a shard does not move again.
const MINUTE: usize = 30;
/// The rounds within which the cluster settles after the last membership change: recently moved
/// shards are movable again after a minute, then at least a tenth of the shards moves in every
/// other round, or a single one if there are fewer than ten.
const MAX_SETTLE_ROUNDS: usize = MINUTE + 4 * MOVES_DIVISOR;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A node joins, with a name that other nodes may have or have had.
    Join(u8),
    /// A node dies.
    Kill(Index),
    /// A node starts to hand over its shards.
    Drain(Index),
    /// A drained node leaves.
    Leave(Index),
    /// A node restarts before its death is detected.
    Restart(Index),
    /// A node restarts while its previous run is still considered alive.
    Overlap(Index),
    /// A node restarts with another name.
    Rename(Index, u8),
    /// Nothing happens for some rounds.
    Wait(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u8..8).prop_map(Event::Join),
        2 => any::<Index>().prop_map(Event::Kill),
        2 => any::<Index>().prop_map(Event::Drain),
        1 => any::<Index>().prop_map(Event::Leave),
        1 => any::<Index>().prop_map(Event::Restart),
        1 => any::<Index>().prop_map(Event::Overlap),
        1 => (any::<Index>(), 0_u8..8).prop_map(|(index, name)| Event::Rename(index, name)),
        4 => (0_usize..2 * MINUTE).prop_map(Event::Wait),
    ]
}

struct ClusterHistory {
    cluster: Cluster,
    boots: u32,
    round: usize,
    /// When each shard last moved between living nodes.
    moved: Vec<Option<usize>>,
    /// Changes that slow nodes have yet to carry out.
    delayed: Vec<(Shard, Option<BootId>, BootId, ShardOwner)>,
    /// The owners of each shard since the last membership change.
    owners: Vec<Vec<BootId>>,
    /// Whether a delayed change was carried out since then.
    had_delayed: bool,
    /// Decides which nodes are slow.
    slow: Vec<bool>,
}

impl ClusterHistory {
    fn new(nodes: u32, shards: usize, slow: Vec<bool>) -> Self {
        Self {
            cluster: Cluster::of(nodes, shards),
            boots: nodes,
            round: 0,
            moved: vec![None; shards],
            delayed: vec![],
            owners: vec![vec![]; shards],
            had_delayed: false,
            slow,
        }
    }

    fn boot(&mut self) -> BootId {
        self.boots += 1;
        boot(self.boots)
    }

    fn apply(&mut self, event: Event) {
        let nodes = self.cluster.nodes.len();
        match event {
            Event::Wait(rounds) => return (0..rounds).for_each(|_| self.round()),
            Event::Join(name) => {
                let new = Node::alive(self.boot(), format!("node-{name}"));
                self.cluster.nodes.push(new);
            }
            _ if nodes == 0 => {}
            Event::Kill(index) => {
                self.cluster.nodes.remove(index.index(nodes));
            }
            Event::Drain(index) => {
                self.cluster.nodes[index.index(nodes)].state = MemberState::Draining;
            }
            Event::Leave(index) => {
                let node = &self.cluster.nodes[index.index(nodes)];
                if node.state == MemberState::Draining
                    && self.cluster.owned_by(node.boot).is_empty()
                {
                    self.cluster.nodes.remove(index.index(nodes));
                }
            }
            Event::Restart(index) => {
                let name = self.cluster.nodes[index.index(nodes)].name.clone();
                self.cluster.nodes[index.index(nodes)] = Node::alive(self.boot(), name);
            }
            Event::Overlap(index) => {
                let name = self.cluster.nodes[index.index(nodes)].name.clone();
                let new = Node::alive(self.boot(), name);
                self.cluster.nodes.push(new);
            }
            Event::Rename(index, name) => {
                let new = Node::alive(self.boot(), format!("node-{name}"));
                self.cluster.nodes[index.index(nodes)] = new;
            }
        }
        self.carry_out_delayed();
        self.had_delayed = false;
        for (owners, shard_owner) in self.owners.iter_mut().zip(&self.cluster.shard_owners) {
            owners.clear();
            owners.extend(shard_owner.owner);
        }
    }

    /// Every node plans from the current state. The slow nodes of the last round act after all
    /// nodes have observed it.
    fn round(&mut self) {
        self.round += 1;
        for (shard_owner, moved) in self.cluster.shard_owners.iter_mut().zip(&self.moved) {
            shard_owner.movable = moved.is_none_or(|moved| self.round - moved >= MINUTE);
        }
        let seen = self.cluster.clone();
        self.carry_out_delayed();
        for (number, node) in seen.nodes.iter().enumerate() {
            let Plan { claims, moves } = seen.plan(node.boot);
            let claims = claims.into_iter().map(|shard| (shard, None, node.boot));
            let moves = moves.into_iter().map(|(shard, target)| (shard, Some(node.boot), target));
            let is_slow = self.slow[(self.round * 7 + number) % self.slow.len()];
            for (shard, source, target) in claims.chain(moves) {
                let shard_owner = seen.shard_owners[usize::from(shard)];
                if is_slow {
                    self.delayed.push((shard, source, target, shard_owner));
                } else {
                    self.carry_out(shard, source, target, shard_owner);
                }
            }
        }
    }

    fn carry_out_delayed(&mut self) {
        for (shard, source, target, seen) in std::mem::take(&mut self.delayed) {
            self.had_delayed = true;
            self.carry_out(shard, source, target, seen);
        }
    }

    fn carry_out(
        &mut self,
        shard: Shard,
        source: Option<BootId>,
        target: BootId,
        seen: ShardOwner,
    ) {
        let index = usize::from(shard);
        let actor = source.unwrap_or(target);
        let acts = self.cluster.nodes.iter().any(|node| node.boot == actor);
        if !acts || self.cluster.shard_owners[index].owner != seen.owner {
            return;
        }
        self.cluster.carry_out((shard, source, target));
        if !self.cluster.shard_owners[index].movable {
            self.moved[index] = Some(self.round);
        }
        // A node that acts on stale state may hand over too many shards; each may come back once.
        let earlier = self.owners[index].iter().filter(|owner| **owner == target).count();
        assert!(earlier <= usize::from(self.had_delayed), "shard {shard} goes back to {target}");
        self.owners[index].push(target);
    }

    fn settle(&mut self) {
        for _ in 0..MAX_SETTLE_ROUNDS {
            self.round();
            // Unmovable shards may hide remaining moves.
            if self.delayed.is_empty() && self.a_minute_later().all_changes().is_empty() {
                break;
            }
        }
        self.a_minute_later().assert_settled();
    }

    /// The cluster a minute later.
    fn a_minute_later(&self) -> Cluster {
        let mut cluster = self.cluster.clone();
        cluster.shard_owners.iter_mut().for_each(|shard_owner| shard_owner.movable = true);
        cluster
    }
}

proptest! {
    #[test]
    fn the_cluster_settles_after_every_history(
        nodes in 0_u32..6,
        shards in prop_oneof![0_usize..12, 0_usize..100],
        slow in prop::collection::vec(prop::bool::weighted(0.3), 1..40),
        events in prop::collection::vec(prop::collection::vec(any_event(), 1..5), 1..5),
    ) {
        let mut history = ClusterHistory::new(nodes, shards, slow);
        for burst in events {
            burst.into_iter().for_each(|event| history.apply(event));
            history.settle();
        }
    }
}
