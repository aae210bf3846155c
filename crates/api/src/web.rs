//! What every request passes, whatever it is for: authentication, limits, problems, pages.

pub(crate) mod auth;
pub(crate) mod choice;
pub(crate) mod extract;
pub(crate) mod fields;
pub(crate) mod findings;
pub(crate) mod limits;
pub(crate) mod page;
pub(crate) mod problem;
pub(crate) mod spans;
pub(crate) mod unread;
