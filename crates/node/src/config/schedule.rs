//! Formats the retry schedule as a table.

use std::fmt::Write as _;
use std::time::Duration;

use postrider_domain::duration;
use postrider_domain::retry::Policy;

/// One row per attempt: the delay after the previous attempt, and the start relative to the first.
/// The latest start assumes that every attempt times out.
pub fn table(policy: &Policy) -> String {
    let mut table =
        String::from("attempt   delay                     time since the first attempt\n");
    let _ = writeln!(table, "{:>7}   {:<25} at once", 1, "");
    let (mut earliest, mut latest) = (Duration::ZERO, Duration::ZERO);
    for retry in 1..=policy.max_retries() {
        let (shortest, longest) = policy.delay_bounds(retry);
        earliest += shortest;
        latest += policy.timeout() + longest;
        let delay = between(shortest, longest);
        let start = between(earliest, latest);
        let _ = writeln!(table, "{:>7}   {delay:<25} {start}", u16::from(retry) + 1);
    }
    let timeout = duration::format(policy.timeout());
    let window = duration::format(policy.window());
    let _ = write!(
        table,
        "Each attempt may take {timeout}; the last one starts within {window} of the first."
    );
    table
}

fn between(min: Duration, max: Duration) -> String {
    format!("{} to {}", rounded(min), rounded(max))
}

/// Rounds a duration down to two units.
fn rounded(duration: Duration) -> String {
    let unit = match duration.as_secs() {
        0 => 1,
        1..60 => 100,
        60..3600 => 1_000,
        _ => 60_000,
    };
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let whole = (ms / unit) * unit;
    duration::format(Duration::from_millis(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_attempt() {
        let text = table(&Policy::default());
        assert_eq!(text.lines().count(), 1 + 11 + 1, "{text}");
        let last = text.lines().nth(11).expect("the last attempt");
        assert!(last.trim_start().starts_with("11 "), "{last}");
        assert!(last.ends_with("to 23h59m") || last.ends_with("to 1d"), "{last}");
    }

    #[test]
    fn a_policy_without_retries_has_one_row() {
        let second = Duration::from_secs(1);
        let policy = Policy::new(0, second, 2.0, 0.0, second).expect("a policy");
        assert_eq!(table(&policy).lines().count(), 3);
    }
}
