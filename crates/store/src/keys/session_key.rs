//! The key that signs the dashboard's sessions and links.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g` | 32 random bytes | `session_key`, when the key is needed for the first time |

use super::{Key, Table};

pub(crate) fn key() -> Vec<u8> {
    Key::global(Table::SessionKey).done()
}
