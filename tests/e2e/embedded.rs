//! Tests that apply only to the embedded store: its disk and its file format.
//!
//! `scripts/common.sh` skips these tests by the name of this module when the nodes use
//! FoundationDB.

mod downgrade;
mod full_disk;
mod upgrade;
