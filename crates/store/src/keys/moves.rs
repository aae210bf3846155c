//! How many times shards have changed owners.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g` | a counter | `owners`, with every change of an owner |
//!
//! A node that keeps a view of the owners reads this one row, and the owners only when it has
//! changed.

use super::{Key, Table};

pub(crate) fn key() -> Vec<u8> {
    Key::global(Table::Moves).done()
}
