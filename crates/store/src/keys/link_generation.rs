//! The generation of an account's portal links. Links of earlier generations are revoked. Without a
//! row, the generation is 0.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account` | the generation | `link_generation`, when the links are revoked |

use bytes::Bytes;
use postrider_domain::ids::AccountId;

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

/// A generation.
impl Record for u64 {
    fn encode(&self) -> Bytes {
        codec::versioned(1, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1("link generation", bytes)
    }
}

pub(crate) fn key(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::LinkGeneration).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        assert_eq!(u64::decode(&u64::MAX.encode()), Ok(u64::MAX));
        assert_ne!(key(AccountId::MIN), key(AccountId::MAX));
    }

    #[test]
    fn golden() {
        golden::check(&300_u64, "01ac02");
    }
}
