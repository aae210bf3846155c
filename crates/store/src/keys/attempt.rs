//! `a account delivery number` → [`Attempt`](postrider_domain::delivery::Attempt).

use postrider_domain::ids::{AccountId, DeliveryId};

use super::{Key, Table};

pub(crate) fn key(account: AccountId, delivery: DeliveryId, number: u8) -> Vec<u8> {
    Key::account(account, Table::Attempt).id(delivery).byte(number).done()
}

pub(crate) fn of_delivery(account: AccountId, delivery: DeliveryId) -> Vec<u8> {
    Key::account(account, Table::Attempt).id(delivery).done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_sort_by_number() {
        let key = |number| key(AccountId::MIN, DeliveryId::MAX, number);
        assert!(key(1) < key(2) && key(9) < key(11));
        assert!(key(1).starts_with(&of_delivery(AccountId::MIN, DeliveryId::MAX)));
    }
}
