//! The fingerprints of the cluster's cookie, by which a node with another cookie is recognized.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `g` | [`CookieFingerprints`] | `cookie`, when the first node of a cluster starts, and when the cookie changes |

use bytes::Bytes;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Key, Table};
use crate::codec::{self, Record};
use crate::kv::Error;

/// The SHA-256 fingerprints of the accepted cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CookieFingerprints {
    pub(crate) current: [u8; 32],
    /// The cookie before the current one, and until when it is accepted too.
    pub(crate) previous: Option<([u8; 32], Timestamp)>,
}

#[derive(Serialize, Deserialize)]
struct V1 {
    current: [u8; 32],
    previous: Option<([u8; 32], u64)>,
}

impl Record for CookieFingerprints {
    fn encode(&self) -> Bytes {
        let previous = self.previous.map(|(fingerprint, until)| (fingerprint, until.millis()));
        codec::versioned(1, &V1 { current: self.current, previous })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let V1 { current, previous } = codec::version_1("cookie", bytes)?;
        let previous =
            previous.map(|(fingerprint, until)| (fingerprint, Timestamp::from_millis(until)));
        Ok(Self { current, previous })
    }
}

pub(crate) fn key() -> Vec<u8> {
    Key::global(Table::Cookie).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::golden;

    #[test]
    fn the_bytes_are_stable() {
        let current = "11".repeat(32);
        let alone = CookieFingerprints { current: [0x11; 32], previous: None };
        golden::check(&alone, &format!("01 {current} 00"));
        let previous = Some(([0x22; 32], Timestamp::from_millis(300)));
        let both = CookieFingerprints { current: [0x11; 32], previous };
        golden::check(&both, &format!("01 {current} 01 {} ac02", "22".repeat(32)));
    }
}
