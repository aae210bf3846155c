//! By how much the number of an event type's subscribers has changed since the counter was
//! introduced. The name `*` is every type.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account name` | a counter | `endpoints`, when an endpoint is subscribed or unsubscribed |

use postrider_domain::event::EventTypeName;
use postrider_domain::ids::AccountId;

use super::subscription::name_of;
use super::{Key, Table};

/// `event_type` none is every type.
pub(crate) fn key(account: AccountId, event_type: Option<&EventTypeName>) -> Vec<u8> {
    Key::account(account, Table::SubscriberDelta).text(name_of(event_type)).done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_a_name_of_its_own() {
        let name = EventTypeName::parse("a.b").expect("a name");
        assert_ne!(key(AccountId::MIN, Some(&name)), key(AccountId::MIN, None));
    }
}
