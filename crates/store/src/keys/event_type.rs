//! `g name` → [`EventType`](postrider_domain::event::EventType).

use postrider_domain::event::EventTypeName;

use super::{Key, Table};

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
    use postrider_domain::event::EventType;
    use postrider_domain::time::Timestamp;

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
