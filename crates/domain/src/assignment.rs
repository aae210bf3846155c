//! Which shard an endpoint belongs to, and which node owns which shard. A shard is the unit of
//! ownership that nodes claim and hand over.
//!
//! | Question | File |
//! |---|---|
//! | Which shards does a node claim, and which does it hand over to whom? | `plan` |
//! | How many shards may a node own? | `balance` |
//! | Which node is preferred for a shard? | `rendezvous` |

use serde::{Deserialize, Serialize};

use crate::ids::{BootId, Id};

mod balance;
mod plan;
mod rendezvous;

pub use plan::{Member, MemberState, Plan, ShardOwner, plan};

/// A fixed partition of the endpoints.
pub type Shard = u16;

/// The shard of an endpoint, or of any other work under a shard's fence: a hash of the id modulo
/// the number of shards, which is fixed for a store.
///
/// FNV-1a over the id's bytes: ids already have 74 random bits, so the hash only has to be stable
/// across versions and machines, which the standard library's hasher does not guarantee.
///
/// # Panics
/// If `shards` is 0.
pub fn shard_of(id: impl Id, shards: u16) -> Shard {
    let hash = fnv1a(&id.bytes());
    let folded = hash ^ (hash >> 32);
    u16::try_from(folded % u64::from(shards)).expect("a remainder below a u16")
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// A fencing token: the right to write as a shard's owner. Every transaction of an owner presents
/// it, and fails once a later owner has claimed the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    pub shard: Shard,
    /// Incremented with every change of owner.
    pub epoch: u64,
    pub node: BootId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{EndpointId, IdGenerator};
    use crate::time::Timestamp;

    #[test]
    fn shards_are_stable_and_evenly_distributed() {
        assert_eq!(shard_of(EndpointId::from_bytes([1; 16]), 256), 158);
        let id_generator = IdGenerator::new(1);
        let mut counts = vec![0_u32; 256];
        for step in 0..256_000 {
            let id: EndpointId = id_generator.id(Timestamp::from_millis(1_700_000_000_000 + step));
            counts[usize::from(shard_of(id, 256))] += 1;
        }
        let (min, max) = (counts.iter().min().copied(), counts.iter().max().copied());
        assert!(min > Some(800) && max < Some(1_200), "{min:?} to {max:?} of 1,000 expected");
    }
}
