//! The harness: everything that a test of the real `postrider` binary needs, and nothing of
//! Postrider's own code. What it knows of the product is the interface contract.
//!
//! Who takes part in a scenario:
//!
//! ```text
//!   Load, Operator, Account ──HTTP API──▶ Node (a real process) ──webhooks──▶ Receiver
//!        │                                  │        └───────────email──────▶ MailServer
//!   what was asked                     kill, stop, restart          what arrived, byte for byte
//!        └──────────────────────▶ checker::check ◀──────────────────────────────┘
//! ```
//!
//! The nodes keep their records in the embedded store, or in FoundationDB where the environment says
//! so ([`foundationdb`]); the same scenarios run over both.
//!
//! [`scene::Scene`] puts one of each on the stage. Every record is awaited, with a deadline,
//! never slept for. The [`checker`] holds the invariants, one function each.

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
pub mod scene;
pub mod schedule;
pub mod steady;
pub mod vitals;
pub mod wait;
