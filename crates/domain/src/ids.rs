//! Identifiers: a prefix that says what is meant, and a UUIDv7 (RFC 9562 §5.7), so that
//! sorting by id sorts by creation.
//!
//! In text an id is `prefix_` and 26 characters of lower-case base32hex (RFC 4648 §7), an
//! alphabet in which text sorts as the bytes do. In the store it is the 16 bytes alone.

use std::fmt;
use std::str::FromStr;

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

/// Makes ids. Those from one mint grow strictly, also within a millisecond.
pub struct Mint {
    context: std::sync::Mutex<ContextV7>,
}

impl Mint {
    /// A new mint.
    #[must_use]
    pub fn new() -> Self {
        Self { context: std::sync::Mutex::new(ContextV7::new()) }
    }

    /// A new id, of the time `now`. Its random bits come from the operating system.
    ///
    /// # Panics
    /// If another thread panicked while it made an id.
    pub fn id<T: Id>(&self, now: Timestamp) -> T {
        let nanos = u32::try_from(now.millis() % 1000).expect("below 1000") * 1_000_000;
        let context = self.context.lock().expect("no thread panics while it holds this lock");
        let time = uuid::Timestamp::from_unix(&*context, now.seconds(), nanos);
        T::from_bytes(Uuid::new_v7(time).into_bytes())
    }
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
