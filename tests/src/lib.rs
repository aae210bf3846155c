//! The test harness: everything a test of the real `postrider` binary needs. It uses none of
//! Postrider's own code and knows only the public interface.
//!
//! The parts of a scenario:
//!
//! ```text
//!   Load, Operator, Account ──HTTP API──▶ Node (a real process) ──webhooks──▶ Receiver
//!        │                                  │        └───────────email──────▶ MailServer
//!   what was sent                      kill, stop, restart          what arrived, byte for byte
//!        └──────────────────────▶ checker::check ◀──────────────────────────────┘
//! ```
//!
//! The nodes use the embedded store, or FoundationDB if the environment selects it
//! ([`foundationdb`]). The same scenarios run over both.
//!
//! [`fixture::Fixture`] starts one of each. Tests never sleep for a result: they wait for it, with
//! a deadline. The [`checker`] holds the invariants, one function each.

mod architecture;
pub mod archive;
pub mod background;
pub mod binary;
#[cfg(feature = "browser")]
pub mod browser;
pub mod checker;
pub mod client;
pub mod cluster;
pub mod config;
pub mod evidence;
pub mod fault;
pub mod fixture;
pub mod foundationdb;
pub mod load;
pub mod mail;
pub mod node;
pub mod otlp;
pub mod plan;
pub mod port;
pub mod receiver;
pub mod schedule;
pub mod steady_load;
pub mod usage;
pub mod wait;
