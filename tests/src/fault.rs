//! The faults of a run, as they were made: what was done, to which node or to the store, from when
//! to when.

use jiff::Timestamp;

/// What was done to a node, or to the server that holds the store.
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
    /// Nothing passes between it and the other nodes, nor between it and the store. It reaches its
    /// receivers.
    ApartFromStore,
    /// SIGTERM, until the node is ready again.
    Restart,
    /// A node that was not there before, until it is ready.
    Join,
    /// SIGTERM, until the process has ended.
    Leave,
    /// Its wall clock shows another time than the others'.
    Clock,
    /// `kill -9` of the store's server, until it answers again.
    StoreKill,
    /// SIGSTOP of the store's server, until it answers again after SIGCONT.
    StoreFreeze,
}

/// One fault. It lasted no longer than from `from` to `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// The node's name; [`NAME`](crate::foundationdb::NAME) for the store.
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

    /// Whether the node may have lost its shards to another one, without a word, while it had
    /// requests under way.
    #[must_use]
    pub fn is_absence(self) -> bool {
        self.is_pause() || self == Self::ApartFromStore
    }

    /// Whether no node could put anything on record.
    #[must_use]
    pub fn is_of_the_store(self) -> bool {
        matches!(self, Self::StoreKill | Self::StoreFreeze)
    }
}
