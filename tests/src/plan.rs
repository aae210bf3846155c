//! A schedule of faults for a cluster and its store, generated from a seed so that a run can be
//! repeated.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::cluster::network::Partition;
use crate::fault::Kind;
use crate::wait::{millis, seconds};

/// Pause before a step, in milliseconds.
const PAUSE_MS: Range<u64> = 20..1_500;
/// Downtime of a killed node, in milliseconds.
const DOWNTIME_MS: Range<u64> = 0..2_000;
/// Downtime of a killed store server, in milliseconds.
const STORE_DOWNTIME_MS: Range<u64> = 0..3_000;

/// The number of faults of each kind.
#[derive(Clone, Debug, Default)]
pub struct FaultCounts {
    /// Nodes at the start.
    pub nodes: usize,
    /// Single nodes killed.
    pub kills: usize,
    /// Times all nodes are killed at once.
    pub kills_of_all: usize,
    /// Freezes of a node, with the length of each in seconds.
    pub freezes_s: Vec<u64>,
    /// Network partitions of a node, with the length of each in seconds.
    pub partitions_s: Vec<(Partition, u64)>,
    /// Rolling restarts of all nodes.
    pub rolling_restarts: usize,
    /// Times an additional node joins and later leaves.
    pub joins: usize,
    /// Kills of the store server.
    pub store_kills: usize,
    /// Freezes of the store server, with the length of each in seconds.
    pub store_freezes_s: Vec<u64>,
}

/// One fault. Nodes are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Kills a node and restarts it after the downtime.
    Kill { node: usize, downtime: Duration },
    /// Kills all nodes at once.
    KillAll,
    /// Freezes a node (SIGSTOP).
    Freeze {
        node: usize,
        duration: Duration,
        /// Another node, killed during the freeze.
        killed: Option<usize>,
    },
    /// Partitions a node from the network.
    Partition { node: usize, cut: Partition, duration: Duration },
    /// Restarts all nodes, one after another.
    RollingRestart,
    /// Starts an additional node.
    Join,
    /// Stops the additional node.
    Leave,
    /// Kills the store server and restarts it after the downtime.
    KillStore { downtime: Duration },
    /// Freezes the store server.
    FreezeStore { duration: Duration },
}

/// The steps of a run, each with the pause before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<(Duration, Step)>,
    nodes: usize,
}

impl Plan {
    /// # Panics
    /// If there are no nodes.
    #[must_use]
    pub fn generate(seed: u64, counts: &FaultCounts) -> Self {
        assert!(counts.nodes > 0, "the plan has no nodes");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut steps = steps(counts, &mut rng);
        steps.shuffle(&mut rng);
        // Joins and leaves alternate, at random positions among the other steps.
        let mut positions: Vec<_> =
            (0..2 * counts.joins).map(|_| rng.random_range(0..=steps.len())).collect();
        positions.sort_unstable();
        for (n, position) in positions.into_iter().enumerate().rev() {
            steps.insert(position, if n % 2 == 0 { Step::Join } else { Step::Leave });
        }
        let mut pause = || millis(rng.random_range(PAUSE_MS));
        Self { steps: steps.into_iter().map(|step| (pause(), step)).collect(), nodes: counts.nodes }
    }

    /// The number of faults of each kind in the plan.
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
                Step::Partition { cut, .. } => add(cut.kind(), 1),
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

fn steps(counts: &FaultCounts, rng: &mut StdRng) -> Vec<Step> {
    let nodes = counts.nodes;
    let mut steps = Vec::new();
    for _ in 0..counts.kills {
        let node = rng.random_range(0..nodes);
        steps.push(Step::Kill { node, downtime: millis(rng.random_range(DOWNTIME_MS)) });
    }
    steps.extend(std::iter::repeat_n(Step::KillAll, counts.kills_of_all));
    for (index, &duration) in counts.freezes_s.iter().enumerate() {
        let node = rng.random_range(0..nodes);
        let other = (node + rng.random_range(1..nodes.max(2))) % nodes;
        let killed = (index % 2 == 1 && other != node).then_some(other);
        steps.push(Step::Freeze { node, duration: seconds(duration), killed });
    }
    for &(cut, duration) in &counts.partitions_s {
        let node = rng.random_range(0..nodes);
        steps.push(Step::Partition { node, cut, duration: seconds(duration) });
    }
    steps.extend(std::iter::repeat_n(Step::RollingRestart, counts.rolling_restarts));
    for _ in 0..counts.store_kills {
        steps.push(Step::KillStore { downtime: millis(rng.random_range(STORE_DOWNTIME_MS)) });
    }
    let freezes = counts.store_freezes_s.iter();
    steps.extend(freezes.map(|&duration| Step::FreezeStore { duration: seconds(duration) }));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> FaultCounts {
        FaultCounts {
            nodes: 3,
            kills: 20,
            kills_of_all: 2,
            freezes_s: vec![1, 8, 15, 60],
            partitions_s: vec![(Partition::Peers, 15), (Partition::Full, 3)],
            rolling_restarts: 2,
            joins: 2,
            store_kills: 3,
            store_freezes_s: vec![2, 15],
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_plan() {
        assert_eq!(Plan::generate(7, &form()), Plan::generate(7, &form()));
        assert_ne!(Plan::generate(7, &form()), Plan::generate(8, &form()));
    }

    #[test]
    fn a_plan_has_every_requested_fault() {
        for seed in 0..100 {
            let faults = Plan::generate(seed, &form()).faults();
            assert_eq!(
                faults,
                [
                    (Kind::Kill, 20 + 2 * 3 + 2),
                    (Kind::Freeze, 4),
                    (Kind::PeerPartition, 1),
                    (Kind::FullPartition, 1),
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
    fn a_node_joins_before_it_leaves() {
        for seed in 0..100 {
            let steps = Plan::generate(seed, &form()).steps;
            let joins: Vec<_> = steps
                .into_iter()
                .map(|(_, step)| step)
                .filter(|step| matches!(step, Step::Join | Step::Leave))
                .collect();
            assert_eq!(joins, [Step::Join, Step::Leave, Step::Join, Step::Leave]);
        }
    }

    #[test]
    fn a_frozen_node_is_not_killed() {
        for seed in 0..100 {
            for (_, step) in Plan::generate(seed, &form()).steps {
                assert!(!matches!(step, Step::Freeze { node, killed, .. } if killed == Some(node)));
            }
        }
    }
}
