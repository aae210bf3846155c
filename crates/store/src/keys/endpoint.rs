//! `a account endpoint` → [`Endpoint`](postrider_domain::endpoint::Endpoint), what the owner
//! set. What changes at another pace is in [`super::gate`] and [`super::health`].

use postrider_domain::ids::{AccountId, EndpointId};

use super::{Key, Table};

pub(crate) fn key(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::Endpoint).id(endpoint).done()
}

pub(crate) fn of_account(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::Endpoint).done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_sort_by_age() {
        let key = |id| key(AccountId::MIN, id);
        assert!(key(EndpointId::MIN) < key(EndpointId::MAX));
        assert!(key(EndpointId::MAX).starts_with(&of_account(AccountId::MIN)));
    }
}
