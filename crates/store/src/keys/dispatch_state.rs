//! The part of an endpoint that is read by every transaction that creates deliveries.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account endpoint` | [`DispatchState`] | `endpoint_key` and `endpoints`, when the state or the pointer of the endpoint changes |

use bytes::Bytes;
use postrider_domain::delivery::{Delivery, DeliveryState};
use postrider_domain::endpoint::State;
use postrider_domain::ids::{self, AccountId, DeliveryId, EndpointId, IdGenerator};
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::parts::DisabledV1;
use super::{Key, Table, Tail};
use crate::codec::{self, Record};
use crate::kv::Error;

/// An endpoint's state and pointer. It rarely changes while the endpoint is busy, so transactions
/// that accept events, which read it, rarely conflict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DispatchState {
    pub(crate) state: State,
    /// The time in its [`super::due`] row, if it has one.
    pub(crate) pointer: Option<Timestamp>,
    /// Pending deliveries up to this one are to be discarded before anything is sent, and already
    /// count as discarded. The pointer stays until that is done.
    pub(crate) discard_through: Option<DeliveryId>,
    /// How many of them remain. Not maintained for a deleted endpoint.
    pub(crate) discarding: u64,
    /// How often the endpoint was enabled after it had been disabled. Each time starts a new retry
    /// schedule for its deliveries.
    pub(crate) resumptions: u32,
    /// Retries are to be brought forward to now before anything is sent. The pointer stays until
    /// that is done.
    pub(crate) bring_forward: bool,
}

impl DispatchState {
    /// The state of a new endpoint.
    pub(crate) fn enabled() -> Self {
        Self {
            state: State::Enabled,
            pointer: None,
            discard_through: None,
            discarding: 0,
            resumptions: 0,
            bring_forward: false,
        }
    }

    /// Whether a delivery is to be discarded if it is pending.
    pub(crate) fn discards(&self, id: DeliveryId) -> bool {
        self.discard_through.is_some_and(|through| id <= through)
    }

    /// Whether the endpoint gets new deliveries.
    pub(crate) fn accepts_new(&self) -> bool {
        self.state != State::Deleted
    }

    /// The id of a new delivery, created at `now`. It is greater than `discard_through`, even if
    /// this node's clock is behind that of the node that created those deliveries.
    pub(crate) fn new_id(&self, id_generator: &IdGenerator, now: Timestamp) -> DeliveryId {
        self.new_id_no_earlier(id_generator, now, Timestamp::EPOCH)
    }

    /// Like [`Self::new_id`], with a time no earlier than `earliest`.
    pub(crate) fn new_id_no_earlier(
        &self,
        id_generator: &IdGenerator,
        now: Timestamp,
        earliest: Timestamp,
    ) -> DeliveryId {
        let after_discarded = self.discard_through.map(ids::time_after).unwrap_or_default();
        id_generator.id_no_earlier(now, earliest.max(after_discarded))
    }

    /// The state of a delivery in the API.
    pub(crate) fn state_of(&self, delivery: &Delivery) -> DeliveryState {
        if self.discards(delivery.id) {
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

/// Appended to [`V1`].
#[derive(Default, PartialEq, Serialize, Deserialize)]
struct AppendedV1 {
    resumptions: u32,
    bring_forward: bool,
}

#[derive(Serialize, Deserialize)]
enum StateV1 {
    Enabled,
    Disabled(DisabledV1),
    Deleted,
}

impl From<&DispatchState> for V1 {
    fn from(dispatch: &DispatchState) -> Self {
        let DispatchState { state, pointer, discard_through, discarding, .. } = dispatch;
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

impl From<(V1, AppendedV1)> for DispatchState {
    fn from((record, appended): (V1, AppendedV1)) -> Self {
        let V1 { state, pointer, discard_through, discarding } = record;
        let AppendedV1 { resumptions, bring_forward } = appended;
        let state = match state {
            StateV1::Enabled => State::Enabled,
            StateV1::Disabled(disabled) => State::Disabled(disabled.into()),
            StateV1::Deleted => State::Deleted,
        };
        Self { state, pointer, discard_through, discarding, resumptions, bring_forward }
    }
}

impl Record for DispatchState {
    fn encode(&self) -> Bytes {
        let Self { resumptions, bring_forward, .. } = *self;
        codec::appended(1, &V1::from(self), &AppendedV1 { resumptions, bring_forward })
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1_appended("dispatch state", bytes).map(Self::from)
    }
}

pub(crate) fn key(account: AccountId, endpoint: EndpointId) -> Vec<u8> {
    Key::account(account, Table::DispatchState).id(endpoint).done()
}

/// The endpoint, if a key of `account` is in this table.
pub(crate) fn parse_key(account: AccountId, key: &[u8]) -> Result<Option<EndpointId>, Error> {
    let prefix = Key::account(account, Table::DispatchState).done();
    key.starts_with(&prefix).then(|| Tail(key).id()).transpose()
}

#[cfg(test)]
mod tests {
    use postrider_domain::endpoint::{Disabled, DisabledReason};
    use postrider_domain::ids::Id;

    use super::*;
    use crate::codec::golden;

    #[test]
    fn round_trip() {
        let dispatch = DispatchState {
            state: State::Deleted,
            pointer: Some(Timestamp::EPOCH),
            discard_through: Some(DeliveryId::MAX),
            discarding: 7,
            resumptions: 1,
            bring_forward: false,
        };
        assert_eq!(DispatchState::decode(&dispatch.encode()), Ok(dispatch));
        let (account, endpoint) = (AccountId::MIN, EndpointId::MAX);
        assert_eq!(parse_key(account, &key(account, endpoint)), Ok(Some(endpoint)));
        let other = crate::keys::health::key(account, endpoint);
        assert_eq!(parse_key(account, &other), Ok(None));
    }

    #[test]
    fn golden() {
        let open = DispatchState::enabled();
        golden::check(&open, "0100000000");
        let resumed = DispatchState { resumptions: 300, bring_forward: true, ..open.clone() };
        golden::check(&resumed, "0100000000ac0201");
        let at = Timestamp::from_millis(1_700_000_000_000);
        let delivery = Some(DeliveryId::from_bytes([1; 16]));
        let disabled = |reason, delivery| DispatchState {
            state: State::Disabled(Disabled { reason, at, delivery }),
            pointer: Some(at),
            discard_through: delivery,
            discarding: 300,
            ..DispatchState::enabled()
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
        golden::check(&DispatchState { state: State::Deleted, ..open }, "0102000000");
    }
}
