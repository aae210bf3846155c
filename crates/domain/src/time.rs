//! Timestamps: whole milliseconds since the Unix epoch, in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A wall-clock time with millisecond precision. RFC 3339 in JSON, a number in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

/// The source of time. The binary uses the system's clock, tests use their own.
pub trait Clock: Send + Sync + 'static {
    /// The time for everything that Postrider schedules and records. It follows a step of
    /// the system's clock only once the step has persisted for a while.
    fn now(&self) -> Timestamp;

    /// The current time of the system's clock, for values that others compare with their own
    /// clocks: signatures, links and the dates of emails.
    fn wall(&self) -> Timestamp {
        self.now()
    }
}

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// This time plus `duration`, truncated to milliseconds and saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This time minus `duration`, no earlier than the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// The time elapsed since `earlier`; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = i64::try_from(self.0)
            .ok()
            .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
            .unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{instant:.3}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not an RFC 3339 time, or is before 1970.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be an RFC 3339 time of 1970 or later, such as 2026-01-31T12:00:00.000Z")]
pub struct ParseTimestampError;

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !is_rfc_3339(text) {
            return Err(ParseTimestampError);
        }
        let instant: jiff::Timestamp = text.parse().map_err(|_| ParseTimestampError)?;
        u64::try_from(instant.as_millisecond()).map(Self).map_err(|_| ParseTimestampError)
    }
}

/// Whether `text` has the form of RFC 3339 §5.6. jiff's parser accepts much more of ISO 8601.
fn is_rfc_3339(text: &str) -> bool {
    let Some((date_time, rest)) = text.as_bytes().split_at_checked(19) else {
        return false;
    };
    let offset = match rest.strip_prefix(b".") {
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return false;
            }
            &fraction[digits..]
        }
        None => rest,
    };
    has_form(date_time, b"0000-00-00T00:00:00")
        && (has_form(offset, b"Z") || has_form(offset, b"+00:00") && offset[1..3] <= b"23"[..])
}

/// Whether `text` matches `form`, in which 0 stands for any digit and + for either sign.
fn has_form(text: &[u8], form: &[u8]) -> bool {
    let matches = |(byte, form): (&u8, &u8)| match form {
        b'0' => byte.is_ascii_digit(),
        b'+' => matches!(byte, b'+' | b'-'),
        letter => byte.eq_ignore_ascii_case(letter),
    };
    text.len() == form.len() && text.iter().zip(form).all(matches)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(deserializer).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_written_as_rfc_3339_with_milliseconds() {
        assert_eq!(
            Timestamp::from_millis(1_700_000_000_000).to_string(),
            "2023-11-14T22:13:20.000Z"
        );
        assert_eq!(
            Timestamp::from_millis(1_700_000_000_123).to_string(),
            "2023-11-14T22:13:20.123Z"
        );
        assert_eq!(
            "2023-11-14T23:13:20.123+01:00".parse(),
            Ok(Timestamp::from_millis(1_700_000_000_123))
        );
        assert_eq!("yesterday".parse::<Timestamp>(), Err(ParseTimestampError));
        assert_eq!("1969-12-31T00:00:00Z".parse::<Timestamp>(), Err(ParseTimestampError));
    }

    #[test]
    fn only_rfc_3339_is_parsed() {
        for good in [
            "2023-11-14T22:13:20Z",
            "2023-11-14t22:13:20.000z",
            "2023-11-14T22:13:20.000000000-00:00",
            "2023-11-14T20:43:20-01:30",
            "2023-11-15T21:12:20+22:59",
        ] {
            assert_eq!(good.parse(), Ok(Timestamp::from_millis(1_700_000_000_000)), "{good}");
        }
        for bad in [
            "",
            "20231114T221320Z",
            "2023-11-14 22:13:20Z",
            "2023-11-14T22:13Z",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20,5Z",
            "2023-11-14T22:13:20+01",
            "2023-11-14T22:13:20+0100",
            "2023-11-14T22:13:20+24:00",
            "2023-11-14T22:13:20+01:60",
            "2023-11-14T22:13:20+01:00:00",
            "2023-11-14T22:13:20Z[UTC]",
            "2023-11-14T24:00:00Z",
            "2023-02-29T00:00:00Z",
            "+002023-11-14T22:13:20Z",
            " 2023-11-14T22:13:20Z",
            "2023-11-14T22:13:2\u{660}Z",
        ] {
            assert_eq!(bad.parse::<Timestamp>(), Err(ParseTimestampError), "{bad}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::EPOCH.minus(Duration::from_secs(1)), Timestamp::EPOCH);
        assert_eq!(Timestamp::from_millis(u64::MAX).plus(Duration::MAX).millis(), u64::MAX);
        assert_eq!(Timestamp::EPOCH.since(Timestamp::from_millis(5)), Duration::ZERO);
    }
}
