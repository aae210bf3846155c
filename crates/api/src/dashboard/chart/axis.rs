//! What stands at the axes of a chart.

use postrider_domain::statistics::Span;
use postrider_domain::time::Timestamp;

use super::share;
use crate::dashboard::format::millis;

/// An axis of counts, from 0.
pub(super) struct Counts {
    step: u64,
    steps: u64,
}

impl Counts {
    /// Most lines above the first one.
    const MOST_STEPS: u64 = 4;

    /// One on which there is room for `most`, in steps of 1, 2 or 5 and so many zeros.
    pub(super) fn up_to(most: u64) -> Self {
        let powers = (0..19).map(|power| 10_u64.pow(power));
        let mut nice = powers.flat_map(|power| [1, 2, 5].map(|digit| power.saturating_mul(digit)));
        let step = nice.find(|step| most.div_ceil(*step) <= Self::MOST_STEPS).unwrap_or(u64::MAX);
        Self { step, steps: most.div_ceil(step).max(1) }
    }

    /// Which part of the height a count has.
    pub(super) fn part(&self, count: u64) -> f64 {
        share(count, self.step.saturating_mul(self.steps))
    }

    /// The marks: at which part of the height, and what it says.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let counts = (0..=self.steps).map(|step| self.step.saturating_mul(step));
        counts.map(|count| (self.part(count), short(count))).collect()
    }
}

/// A round number in few characters.
fn short(count: u64) -> String {
    let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let unit = units.into_iter().find(|(size, _)| count >= *size);
    match unit {
        Some((size, unit)) if count.is_multiple_of(size) => format!("{}{unit}", count / size),
        Some((size, unit)) => format!("{}.{}{unit}", count / size, count % size * 10 / size),
        None => count.to_string(),
    }
}

/// An axis of milliseconds on which each line is ten times the one before: half of the answers may
/// take a hundredth of what the slowest one takes.
pub(super) struct Decades {
    first: u32,
    last: u32,
}

impl Decades {
    /// One on which there is room for all of `times`; none without any.
    pub(super) fn of(times: impl Iterator<Item = u32> + Clone) -> Option<Self> {
        let shortest = times.clone().min()?.max(1);
        let longest = times.max()?.max(1);
        let first = shortest.ilog10();
        let whole = 10_u64.pow(longest.ilog10()) == u64::from(longest);
        let last = longest.ilog10() + u32::from(!whole);
        Some(Self { first, last: last.max(first + 1) })
    }

    /// Which part of the height a time has.
    pub(super) fn part(&self, ms: u32) -> f64 {
        let decades = f64::from(ms.max(1)).log10() - f64::from(self.first);
        decades / f64::from(self.last - self.first)
    }

    /// The marks: at which part of the height, and what it says.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let part = |power: u32| f64::from(power - self.first) / f64::from(self.last - self.first);
        let label = |power| millis(10_u32.checked_pow(power).unwrap_or(u32::MAX));
        (self.first..=self.last).map(|power| (part(power), label(power))).collect()
    }
}

/// Whether the axis of time has a mark where a point of a span begins.
pub(super) fn is_marked(span: Span, at: Timestamp) -> bool {
    const HOUR: u64 = 3600;
    let every = match span {
        Span::Hour => HOUR / 4,
        Span::Day => 6 * HOUR,
        Span::Week => 24 * HOUR,
        Span::Month => 6 * 24 * HOUR,
    };
    at.seconds().is_multiple_of(every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_round_marks() {
        let marks = |most| {
            let ticks = Counts::up_to(most).ticks();
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>()
        };
        assert_eq!(marks(0), ["0", "1"]);
        assert_eq!(marks(3), ["0", "1", "2", "3"]);
        assert_eq!(marks(7), ["0", "2", "4", "6", "8"]);
        assert_eq!(marks(1_700), ["0", "500", "1k", "1.5k", "2k"]);
        assert_eq!(marks(2_000_001), ["0", "1M", "2M", "3M"]);
        assert!(marks(u64::MAX).len() <= 5);
        for most in [1, 7, 99, 1_000, 123_456] {
            assert!((0.5..=1.0).contains(&Counts::up_to(most).part(most)), "{most}");
        }
    }

    #[test]
    fn times_have_a_mark_for_each_power_of_ten() {
        let marks = |times: &[u32]| {
            let ticks = Decades::of(times.iter().copied()).unwrap().ticks();
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>()
        };
        assert_eq!(marks(&[0]), ["1 ms", "10 ms"]);
        assert_eq!(marks(&[42, 5_000]), ["10 ms", "100 ms", "1 s", "10 s"]);
        assert_eq!(marks(&[10, 1_000]), ["10 ms", "100 ms", "1 s"]);
        assert!(Decades::of(std::iter::empty()).is_none());
        let axis = Decades::of([3, u32::MAX].into_iter()).unwrap();
        assert!((axis.part(1), axis.ticks().len()) == (0.0, 11) && axis.part(u32::MAX) < 1.0);
    }
}
