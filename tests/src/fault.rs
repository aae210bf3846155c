//! The faults injected in a run: the kind, the node or the store, and the interval.

use jiff::Timestamp;

/// The kind of a fault of a node or of the store server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SIGKILL. The process died within the interval.
    Kill,
    /// SIGSTOP, until SIGCONT.
    Freeze,
    /// No traffic passes between the node and the other nodes.
    PeerPartition,
    /// No network traffic passes to or from the node.
    FullPartition,
    /// No traffic passes between the node and the other nodes or the store. It still reaches
    /// receivers.
    ApartFromStore,
    /// SIGTERM, until the node is ready again.
    Restart,
    /// An additional node starts, until it is ready.
    Join,
    /// SIGTERM, until the process has exited.
    Leave,
    /// The node's wall clock differs from the others'.
    Clock,
    /// SIGKILL of the store server, until it responds again.
    StoreKill,
    /// SIGSTOP of the store server, until it responds again after SIGCONT.
    StoreFreeze,
}

/// One fault, which lay within `from` and `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    /// The node's name; [`NAME`](crate::foundationdb::NAME) for the store.
    pub node: String,
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Kind {
    /// Whether shards change hands in an orderly way, which is no reason for duplicates.
    #[must_use]
    pub fn is_handoff(self) -> bool {
        matches!(self, Self::Restart | Self::Join | Self::Leave)
    }

    /// Whether the node's requests stall and continue where they were when the fault ends.
    #[must_use]
    pub fn is_pause(self) -> bool {
        matches!(self, Self::Freeze | Self::FullPartition)
    }

    /// Whether the node may have lost shards to another node while it had requests in flight.
    #[must_use]
    pub fn may_lose_shards(self) -> bool {
        self.is_pause() || self == Self::ApartFromStore
    }

    /// Whether no node could write to the store.
    #[must_use]
    pub fn is_store_outage(self) -> bool {
        matches!(self, Self::StoreKill | Self::StoreFreeze)
    }
}
