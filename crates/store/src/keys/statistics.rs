//! Counts of an endpoint's attempts per time step, by result and latency.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account resolution endpoint time result latency` | a counter | `statistics`, when an attempt is recorded |
//!
//! The rows do not expire: each represents at least one attempt, whose record is larger and also
//! kept.

use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::statistics::{Latency, Resolution, ResultCode};
use postrider_domain::time::Timestamp;

use super::{Key, Table, Tail};
use crate::kv::Error;

/// An endpoint's counts of one resolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) account: AccountId,
    pub(crate) endpoint: EndpointId,
    pub(crate) resolution: Resolution,
}

/// A counter's key: the attempts that it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CounterKey {
    /// The start of the time step.
    pub(crate) at: Timestamp,
    pub(crate) result: ResultCode,
    pub(crate) latency: Latency,
}

impl Counts {
    /// The key of the counter for an attempt.
    pub(crate) fn key(self, at: Timestamp, result: ResultCode, latency: Latency) -> Vec<u8> {
        let step = self.resolution.floor(at);
        self.prefix().time(step).short(result.code()).byte(latency.index()).done()
    }

    /// The start of the range of steps that begin at `at` or later.
    pub(crate) fn since(self, at: Timestamp) -> Vec<u8> {
        self.prefix().time(at).done()
    }

    fn prefix(self) -> Key {
        let Self { account, endpoint, resolution } = self;
        Key::account(account, Table::Statistics).byte(number(resolution)).id(endpoint)
    }
}

/// These numbers are durable, like those of tables.
fn number(resolution: Resolution) -> u8 {
    match resolution {
        Resolution::FiveMinutes => 1,
        Resolution::Hour => 2,
    }
}

/// Parses a counter's key. `None` if a newer version wrote a code that this one does not know.
pub(crate) fn parse_key(key: &[u8]) -> Result<Option<CounterKey>, Error> {
    let mut tail = Tail(key);
    let [latency] = tail.take()?;
    let result = ResultCode::from_code(u16::from_be_bytes(tail.take()?));
    let at = tail.time()?;
    let known = result.zip(Latency::from_index(latency));
    Ok(known.map(|(result, latency)| CounterKey { at, result, latency }))
}

#[cfg(test)]
mod tests {
    use postrider_domain::outcome::ErrorKind;

    use super::*;

    #[test]
    fn round_trip() {
        let at = Timestamp::from_millis(1_700_000_123_456);
        let latency = Latency::of(90);
        for resolution in Resolution::ALL {
            let of = |account| Counts { account, endpoint: EndpointId::MAX, resolution };
            let counts = of(AccountId::MIN);
            for result in [ResultCode::Status(204), ResultCode::NoResponse(ErrorKind::Protocol)] {
                let key = counts.key(at, result, latency);
                let step = resolution.floor(at);
                assert_eq!(parse_key(&key), Ok(Some(CounterKey { at: step, result, latency })));
                assert!(
                    counts.since(step) < key && key < counts.since(step.plus(resolution.step()))
                );
            }
        }
        assert!(parse_key(&[0; 4]).is_err());
    }

    #[test]
    fn counters_of_newer_versions_are_skipped() {
        let counts = Counts {
            account: AccountId::MIN,
            endpoint: EndpointId::MIN,
            resolution: Resolution::Hour,
        };
        let key = counts.prefix().time(Timestamp::EPOCH).short(u16::MAX).byte(0).done();
        assert_eq!(parse_key(&key), Ok(None));
    }
}
