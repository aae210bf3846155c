//! How many shards a node may own: its fair share plus or minus a tenth, or as close to that as
//! whole shards allow.

/// A node may deviate from the fair share by one part in this many.
const TOLERANCE: usize = 10;

/// The permitted number of shards per node when `shards` are distributed over `nodes`. Every node
/// can be within the band at once, because `min × nodes ≤ shards ≤ max × nodes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    /// A node with fewer receives shards.
    pub(super) min: usize,
    /// The fair share, rounded up: no node claims unowned shards beyond it.
    pub(super) fair: usize,
    /// A node with more hands shards over.
    pub(super) max: usize,
}

impl Band {
    /// # Panics
    /// If `nodes` is 0.
    pub(super) fn of(shards: usize, nodes: usize) -> Self {
        let fair = shards.div_ceil(nodes);
        let tenths = nodes * TOLERANCE;
        let min = (shards * (TOLERANCE - 1)).div_ceil(tenths).min(shards / nodes);
        let max = (shards * (TOLERANCE + 1) / tenths).max(fair);
        Self { min, fair, max }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn band(shards: usize, nodes: usize) -> (usize, usize, usize) {
        let Band { min, fair, max } = Band::of(shards, nodes);
        (min, fair, max)
    }

    #[test]
    fn bands_are_a_tenth_wide_in_whole_shards() {
        assert_eq!(band(256, 3), (77, 86, 93));
        assert_eq!(band(16_384, 1_000), (15, 17, 18));
        assert_eq!(band(256, 1), (231, 256, 281));
        assert_eq!(band(3, 2), (1, 2, 2));
        assert_eq!(band(12, 3), (4, 4, 4));
        assert_eq!(band(3, 3), (1, 1, 1));
        assert_eq!(band(2, 3), (0, 1, 1));
        assert_eq!(band(0, 3), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn all_nodes_fit_into_the_band(shards in 0_usize..20_000, nodes in 1_usize..1_100) {
            let Band { min, fair, max } = Band::of(shards, nodes);
            prop_assert!(min * nodes <= shards && shards <= fair * nodes && fair <= max);
            prop_assert!(min >= shards * 9 / (nodes * 10));
            prop_assert!(max <= (shards * 11).div_ceil(nodes * 10));
        }
    }
}
