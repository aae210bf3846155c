//! An endpoint's unfinished deliveries, oldest first, and their count.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account endpoint delivery` | empty | `endpoint_key`; removed when the delivery finishes |
//! | `a account endpoint` | a counter | `endpoint_key`, in the same transactions |

use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};

use super::{Key, Table};

pub(crate) fn key(account: AccountId, endpoint: EndpointId, delivery: DeliveryId) -> Vec<u8> {
    Key::account(account, Table::Pending).id(endpoint).id(delivery).done()
}

pub(crate) fn of_endpoint(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::Pending).id(endpoint).done()
}

pub(crate) fn count(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::PendingCount).id(endpoint).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::delivery;

    #[test]
    fn round_trip() {
        let (account, endpoint) = (AccountId::MIN, EndpointId::MAX);
        let row = key(account, endpoint, DeliveryId::MAX);
        assert_eq!(delivery::parse_key(&row), Ok(DeliveryId::MAX));
        assert!(row.starts_with(&of_endpoint(account, endpoint)));
        assert!(!count(account, endpoint).starts_with(&of_endpoint(account, endpoint)));
    }
}
