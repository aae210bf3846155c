//! `g` → a counter: how often shards have changed hands. Whoever keeps a picture of the owners
//! reads this one row, and the owners only when it has moved.

use super::{Key, Table};

pub(crate) fn key() -> Vec<u8> {
    Key::global(Table::Moves).done()
}
