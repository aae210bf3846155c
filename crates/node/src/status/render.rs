//! Renders the status of a cluster as text.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::{Cluster, Member, Outage, Owner};

/// The width of the shard map.
const SHARDS_PER_ROW: usize = 64;
/// Marks a shard without a live owner.
const UNOWNED: char = '!';
/// Letters of the nodes. Further nodes share the last one.
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+";

/// Renders nodes, shard map and summary, and optionally the owner of every shard.
pub fn cluster(cluster: &Cluster, owners: bool) -> String {
    let mut text = String::new();
    write_nodes(&mut text, cluster);
    write_shard_map(&mut text, cluster);
    write_summary(&mut text, cluster);
    if owners {
        write_owners(&mut text, cluster);
    }
    text
}

fn write_nodes(text: &mut String, cluster: &Cluster) {
    let width = |column: fn(&Member) -> usize, title: usize| {
        cluster.nodes.iter().map(column).max().unwrap_or(0).max(title)
    };
    let name = width(|node| node.name.len(), 4);
    let version = width(|node| node.version.len(), 7);
    let _ = writeln!(
        text,
        "   {:name$}  {:8}  shards  epochs     {:version$}  id",
        "node", "state", "version"
    );
    for (node, letter) in cluster.nodes.iter().zip(letters()) {
        let epochs = epochs(&cluster.owners, &node.id);
        let Member { id, name: node_name, state, shards, version: node_version } = node;
        let _ = writeln!(
            text,
            "{letter}  {node_name:name$}  {state:8}  {shards:6}  {epochs:9}  {node_version:version$}  {id}"
        );
    }
}

/// The range of epochs of a node's shards.
fn epochs(owners: &[Owner], node: &str) -> String {
    let epochs = || owners.iter().filter(|owner| owner.node == node).map(|owner| owner.epoch);
    match (epochs().min(), epochs().max()) {
        (Some(low), Some(high)) if low == high => low.to_string(),
        (Some(low), Some(high)) => format!("{low} to {high}"),
        _ => "-".to_owned(),
    }
}

/// Every shard as the letter of its owner.
fn write_shard_map(text: &mut String, cluster: &Cluster) {
    let is_live = |node: &&Member| node.state != "dead";
    let letters: HashMap<&str, char> = cluster
        .nodes
        .iter()
        .zip(letters())
        .filter(|(node, _)| is_live(node))
        .map(|(node, letter)| (node.id.as_str(), letter))
        .collect();
    let mut shards = vec![UNOWNED; cluster.shards];
    for owner in &cluster.owners {
        if let (Some(shard), Some(letter)) =
            (shards.get_mut(owner.shard), letters.get(owner.node.as_str()))
        {
            *shard = *letter;
        }
    }
    text.push('\n');
    for (row, shards) in shards.chunks(SHARDS_PER_ROW).enumerate() {
        let _ = writeln!(text, "{:5}  {}", row * SHARDS_PER_ROW, shards.iter().collect::<String>());
    }
}

fn write_summary(text: &mut String, cluster: &Cluster) {
    let Cluster { shards, unowned, oldest_pending_age_ms, outages, .. } = cluster;
    let owned = match unowned {
        0 => "all owned".to_owned(),
        some => format!("{some} WITHOUT A LIVE OWNER ({UNOWNED})"),
    };
    let oldest = match oldest_pending_age_ms {
        None => "no pending deliveries".to_owned(),
        Some(ms) => format!("the oldest pending delivery is {} old", format_age(*ms)),
    };
    let _ = writeln!(text, "\n{shards} shards, {owned}; {oldest}");
    for Outage { message, since } in outages {
        let _ = writeln!(
            text,
            "The node that was asked has an OUTAGE of its own since {since}: {message}"
        );
    }
}

fn write_owners(text: &mut String, cluster: &Cluster) {
    let names: HashMap<&str, &str> =
        cluster.nodes.iter().map(|node| (node.id.as_str(), node.name.as_str())).collect();
    let _ = writeln!(text, "\nshard  epoch  owner");
    for Owner { shard, node, epoch } in &cluster.owners {
        let name = names.get(node.as_str()).unwrap_or(&"(removed)");
        let _ = writeln!(text, "{shard:5}  {epoch:5}  {name}  {node}");
    }
}

fn format_age(ms: u64) -> String {
    match ms / 1000 {
        0 => format!("{ms} ms"),
        seconds @ 1..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

fn letters() -> impl Iterator<Item = char> {
    LETTERS.chars().chain(std::iter::repeat('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Cluster {
        let json = r#"{
            "shards": 4, "unowned": 2, "oldest_pending_age_ms": 61000,
            "nodes": [
                {"id": "boot_1", "name": "node-1", "state": "alive", "shards": 2, "version": "0.1.0"},
                {"id": "boot_2", "name": "n", "state": "dead", "shards": 1, "version": "0.1.0"}
            ],
            "owners": [
                {"shard": 0, "node": "boot_1", "epoch": 3},
                {"shard": 1, "node": "boot_1", "epoch": 5},
                {"shard": 2, "node": "boot_2", "epoch": 1}
            ]
        }"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_status_shows_nodes_shards_and_owners() {
        let expected = "   node    state     shards  epochs     version  id
a  node-1  alive          2  3 to 5     0.1.0    boot_1
b  n       dead           1  1          0.1.0    boot_2

    0  aa!!

4 shards, 2 WITHOUT A LIVE OWNER (!); the oldest pending delivery is 1 min 1 s old
";
        assert_eq!(cluster(&sample(), false), expected);
        let full = cluster(&sample(), true);
        assert!(full.contains("\nshard  epoch  owner\n    0      3  node-1  boot_1\n"), "{full}");
    }

    #[test]
    fn the_status_shows_an_outage() {
        let (message, since) = ("it cannot connect".to_owned(), "2026-10-21T07:28:00Z".to_owned());
        let status = Cluster { outages: vec![Outage { message, since }], ..sample() };
        let expected = "has an OUTAGE of its own since 2026-10-21T07:28:00Z: it cannot connect\n";
        assert!(cluster(&status, false).ends_with(expected));
    }

    #[test]
    fn ages_use_readable_units() {
        let ages = [7, 1_000, 59_999, 60_000, 3_600_000 + 120_000].map(format_age);
        assert_eq!(ages, ["7 ms", "1 s", "59 s", "1 min 0 s", "1 h 2 min"]);
    }
}
