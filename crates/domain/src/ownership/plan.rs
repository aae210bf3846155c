//! Which shards a node claims and which it gives away: a plain function of who is there and
//! who owns what.
//!
//! Every node works out the same whole assignment and does its own part of it. So nobody has to
//! lead, and two nodes with the same view never want the same shard. A plan
//! does one of two things:
//!
//! 1. **Ownerless shards are placed**, at once and all: those of dead nodes are claimed by their
//!    heirs, those of draining nodes are given away by their owners. A shard goes to the node
//!    that suits it best (`rendezvous`) and has room (`balance`).
//! 2. **Balance is restored** between nodes that are alive, once no shard is ownerless and only
//!    when a node is out of its band, with the least number of moves, from the fullest to the
//!    emptiest, and a bounded number at a time.
//!
//! A plan is carried out piece by piece while others carry out theirs, and is made anew at
//! every look. So it is built to go on as it was: when any part of it has been done, the plan
//! from there is what is left (and more, when the bound had cut it short). That is why the two
//! never share a plan, and why heirs are matched to givers in the order of their names and not
//! of what they own at the moment.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use super::Shard;
use super::balance::Band;
use super::rendezvous::Key;
use crate::ids::BootId;

/// The part of all shards that one plan moves between living nodes at most: one in this many,
/// and at least one.
const MOVES_PART: usize = 10;

/// A node as the plan sees it. Two may bear one name: a node that was started anew, and its
/// former self that nobody has yet seen to be dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The node, in its present run. No two members share it.
    pub node: BootId,
    /// What it is called, over all its runs.
    pub name: &'a str,
    /// Whether it takes shards.
    pub standing: Standing,
}

/// How a node takes part. The dead are not listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It owns its share.
    Alive,
    /// It has been silent for a while and may yet come back: it keeps what it owns, and takes
    /// nothing while somebody alive is there, who can begin to work at once.
    Suspect,
    /// It is about to stop: it gives away what it owns and takes nothing.
    Draining,
}

/// A shard as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Who owns it, dead or alive; nobody before the first claim.
    pub owner: Option<BootId>,
    /// Whether it may move for the sake of balance: not when it moved between living nodes
    /// within the last minute.
    pub movable: bool,
}

/// What one node is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The shards without a living owner that it claims.
    pub claims: Vec<Shard>,
    /// The shards of its own that it gives away, each with the heir, the most urgent first.
    pub moves: Vec<(Shard, BootId)>,
}

/// The part of `me` in the assignment of all shards (`holdings`, by shard) to `members`. The
/// order of `members` does not matter. A node that is not among them has nothing to do.
#[must_use]
pub fn plan(members: &[Member<'_>], holdings: &[Holding], me: BootId) -> Plan {
    let mut mine = Plan::default();
    for change in assign(members, holdings) {
        match change.giver {
            None if change.heir == me => mine.claims.push(change.shard),
            Some(giver) if giver == me => mine.moves.push((change.shard, change.heir)),
            _ => {}
        }
    }
    mine
}

/// A shard that changes its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    shard: Shard,
    /// The owner that gives it away; nobody when the heir claims it.
    giver: Option<BootId>,
    heir: BootId,
}

/// The changes of all nodes together.
fn assign(members: &[Member<'_>], holdings: &[Holding]) -> Vec<Change> {
    let Some(mut board) = Board::of(members, holdings) else { return vec![] };
    if board.homeless.is_empty() { board.level(holdings.len()) } else { board.place() }
}

/// The nodes that take shards with what they own, and the shards that need an heir. What a suspect
/// node keeps is not on it.
struct Board {
    /// Sorted by name and then by boot id, so that every node sees the same order.
    seats: Vec<Seat>,
    /// In the order of their numbers, each with the draining node that gives it away.
    homeless: Vec<(Shard, Option<BootId>)>,
    band: Band,
}

struct Seat {
    node: BootId,
    key: Key,
    load: usize,
    /// What it may give away.
    movable: Vec<Shard>,
}

impl Board {
    /// Nothing when there is nobody to take a shard.
    fn of(members: &[Member<'_>], holdings: &[Holding]) -> Option<Self> {
        let with = |standing| members.iter().filter(move |m| m.standing == standing);
        let nodes = |standing| with(standing).map(|m| m.node).collect::<HashSet<_>>();
        let mut seats: Vec<_> = with(Standing::Alive).collect();
        let mut suspects = nodes(Standing::Suspect);
        if seats.is_empty() {
            // With nobody else there, they are the ones to be hoped for.
            seats = with(Standing::Suspect).collect();
            suspects.clear();
        }
        if seats.is_empty() {
            return None;
        }
        seats.sort_unstable_by_key(|member| (member.name, member.node));
        let kept = |holding: &Holding| holding.owner.is_some_and(|owner| suspects.contains(&owner));
        let shards: Vec<_> =
            (0..=Shard::MAX).zip(holdings).filter(|(_, holding)| !kept(holding)).collect();
        let band = Band::of(shards.len(), seats.len());
        let seats = seats.into_iter().map(Seat::of).collect();
        let mut board = Self { seats, homeless: vec![], band };
        board.seat(&shards, &nodes(Standing::Draining));
        Some(board)
    }

    /// Puts every shard on its owner's seat, or among the homeless.
    fn seat(&mut self, shards: &[(Shard, &Holding)], draining: &HashSet<BootId>) {
        let seats: HashMap<_, _> = self.seats.iter().map(|s| s.node).zip(0..).collect();
        for &(shard, holding) in shards {
            match holding.owner.and_then(|owner| seats.get(&owner)) {
                Some(&seat) => self.seats[seat].keep(shard, holding.movable),
                None => {
                    let giver = holding.owner.filter(|owner| draining.contains(owner));
                    self.homeless.push((shard, giver));
                }
            }
        }
    }

    /// Finds an heir for every homeless shard: the node that suits it best of those with room.
    /// Nobody takes more than the fair share, and those with too few come first as soon as
    /// what is left is only enough for them.
    fn place(&mut self) -> Vec<Change> {
        let Band { least, fair, .. } = self.band;
        let mut wanted: usize = self.seats.iter().map(|s| least.saturating_sub(s.load)).sum();
        let mut left = self.homeless.len();
        let mut changes = Vec::with_capacity(left);
        for &(shard, giver) in &self.homeless {
            let room = if left > wanted { fair } else { least };
            let seat = best(&mut self.seats, shard, room);
            if seat.load < least {
                wanted -= 1;
            }
            seat.load += 1;
            left -= 1;
            changes.push(Change { shard, giver, heir: seat.node });
        }
        changes
    }

    /// Moves shards between living nodes until each is inside its band, as far as this plan
    /// may go.
    fn level(&mut self, shards: usize) -> Vec<Change> {
        let Transfers { gives, takes } = self.transfers();
        let heirs = spread(&takes);
        let mut moves = Vec::with_capacity(heirs.len());
        let mut next = 0;
        for (giver, count) in gives.into_iter().enumerate() {
            for run in heirs[next..next + count].chunk_by(|a, b| a.seat == b.seat) {
                let heir = &self.seats[run[0].seat];
                let (key, heir) = (heir.key, heir.node);
                let giver = &mut self.seats[giver];
                let shards = giver.give(run.len(), key);
                let change = |shard| Change { shard, giver: Some(giver.node), heir };
                moves.extend(run.iter().zip(shards.into_iter().map(change)));
            }
            next += count;
        }
        // The heir that lacks most comes first.
        moves.sort_by_key(|(take, _)| Reverse(take.lacking));
        moves.truncate((shards / MOVES_PART).max(1));
        moves.into_iter().map(|(_, change)| change).collect()
    }

    /// How many shards each node gives and takes: the least number that restores balance, each
    /// from the fullest that has one to give to the emptiest.
    ///
    /// Each move helps the fullest, while it has too many, and the emptiest, while it has too
    /// few. So the moves are as many as the shards that are too many, or as those that are too
    /// few, whichever is more. Nobody both gives and takes: who gives keeps `most` or, when only
    /// too few are left to help, `least`; who takes stays at `least` or, when only too many are
    /// left to help, at or below `most`.
    fn transfers(&self) -> Transfers {
        let Band { least, most, .. } = self.band;
        let seats = || self.seats.iter().enumerate();
        let mut fullest: BinaryHeap<_> =
            seats().map(|(seat, node)| (node.load, Reverse(seat))).collect();
        let mut emptiest: BinaryHeap<_> =
            seats().map(|(seat, node)| Reverse((node.load, seat))).collect();
        let mut gives = vec![0; self.seats.len()];
        let mut takes = vec![0; self.seats.len()];
        while let Some((load, Reverse(giver))) = fullest.pop() {
            if gives[giver] == self.seats[giver].movable.len() {
                continue;
            }
            let Some(Reverse((lightest, heir))) = emptiest.pop() else { break };
            if load <= most && (lightest >= least || load <= least) {
                break;
            }
            gives[giver] += 1;
            takes[heir] += 1;
            fullest.push((load - 1, Reverse(giver)));
            emptiest.push(Reverse((lightest + 1, heir)));
        }
        Transfers { gives, takes }
    }
}

impl Seat {
    fn of(member: &Member<'_>) -> Self {
        Self { node: member.node, key: Key::of(member.name), load: 0, movable: vec![] }
    }

    fn keep(&mut self, shard: Shard, movable: bool) {
        self.load += 1;
        if movable {
            self.movable.push(shard);
        }
    }

    /// The `count` movable shards that suit the heir best, the best first.
    fn give(&mut self, count: usize, heir: Key) -> Vec<Shard> {
        let by_score = |shard: &Shard| Reverse(heir.score(*shard));
        if count < self.movable.len() {
            self.movable.select_nth_unstable_by_key(count, by_score);
        }
        let rest = self.movable.split_off(count);
        let mut given = std::mem::replace(&mut self.movable, rest);
        given.sort_unstable_by_key(by_score);
        given
    }
}

/// The seat with less than `room` that suits the shard best; of two runs of one node, the
/// later. When a whole cluster starts, this looks at every pair of node and shard.
fn best(seats: &mut [Seat], shard: Shard, room: usize) -> &mut Seat {
    let (mut best, mut highest) = (None, 0);
    for (index, seat) in seats.iter().enumerate() {
        if seat.load < room {
            let score = seat.key.score(shard);
            if score >= highest {
                (best, highest) = (Some(index), score);
            }
        }
    }
    &mut seats[best.expect("the fair share of all nodes holds every shard")]
}

/// How many shards each seat gives and takes.
struct Transfers {
    gives: Vec<usize>,
    takes: Vec<usize>,
}

/// One shard that a seat takes.
#[derive(Clone, Copy)]
struct Take {
    seat: usize,
    /// How many more it takes after this one.
    lacking: usize,
}

/// One entry for each shard that is taken, in the order of the seats.
fn spread(takes: &[usize]) -> Vec<Take> {
    takes
        .iter()
        .enumerate()
        .flat_map(|(seat, count)| (0..*count).rev().map(move |lacking| Take { seat, lacking }))
        .collect()
}

#[cfg(test)]
mod tests;
