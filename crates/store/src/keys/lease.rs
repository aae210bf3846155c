//! Leases: a node's claim to be alive.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g boot` | [`Lease`] | `leases`, with every renewal; removed when the node leaves or is declared dead |
//!
//! During a rolling upgrade, nodes of two versions read each other's leases, and neither may
//! consider the other dead. Fields are therefore only appended. An earlier build ignores the extra
//! bytes; a later build must handle a record that ends before the new fields, because postcard has
//! no defaults. Any other change needs a new version, which earlier builds treat as unreadable.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use bytes::Bytes;
use postrider_domain::ids::BootId;
use serde::{Deserialize, Serialize};

use super::{Key, Table, Tail};
use crate::Lease;
use crate::codec::{self, Record};
use crate::kv::Error;

pub(crate) fn key(node: BootId) -> Vec<u8> {
    Key::global(Table::Lease).id(node).done()
}

/// The prefix of all leases.
pub(crate) fn all() -> Vec<u8> {
    Key::global(Table::Lease).done()
}

/// The node in a lease's key.
pub(crate) fn node_of(key: &[u8]) -> Result<BootId, Error> {
    Tail(key).id()
}

/// Decodes the lease of `node`, or describes it as unreadable.
pub(crate) fn decode(node: BootId, bytes: &[u8]) -> Lease {
    Lease::decode(bytes).unwrap_or_else(|_| unreadable(node, bytes))
}

#[derive(Serialize, Deserialize)]
struct V1<'a> {
    node: BootId,
    name: &'a str,
    address: Option<SocketAddr>,
    version: &'a str,
    draining: bool,
    revision: u64,
}

impl<'a> From<&'a Lease> for V1<'a> {
    fn from(lease: &'a Lease) -> Self {
        let Lease { node, name, address, version, draining, revision, is_readable: _ } = lease;
        Self {
            node: *node,
            name,
            address: *address,
            version,
            draining: *draining,
            revision: *revision,
        }
    }
}

impl From<V1<'_>> for Lease {
    fn from(V1 { node, name, address, version, draining, revision }: V1<'_>) -> Self {
        let (name, version) = (name.to_owned(), version.to_owned());
        Self { node, name, address, version, draining, revision, is_readable: true }
    }
}

impl Record for Lease {
    fn encode(&self) -> Bytes {
        codec::versioned(1, &V1::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1::<V1<'_>>("lease", bytes).map(Self::from)
    }
}

fn unreadable(node: BootId, bytes: &[u8]) -> Lease {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Lease {
        node,
        name: node.to_string(),
        address: None,
        version: "unknown".to_owned(),
        draining: false,
        // Changes whenever the bytes do, which they do with every renewal.
        revision: hasher.finish(),
        is_readable: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[1]`, node, name, address, version, draining, revision.
    const V1: &str = "01\
         ffffffffffffffffffffffffffffffff\
         066e6f64652d31\
         01007f0000018a3e\
         05302e312e30\
         01\
         07";

    fn lease() -> Lease {
        Lease {
            node: BootId::MAX,
            name: "node-1".to_owned(),
            address: Some("127.0.0.1:7946".parse().expect("an address")),
            version: "0.1.0".to_owned(),
            draining: true,
            revision: 7,
            is_readable: true,
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(decode(BootId::MAX, &lease().encode()), lease());
        assert_eq!(node_of(&key(BootId::MAX)), Ok(BootId::MAX));
        assert!(key(BootId::MIN).starts_with(&all()));
    }

    /// Changing these bytes requires a new version.
    #[test]
    fn the_encoding_is_stable() {
        let bytes = lease().encode();
        assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), V1);
    }

    #[test]
    fn appended_fields_are_ignored() {
        let mut bytes = lease().encode().to_vec();
        bytes.extend([3, 1, 2, 3]);
        assert_eq!(decode(BootId::MAX, &bytes), lease());
    }

    #[test]
    fn an_unreadable_lease_keeps_its_node_and_changes_with_each_renewal() {
        let bytes = |revision: u8| [&[2, 0xff, 0xff], &[revision][..]].concat();
        let (first, second) = (decode(BootId::MAX, &bytes(1)), decode(BootId::MAX, &bytes(2)));
        assert_eq!((first.node, first.is_readable), (BootId::MAX, false));
        assert_eq!(first, decode(BootId::MAX, &bytes(1)));
        assert_ne!(first.revision, second.revision);
    }
}
