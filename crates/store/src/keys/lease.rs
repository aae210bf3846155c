//! `g boot` → [`Lease`]: a node's claim to be alive.
//!
//! In a rolling upgrade nodes of two versions read each other's leases, and neither may take the
//! other for dead. So the layout only grows at its end: a later version appends fields, which an
//! earlier one passes over, and reads one that ends before them as if they had their defaults. What
//! cannot be laid out so gets another version, and is to an earlier build a lease that it cannot
//! read.

use std::hash::{DefaultHasher, Hash, Hasher};

use postrider_domain::ids::BootId;

use super::{Key, Table, Tail};
use crate::kv::Error;
use crate::{Lease, codec};

pub(crate) fn key(node: BootId) -> Vec<u8> {
    Key::global(Table::Lease).id(node).done()
}

/// Every node's lease begins with this.
pub(crate) fn all() -> Vec<u8> {
    Key::global(Table::Lease).done()
}

/// Whose lease a key is.
pub(crate) fn node_of(key: &[u8]) -> Result<BootId, Error> {
    Tail(key).id()
}

/// The lease of `node` in these bytes, whatever they are.
pub(crate) fn decode(node: BootId, bytes: &[u8]) -> Lease {
    codec::decode(bytes).unwrap_or_else(|_| unreadable(node, bytes))
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
        // It moves when the bytes do, which they do with every renewal.
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
        assert_eq!(decode(BootId::MAX, &codec::encode(&lease())), lease());
        assert_eq!(node_of(&key(BootId::MAX)), Ok(BootId::MAX));
        assert!(key(BootId::MIN).starts_with(&all()));
    }

    /// Whoever changes these bytes has made a new version.
    #[test]
    fn the_bytes_stay_what_they_are() {
        let bytes = codec::encode(&lease());
        assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), V1);
    }

    #[test]
    fn fields_that_a_later_version_appends_are_passed_over() {
        let mut bytes = codec::encode(&lease()).to_vec();
        bytes.extend([3, 1, 2, 3]);
        assert_eq!(decode(BootId::MAX, &bytes), lease());
    }

    #[test]
    fn what_cannot_be_read_is_still_somebodys_and_moves() {
        let bytes = |revision: u8| [&[2, 0xff, 0xff], &[revision][..]].concat();
        let (first, second) = (decode(BootId::MAX, &bytes(1)), decode(BootId::MAX, &bytes(2)));
        assert_eq!((first.node, first.is_readable), (BootId::MAX, false));
        assert_eq!(first, decode(BootId::MAX, &bytes(1)));
        assert_ne!(first.revision, second.revision);
    }
}
