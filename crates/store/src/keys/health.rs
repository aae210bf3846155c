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
    use crate::codec::golden;
    use postrider_domain::endpoint::Health;
    use postrider_domain::endpoint::LastError;
    use postrider_domain::ids::{DeliveryId, Id};
    use postrider_domain::outcome::ErrorKind;
    use postrider_domain::time::Timestamp;

    use crate::codec;

    #[test]
    fn round_trip() {
        let health = Health { failure_count: 3, ..Health::default() };
        assert_eq!(codec::decode(&codec::encode(&health)), Ok(health));
        assert_ne!(key(AccountId::MIN, EndpointId::MIN), key(AccountId::MIN, EndpointId::MAX));
    }

    #[test]
    fn golden() {
        golden::check(&Health::default(), "010000");
        let last_error = LastError {
            at: Timestamp::from_millis(1_700_000_000_000),
            kind: ErrorKind::Status,
            status: Some(503),
            message: "answered 503".to_owned(),
            delivery: DeliveryId::from_bytes([1; 16]),
        };
        golden::check(
            &Health { failure_count: 3, last_error: Some(last_error) },
            "\
             01030180d095ffbc310401f7030c616e73776572656420353033010101010101\
             01010101010101010101",
        );
    }
}
