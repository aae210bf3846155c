//! Pointers to the endpoints with due deliveries, at most one per endpoint.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `s shard time endpoint` | the account | `endpoint_key`, together with every change of the endpoint's [`super::queue`] |
//!
//! This is the upper level of the two-level queue of Apple's QuiCK (SIGMOD 2021). The lower level
//! is [`super::queue`].

use postrider_domain::assignment::Shard;
use postrider_domain::ids::EndpointId;
use postrider_domain::time::Timestamp;

use super::{Key, Table, Tail};
use crate::kv::Error;

/// The pointer's time for an endpoint that is due immediately. It is not taken from a clock: if a
/// node whose clock is ahead of the owner's accepts an event and its hint is lost, the owner would
/// not find the delivery until its own clock has caught up.
pub(crate) const IMMEDIATELY: Timestamp = Timestamp::EPOCH;

pub(crate) fn key(shard: Shard, due: Timestamp, endpoint: EndpointId) -> Vec<u8> {
    Key::shard(shard, Table::Due).time(due).id(endpoint).done()
}

pub(crate) fn of_shard(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::Due).done()
}

pub(crate) fn parse_key(key: &[u8]) -> Result<(Timestamp, EndpointId), Error> {
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
        assert_eq!(parse_key(&key(3, time, EndpointId::MAX)), Ok((time, EndpointId::MAX)));
        assert!(key(3, time, EndpointId::MAX).starts_with(&of_shard(3)));
    }

    #[test]
    fn golden() {
        golden::check(&AccountId::from_bytes([1; 16]), "0101010101010101010101010101010101");
    }
}
