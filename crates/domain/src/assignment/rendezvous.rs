//! Which node is preferred for a shard: rendezvous hashing. Each pair of node and shard has a
//! score, and a shard goes to the node with the highest. When a node leaves, only its own shards
//! move.

use super::{Shard, fnv1a};

/// The hash of a node's name. The name rather than the boot id, so that a restarted node is
/// preferred for the same shards as before.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeHash(u64);

impl NodeHash {
    pub(super) fn of(name: &str) -> Self {
        Self(mix(fnv1a(name.as_bytes())))
    }

    /// The node's score for a shard. For one node, no two shards have the same score.
    pub(super) fn score(self, shard: Shard) -> u64 {
        mix(self.0 ^ u64::from(shard))
    }
}

/// The finalizer of MurmurHash3: every input bit affects every output bit, and it is a bijection.
/// Inlined here, because nodes of all versions must agree on it.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ (bits >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_the_same_in_every_version() {
        let score = |name, shard| NodeHash::of(name).score(shard);
        assert_eq!(score("node-1", 0), 0x9165_73a2_0d3b_52ab);
        assert_eq!(score("node-1", 255), 0xd1fc_5e20_815d_5e9c);
        assert_eq!(score("node-2", 0), 0xc31f_7faa_b28c_6e84);
        assert_eq!(score("", 16_383), 0xd42e_31af_8fe2_6d48);
    }

    /// Real node names differ in a digit or two, which must not skew the distribution.
    #[test]
    fn shards_are_distributed_evenly() {
        for (nodes, shards) in [(2_u16, 16_384_u16), (3, 16_384), (10, 16_384), (100, 50_000)] {
            for prefix in ["node-", "postrider-", "10.0.0."] {
                let hashes: Vec<_> =
                    (0..nodes).map(|n| NodeHash::of(&format!("{prefix}{n}"))).collect();
                let mut counts = vec![0_u32; hashes.len()];
                for shard in 0..shards {
                    let best = (0..hashes.len()).max_by_key(|n| hashes[*n].score(shard));
                    counts[best.expect("there are nodes")] += 1;
                }
                let fair = f64::from(shards) / f64::from(nodes);
                // Five standard deviations of a uniform distribution.
                let slack = 5.0 * fair.sqrt();
                for count in counts {
                    let off = (f64::from(count) - fair).abs();
                    assert!(off < slack, "{prefix}: {count} of {fair} expected");
                }
            }
        }
    }
}
