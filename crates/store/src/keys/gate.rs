//! What a transaction that creates deliveries must know of an endpoint.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account endpoint` | [`Gate`] | `enqueue` and `endpoints`, when the state or the pointer of the endpoint changes |

use bytes::Bytes;
use postrider_domain::delivery::{Delivery, DeliveryState};
use postrider_domain::endpoint::State;
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId, Mint};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::parts::DisabledV1;
use super::{Key, Table, Tail};
use crate::codec::{self, Record};
use crate::kv::Error;

/// Whether an endpoint is sent to, and where its pointer stands. It changes seldom while the
/// endpoint is busy, so that accepting transactions, which read it, seldom conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) state: State,
    /// The time in its [`super::due`] row, if it has one.
    pub(crate) pointer: Option<Timestamp>,
    /// Pending deliveries up to this one are given up: they are to be discarded before anything
    /// is sent, and count as discarded until then. The pointer stays while there is work left.
    pub(crate) discard_through: Option<DeliveryId>,
    /// How many of them there still are. It is not kept for an endpoint that is deleted.
    pub(crate) discarding: u64,
}

impl Gate {
    /// Whether a delivery, if it is pending, is to be discarded.
    pub(crate) fn gives_up(&self, id: DeliveryId) -> bool {
        self.discard_through.is_some_and(|through| id <= through)
    }

    /// Whether new deliveries are made for the endpoint.
    pub(crate) fn takes_new(&self) -> bool {
        self.state != State::Deleted
    }

    /// The id of a new delivery, made at `now`: no new delivery is among those that are given up, even
    /// if this node's clock is behind that of the node that made them.
    pub(crate) fn new_id(&self, mint: &Mint, now: Timestamp) -> DeliveryId {
        self.new_id_no_earlier(mint, now, Timestamp::EPOCH)
    }

    /// The same with a time that is no earlier than `earliest`.
    pub(crate) fn new_id_no_earlier(
        &self,
        mint: &Mint,
        now: Timestamp,
        earliest: Timestamp,
    ) -> DeliveryId {
        let kept = self.discard_through.map(ids::after).unwrap_or_default();
        mint.id_no_earlier(now, earliest.max(kept))
    }

    /// Where a delivery stands, as people see it.
    pub(crate) fn state_of(&self, delivery: &Delivery) -> DeliveryState {
        if self.gives_up(delivery.id) {
            delivery.state(&State::Deleted)
        } else {
            delivery.state(&self.state)
        }
    }
}

#[derive(Serialize, Deserialize)]
struct V1 {
    state: StateV1,
    pointer: Option<Timestamp>,
    discard_through: Option<DeliveryId>,
    discarding: u64,
}

#[derive(Serialize, Deserialize)]
enum StateV1 {
    Enabled,
    Disabled(DisabledV1),
    Deleted,
}

impl From<&Gate> for V1 {
    fn from(Gate { state, pointer, discard_through, discarding }: &Gate) -> Self {
        let state = match state {
            State::Enabled => StateV1::Enabled,
            State::Disabled(disabled) => StateV1::Disabled(disabled.into()),
            State::Deleted => StateV1::Deleted,
        };
        Self {
            state,
            pointer: *pointer,
            discard_through: *discard_through,
            discarding: *discarding,
        }
    }
}

impl From<V1> for Gate {
    fn from(V1 { state, pointer, discard_through, discarding }: V1) -> Self {
        let state = match state {
            StateV1::Enabled => State::Enabled,
            StateV1::Disabled(disabled) => State::Disabled(disabled.into()),
            StateV1::Deleted => State::Deleted,
        };
        Self { state, pointer, discard_through, discarding }
    }
}

impl Record for Gate {
    fn encode(&self) -> Bytes {
        codec::versioned(1, &V1::from(self))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1::<V1>("gate", bytes).map(Self::from)
    }
}

pub(crate) fn key(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::Gate).id(endpoint).done()
}

/// The endpoint, if the key of a row of `account` is that of a gate.
pub(crate) fn of_key(account: AccountId, key: &[u8]) -> Result<Option<EndpointId>, Error> {
    let gates = Key::account(account, Table::Gate).done();
    key.starts_with(&gates).then(|| Tail(key).id()).transpose()
}

#[cfg(test)]
mod tests {
    use postrider_domain::endpoint::{Disabled, DisabledReason};
    use postrider_domain::ids::Id;

    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        let gate = Gate {
            state: State::Deleted,
            pointer: Some(Timestamp::EPOCH),
            discard_through: Some(DeliveryId::MAX),
            discarding: 7,
        };
        assert_eq!(Gate::decode(&gate.encode()), Ok(gate));
        let (account, endpoint) = (AccountId::MIN, EndpointId::MAX);
        assert_eq!(of_key(account, &key(account, endpoint)), Ok(Some(endpoint)));
        let other = crate::keys::health::key(account, endpoint);
        assert_eq!(of_key(account, &other), Ok(None));
    }

    #[test]
    fn golden() {
        let open =
            Gate { state: State::Enabled, pointer: None, discard_through: None, discarding: 0 };
        golden::check(&open, "0100000000");
        let at = Timestamp::from_millis(1_700_000_000_000);
        let delivery = Some(DeliveryId::from_bytes([1; 16]));
        let disabled = |reason, delivery| Gate {
            state: State::Disabled(Disabled { reason, at, delivery }),
            pointer: Some(at),
            discard_through: delivery,
            discarding: 300,
        };
        golden::check(
            &disabled(DisabledReason::Exhausted, delivery),
            "\
             01010080d095ffbc3101010101010101010101010101010101010180d095ffbc\
             310101010101010101010101010101010101ac02",
        );
        golden::check(
            &disabled(DisabledReason::Manual, None),
            "01010180d095ffbc31000180d095ffbc3100ac02",
        );
        golden::check(
            &disabled(DisabledReason::Gone, delivery),
            "\
             01010280d095ffbc3101010101010101010101010101010101010180d095ffbc\
             310101010101010101010101010101010101ac02",
        );
        golden::check(&Gate { state: State::Deleted, ..open }, "0102000000");
    }
}
