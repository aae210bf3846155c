//! `a account endpoint` → [`Health`](postrider_domain::endpoint::Health). Apart from the gate,
//! since it changes with every failure.

use postrider_domain::ids::{AccountId, EndpointId};

use super::{Key, Table};

pub(crate) fn key(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::Health).id(endpoint).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_domain::endpoint::Health;

    use crate::codec;

    #[test]
    fn round_trip() {
        let health = Health { failure_count: 3, ..Health::default() };
        assert_eq!(codec::decode(&codec::encode(&health)), Ok(health));
        assert_ne!(key(AccountId::MIN, EndpointId::MIN), key(AccountId::MIN, EndpointId::MAX));
    }
}
