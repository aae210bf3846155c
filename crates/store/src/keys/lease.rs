//! `g boot` → [`Lease`](crate::Lease): a node's claim to be alive.

use postrider_domain::ids::BootId;

use super::{Key, Table};

pub(crate) fn key(node: BootId) -> Vec<u8> {
    Key::global(Table::Lease).id(node).done()
}

/// Every node's lease begins with this.
pub(crate) fn all() -> Vec<u8> {
    Key::global(Table::Lease).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lease, codec};

    #[test]
    fn round_trip() {
        let lease = Lease {
            node: BootId::MAX,
            name: "node-1".to_owned(),
            address: Some("127.0.0.1:7946".parse().expect("an address")),
            version: "0.1.0".to_owned(),
            draining: true,
            revision: 7,
        };
        assert_eq!(codec::decode(&codec::encode(&lease)), Ok(lease));
        assert!(key(BootId::MIN).starts_with(&all()));
    }
}
