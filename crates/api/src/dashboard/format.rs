//! Formats numbers, percentages, durations and long texts for people.

use std::borrow::Cow;
use std::time::Duration;

/// A duration in its two largest units.
pub(crate) fn short_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds) {
        (0, 0, 0, 0) => format!("{} ms", duration.as_millis()),
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) if s % 60 == 0 => format!("{m} min"),
        (0, 0, m, s) => format!("{m} min {} s", s % 60),
        (0, h, 0, _) => format!("{h} h"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, 0, ..) => format!("{d} d"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// A response time, with tenths of a second where they matter.
pub(crate) fn millis(ms: u32) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..10_000 if ms % 1_000 >= 100 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} s", ms / 1_000),
    }
}

/// The duration of a phase, to the microsecond: some take less than a millisecond.
pub(crate) fn micros(took: Duration) -> String {
    format!("{:.3} ms", took.as_secs_f64() * 1_000.0)
}

/// A number with its noun.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// A size in bytes.
pub(crate) fn bytes(number: usize) -> String {
    count(u64::try_from(number).unwrap_or(u64::MAX), "byte", "bytes")
}

/// A number in groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(std::str::from_utf8(group).expect("digits"));
    }
    text
}

/// A percentage that is rounded to 0 or 100 only if it is exactly that.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if part == 0 {
        return "0%".to_owned();
    }
    let tenths = (u128::from(part) * 1_000 / u128::from(whole.max(1))).max(1);
    match (tenths, part == whole) {
        (1_000, true) => "100%".to_owned(),
        (..100, _) => format!("{}.{}%", tenths / 10, tenths % 10),
        _ => format!("{}%", tenths / 10),
    }
}

/// A text cut to at most `chars` characters.
pub(crate) fn truncated(text: &str, chars: usize) -> Cow<'_, str> {
    match text.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let text = |ms| short_duration(Duration::from_millis(ms));
        assert_eq!(
            [text(0), text(999), text(1_000), text(59_999)],
            ["0 ms", "999 ms", "1 s", "59 s"]
        );
        assert_eq!([text(60_000), text(61_000)], ["1 min", "1 min 1 s"]);
        assert_eq!([text(3_600_000), text(5_400_000)], ["1 h", "1 h 30 min"]);
        assert_eq!([text(86_400_000), text(180_000_000)], ["1 d", "2 d 2 h"]);
    }

    #[test]
    fn short_times_are_exact() {
        let read = [0, 999, 1_000, 1_049, 1_250, 9_980, 12_345].map(millis);
        assert_eq!(read, ["0 ms", "999 ms", "1 s", "1 s", "1.2 s", "9.9 s", "12 s"]);
        assert_eq!(micros(Duration::from_micros(10_250)), "10.250 ms");
        assert_eq!(micros(Duration::from_nanos(1_234_567)), "1.235 ms");
    }

    #[test]
    fn numbers_are_grouped() {
        let numbers = [0, 7, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
        assert_eq!([count(1, "event", "events"), bytes(2_000)], ["1 event", "2,000 bytes"]);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!([truncated("", 2), truncated("éa", 2)], ["", "éa"]);
        assert_eq!([truncated("éab", 2), truncated("éab", 1)], ["éa…", "é…"]);
    }

    #[test]
    fn a_percentage_is_never_rounded_to_all_or_nothing() {
        assert_eq!(percent(0, 0), "0%");
        assert_eq!(percent(1, 1_000_000), "0.1%");
        assert_eq!(percent(15, 1_000), "1.5%");
        assert_eq!(percent(1, 3), "33%");
        assert_eq!(percent(999_999, 1_000_000), "99%");
        assert_eq!(percent(5, 5), "100%");
    }
}
