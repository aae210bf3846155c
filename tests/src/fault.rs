//! The faults of a run, as they were made: what was done, to which node, from when to when.

use jiff::Timestamp;

/// What was done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kill -9`. The process died between the two times.
    Kill,
    /// SIGSTOP, until SIGCONT.
    Freeze,
    /// Nothing passes between it and the other nodes.
    ApartFromNodes,
    /// Nothing passes between it and anybody, on the network.
    ApartFromWorld,
    /// SIGTERM, until the node is ready again.
    Restart,
    /// A node that was not there before, until it is ready.
    Join,
    /// SIGTERM, until the process has ended.
    Leave,
    /// Its wall clock shows another time than the others'.
    Clock,
}

/// One fault. It lasted no longer than from `from` to `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// The node's name.
    pub node: String,
    /// Before it was made.
    pub from: Timestamp,
    /// After it was over.
    pub to: Timestamp,
}

impl Kind {
    /// Whether the node gives its shards away in good order, or is given some: no reason for
    /// anything to be sent twice.
    #[must_use]
    pub fn is_handoff(self) -> bool {
        matches!(self, Self::Restart | Self::Join | Self::Leave)
    }

    /// Whether requests of the node are held up, and go on where they were when the fault is
    /// over.
    #[must_use]
    pub fn is_pause(self) -> bool {
        matches!(self, Self::Freeze | Self::ApartFromWorld)
    }
}
