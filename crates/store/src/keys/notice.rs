//! `s shard time endpoint` → [`Notice`](postrider_domain::notice::Notice).

use postrider_domain::ids::EndpointId;
use postrider_domain::ownership::Shard;
use postrider_domain::time::Timestamp;

use super::{Key, Table};

pub(crate) fn key(shard: Shard, at: Timestamp, endpoint: EndpointId) -> Vec<u8> {
    Key::shard(shard, Table::Notice).time(at).id(endpoint).done()
}

pub(crate) fn of_shard(shard: Shard) -> Vec<u8> {
    Key::shard(shard, Table::Notice).done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_comes_first() {
        let key = |millis| key(2, Timestamp::from_millis(millis), EndpointId::MAX);
        assert!(key(9) < key(300));
        assert!(key(9).starts_with(&of_shard(2)) && !key(9).starts_with(&of_shard(3)));
    }
}
