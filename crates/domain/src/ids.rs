//! Identifiers: a prefix that says what is meant, and a UUIDv7 (RFC 9562 §5.7), so that
//! sorting by id sorts by creation.
//!
//! In text an id is `prefix_` and 26 characters of lower-case base32hex (RFC 4648 §7), an
//! alphabet in which text sorts as the bytes do. In the store it is the 16 bytes alone.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use data_encoding::BASE32_DNSSEC as BASE32HEX;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{ContextV7, Uuid};

use crate::time::Timestamp;

/// The text is no id of the kind that was asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be an id of the form {prefix}_ and 26 characters of base32")]
pub struct ParseIdError {
    prefix: &'static str,
}

/// What the id types share.
pub trait Id: Copy + Ord + Send + Sync + 'static {
    /// The id with these bytes.
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
            /// What the text form begins with.
            pub const PREFIX: &'static str = $prefix;
            /// The smallest id there can be.
            pub const MIN: Self = Self([0; 16]);
            /// The largest id there can be.
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
    /// An endpoint: a URL and the event types that it wants.
    EndpointId = "ep";
    /// An event: one occurrence, accepted once.
    EventId = "evt";
    /// A delivery: one event to one endpoint, with its retries.
    DeliveryId = "dlv";
    /// An attempt: one HTTP request.
    AttemptId = "att";
    /// An API key (its public name, not the secret).
    KeyId = "key";
    /// A replay job.
    ReplayId = "rpl";
    /// A node, anew at each start.
    BootId = "boot";
}

/// The most future times for which a mint keeps a counter.
const MOST_AHEAD: usize = 1_000;

/// Makes ids. Those made by [`Self::id`] grow strictly, even within a millisecond.
pub struct Mint {
    contexts: std::sync::Mutex<Contexts>,
}

struct Contexts {
    now: ContextV7,
    /// Counters for times ahead of this node's clock. They are separate so that another node's clock does
    /// not push all of this node's ids into the future.
    ahead: BTreeMap<Timestamp, ContextV7>,
}

impl Mint {
    /// A new mint.
    #[must_use]
    pub fn new() -> Self {
        let contexts = Contexts { now: ContextV7::new(), ahead: BTreeMap::new() };
        Self { contexts: std::sync::Mutex::new(contexts) }
    }

    /// A new id, of the time `now`. Its random bits come from the operating system.
    ///
    /// # Panics
    /// If another thread panicked while it made an id.
    pub fn id<T: Id>(&self, now: Timestamp) -> T {
        new_id(&self.lock().now, now)
    }

    /// A new id with the time `now`, or `earliest` if that is not in the past. Ids with the same
    /// `earliest` grow strictly; ids made for `now` are unaffected.
    ///
    /// # Panics
    /// If another thread panicked while it made an id.
    pub fn id_no_earlier<T: Id>(&self, now: Timestamp, earliest: Timestamp) -> T {
        if earliest < now {
            return self.id(now);
        }
        let mut contexts = self.lock();
        let ahead = &mut contexts.ahead;
        *ahead = ahead.split_off(&now);
        if ahead.len() >= MOST_AHEAD && !ahead.contains_key(&earliest) {
            ahead.pop_first();
        }
        new_id(ahead.entry(earliest).or_default(), earliest)
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

impl Default for Mint {
    fn default() -> Self {
        Self::new()
    }
}

/// The time at which a UUIDv7 was made (its first 48 bits).
pub fn created_at(id: impl Id) -> Timestamp {
    let bytes = id.bytes();
    let millis = bytes[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    Timestamp::from_millis(millis)
}

/// The first moment whose ids are all greater than `id`.
pub fn after(id: impl Id) -> Timestamp {
    created_at(id).plus(Duration::from_millis(1))
}

/// The smallest id that can have been made at `time`.
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
    fn a_time_ahead_does_not_become_that_of_other_ids() {
        let (mint, at) = (Mint::new(), Timestamp::from_millis);
        let mut last = EventId::MIN;
        for step in 0..1_000 {
            let next = mint.id_no_earlier(at(1_000 + step), at(9_000));
            assert!(next > last, "those of one time grow");
            assert_eq!(created_at(next), at(9_000));
            last = next;
            assert_eq!(created_at(mint.id::<EventId>(at(1_000 + step))), at(1_000 + step));
        }
        let later: EventId = mint.id_no_earlier(at(9_001), at(9_000));
        assert!(later > last && created_at(later) == at(9_001));
        for step in 0..2 * MOST_AHEAD as u64 {
            mint.id_no_earlier::<EventId>(at(9_002), at(10_000 + step));
        }
        assert!(mint.lock().ahead.len() <= MOST_AHEAD);
        let first = at(10_000 + MOST_AHEAD as u64);
        let ids: [EventId; 2] = [(); 2].map(|()| mint.id_no_earlier(at(9_002), first));
        assert!(ids[0] < ids[1], "a full mint keeps what it has");
    }

    #[test]
    fn a_mint_never_steps_back() {
        let mint = Mint::new();
        let mut last = mint.id::<EventId>(Timestamp::from_millis(1_000));
        for step in 0..100_000_u64 {
            let next = mint.id::<EventId>(Timestamp::from_millis(1_000 + step / 50_000));
            assert!(next > last);
            last = next;
        }
    }

    #[test]
    fn an_id_knows_its_time() {
        let time = Timestamp::from_millis(1_700_000_000_123);
        let id = Mint::new().id::<EventId>(time);
        assert_eq!(created_at(id), time);
        assert!(floor::<EventId>(time) <= id);
        assert!(floor::<EventId>(time.plus(std::time::Duration::from_millis(1))) > id);
    }

    #[test]
    fn other_kinds_and_garbage_are_refused() {
        let id = Mint::new().id::<EventId>(Timestamp::from_millis(1)).to_string();
        assert!(id.replace("evt_", "ep_").parse::<EventId>().is_err());
        assert!(id.to_uppercase().parse::<EventId>().is_err());
        for text in ["", "evt_", "evt_zz", "evt_é", "evt"] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
        assert!(format!("{id}0").parse::<EventId>().is_err());
    }
}
