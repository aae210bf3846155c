//! Tells people by email that one of their endpoints was disabled.
//!
//! ```text
//!   delivery ── commits a disabling together with its notice, then nudges
//!                 └── outbox ── an actor: reads the notices of the shards that this node owns,
//!                       │        one by one has
//!                       ├── message ── say what happened, and
//!                       └── smtp ── hand it to the mail server,
//!                                 then removes the notice under the shard's fence
//! ```
//!
//! The notice in the store is the truth and a nudge is a hint: the outbox looks at its shards
//! again every few seconds, and what an earlier run left is found like what is new. A notice
//! goes only after the mail server took the email, so at least one arrives; a crash between the
//! two sends it again with the same `Message-ID`.
//!
//! | File | Is |
//! |---|---|
//! | `outbox` | the actor and its handle |
//! | `outbox/errand` | what is done about one notice |
//! | `outbox/progress` | whom a notice has reached so far, and when to try the others |
//! | `backoff` | how long to wait after the nth failure |
//! | `message` | what the email says |
//! | [`smtp`] | the mail server: its URL, and one conversation with it |

mod backoff;
mod message;
mod outbox;
pub mod smtp;

pub use outbox::{NotifierHandle, Notify, PageOf, StartError};
