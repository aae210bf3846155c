//! The largest supported cluster. Times are printed, not asserted.

use std::fmt;
use std::time::Duration;

use super::*;

const NODES: u32 = 1_000;
const SHARDS: usize = 16_384;

/// The duration of planning, and the planned changes.
struct Figures {
    took: Duration,
    changes: Vec<Change>,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claims = self.changes.iter().filter(|change| change.source.is_none()).count();
        let moves = self.changes.len() - claims;
        write!(f, "{claims} claims and {moves} moves, planned in {:?}", self.took)
    }
}

#[expect(clippy::disallowed_methods, reason = "measures real time, without a runtime")]
fn measure(cluster: &Cluster) -> Figures {
    let members = cluster.members();
    let start = std::time::Instant::now();
    let changes = assign_shards(&members, &cluster.shard_owners);
    Figures { took: start.elapsed(), changes }
}

/// Carries out plans until there is nothing left to do, and prints the first one.
fn settle(cluster: &mut Cluster, what: &str) -> Vec<Change> {
    let first = measure(cluster);
    eprintln!("{NODES} nodes, {SHARDS} shards, {what}: {first}");
    let mut all = vec![];
    let mut changes = first.changes;
    while !changes.is_empty() {
        for change in &changes {
            let shard_owner = ShardOwner { owner: Some(change.target), movable: true };
            cluster.shard_owners[usize::from(change.shard)] = shard_owner;
        }
        all.append(&mut changes);
        changes = assign_shards(&cluster.members(), &cluster.shard_owners);
    }
    let Band { min, max, .. } = cluster.band();
    assert!(cluster.loads().values().all(|load| (min..=max).contains(load)));
    all
}

#[test]
fn a_thousand_nodes_settle() {
    let mut cluster = Cluster::of(NODES, SHARDS);
    assert_eq!(settle(&mut cluster, "all join at once").len(), SHARDS);
    let still = measure(&cluster);
    eprintln!("{NODES} nodes, {SHARDS} shards, unchanged: {still}");
    assert!(still.changes.is_empty());

    let gone = cluster.nodes.remove(500);
    let lost = cluster.owned_by(gone.boot);
    let changes = settle(&mut cluster, "one node dies");
    assert_eq!(changes.iter().map(|c| c.shard).collect::<BTreeSet<_>>(), lost);
    assert_eq!(changes.len(), lost.len());

    let again = Node::alive(boot(NODES), gone.name);
    cluster.nodes.push(again.clone());
    let changes = settle(&mut cluster, "it restarts");
    assert!(changes.len() <= SHARDS.div_ceil(NODES as usize), "{} moves", changes.len());
    assert!(changes.iter().all(|change| change.target == again.boot));

    cluster.nodes[3].state = MemberState::Draining;
    let drained = cluster.owned_by(cluster.nodes[3].boot);
    let changes = settle(&mut cluster, "one node drains");
    assert_eq!(changes.iter().map(|c| c.shard).collect::<BTreeSet<_>>(), drained);
}

/// The first node has claimed everything before the others join.
#[test]
fn a_thousand_nodes_join_one_that_owns_everything() {
    let mut cluster = Cluster::of(NODES, SHARDS);
    cluster.shard_owners.fill(ShardOwner { owner: Some(boot(0)), movable: true });
    let first = measure(&cluster);
    eprintln!("{NODES} nodes, {SHARDS} shards, all join the first: {first}");
    assert_eq!(first.changes.len(), SHARDS / MOVES_DIVISOR);
    let targets: BTreeSet<_> = first.changes.iter().map(|change| change.target).collect();
    assert_eq!(targets.len(), NODES as usize - 1, "the least loaded nodes come first");
}
