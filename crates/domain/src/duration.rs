//! Durations as people write them: whole numbers with units, such as `5s`, `250ms`, `24h` or
//! `1h30m`. The configuration and the HTTP API read the same form.

use std::time::Duration;

/// The units, largest first, and their lengths in milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The text is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "must be a duration: whole numbers, each with its unit (d, h, m, s or ms), the largest unit \
     first, such as 24h, 1h30m or 250ms"
)]
pub struct ParseDurationError;

/// Parses a duration. Each unit appears at most once; a bare number is an error.
///
/// # Errors
/// When `text` does not have this form, or exceeds 2⁶⁴ milliseconds.
pub fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = split(rest, |byte| byte.is_ascii_digit());
        let (unit, after) = split(after, |byte| byte.is_ascii_alphabetic());
        let number: u64 = number.parse().map_err(|_| ParseDurationError)?;
        let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or(ParseDurationError)?;
        total_ms = number
            .checked_mul(*unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or(ParseDurationError)?;
        rest = after;
    }
    Ok(Duration::from_millis(total_ms))
}

/// Formats a duration as [`parse`] reads it, truncated to whole milliseconds.
#[must_use]
pub fn format(duration: Duration) -> String {
    let mut rest_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest_ms == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, unit_ms) in UNITS {
        let number = rest_ms / unit_ms;
        if number > 0 {
            text.push_str(&format!("{number}{unit}"));
        }
        rest_ms %= unit_ms;
    }
    text
}

/// Splits `text` after its longest prefix of bytes that match.
fn split(text: &str, matches: impl Fn(u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !matches(byte)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn formatted_durations_parse(ms in any::<u64>()) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn parsing_never_panics(text in "[0-9]{0,21}[dhms µ-]{0,3}[0-9]{0,3}[a-zé]{0,2}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn valid_durations_parse() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("90s", 90_000),
            ("24h", 86_400_000),
            ("1h30m", 5_400_000),
            ("7d", 604_800_000),
            ("1m1ms", 60_001),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn invalid_durations_are_rejected() {
        for text in [
            "",
            "5",
            "s",
            "5 s",
            " 5s",
            "-5s",
            "+5s",
            "1.5h",
            "5S",
            "5sec",
            "30m1h",
            "1s1s",
            "1h30",
            "5µs",
            "99999999999999999999d",
            "213503982335d",
        ] {
            assert_eq!(parse(text), Err(ParseDurationError), "{text}");
        }
    }
}
