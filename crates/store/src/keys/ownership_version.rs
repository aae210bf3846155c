//! The version of the ownership table: how many times shards have changed owners.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g` | a counter | `owners`, with every change of an owner |
//!
//! Nodes that cache the owners poll this row, and read the owners only if it has changed.

use super::{Key, Table};

pub(crate) fn key() -> Vec<u8> {
    Key::global(Table::OwnershipVersion).done()
}
