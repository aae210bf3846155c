//! Peers: who is at the other end.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use postrider_domain::ids::BootId;
use ractor_cluster::NodeId;

/// The longest name of a node, in bytes.
const MAX_NAME: usize = 64;

/// Who a node is: its configured name, and the id of this start. In text `name.boot_…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName {
    /// The configured name.
    pub name: String,
    /// The id of this start of the node.
    pub boot: BootId,
}

/// The text is no name of a peer.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be 1 to 64 letters, digits, '.', '_' and '-', then '.' and a boot id")]
pub struct ParsePeerNameError;

/// A peer that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub name: PeerName,
    /// How the ids of its actors begin here: `ActorId::Remote { node_id, .. }`.
    pub node_id: NodeId,
    /// The far end of the socket. Where this node dialled, it is what was dialled; else a port
    /// of the peer's host on which nobody listens.
    pub address: SocketAddr,
}

/// A peer came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer is ready. Told again, without a [`Event::Down`] between, if another connection
    /// to it took over: then `node_id` is another.
    Up(Peer),
    /// No connection to the peer is left.
    Down(Peer),
}

impl PeerName {
    /// Whether peers would understand this name.
    pub(super) fn check(&self) -> Result<(), ParsePeerNameError> {
        is_name(&self.name).then_some(()).ok_or(ParsePeerNameError)
    }

    /// Understands the name that `ractor_cluster` gives: with `@` and a host name after it.
    pub(super) fn from_wire(text: &str) -> Result<Self, ParsePeerNameError> {
        let (name, _host) = text.split_once('@').ok_or(ParsePeerNameError)?;
        name.parse()
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
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
        peer.check().map(|()| peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_goes_through_text() {
        for name in ["node-1", "a.b.c", &"n".repeat(MAX_NAME)] {
            let peer = PeerName { name: name.to_owned(), boot: BootId::MAX };
            assert_eq!(peer.to_string().parse(), Ok(peer.clone()));
            assert_eq!(PeerName::from_wire(&format!("{peer}@host")), Ok(peer));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let boot = BootId::MAX;
        let long = "n".repeat(MAX_NAME + 1);
        for text in ["", ".", "node-1", "node-1.", "node-1.boot_1", "node 1.boot_1"] {
            assert_eq!(text.parse::<PeerName>(), Err(ParsePeerNameError), "{text}");
        }
        for name in ["", "a@b", "a b", "é", "a\n", &long] {
            assert!(format!("{name}.{boot}").parse::<PeerName>().is_err(), "{name}");
            assert!(PeerName { name: name.to_owned(), boot }.check().is_err(), "{name}");
        }
        assert!(PeerName::from_wire(&format!("node-1.{boot}")).is_err(), "no host");
    }
}
