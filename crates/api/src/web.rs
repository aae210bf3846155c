//! What every request passes, whatever it is for: authentication, limits, problems, pages.

pub(crate) mod auth;
pub(crate) mod extract;
pub(crate) mod limits;
pub(crate) mod page;
pub(crate) mod problem;
pub(crate) mod random;
pub(crate) mod spans;
pub(crate) mod unread;
