//! What is going to be done to a cluster, and to its store: drawn from a seed, so that it can be
//! done again.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::cluster::network::Cut;
use crate::fault::Kind;
use crate::wait::{millis, seconds};

/// How long the cluster is left alone before a step, in milliseconds.
const CALM: Range<u64> = 20..1_500;
/// How long a killed node stays away, in milliseconds.
const AWAY: Range<u64> = 0..2_000;
/// How long the server of the store stays away when it is killed, in milliseconds.
const STORE_AWAY: Range<u64> = 0..3_000;

/// What there shall be, and how often.
#[derive(Clone, Debug, Default)]
pub struct Form {
    /// Nodes that are there from the start.
    pub nodes: usize,
    /// Single nodes killed.
    pub kills: usize,
    /// Times that all are killed at once.
    pub kills_of_all: usize,
    /// Nodes frozen, for so many seconds each.
    pub freezes_s: Vec<u64>,
    /// Nodes cut off, for so many seconds each.
    pub cuts_s: Vec<(Cut, u64)>,
    /// Times that every node is restarted, one after another.
    pub rolling_restarts: usize,
    /// Times that one node more joins, and later leaves.
    pub visits: usize,
    /// Times that the server of the store is killed.
    pub store_kills: usize,
    /// Times that it is frozen, for so many seconds each.
    pub store_freezes_s: Vec<u64>,
}

/// One thing that is done. Nodes are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node is killed, and started again after a while.
    Kill {
        /// Which.
        node: usize,
        /// For how long it is away.
        away: Duration,
    },
    /// All nodes are killed at once.
    KillAll,
    /// A node is frozen.
    Freeze {
        /// Which.
        node: usize,
        /// For how long.
        lasting: Duration,
        /// Which other node is killed meanwhile.
        killed: Option<usize>,
    },
    /// A node is cut off.
    Cut {
        /// Which.
        node: usize,
        /// From whom.
        cut: Cut,
        /// For how long.
        lasting: Duration,
    },
    /// Every node is restarted, one after another.
    RollingRestart,
    /// One node more joins.
    Join,
    /// It leaves.
    Leave,
    /// The server of the store is killed, and started again after a while.
    KillStore {
        /// For how long it is away.
        away: Duration,
    },
    /// The server of the store is frozen.
    FreezeStore {
        /// For how long.
        lasting: Duration,
    },
}

/// Steps, and how long the cluster is left alone before each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In order.
    pub steps: Vec<(Duration, Step)>,
    nodes: usize,
}

impl Plan {
    /// Draws one.
    ///
    /// # Panics
    /// When the form has no nodes.
    #[must_use]
    pub fn draw(seed: u64, form: &Form) -> Self {
        assert!(form.nodes > 0, "there is nobody to do anything to");
        let mut dice = StdRng::seed_from_u64(seed);
        let mut steps = steps(form, &mut dice);
        steps.shuffle(&mut dice);
        // Joining and leaving alternate, each at its own place among the others.
        let mut places: Vec<_> =
            (0..2 * form.visits).map(|_| dice.random_range(0..=steps.len())).collect();
        places.sort_unstable();
        for (turn, place) in places.into_iter().enumerate().rev() {
            steps.insert(place, if turn % 2 == 0 { Step::Join } else { Step::Leave });
        }
        let mut calm = || millis(dice.random_range(CALM));
        Self { steps: steps.into_iter().map(|step| (calm(), step)).collect(), nodes: form.nodes }
    }

    /// How many faults of each kind it will make.
    #[must_use]
    pub fn faults(&self) -> Vec<(Kind, usize)> {
        let mut faults = BTreeMap::<Kind, usize>::new();
        let mut add = |kind, n| *faults.entry(kind).or_default() += n;
        for &(_, step) in &self.steps {
            match step {
                Step::Kill { .. } => add(Kind::Kill, 1),
                Step::KillAll => add(Kind::Kill, self.nodes),
                Step::Freeze { killed, .. } => {
                    add(Kind::Freeze, 1);
                    add(Kind::Kill, usize::from(killed.is_some()));
                }
                Step::Cut { cut, .. } => add(cut.kind(), 1),
                Step::RollingRestart => add(Kind::Restart, self.nodes),
                Step::Join => add(Kind::Join, 1),
                Step::Leave => add(Kind::Leave, 1),
                Step::KillStore { .. } => add(Kind::StoreKill, 1),
                Step::FreezeStore { .. } => add(Kind::StoreFreeze, 1),
            }
        }
        faults.into_iter().collect()
    }
}

fn steps(form: &Form, dice: &mut StdRng) -> Vec<Step> {
    let nodes = form.nodes;
    let mut steps = Vec::new();
    for _ in 0..form.kills {
        let node = dice.random_range(0..nodes);
        steps.push(Step::Kill { node, away: millis(dice.random_range(AWAY)) });
    }
    steps.extend(std::iter::repeat_n(Step::KillAll, form.kills_of_all));
    for (index, &lasting) in form.freezes_s.iter().enumerate() {
        let node = dice.random_range(0..nodes);
        let other = (node + dice.random_range(1..nodes.max(2))) % nodes;
        let killed = (index % 2 == 1 && other != node).then_some(other);
        steps.push(Step::Freeze { node, lasting: seconds(lasting), killed });
    }
    for &(cut, lasting) in &form.cuts_s {
        let node = dice.random_range(0..nodes);
        steps.push(Step::Cut { node, cut, lasting: seconds(lasting) });
    }
    steps.extend(std::iter::repeat_n(Step::RollingRestart, form.rolling_restarts));
    for _ in 0..form.store_kills {
        steps.push(Step::KillStore { away: millis(dice.random_range(STORE_AWAY)) });
    }
    let freezes = form.store_freezes_s.iter();
    steps.extend(freezes.map(|&lasting| Step::FreezeStore { lasting: seconds(lasting) }));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> Form {
        Form {
            nodes: 3,
            kills: 20,
            kills_of_all: 2,
            freezes_s: vec![1, 8, 15, 60],
            cuts_s: vec![(Cut::Nodes, 15), (Cut::World, 3)],
            rolling_restarts: 2,
            visits: 2,
            store_kills: 3,
            store_freezes_s: vec![2, 15],
        }
    }

    #[test]
    fn a_seed_repeats_it() {
        assert_eq!(Plan::draw(7, &form()), Plan::draw(7, &form()));
        assert_ne!(Plan::draw(7, &form()), Plan::draw(8, &form()));
    }

    #[test]
    fn everything_is_in_it() {
        for seed in 0..100 {
            let faults = Plan::draw(seed, &form()).faults();
            assert_eq!(
                faults,
                [
                    (Kind::Kill, 20 + 2 * 3 + 2),
                    (Kind::Freeze, 4),
                    (Kind::ApartFromNodes, 1),
                    (Kind::ApartFromWorld, 1),
                    (Kind::Restart, 6),
                    (Kind::Join, 2),
                    (Kind::Leave, 2),
                    (Kind::StoreKill, 3),
                    (Kind::StoreFreeze, 2),
                ]
            );
        }
    }

    #[test]
    fn nobody_leaves_who_did_not_join() {
        for seed in 0..100 {
            let steps = Plan::draw(seed, &form()).steps;
            let visits: Vec<_> = steps
                .into_iter()
                .map(|(_, step)| step)
                .filter(|step| matches!(step, Step::Join | Step::Leave))
                .collect();
            assert_eq!(visits, [Step::Join, Step::Leave, Step::Join, Step::Leave]);
        }
    }

    #[test]
    fn nobody_is_killed_while_it_is_frozen() {
        for seed in 0..100 {
            for (_, step) in Plan::draw(seed, &form()).steps {
                assert!(!matches!(step, Step::Freeze { node, killed, .. } if killed == Some(node)));
            }
        }
    }
}
