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

    #[test]
    fn names_sort_as_text() {
        let key = |name| key(&EventTypeName::parse(name).expect("a name"));
        assert!(key("a") < key("a.b") && key("a.b") < key("b"));
        assert!(key("a").starts_with(&all()));
    }
}
