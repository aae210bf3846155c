//! Every durable key, one file each: its layout, its value, and a round-trip test.
//!
//! A key consists of a space, the owner, a table, and the fields that order the table's rows. All
//! are big-endian, so that keys sort like their fields:
//!
//! | Space | Then | Contains |
//! |---|---|---|
//! | `g` | table | data of the installation |
//! | `a` | account id, table | all data of one account |
//! | `s` | shard, table | the work of a shard's owner |

pub(crate) mod account;
pub(crate) mod api_key;
pub(crate) mod attempt;
pub(crate) mod clock;
pub(crate) mod cookie;
pub(crate) mod copy_marker;
pub(crate) mod delivery;
pub(crate) mod dispatch_state;
pub(crate) mod due;
pub(crate) mod email;
pub(crate) mod endpoint;
pub(crate) mod event;
pub(crate) mod event_delivery;
pub(crate) mod event_type;
pub(crate) mod expiry;
pub(crate) mod fan_out;
pub(crate) mod health;
pub(crate) mod idempotency;
pub(crate) mod lease;
pub(crate) mod link_generation;
pub(crate) mod meta;
pub(crate) mod notice;
pub(crate) mod owner;
pub(crate) mod ownership_version;
mod parts;
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

use bytes::Bytes;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::{AccountId, Id};
use postrider_domain::time::Timestamp;

use crate::codec::{self, Record};
use crate::kv::Error;

/// The tables. Numbers are durable: the number of a removed table is never reused.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Table {
    // In `g`.
    Meta = 1,
    ApiKeyByHash = 2,
    EventType = 3,
    AccountList = 4,
    Lease = 5,
    OwnershipVersion = 6,
    Probe = 7,
    Copying = 8,
    SessionKey = 9,
    Cookie = 50,
    Clock = 51,
    // In `a`.
    Account = 10,
    ApiKey = 11,
    Endpoint = 12,
    Subscription = 13,
    DispatchState = 14,
    Health = 15,
    EventMeta = 16,
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
    LaterNotice = 52,
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

    /// Text without NUL, terminated by one, so that no text is a prefix of another.
    fn text(mut self, text: &str) -> Self {
        debug_assert!(!text.contains('\0'), "names have no control characters");
        self.0.extend(text.as_bytes());
        self.byte(0)
    }

    fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The account, as the whole value of a row in a shard's space.
impl Record for AccountId {
    fn encode(&self) -> Bytes {
        codec::versioned(1, self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        codec::version_1("account id", bytes)
    }
}

/// The prefix of all data of one account.
pub(crate) fn account_space(account: AccountId) -> Vec<u8> {
    Key(vec![ACCOUNT]).id(account).done()
}

/// Parses the fields of a key from the end; the caller knows what precedes them.
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
    use postrider_domain::delivery::{Delivery, Progress, Schedule};
    use postrider_domain::endpoint::{Disabled, DisabledReason};
    use postrider_domain::event::EventTypeName;
    use postrider_domain::ids::{BootId, DeliveryId, EndpointId, EventId, KeyId, ReplayId};
    use postrider_domain::notice::{Notice, Reminder, Report};
    use postrider_domain::statistics::{Latency, Resolution, ResultCode};

    use super::fan_out::{Cursor, FanOut};
    use super::*;
    use crate::kv::{MAX_KEY, prefix_end};

    #[test]
    fn keys_sort_like_their_fields() {
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

    const THE_SHARD: Shard = 0x0102;
    const TIME: Timestamp = Timestamp::from_millis(0x0102_0304_0506_0708);

    /// `ACCOUNT table fields`, where the account is all ones.
    fn in_account(table: u8, fields: &[&[u8]]) -> Vec<u8> {
        [b"a", &[1; 16][..], &[table], &fields.concat()].concat()
    }

    fn in_shard(table: u8, fields: &[&[u8]]) -> Vec<u8> {
        [b"s", &[1, 2][..], &[table], &fields.concat()].concat()
    }

    fn in_installation(table: u8, fields: &[&[u8]]) -> Vec<u8> {
        [b"g", &[table][..], &fields.concat()].concat()
    }

    /// Changing one of these keys hides the rows of earlier versions.
    #[test]
    fn every_key_keeps_its_bytes() {
        let a = AccountId::from_bytes([1; 16]);
        let (ep, dlv) = (EndpointId::from_bytes([2; 16]), DeliveryId::from_bytes([3; 16]));
        let evt = EventId::from_bytes([4; 16]);
        let rpl = ReplayId::from_bytes([5; 16]);
        let key_id = KeyId::from_bytes([6; 16]);
        let boot = BootId::from_bytes([7; 16]);
        let hash = [8; 32];
        let name = EventTypeName::parse("a.b").expect("a name");
        let time = &[1, 2, 3, 4, 5, 6, 7, 8][..];
        let (id2, id3, id4, id5) = (&[2; 16][..], &[3; 16][..], &[4; 16][..], &[5; 16][..]);

        assert_eq!(meta::key(), in_installation(1, &[]));
        assert_eq!(api_key::by_hash(&hash), in_installation(2, &[&hash]));
        assert_eq!(event_type::key(&name), in_installation(3, &[b"a.b\0"]));
        assert_eq!(account::in_list(a), in_installation(4, &[&[1; 16]]));
        assert_eq!(lease::key(boot), in_installation(5, &[&[7; 16]]));
        assert_eq!(ownership_version::key(), in_installation(6, &[]));
        assert_eq!(
            probe::key(1, 2),
            in_installation(7, &[&1_u64.to_be_bytes(), &2_u64.to_be_bytes()])
        );
        assert_eq!(copy_marker::key(), in_installation(8, &[]));
        assert_eq!(session_key::key(), in_installation(9, &[]));
        assert_eq!(cookie::key(), in_installation(50, &[]));

        assert_eq!(account::key(a), in_account(10, &[]));
        assert_eq!(api_key::key(a, key_id), in_account(11, &[&[6; 16]]));
        assert_eq!(endpoint::key(a, ep), in_account(12, &[id2]));
        assert_eq!(subscription::key(a, Some(&name), ep), in_account(13, &[b"a.b\0", id2]));
        assert_eq!(subscription::key(a, None, ep), in_account(13, &[b"*\0", id2]));
        assert_eq!(dispatch_state::key(a, ep), in_account(14, &[id2]));
        assert_eq!(health::key(a, ep), in_account(15, &[id2]));
        assert_eq!(event::meta_key(a, evt), in_account(16, &[id4]));
        assert_eq!(event::chunk(a, evt, 9), in_account(17, &[id4, &[9]]));
        assert_eq!(delivery::key(a, dlv), in_account(18, &[id3]));
        assert_eq!(delivery::of_endpoint(a, ep, dlv), in_account(19, &[id2, id3]));
        assert_eq!(attempt::key(a, dlv, 9), in_account(20, &[id3, &[9]]));
        let mut queued = Delivery {
            id: dlv,
            account: a,
            event: evt,
            event_type: name.clone(),
            endpoint: ep,
            created_at: TIME,
            attempt_count: 0,
            first_attempt_at: None,
            schedule: Schedule::default(),
            progress: Progress::Pending { due: TIME },
        };
        assert_eq!(queue::key(&queued, TIME), in_account(21, &[id2, &[2], time, id3]));
        queued.attempt_count = 1;
        assert_eq!(queue::key(&queued, TIME), in_account(21, &[id2, &[1], time, id3]));
        assert_eq!(pending::key(a, ep, dlv), in_account(22, &[id2, id3]));
        assert_eq!(pending::count(a, ep), in_account(23, &[id2]));
        assert_eq!(idempotency::key(a, &hash), in_account(24, &[&hash]));
        assert_eq!(replay::key(a, rpl), in_account(25, &[id5]));
        let counts = |resolution| statistics::Counts { account: a, endpoint: ep, resolution };
        // 00:10:34, in steps of an hour and of five minutes.
        let at = Timestamp::from_millis(634_000);
        let (result, latency) = (ResultCode::Status(204), Latency::of(0));
        let hour = counts(Resolution::Hour).key(at, result, latency);
        assert_eq!(hour, in_account(26, &[&[2], id2, &[0; 8], &[0, 204], &[0]]));
        let five_minutes = counts(Resolution::FiveMinutes).key(at, result, latency);
        let step = 600_000_u64.to_be_bytes();
        assert_eq!(five_minutes, in_account(26, &[&[1], id2, &step, &[0, 204], &[0]]));
        assert_eq!(event_delivery::key(a, evt, dlv), in_account(27, &[id4, id3]));
        assert_eq!(email::key(a, ep, TIME), in_account(28, &[id2, time]));
        assert_eq!(link_generation::key(a), in_account(29, &[]));
        assert_eq!(subscriber_delta::key(a, Some(&name)), in_account(30, &[b"a.b\0"]));

        assert_eq!(owner::key(THE_SHARD), in_shard(40, &[]));
        assert_eq!(due::key(THE_SHARD, TIME, ep), in_shard(41, &[time, id2]));
        let disabled = Disabled { reason: DisabledReason::Gone, at: TIME, delivery: None };
        let mut record = Notice {
            account: a,
            endpoint: ep,
            report: Report::Disabled(disabled.clone()),
            failure_count: 1,
            last_error: None,
        };
        assert_eq!(notice::key(THE_SHARD, &record), in_shard(42, &[time, id2]));
        record.report = Report::Reminder(Reminder { disabled, due: TIME });
        assert_eq!(notice::key(THE_SHARD, &record), in_shard(52, &[time, id2]));
        let cursor = Cursor::ListByList { all_types: false, after: None };
        let list_by_list = FanOut { account: a, cursor };
        assert_eq!(fan_out::key(THE_SHARD, evt, &list_by_list), in_shard(43, &[id4]));
        assert_eq!(replay::running(THE_SHARD, rpl), in_shard(44, &[id5]));
        assert_eq!(expiry::key(THE_SHARD, TIME, a, &hash), in_shard(45, &[time, &[1; 16], &hash]));
        assert_eq!(removal::key(THE_SHARD, a), in_shard(46, &[&[1; 16]]));
        assert_eq!(resend::key(THE_SHARD, dlv, &list_by_list), in_shard(47, &[id3]));
        let merged = FanOut::new(a, ep);
        assert_eq!(fan_out::key(THE_SHARD, evt, &merged), in_shard(48, &[id4]));
        assert_eq!(resend::key(THE_SHARD, dlv, &merged), in_shard(49, &[id3]));
    }
}
