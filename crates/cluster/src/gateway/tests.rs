//! A gateway over records in memory.
