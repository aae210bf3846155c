//! Identifiers: a prefix for the type, and a UUIDv7 (RFC 9562 §5.7), so that sorting by id
//! sorts by creation time.
//!
//! The text form is `prefix_` and 26 characters of lower-case base32hex (RFC 4648 §7), an
//! alphabet whose text sorts like the bytes. The store keeps only the 16 bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use data_encoding::BASE32_DNSSEC as BASE32HEX;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Builder;

use crate::time::Timestamp;

/// The text is not an id of the expected type.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be an ID of the form {prefix}_ followed by 26 base32 characters")]
pub struct ParseIdError {
    prefix: &'static str,
}

/// Common to all id types.
pub trait Id: Copy + Ord + Send + Sync + 'static {
    fn from_bytes(bytes: [u8; 16]) -> Self;
    /// The bytes of the UUID, most significant first.
    fn bytes(&self) -> [u8; 16];
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The prefix of the text form.
            pub const PREFIX: &'static str = $prefix;
            pub const MIN: Self = Self([0; 16]);
            pub const MAX: Self = Self([0xff; 16]);
        }

        impl Id for $name {
            fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            fn bytes(&self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, BASE32HEX.encode_display(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|rest| !rest.bytes().any(|b| b.is_ascii_uppercase()))
                    .and_then(|rest| BASE32HEX.decode(rest.as_bytes()).ok())
                    .and_then(|bytes| <[u8; 16]>::try_from(bytes).ok())
                    .map(Self)
                    .ok_or(ParseIdError { prefix: $prefix })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(deserializer).map(Self)
                }
            }
        }
    )*};
}

ids! {
    /// An account (tenant).
    AccountId = "acct";
    /// An endpoint: a URL and the event types it subscribes to.
    EndpointId = "ep";
    /// An event: one occurrence, accepted once.
    EventId = "evt";
    /// A delivery: one event for one endpoint, with its retries.
    DeliveryId = "dlv";
    /// An attempt: one HTTP request.
    AttemptId = "att";
    /// An API key (its public name, not the secret).
    KeyId = "key";
    /// A replay job.
    ReplayId = "rpl";
    /// One run of a node; every start has a new one.
    BootId = "boot";
}

/// How many future times the generator keeps a sequence for.
const MAX_FUTURE_SEQUENCES: usize = 1_000;
/// The size of the counter within a millisecond.
const COUNTER_BITS: u32 = 42;

/// Generates ids. Those from [`Self::id`] are strictly increasing, even within a millisecond.
pub struct IdGenerator(Mutex<State>);

struct State {
    rng: StdRng,
    now: Sequence,
    /// Sequences for times ahead of this node's clock. They are separate so that another node's
    /// clock does not push all of this node's ids into the future.
    future: BTreeMap<Timestamp, Sequence>,
}

impl IdGenerator {
    /// A generator whose random bits follow from `seed`. Generators with the same seed generate
    /// the same ids.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (rng, now) = (StdRng::seed_from_u64(seed), Sequence::default());
        Self(Mutex::new(State { rng, now, future: BTreeMap::new() }))
    }

    /// A generator of other ids, which may have other times.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.0.lock().rng.next_u64())
    }

    /// A new id with the time `now`.
    pub fn id<T: Id>(&self, now: Timestamp) -> T {
        let State { rng, now: sequence, .. } = &mut *self.0.lock();
        sequence.next(now, rng)
    }

    /// A new id with the time `now`, or `earliest` if that is not in the past. Ids with the same
    /// `earliest` are strictly increasing; ids generated for `now` are unaffected.
    pub fn id_no_earlier<T: Id>(&self, now: Timestamp, earliest: Timestamp) -> T {
        if earliest < now {
            return self.id(now);
        }
        let State { rng, future, .. } = &mut *self.0.lock();
        *future = future.split_off(&now);
        if future.len() >= MAX_FUTURE_SEQUENCES && !future.contains_key(&earliest) {
            future.pop_first();
        }
        future.entry(earliest).or_default().next(earliest, rng)
    }
}

/// Strictly increasing UUIDs with a 42-bit counter (RFC 9562 §6.2, method 1).
#[derive(Default)]
struct Sequence(Option<Last>);

struct Last {
    millis: u64,
    counter: u64,
}

impl Sequence {
    /// The next id. Its time is later than `now` if the previous one's was, or if the counter of
    /// the millisecond is exhausted.
    fn next<T: Id>(&mut self, now: Timestamp, rng: &mut StdRng) -> T {
        // The highest bit starts as 0, which leaves room to count up.
        let start = rng.next_u64() >> (64 - COUNTER_BITS + 1);
        let last = match self.0.take() {
            Some(Last { millis, counter }) if now.millis() <= millis => {
                match counter + 1 < 1 << COUNTER_BITS {
                    true => Last { millis, counter: counter + 1 },
                    false => Last { millis: millis + 1, counter: start },
                }
            }
            _ => Last { millis: now.millis(), counter: start },
        };
        // 12 bits of the counter follow the version, 30 the variant, and 32 random bits follow.
        let (high, low) = (last.counter >> 30, last.counter & ((1 << 30) - 1));
        let bits = u128::from(high) << 64 | u128::from(low << 32 | u64::from(rng.next_u32()));
        let bytes = bits.to_be_bytes()[6..].try_into().expect("ten bytes");
        let uuid = Builder::from_unix_timestamp_millis(last.millis, &bytes).into_uuid();
        self.0 = Some(last);
        T::from_bytes(uuid.into_bytes())
    }
}

/// The creation time of a UUIDv7 (its first 48 bits).
pub fn created_at(id: impl Id) -> Timestamp {
    let bytes = id.bytes();
    let millis = bytes[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Timestamp::from_millis(millis)
}

/// The first millisecond whose ids are all greater than `id`.
pub fn time_after(id: impl Id) -> Timestamp {
    created_at(id).plus(Duration::from_millis(1))
}

/// The smallest id with the creation time `time`.
#[must_use]
pub fn floor<T: Id>(time: Timestamp) -> T {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&time.millis().to_be_bytes()[2..]);
    T::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::{Uuid, Variant};

    use super::*;

    proptest! {
        #[test]
        fn text_round_trips_and_sorts_like_bytes(a in any::<[u8; 16]>(), b in any::<[u8; 16]>()) {
            let (a, b) = (EndpointId(a), EndpointId(b));
            prop_assert_eq!(a.to_string().parse(), Ok(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }
    }

    #[test]
    fn a_future_time_does_not_affect_other_ids() {
        let (id_generator, at) = (IdGenerator::new(1), Timestamp::from_millis);
        let mut last = EventId::MIN;
        for step in 0..1_000 {
            let next = id_generator.id_no_earlier(at(1_000 + step), at(9_000));
            assert!(next > last, "ids with the same time increase");
            assert_eq!(created_at(next), at(9_000));
            last = next;
            assert_eq!(created_at(id_generator.id::<EventId>(at(1_000 + step))), at(1_000 + step));
        }
        let later: EventId = id_generator.id_no_earlier(at(9_001), at(9_000));
        assert!(later > last && created_at(later) == at(9_001));
        for step in 0..2 * MAX_FUTURE_SEQUENCES as u64 {
            id_generator.id_no_earlier::<EventId>(at(9_002), at(10_000 + step));
        }
        assert!(id_generator.0.lock().future.len() <= MAX_FUTURE_SEQUENCES);
        let first = at(10_000 + MAX_FUTURE_SEQUENCES as u64);
        let ids: [EventId; 2] = [(); 2].map(|()| id_generator.id_no_earlier(at(9_002), first));
        assert!(ids[0] < ids[1], "a full generator keeps its counters");
    }

    #[test]
    fn generated_ids_never_go_backwards() {
        let id_generator = IdGenerator::new(1);
        let mut last = id_generator.id::<EventId>(Timestamp::from_millis(1_000));
        for step in 0..100_000_u64 {
            let next = id_generator.id::<EventId>(Timestamp::from_millis(1_000 + step / 50_000));
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn an_exhausted_counter_advances_the_time() {
        let (mut rng, at) = (StdRng::seed_from_u64(1), Timestamp::from_millis(1_000));
        let mut sequence = Sequence(Some(Last { millis: 1_000, counter: (1 << COUNTER_BITS) - 2 }));
        let ids: [EventId; 3] = [(); 3].map(|()| sequence.next(at, &mut rng));
        assert!(ids.is_sorted(), "{ids:?}");
        assert_eq!(ids.map(|id| created_at(id).millis()), [1_000, 1_001, 1_001]);
    }

    #[test]
    fn an_id_is_a_uuid_of_version_7() {
        let id: EventId = IdGenerator::new(1).id(Timestamp::from_millis(1_700_000_000_123));
        let uuid = Uuid::from_bytes(id.bytes());
        assert_eq!(uuid.get_version_num(), 7);
        assert_eq!(uuid.get_variant(), Variant::RFC4122);
    }

    #[test]
    fn an_id_contains_its_creation_time() {
        let time = Timestamp::from_millis(1_700_000_000_123);
        let id = IdGenerator::new(1).id::<EventId>(time);
        assert_eq!(created_at(id), time);
        assert!(floor::<EventId>(time) <= id);
        assert!(floor::<EventId>(time.plus(std::time::Duration::from_millis(1))) > id);
    }

    #[test]
    fn ids_of_other_types_and_garbage_are_rejected() {
        let id = IdGenerator::new(1).id::<EventId>(Timestamp::from_millis(1)).to_string();
        assert!(id.replace("evt_", "ep_").parse::<EventId>().is_err());
        assert!(id.to_uppercase().parse::<EventId>().is_err());
        for text in ["", "evt_", "evt_zz", "evt_é", "evt"] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
        assert!(format!("{id}0").parse::<EventId>().is_err());
    }
}
