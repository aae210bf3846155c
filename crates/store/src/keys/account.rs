//! Accounts.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account` | [`Account`] | `accounts`, when an account is created or changed |
//! | `g account` | empty; the list of accounts | `accounts`, when an account is created |

use bytes::Bytes;
use postrider_domain::account::{Account, EmailAddress, Name};
use postrider_domain::ids::AccountId;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table, Tail};
use crate::codec::{self, Record};
use crate::kv::Error;

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    id: AccountId,
    name: &'a str,
    #[serde(borrow)]
    contact_emails: Vec<&'a str>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> From<&'a Account> for V1<'a> {
    fn from(account: &'a Account) -> Self {
        let Account { id, name, contact_emails, created_at, updated_at } = account;
        Self {
            id: *id,
            name: name.as_str(),
            contact_emails: contact_emails.iter().map(EmailAddress::as_str).collect(),
            created_at: *created_at,
            updated_at: *updated_at,
        }
    }
}

impl From<V1<'_>> for Account {
    fn from(V1 { id, name, contact_emails, created_at, updated_at }: V1<'_>) -> Self {
        let contact_emails = contact_emails.into_iter().map(EmailAddress::from_stored).collect();
        Self { id, name: Name::from_stored(name), contact_emails, created_at, updated_at }
    }
}

impl Record for Account {
    fn encode(&self) -> Bytes {
        codec::versioned(1, &V1::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1::<V1<'_>>("account", bytes).map(Self::from)
    }
}

pub(crate) fn key(account: AccountId) -> Vec<u8> {
    Key::account(account, Table::Account).done()
}

pub(crate) fn in_list(account: AccountId) -> Vec<u8> {
    Key::global(Table::AccountList).id(account).done()
}

pub(crate) fn list() -> Vec<u8> {
    Key::global(Table::AccountList).done()
}

pub(crate) fn parse_list_key(key: &[u8]) -> Result<AccountId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use postrider_domain::ids::Id;

    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        let id = AccountId::MAX;
        assert_eq!(parse_list_key(&in_list(id)), Ok(id));
        assert!(in_list(id).starts_with(&list()));
    }

    #[test]
    fn golden() {
        let account = Account {
            id: AccountId::from_bytes([1; 16]),
            name: Name::parse("Acme").expect("a name"),
            contact_emails: vec![EmailAddress::parse("ops@acme.example").expect("an address")],
            created_at: Timestamp::from_millis(1_700_000_000_000),
            updated_at: Timestamp::from_millis(1_700_000_000_001),
        };
        golden::check(
            &account,
            "\
             01010101010101010101010101010101010441636d6501106f70734061636d65\
             2e6578616d706c6580d095ffbc3181d095ffbc31",
        );
    }
}
