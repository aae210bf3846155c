//! The state of a node, as the other nodes see it.

use serde::{Deserialize, Serialize};

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It renews its lease.
    Alive,
    /// It renews its lease and gives its shards away, to stop.
    Draining,
    /// It has missed renewals, and may yet come back in time.
    Suspect,
    /// Its lease has ended.
    Dead,
}

impl NodeState {
    /// The state as the interface writes it.
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
