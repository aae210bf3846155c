//! Peers and their names.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use postrider_domain::ids::BootId;
use ractor_cluster::NodeId;

/// The maximum length of a node's name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// The name of a peer: the node's configured name, and the id of its current run. As text:
/// `name.boot_…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName {
    /// The configured name: 1 to 64 letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The id of the node's current run.
    pub boot: BootId,
}

/// The text is not the name of a peer.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be 1 to 64 letters, digits, '.', '_' and '-', then '.' and a boot id")]
pub struct ParsePeerNameError;

/// A peer that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name of the peer.
    pub name: PeerName,
    /// The node id in the ids of its actors: `ActorId::Remote { node_id, .. }`.
    pub node_id: NodeId,
    /// The remote address of the socket. If this node dialled, it is the dialled address; otherwise
    /// its port is an ephemeral one of the peer.
    pub address: SocketAddr,
}

/// A change of a peer's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerEvent {
    /// The peer is up. Published again, without a [`PeerEvent::Down`] in between, if another
    /// connection to the peer takes over; its `node_id` then differs.
    Up(Peer),
    /// The last connection to the peer has ended.
    Down(Peer),
}

impl PeerName {
    /// Checks that peers can parse this name.
    pub(super) fn validate(&self) -> Result<(), ParsePeerNameError> {
        is_name(&self.name).then_some(()).ok_or(ParsePeerNameError)
    }

    /// Parses the name that `ractor_cluster` reports, which ends with `@` and a host name.
    pub(super) fn from_wire(text: &str) -> Result<Self, ParsePeerNameError> {
        let (name, _host) = text.split_once('@').ok_or(ParsePeerNameError)?;
        name.parse()
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.name, self.boot)
    }
}

impl FromStr for PeerName {
    type Err = ParsePeerNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, boot) = text.rsplit_once('.').ok_or(ParsePeerNameError)?;
        let boot = boot.parse().map_err(|_| ParsePeerNameError)?;
        let peer = Self { name: name.to_owned(), boot };
        peer.validate().map(|()| peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_a_round_trip_through_text() {
        for name in ["node-1", "a.b.c", &"n".repeat(MAX_NAME_BYTES)] {
            let peer = PeerName { name: name.to_owned(), boot: BootId::MAX };
            assert_eq!(peer.to_string().parse(), Ok(peer.clone()));
            assert_eq!(PeerName::from_wire(&format!("{peer}@host")), Ok(peer));
        }
    }

    #[test]
    fn invalid_names_are_rejected() {
        let boot = BootId::MAX;
        let long = "n".repeat(MAX_NAME_BYTES + 1);
        for text in ["", ".", "node-1", "node-1.", "node-1.boot_1", "node 1.boot_1"] {
            assert_eq!(text.parse::<PeerName>(), Err(ParsePeerNameError), "{text}");
        }
        for name in ["", "a@b", "a b", "é", "a\n", &long] {
            assert!(format!("{name}.{boot}").parse::<PeerName>().is_err(), "{name}");
            assert!(PeerName { name: name.to_owned(), boot }.validate().is_err(), "{name}");
        }
        assert!(PeerName::from_wire(&format!("node-1.{boot}")).is_err(), "no host");
    }
}
