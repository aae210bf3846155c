//! Notices of failing and disabled endpoints, and the emails about them.

pub(crate) mod emails;
pub(crate) mod notices;
