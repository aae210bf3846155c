//! The change in the number of an event type's subscribers since this counter was introduced. The
//! name `*` stands for the subscribers to every type.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account name` | a counter | `endpoints`, when an endpoint is subscribed or unsubscribed |

use postrider_domain::event::EventTypeName;
use postrider_domain::ids::AccountId;

use super::subscription::name_of;
use super::{Key, Table};

/// `None` stands for every type.
pub(crate) fn key(account: AccountId, event_type: Option<&EventTypeName>) -> Vec<u8> {
    Key::account(account, Table::SubscriberDelta).text(name_of(event_type)).done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_every_type_is_distinct() {
        let name = EventTypeName::parse("a.b").expect("a name");
        assert_ne!(key(AccountId::MIN, Some(&name)), key(AccountId::MIN, None));
    }
}
