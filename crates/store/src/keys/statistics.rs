//! How many attempts an endpoint had in a step of time, by answer and latency.
//!
//! | Key | Value | Written by |
//! |---|---|---|
//! | `a account resolution endpoint time answer latency` | a counter | `statistics`, when an attempt is recorded |
//!
//! The rows do not expire: each stands for at least one attempt, whose record is larger and is
//! kept, too.

use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::statistics::{Answer, Latency, Resolution};
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

/// What one counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// When the step of time began.
    pub(crate) at: Timestamp,
    pub(crate) answer: Answer,
    pub(crate) latency: Latency,
}

impl Counts {
    /// The counter of attempts like this one.
    pub(crate) fn key(self, at: Timestamp, answer: Answer, latency: Latency) -> Vec<u8> {
        let step = self.resolution.floor(at);
        self.prefix().time(step).short(answer.code()).byte(latency.index()).done()
    }

    /// Where the counters begin of what began at `at` or later.
    pub(crate) fn since(self, at: Timestamp) -> Vec<u8> {
        self.prefix().time(at).done()
    }

    fn prefix(self) -> Key {
        let Self { account, endpoint, resolution } = self;
        Key::account(account, Table::Statistics).byte(number(resolution)).id(endpoint)
    }
}

/// Numbers are for ever, as those of tables are.
fn number(resolution: Resolution) -> u8 {
    match resolution {
        Resolution::FiveMinutes => 1,
        Resolution::Hour => 2,
    }
}

/// What the counter at `key` counts; none if a newer version counted something else.
pub(crate) fn of_key(key: &[u8]) -> Result<Option<Counted>, Error> {
    let mut tail = Tail(key);
    let [latency] = tail.take()?;
    let answer = Answer::from_code(u16::from_be_bytes(tail.take()?));
    let at = tail.time()?;
    let counted = answer.zip(Latency::from_index(latency));
    Ok(counted.map(|(answer, latency)| Counted { at, answer, latency }))
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
            for answer in [Answer::Status(204), Answer::Nothing(ErrorKind::Protocol)] {
                let key = counts.key(at, answer, latency);
                let step = resolution.floor(at);
                assert_eq!(of_key(&key), Ok(Some(Counted { at: step, answer, latency })));
                assert!(
                    counts.since(step) < key && key < counts.since(step.plus(resolution.step()))
                );
            }
        }
        assert!(of_key(&[0; 4]).is_err());
    }

    #[test]
    fn what_a_newer_version_counts_is_passed_over() {
        let counts = Counts {
            account: AccountId::MIN,
            endpoint: EndpointId::MIN,
            resolution: Resolution::Hour,
        };
        let key = counts.prefix().time(Timestamp::EPOCH).short(u16::MAX).byte(0).done();
        assert_eq!(of_key(&key), Ok(None));
    }
}
