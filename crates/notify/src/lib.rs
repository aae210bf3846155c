//! Notifies an account's contacts by email when one of its endpoints keeps failing, when it is
//! disabled, and when it is still disabled days later.
//!
//! ```text
//!   delivery ── commits the disabled state together with a notice, then wakes the outbox
//!                 └── outbox ── an actor that reads the notices of the shards owned by this node;
//!                       │        for each account in turn
//!                       ├── compose ── writes an email about its notices, and
//!                       └── smtp ── sends it through the mail server;
//!                                 then the outbox deletes the notices under their shards' fences
//! ```
//!
//! The stored notice is the source of truth and a wake is only a hint: the outbox scans its shards
//! every few seconds, which also finds the notices left by an earlier process. A notice is deleted
//! only after the mail server has accepted the email, so delivery is at least once. A crash between
//! the two sends the email again; with the same notices it has the same `Message-ID`.
//!
//! The first email to an account is sent after a few seconds, and lists what the account has lost
//! until then. What it loses within the next minute is collected too, and sent as one email. Each
//! node collects the notices of its own shards, so an account may get one email per minute from each
//! node.
//!
//! | File | Contents |
//! |---|---|
//! | `outbox` | the actor and its handle |
//! | `outbox/queue` | whose turn it is, and with which notices |
//! | `outbox/collecting` | when each account may get its next email |
//! | `outbox/notice_sender` | sends one email about notices of an account |
//! | `outbox/retry_state` | which contacts a notice has reached, and when to retry the others |
//! | `compose` | the text of the emails |
//! | `redact` | external text in emails |
//! | [`smtp`] | the mail server: its URL, and one SMTP session |

mod compose;
mod outbox;
mod redact;
pub mod smtp;

pub use outbox::{EndpointPageUrl, Outbox, OutboxHandle, StartError};
