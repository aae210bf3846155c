//! Which node suits a shard best: rendezvous hashing. Each pair of node and shard has a score,
//! and a shard goes to the node that scores highest. When a node leaves, only its own shards
//! look for another.

use super::{Shard, fnv1a};

/// A node's name as the scores see it. The name and not the boot id, so that a node that was
/// started anew suits the same shards as before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn of(name: &str) -> Self {
        Self(mix(fnv1a(name.as_bytes())))
    }

    /// How well the node suits the shard. No two shards score the same for one node.
    pub(super) fn score(self, shard: Shard) -> u64 {
        mix(self.0 ^ u64::from(shard))
    }
}

/// The finisher of MurmurHash3: every bit of the input sways every bit of the result, and no
/// two inputs share one. Written out, because every node of every version must agree on it.
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
        let score = |name, shard| Key::of(name).score(shard);
        assert_eq!(score("node-1", 0), 0x9165_73a2_0d3b_52ab);
        assert_eq!(score("node-1", 255), 0xd1fc_5e20_815d_5e9c);
        assert_eq!(score("node-2", 0), 0xc31f_7faa_b28c_6e84);
        assert_eq!(score("", 16_383), 0xd42e_31af_8fe2_6d48);
    }

    /// Names as people give them differ in a digit or two, which must not show.
    #[test]
    fn choices_are_even() {
        for (nodes, shards) in [(2_u16, 16_384_u16), (3, 16_384), (10, 16_384), (100, 50_000)] {
            for prefix in ["node-", "postrider-", "10.0.0."] {
                let keys: Vec<_> = (0..nodes).map(|n| Key::of(&format!("{prefix}{n}"))).collect();
                let mut counts = vec![0_u32; keys.len()];
                for shard in 0..shards {
                    let best = (0..keys.len()).max_by_key(|n| keys[*n].score(shard));
                    counts[best.expect("there are nodes")] += 1;
                }
                let fair = f64::from(shards) / f64::from(nodes);
                // Five standard deviations of a fair draw.
                let slack = 5.0 * fair.sqrt();
                for count in counts {
                    let off = (f64::from(count) - fair).abs();
                    assert!(off < slack, "{prefix}: {count} of {fair} expected");
                }
            }
        }
    }
}
