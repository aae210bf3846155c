//! What is about the embedded store alone: its disk, and its file.
//!
//! These tests, and no others, are left out where the nodes use FoundationDB: by the name of this
//! module, which `scripts/common.sh` knows.

mod earlier;
mod format;
mod full_disk;
