//! Notifies an account's contacts by email when one of its endpoints is disabled.
//!
//! ```text
//!   delivery ── commits the disabled state together with a notice, then wakes the outbox
//!                 └── outbox ── an actor that reads the notices of the shards owned by this node;
//!                       │        for each notice
//!                       ├── compose ── writes the email, and
//!                       └── smtp ── sends it through the mail server;
//!                                 then the outbox deletes the notice under the shard's fence
//! ```
//!
//! The stored notice is the source of truth and a wake is only a hint: the outbox scans its shards
//! every few seconds, which also finds the notices left by an earlier process. A notice is deleted
//! only after the mail server has accepted the email, so delivery is at least once. A crash between
//! the two sends the email again with the same `Message-ID`.
//!
//! | File | Contents |
//! |---|---|
//! | `outbox` | the actor and its handle |
//! | `outbox/notice_sender` | sends the email of one notice |
//! | `outbox/retry_state` | which contacts a notice has reached, and when to retry the others |
//! | `compose` | the text of the email |
//! | [`smtp`] | the mail server: its URL, and one SMTP session |

mod compose;
mod outbox;
pub mod smtp;

pub use outbox::{EndpointPageUrl, Outbox, OutboxHandle, StartError};
