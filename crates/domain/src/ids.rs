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
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{ContextV7, Uuid};

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

/// How many future times the generator keeps a counter for.
const MAX_FUTURE_COUNTERS: usize = 1_000;

/// Generates ids. Those from [`Self::id`] are strictly increasing, even within a millisecond.
pub struct IdGenerator {
    contexts: std::sync::Mutex<Contexts>,
}

struct Contexts {
    now: ContextV7,
    /// Counters for times ahead of this node's clock. They are separate so that another node's
    /// clock does not push all of this node's ids into the future.
    future: BTreeMap<Timestamp, ContextV7>,
}

impl IdGenerator {
    #[must_use]
    pub fn new() -> Self {
        let contexts = Contexts { now: ContextV7::new(), future: BTreeMap::new() };
        Self { contexts: std::sync::Mutex::new(contexts) }
    }

    /// A new id with the time `now`. Its random bits come from the operating system.
    pub fn id<T: Id>(&self, now: Timestamp) -> T {
        new_id(&self.lock().now, now)
    }

    /// A new id with the time `now`, or `earliest` if that is not in the past. Ids with the same
    /// `earliest` are strictly increasing; ids generated for `now` are unaffected.
    pub fn id_no_earlier<T: Id>(&self, now: Timestamp, earliest: Timestamp) -> T {
        if earliest < now {
            return self.id(now);
        }
        let mut contexts = self.lock();
        let future = &mut contexts.future;
        *future = future.split_off(&now);
        if future.len() >= MAX_FUTURE_COUNTERS && !future.contains_key(&earliest) {
            future.pop_first();
        }
        new_id(future.entry(earliest).or_default(), earliest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Contexts> {
        self.contexts.lock().expect("no thread panics while it holds this lock")
    }
}

fn new_id<T: Id>(context: &ContextV7, time: Timestamp) -> T {
    let nanos = u32::try_from(time.millis() % 1000).expect("below 1000") * 1_000_000;
    let time = uuid::Timestamp::from_unix(context, time.seconds(), nanos);
    T::from_bytes(Uuid::new_v7(time).into_bytes())
}

impl Default for IdGenerator {
    fn default() -> Self {
        Self::new()
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
        let (id_generator, at) = (IdGenerator::new(), Timestamp::from_millis);
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
        for step in 0..2 * MAX_FUTURE_COUNTERS as u64 {
            id_generator.id_no_earlier::<EventId>(at(9_002), at(10_000 + step));
        }
        assert!(id_generator.lock().future.len() <= MAX_FUTURE_COUNTERS);
        let first = at(10_000 + MAX_FUTURE_COUNTERS as u64);
        let ids: [EventId; 2] = [(); 2].map(|()| id_generator.id_no_earlier(at(9_002), first));
        assert!(ids[0] < ids[1], "a full generator keeps its counters");
    }

    #[test]
    fn generated_ids_never_go_backwards() {
        let id_generator = IdGenerator::new();
        let mut last = id_generator.id::<EventId>(Timestamp::from_millis(1_000));
        for step in 0..100_000_u64 {
            let next = id_generator.id::<EventId>(Timestamp::from_millis(1_000 + step / 50_000));
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn an_id_contains_its_creation_time() {
        let time = Timestamp::from_millis(1_700_000_000_123);
        let id = IdGenerator::new().id::<EventId>(time);
        assert_eq!(created_at(id), time);
        assert!(floor::<EventId>(time) <= id);
        assert!(floor::<EventId>(time.plus(std::time::Duration::from_millis(1))) > id);
    }

    #[test]
    fn ids_of_other_types_and_garbage_are_rejected() {
        let id = IdGenerator::new().id::<EventId>(Timestamp::from_millis(1)).to_string();
        assert!(id.replace("evt_", "ep_").parse::<EventId>().is_err());
        assert!(id.to_uppercase().parse::<EventId>().is_err());
        for text in ["", "evt_", "evt_zz", "evt_é", "evt"] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
        assert!(format!("{id}0").parse::<EventId>().is_err());
    }
}
