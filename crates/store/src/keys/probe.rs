//! Rows that test whether the store is writable.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g run number` | any bytes | `probe`; each run removes its own rows |
//!
//! The runs are independent of each other, and the rows are not records.

use super::{Key, Table};

pub(crate) fn key(run: u64, row: u64) -> Vec<u8> {
    Key::global(Table::Probe).number(run).number(row).done()
}

/// The prefix of one run's rows.
pub(crate) fn of(run: u64) -> Vec<u8> {
    Key::global(Table::Probe).number(run).done()
}

/// The prefix of all rows of all runs.
pub(crate) fn all() -> Vec<u8> {
    Key::global(Table::Probe).done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_run_are_together() {
        assert!(key(7, 1).starts_with(&of(7)) && of(7).starts_with(&all()));
        assert!(key(7, u64::MAX) < key(8, 0) && key(7, 255) < key(7, 256));
    }
}
