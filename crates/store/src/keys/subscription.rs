//! The endpoints subscribed to each event type. The name `*`, which no event type can have, stands
//! for every type.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account name endpoint` | empty | `endpoints`, when an endpoint is created, changed or deleted |

use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, EndpointId};

use super::{Key, Table, Tail};
use crate::kv::Error;

pub(super) fn name_of(event_type: Option<&EventTypeName>) -> &str {
    event_type.map_or("*", EventTypeName::as_str)
}

/// `None` stands for every type.
pub(crate) fn key(
    account: AccountId,
    event_type: Option<&EventTypeName>,
    endpoint: EndpointId,
) -> Vec<u8> {
    Key::account(account, Table::Subscription).text(name_of(event_type)).id(endpoint).done()
}

pub(crate) fn of_type(account: AccountId, event_type: Option<&EventTypeName>) -> Vec<u8> {
    Key::account(account, Table::Subscription).text(name_of(event_type)).done()
}

pub(crate) fn parse_key(key: &[u8]) -> Result<EndpointId, Error> {
    Tail(key).id()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let name = EventTypeName::parse("a.b").expect("a name");
        let key = key(AccountId::MIN, Some(&name), EndpointId::MAX);
        assert_eq!(parse_key(&key), Ok(EndpointId::MAX));
        assert!(key.starts_with(&of_type(AccountId::MIN, Some(&name))));
        assert!(!key.starts_with(&of_type(AccountId::MIN, None)));
    }
}
