//! `g` → 32 random bytes: what the dashboard's sessions and links are signed with.

use super::{Key, Table};

pub(crate) fn key() -> Vec<u8> {
    Key::global(Table::SessionKey).done()
}
