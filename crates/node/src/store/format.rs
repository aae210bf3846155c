//! Formats numbers, sizes and times for people.

use std::time::Duration;

/// Units in seconds, largest first.
const TIME_UNITS: [(f64, &str); 3] = [(1.0, "s"), (1e-3, "ms"), (1e-6, "µs")];

/// A number with thousands separators.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the largest unit that fits.
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "bytes";
    for larger in units {
        if size < 1024.0 {
            break;
        }
        (size, unit) = (size / 1024.0, larger);
    }
    if unit == "bytes" { format!("{bytes} {unit}") } else { format!("{size:.1} {unit}") }
}

/// A duration with two or three significant digits.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let fits = |(unit, _): &&(f64, &str)| seconds >= *unit;
    let (unit, name) = TIME_UNITS.iter().find(fits).unwrap_or(&TIME_UNITS[2]);
    let number = seconds / unit;
    if number < 10.0 { format!("{number:.1} {name}") } else { format!("{number:.0} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_thousands_separators() {
        let texts = [0, 999, 1_000, 1_234_567].map(count);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn sizes_and_times_use_the_largest_unit_that_fits() {
        let sizes = [7, 1_024, 5 << 20, 3 << 40].map(size);
        assert_eq!(sizes, ["7 bytes", "1.0 KiB", "5.0 MiB", "3.0 TiB"]);
        let times = [0, 900, 1_500, 52_000, 12_000_000].map(|us| time(Duration::from_micros(us)));
        assert_eq!(times, ["0.0 µs", "900 µs", "1.5 ms", "52 ms", "12 s"]);
    }
}
