//! The state of a node, as the other nodes see it.

use serde::{Deserialize, Serialize};

/// The state of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It renews its lease.
    Alive,
    /// It renews its lease, and hands its shards over: before it stops, or because an outage of its
    /// own keeps it from working.
    Draining,
    /// It has missed renewals, but may recover before its lease expires.
    Suspect,
    /// Its lease has expired.
    Dead,
}

impl NodeState {
    /// The name in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Draining => "draining",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}
