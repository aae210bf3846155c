//! Histories of a cluster in rounds. In each round every node looks, makes its plan and
//! carries it out, or is slow and carries it out in the next round, when the others have long
//! gone on. What no longer holds by then fails, as a compare-and-set in the store does.

use super::*;

/// How many rounds make up the minute in which a shard does not move again.
const MINUTE: usize = 30;
/// In how many rounds after the last change in membership everything is at rest: shards that
/// moved lately are free again after a minute, then a tenth moves in every other round at
/// least, and shards too few for tenths one by one.
const SETTLED: usize = MINUTE + 4 * MOVES_PART;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A node comes, under a name that others may bear or have borne.
    Join(u8),
    /// A node is gone.
    Kill(Index),
    /// A node gives everything away.
    Drain(Index),
    /// A node that has given everything away leaves.
    Leave(Index),
    /// A node is started anew before anybody missed it.
    Restart(Index),
    /// A node comes while its former self is still taken to be alive.
    Overlap(Index),
    /// A node is started anew under another name.
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
        1 => (any::<Index>(), 0_u8..8).prop_map(|(who, name)| Event::Rename(who, name)),
        4 => (0_usize..2 * MINUTE).prop_map(Event::Wait),
    ]
}

struct World {
    cluster: Cluster,
    boots: u32,
    round: usize,
    /// When each shard last moved between living nodes.
    moved: Vec<Option<usize>>,
    /// What slow nodes have yet to carry out.
    late: Vec<(Shard, Option<BootId>, BootId, Holding)>,
    /// The owners of each shard since membership last changed.
    owners: Vec<Vec<BootId>>,
    /// Whether somebody acted late since then.
    was_late: bool,
    /// Decides who is slow.
    slow: Vec<bool>,
}

impl World {
    fn new(nodes: u32, shards: usize, slow: Vec<bool>) -> Self {
        Self {
            cluster: Cluster::of(nodes, shards),
            boots: nodes,
            round: 0,
            moved: vec![None; shards],
            late: vec![],
            owners: vec![vec![]; shards],
            was_late: false,
            slow,
        }
    }

    fn boot(&mut self) -> BootId {
        self.boots += 1;
        boot(self.boots)
    }

    fn happen(&mut self, event: Event) {
        let nodes = self.cluster.nodes.len();
        match event {
            Event::Wait(rounds) => return (0..rounds).for_each(|_| self.round()),
            Event::Join(name) => {
                let new = Node::alive(self.boot(), format!("node-{name}"));
                self.cluster.nodes.push(new);
            }
            _ if nodes == 0 => {}
            Event::Kill(who) => {
                self.cluster.nodes.remove(who.index(nodes));
            }
            Event::Drain(who) => {
                self.cluster.nodes[who.index(nodes)].standing = Standing::Draining;
            }
            Event::Leave(who) => {
                let node = &self.cluster.nodes[who.index(nodes)];
                if node.standing == Standing::Draining
                    && self.cluster.owned_by(node.boot).is_empty()
                {
                    self.cluster.nodes.remove(who.index(nodes));
                }
            }
            Event::Restart(who) => {
                let name = self.cluster.nodes[who.index(nodes)].name.clone();
                self.cluster.nodes[who.index(nodes)] = Node::alive(self.boot(), name);
            }
            Event::Overlap(who) => {
                let name = self.cluster.nodes[who.index(nodes)].name.clone();
                let new = Node::alive(self.boot(), name);
                self.cluster.nodes.push(new);
            }
            Event::Rename(who, name) => {
                let new = Node::alive(self.boot(), format!("node-{name}"));
                self.cluster.nodes[who.index(nodes)] = new;
            }
        }
        self.carry_out_late();
        self.was_late = false;
        for (owners, holding) in self.owners.iter_mut().zip(&self.cluster.holdings) {
            owners.clear();
            owners.extend(holding.owner);
        }
    }

    /// Every node plans from what it sees now. The slow ones of the last round act after the
    /// others have looked.
    fn round(&mut self) {
        self.round += 1;
        for (holding, moved) in self.cluster.holdings.iter_mut().zip(&self.moved) {
            holding.movable = moved.is_none_or(|moved| self.round - moved >= MINUTE);
        }
        let seen = self.cluster.clone();
        self.carry_out_late();
        for (number, node) in seen.nodes.iter().enumerate() {
            let Plan { claims, moves } = seen.plan(node.boot);
            let claims = claims.into_iter().map(|shard| (shard, None, node.boot));
            let moves = moves.into_iter().map(|(shard, heir)| (shard, Some(node.boot), heir));
            let is_slow = self.slow[(self.round * 7 + number) % self.slow.len()];
            for (shard, giver, heir) in claims.chain(moves) {
                let holding = seen.holdings[usize::from(shard)];
                if is_slow {
                    self.late.push((shard, giver, heir, holding));
                } else {
                    self.carry_out(shard, giver, heir, holding);
                }
            }
        }
    }

    fn carry_out_late(&mut self) {
        for (shard, giver, heir, seen) in std::mem::take(&mut self.late) {
            self.was_late = true;
            self.carry_out(shard, giver, heir, seen);
        }
    }

    fn carry_out(&mut self, shard: Shard, giver: Option<BootId>, heir: BootId, seen: Holding) {
        let index = usize::from(shard);
        let actor = giver.unwrap_or(heir);
        let acts = self.cluster.nodes.iter().any(|node| node.boot == actor);
        if !acts || self.cluster.holdings[index].owner != seen.owner {
            return;
        }
        self.cluster.carry_out((shard, giver, heir));
        if !self.cluster.holdings[index].movable {
            self.moved[index] = Some(self.round);
        }
        // Who acts on what is past may give too much away, of which some comes back: once.
        let earlier = self.owners[index].iter().filter(|owner| **owner == heir).count();
        assert!(earlier <= usize::from(self.was_late), "shard {shard} goes back to {heir}");
        self.owners[index].push(heir);
    }

    fn come_to_rest(&mut self) {
        for _ in 0..SETTLED {
            self.round();
            // Blocked shards may hide what is left to do.
            if self.late.is_empty() && self.free().whole().is_empty() {
                break;
            }
        }
        self.free().assert_settled();
    }

    /// The cluster once a minute has passed.
    fn free(&self) -> Cluster {
        let mut cluster = self.cluster.clone();
        cluster.holdings.iter_mut().for_each(|holding| holding.movable = true);
        cluster
    }
}

proptest! {
    #[test]
    fn every_history_comes_to_rest(
        nodes in 0_u32..6,
        shards in prop_oneof![0_usize..12, 0_usize..100],
        slow in prop::collection::vec(prop::bool::weighted(0.3), 1..40),
        events in prop::collection::vec(prop::collection::vec(any_event(), 1..5), 1..5),
    ) {
        let mut world = World::new(nodes, shards, slow);
        for burst in events {
            burst.into_iter().for_each(|event| world.happen(event));
            world.come_to_rest();
        }
    }
}
