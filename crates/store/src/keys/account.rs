//! `a account` → [`Account`](postrider_domain::account::Account), and `g account` → nothing,
//! the list of accounts.

use postrider_domain::ids::AccountId;

use super::{Key, Table, Tail};
use crate::kv::Error;

pub(crate) fn key(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::Account).done()
}

pub(crate) fn in_list(account: AccountId) -> Vec<u8> {
    Key::global(Table::AccountList).id(account).done()
}

pub(crate) fn list() -> Vec<u8> {
    Key::global(Table::AccountList).done()
}

pub(crate) fn of_list_key(key: &[u8]) -> Result<AccountId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let id = AccountId::MAX;
        assert_eq!(of_list_key(&in_list(id)), Ok(id));
        assert!(in_list(id).starts_with(&list()));
    }
}
