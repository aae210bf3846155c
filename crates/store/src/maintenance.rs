//! Work on the store as a whole: copies, probes, and the removal of expired rows.

pub(crate) mod copy;
pub(crate) mod probe;
pub(crate) mod sweep;
