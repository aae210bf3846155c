//! Event types.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g name` | [`EventType`] | `event_types`, when a type is added or replaced |

use bytes::Bytes;
use postrider_domain::event::EventType;
use postrider_domain::event::EventTypeName;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    name: &'a str,
    description: &'a str,
    example: &'a str,
    schema: Option<&'a str>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> From<&'a EventType> for V1<'a> {
    fn from(event_type: &'a EventType) -> Self {
        let EventType { name, description, example, schema, created_at, updated_at } = event_type;
        Self {
            name: name.as_str(),
            description,
            example,
            schema: schema.as_deref(),
            created_at: *created_at,
            updated_at: *updated_at,
        }
    }
}

impl From<V1<'_>> for EventType {
    fn from(record: V1<'_>) -> Self {
        let V1 { name, description, example, schema, created_at, updated_at } = record;
        Self {
            name: EventTypeName::from_stored(name),
            description: description.to_owned(),
            example: example.to_owned(),
            schema: schema.map(str::to_owned),
            created_at,
            updated_at,
        }
    }
}

impl Record for EventType {
    fn encode(&self) -> Bytes {
        codec::versioned(1, &V1::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1::<V1<'_>>("event type", bytes).map(Self::from)
    }
}

pub(crate) fn key(name: &EventTypeName) -> Vec<u8> {
    Key::global(Table::EventType).text(name.as_str()).done()
}

pub(crate) fn all() -> Vec<u8> {
    Key::global(Table::EventType).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::golden;

    #[test]
    fn names_sort_as_text() {
        let key = |name| key(&EventTypeName::parse(name).expect("a name"));
        assert!(key("a") < key("a.b") && key("a.b") < key("b"));
        assert!(key("a").starts_with(&all()));
    }

    #[test]
    fn golden() {
        let without_schema = EventType {
            name: EventTypeName::parse("order.paid").expect("a name"),
            description: "An order was paid.".to_owned(),
            example: "{}".to_owned(),
            schema: None,
            created_at: Timestamp::from_millis(1_700_000_000_000),
            updated_at: Timestamp::from_millis(1_700_000_000_001),
        };
        golden::check(
            &without_schema,
            "\
             010a6f726465722e7061696412416e206f726465722077617320706169642e02\
             7b7d0080d095ffbc3181d095ffbc31",
        );
        let with_schema = EventType { schema: Some("true".to_owned()), ..without_schema };
        golden::check(
            &with_schema,
            "\
             010a6f726465722e7061696412416e206f726465722077617320706169642e02\
             7b7d01047472756580d095ffbc3181d095ffbc31",
        );
    }
}
