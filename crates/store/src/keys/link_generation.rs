//! `a account` → the generation that the account's portal links must be of; 0 when there is none.

use postrider_domain::ids::AccountId;

use super::{Key, Table};

pub(crate) fn key(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::LinkGeneration).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        assert_eq!(codec::decode(&codec::encode(&u64::MAX)), Ok(u64::MAX));
        assert_ne!(key(AccountId::MIN), key(AccountId::MAX));
    }

    #[test]
    fn golden() {
        golden::check(&300_u64, "01ac02");
    }
}
