//! The axes of a chart.

use postrider_domain::statistics::TimeRange;
use postrider_domain::time::Timestamp;

use super::share;
use crate::dashboard::format::millis;

/// An axis of counts, from 0.
pub(super) struct CountAxis {
    step: u64,
    steps: u64,
}

impl CountAxis {
    /// The maximum number of gridlines above zero.
    const MAX_STEPS: u64 = 4;

    /// An axis up to at least `max`, in steps of 1, 2 or 5 times a power of ten.
    pub(super) fn up_to(max: u64) -> Self {
        let powers = (0..19).map(|power| 10_u64.pow(power));
        let mut nice = powers.flat_map(|power| [1, 2, 5].map(|digit| power.saturating_mul(digit)));
        let step = nice.find(|step| max.div_ceil(*step) <= Self::MAX_STEPS).unwrap_or(u64::MAX);
        Self { step, steps: max.div_ceil(step).max(1) }
    }

    /// The height of a count, as a fraction of the axis.
    pub(super) fn fraction(&self, count: u64) -> f64 {
        share(count, self.step.saturating_mul(self.steps))
    }

    /// The ticks: height as a fraction, and label.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let counts = (0..=self.steps).map(|step| self.step.saturating_mul(step));
        counts.map(|count| (self.fraction(count), compact(count))).collect()
    }
}

/// A round number in compact notation.
fn compact(count: u64) -> String {
    let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let unit = units.into_iter().find(|(size, _)| count >= *size);
    match unit {
        Some((size, unit)) if count.is_multiple_of(size) => format!("{}{unit}", count / size),
        Some((size, unit)) => format!("{}.{}{unit}", count / size, count % size * 10 / size),
        None => count.to_string(),
    }
}

/// A logarithmic axis of milliseconds, because the median response may be a hundred times faster
/// than the slowest.
pub(super) struct LogAxis {
    first: u32,
    last: u32,
}

impl LogAxis {
    /// An axis that covers `times`. `None` if there are no times.
    pub(super) fn of(times: impl Iterator<Item = u32> + Clone) -> Option<Self> {
        let shortest = times.clone().min()?.max(1);
        let longest = times.max()?.max(1);
        let first = shortest.ilog10();
        let whole = 10_u64.pow(longest.ilog10()) == u64::from(longest);
        let last = longest.ilog10() + u32::from(!whole);
        Some(Self { first, last: last.max(first + 1) })
    }

    /// The height of a time, as a fraction of the axis.
    pub(super) fn fraction(&self, ms: u32) -> f64 {
        let decades = f64::from(ms.max(1)).log10() - f64::from(self.first);
        decades / f64::from(self.last - self.first)
    }

    /// The ticks: height as a fraction, and label.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let fraction =
            |power: u32| f64::from(power - self.first) / f64::from(self.last - self.first);
        let label = |power| millis(10_u32.checked_pow(power).unwrap_or(u32::MAX));
        (self.first..=self.last).map(|power| (fraction(power), label(power))).collect()
    }
}

/// Whether the time axis has a tick at the start of a point.
pub(super) fn has_tick(range: TimeRange, at: Timestamp) -> bool {
    const HOUR: u64 = 3600;
    let every = match range {
        TimeRange::Hour => HOUR / 4,
        TimeRange::Day => 6 * HOUR,
        TimeRange::Week => 24 * HOUR,
        TimeRange::Month => 6 * 24 * HOUR,
    };
    at.seconds().is_multiple_of(every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_axes_have_round_ticks() {
        let ticks = |max| {
            let ticks = CountAxis::up_to(max).ticks();
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>()
        };
        assert_eq!(ticks(0), ["0", "1"]);
        assert_eq!(ticks(3), ["0", "1", "2", "3"]);
        assert_eq!(ticks(7), ["0", "2", "4", "6", "8"]);
        assert_eq!(ticks(1_700), ["0", "500", "1k", "1.5k", "2k"]);
        assert_eq!(ticks(2_000_001), ["0", "1M", "2M", "3M"]);
        assert!(ticks(u64::MAX).len() <= 5);
        for max in [1, 7, 99, 1_000, 123_456] {
            assert!((0.5..=1.0).contains(&CountAxis::up_to(max).fraction(max)), "{max}");
        }
    }

    #[test]
    fn time_axes_have_a_tick_for_each_power_of_ten() {
        let ticks = |times: &[u32]| {
            let ticks = LogAxis::of(times.iter().copied()).unwrap().ticks();
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>()
        };
        assert_eq!(ticks(&[0]), ["1 ms", "10 ms"]);
        assert_eq!(ticks(&[42, 5_000]), ["10 ms", "100 ms", "1 s", "10 s"]);
        assert_eq!(ticks(&[10, 1_000]), ["10 ms", "100 ms", "1 s"]);
        assert!(LogAxis::of(std::iter::empty()).is_none());
        let axis = LogAxis::of([3, u32::MAX].into_iter()).unwrap();
        assert!(
            (axis.fraction(1), axis.ticks().len()) == (0.0, 11) && axis.fraction(u32::MAX) < 1.0
        );
    }
}
