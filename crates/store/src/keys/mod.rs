//! Every durable key, one file each: its layout, its value, and a round-trip test.
//!
//! A key is a space, what owns it, a table, and the fields that order the table's rows, all
//! big-endian, so that keys sort as their fields do:
//!
//! | Space | Then | Holds |
//! |---|---|---|
//! | `g` | table | what belongs to the installation |
//! | `a` | account id, table | all data of one account |
//! | `s` | shard, table | what the owner of a shard works on |

pub(crate) mod account;
pub(crate) mod api_key;
pub(crate) mod attempt;
pub(crate) mod copying;
pub(crate) mod delivery;
pub(crate) mod due;
pub(crate) mod email;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod event_type;
pub(crate) mod expiry;
pub(crate) mod fan_out;
pub(crate) mod gate;
pub(crate) mod health;
pub(crate) mod idempotency;
pub(crate) mod lease;
pub(crate) mod link_generation;
pub(crate) mod meta;
pub(crate) mod moves;
pub(crate) mod notice;
pub(crate) mod of_event;
pub(crate) mod owner;
pub(crate) mod pending;
pub(crate) mod probe;
pub(crate) mod queue;
pub(crate) mod removal;
pub(crate) mod replay;
pub(crate) mod resend;
pub(crate) mod session_key;
pub(crate) mod statistics;
pub(crate) mod subscriber_delta;
pub(crate) mod subscription;

use postrider_domain::ids::{AccountId, Id};
use postrider_domain::ownership::Shard;
use postrider_domain::time::Timestamp;

use crate::kv::Error;

/// The tables. Numbers are for ever: a table that goes leaves its number behind.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Table {
    // In `g`.
    Meta = 1,
    ApiKeyByHash = 2,
    EventType = 3,
    AccountList = 4,
    Lease = 5,
    Moves = 6,
    Probe = 7,
    Copying = 8,
    SessionKey = 9,
    // In `a`.
    Account = 10,
    ApiKey = 11,
    Endpoint = 12,
    Subscription = 13,
    Gate = 14,
    Health = 15,
    EventHead = 16,
    EventPayload = 17,
    Delivery = 18,
    DeliveryOfEndpoint = 19,
    Attempt = 20,
    Queue = 21,
    Pending = 22,
    PendingCount = 23,
    Idempotency = 24,
    Replay = 25,
    Statistics = 26,
    DeliveriesOfEvent = 27,
    Email = 28,
    LinkGeneration = 29,
    SubscriberDelta = 30,
    // In `s`.
    Owner = 40,
    Due = 41,
    Notice = 42,
    FanOut = 43,
    RunningReplay = 44,
    Expiry = 45,
    Removal = 46,
    Resend = 47,
    MergedFanOut = 48,
    MergedResend = 49,
}

const GLOBAL: u8 = b'g';
const ACCOUNT: u8 = b'a';
const SHARD: u8 = b's';

/// A key under construction.
struct Key(Vec<u8>);

impl Key {
    fn global(table: Table) -> Self {
        Self(vec![GLOBAL, table as u8])
    }

    fn account(account: AccountId, table: Table) -> Self {
        Self(vec![ACCOUNT]).id(account).byte(table as u8)
    }

    fn shard(shard: Shard, table: Table) -> Self {
        let mut key = Self(vec![SHARD]);
        key.0.extend(shard.to_be_bytes());
        key.byte(table as u8)
    }

    fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    fn id(mut self, id: impl Id) -> Self {
        self.0.extend(id.bytes());
        self
    }

    fn hash(mut self, hash: &[u8; 32]) -> Self {
        self.0.extend(hash);
        self
    }

    fn time(mut self, time: Timestamp) -> Self {
        self.0.extend(time.millis().to_be_bytes());
        self
    }

    fn short(mut self, number: u16) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    /// Text that has no NUL, which ends it, so that no text is the beginning of another.
    fn text(mut self, text: &str) -> Self {
        debug_assert!(!text.contains('\0'), "names have no control characters");
        self.0.extend(text.as_bytes());
        self.byte(0)
    }

    fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Everything of one account begins with this.
pub(crate) fn account_space(account: AccountId) -> Vec<u8> {
    Key(vec![ACCOUNT]).id(account).done()
}

/// Takes the fields of a key apart, from its end: what stands before them is known.
struct Tail<'a>(&'a [u8]);

impl Tail<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (rest, field) = self
            .0
            .split_last_chunk::<N>()
            .ok_or_else(|| Error::Corrupt("a key is too short".to_owned()))?;
        self.0 = rest;
        Ok(*field)
    }

    fn id<T: Id>(&mut self) -> Result<T, Error> {
        self.take().map(T::from_bytes)
    }

    fn time(&mut self) -> Result<Timestamp, Error> {
        self.take().map(|bytes| Timestamp::from_millis(u64::from_be_bytes(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{MAX_KEY, prefix_end};

    #[test]
    fn keys_sort_as_their_fields_do() {
        let key = |text: &str, time| {
            Key::global(Table::Meta).text(text).time(Timestamp::from_millis(time)).done()
        };
        assert!(key("a", 9) < key("a", 10));
        assert!(key("a", 300) < key("a.b", 1));
        assert!(key("a", u64::MAX) < key("b", 0));
    }

    #[test]
    fn accounts_do_not_overlap() {
        let space = account_space(AccountId::from_bytes([1; 16]));
        let other = account_space(AccountId::from_bytes([2; 16]));
        assert!(prefix_end(&space) <= other);
    }

    #[test]
    fn the_longest_key_fits() {
        let name = "x".repeat(postrider_domain::limits::MAX_EVENT_TYPE_BYTES);
        let key =
            Key::account(AccountId::MAX, Table::Subscription).text(&name).id(AccountId::MAX).done();
        assert!(key.len() <= MAX_KEY);
    }
}
