//! `a account endpoint time` → [`Email`](postrider_domain::email::Email): what people were told of
//! the disabling at that time. It outlives its endpoint, as deliveries do, and goes with the
//! account.

use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::time::Timestamp;

use super::{Key, Table};

pub(crate) fn key(account: AccountId, endpoint: EndpointId, disabled_at: Timestamp) -> Vec<u8> {
    Key::account(account, Table::Email).id(endpoint).time(disabled_at).done()
}

pub(crate) fn of_endpoint(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::Email).id(endpoint).done()
}

#[cfg(test)]
mod tests {
    use postrider_domain::email::{Email, Recipient, Verdict};
    use postrider_domain::limits::{
        MAX_CONTACTS, MAX_EMAIL_BYTES, MAX_ERROR_CHARS, MAX_NAME_CHARS,
    };

    use super::*;
    use crate::codec;
    use crate::kv::MAX_VALUE;

    #[test]
    fn the_oldest_comes_first() {
        let key = |millis| key(AccountId::MIN, EndpointId::MAX, Timestamp::from_millis(millis));
        assert!(key(9) < key(300));
        assert!(key(9).starts_with(&of_endpoint(AccountId::MIN, EndpointId::MAX)));
    }

    #[test]
    fn the_longest_fits() {
        let recipient = Recipient {
            address: "a".repeat(MAX_EMAIL_BYTES),
            verdict: Verdict::Refused("\u{10ffff}".repeat(MAX_ERROR_CHARS)),
        };
        let email = Email {
            disabled_at: Timestamp::EPOCH,
            at: Timestamp::EPOCH,
            subject: "\u{10ffff}".repeat(MAX_NAME_CHARS + 100),
            to: vec![recipient; MAX_CONTACTS],
        };
        let value = codec::encode(&email);
        assert!(value.len() <= MAX_VALUE, "{}", value.len());
        assert_eq!(codec::decode(&value), Ok(email));
    }
}
