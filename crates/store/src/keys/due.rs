//! Pointers to the endpoints that have something due, at most one for each endpoint.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `s shard time endpoint` | the account | `enqueue`, together with every change of the endpoint's [`super::queue`] |
//!
//! This is the upper level of the two-level queue of Apple's QuiCK (SIGMOD 2021). The lower level
//! is [`super::queue`].

use postrider_domain::ids::EndpointId;
use postrider_domain::ownership::Shard;
use postrider_domain::time::Timestamp;

use super::{Key, Table, Tail};
use crate::kv::Error;

/// The time in the pointer of an endpoint that wants a look at once. It is no node's time: a node
/// whose clock is ahead of the owner's would otherwise hide, if its hint is lost, what it has
/// accepted until the owner's clock has come that far.
pub(crate) const AT_ONCE: Timestamp = Timestamp::EPOCH;

pub(crate) fn key(shard: Shard, due: Timestamp, endpoint: EndpointId) -> Vec<u8> {
    Key::shard(shard, Table::Due).time(due).id(endpoint).done()
}

pub(crate) fn of_shard(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::Due).done()
}

pub(crate) fn of_key(key: &[u8]) -> Result<(Timestamp, EndpointId), Error> {
    let mut tail = Tail(key);
    let endpoint = tail.id()?;
    Ok((tail.time()?, endpoint))
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::{AccountId, Id};

    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        let time = Timestamp::from_millis(77);
        assert_eq!(of_key(&key(3, time, EndpointId::MAX)), Ok((time, EndpointId::MAX)));
        assert!(key(3, time, EndpointId::MAX).starts_with(&of_shard(3)));
    }

    #[test]
    fn golden() {
        golden::check(&AccountId::from_bytes([1; 16]), "0101010101010101010101010101010101");
    }
}
