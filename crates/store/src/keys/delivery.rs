//! `a account delivery` → [`Delivery`](postrider_domain::delivery::Delivery), and `a account
//! endpoint delivery` → nothing, an endpoint's deliveries by age.

use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};

use super::{Key, Table, Tail};
use crate::kv::Error;

pub(crate) fn key(account: AccountId, delivery: DeliveryId) -> Vec<u8> {
    Key::account(account, Table::Delivery).id(delivery).done()
}

pub(crate) fn of_account(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::Delivery).done()
}

pub(crate) fn of_endpoint(
    account: AccountId,
    endpoint: EndpointId,
    delivery: DeliveryId,
) -> Vec<u8> {
    Key::account(account, Table::DeliveryOfEndpoint).id(endpoint).id(delivery).done()
}

/// The id in either kind of key.
pub(crate) fn of_key(key: &[u8]) -> Result<DeliveryId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let (account, endpoint, delivery) = (AccountId::MIN, EndpointId::MIN, DeliveryId::MAX);
        assert_eq!(of_key(&key(account, delivery)), Ok(delivery));
        assert_eq!(of_key(&of_endpoint(account, endpoint, delivery)), Ok(delivery));
    }
}
