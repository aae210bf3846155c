//! `a account hash` → [`Remembered`]: what was answered to an idempotency key.

use postrider_domain::ids::{AccountId, EventId};
use serde::{Deserialize, Serialize};

use super::{Key, Table};

/// The request that used a key, and the events that it made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) body_sha256: [u8; 32],
    pub(crate) events: Vec<EventId>,
}

pub(crate) fn key(account: AccountId, sha256: &[u8; 32]) -> Vec<u8> {
    Key::account(account, Table::Idempotency).hash(sha256).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn round_trip() {
        let remembered =
            Remembered { body_sha256: [1; 32], events: vec![EventId::MIN, EventId::MAX] };
        assert_eq!(codec::decode(&codec::encode(&remembered)), Ok(remembered));
        assert!(key(AccountId::MIN, &[7; 32]).ends_with(&[7; 32]));
    }
}
