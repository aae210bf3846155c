use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn any_policy() -> impl Strategy<Value = Policy> {
    (0_u8..=20, 0_u64..=7_776_000_000, 1.0..=10.0, 0.0..=0.9, 1_u64..=30_000).prop_filter_map(
        "the attempts do not fit",
        |(retries, window, factor, jitter, timeout)| {
            let (window, timeout) = (Duration::from_millis(window), Duration::from_millis(timeout));
            Policy::new(retries, window, factor, jitter, timeout).ok()
        },
    )
}

/// The start and end of every attempt when all of them fail, each after its share of the timeout.
fn all_attempts(
    policy: &Policy,
    random: &[f64],
    share: &[f64],
    retry_after: Option<Duration>,
) -> Vec<(Timestamp, Timestamp)> {
    let first = Timestamp::from_millis(1_000_000);
    let mut attempts = vec![];
    let mut start = first;
    loop {
        let n = attempts.len();
        let took = policy.timeout.mul_f64(share[n % share.len()]);
        let end = start.plus(took);
        attempts.push((start, end));
        let failed = FailedAttempt {
            attempts: u8::try_from(attempts.len()).expect("few"),
            first_attempt_at: first,
            ended_at: end,
            retry_after,
        };
        match policy.next(failed, random[n % random.len()]) {
            NextAttempt::At(due) => start = due,
            NextAttempt::Exhausted => return attempts,
        }
    }
}

proptest! {
    #[test]
    fn every_schedule_stays_within_its_bounds(
        policy in any_policy(),
        random in prop::collection::vec(0.0..=1.0, 1..20),
        share in prop::collection::vec(0.0..=1.0, 1..20),
        retry_after in prop::option::of((0_u64..200_000).prop_map(Duration::from_secs)),
    ) {
        let attempts = all_attempts(&policy, &random, &share, retry_after);
        prop_assert_eq!(attempts.len(), usize::from(policy.max_retries) + 1);
        let (first, last) = (attempts[0].0, attempts[attempts.len() - 1].0);
        // Each delay is rounded to milliseconds, upwards where it must not be too short.
        let slack = Duration::from_millis(u64::from(policy.max_retries));
        prop_assert!(last.since(first) <= policy.window + slack, "{:?}", last.since(first));
        for (k, pair) in (1..).zip(attempts.windows(2)) {
            let delay = pair[1].0.since(pair[0].1);
            let (shortest, longest) = policy.delay_bounds(k);
            prop_assert!(delay >= shortest, "retry {}: {:?} < {:?}", k, delay, shortest);
            let longest = if retry_after.is_some() { longest.max(MAX_REST) } else { longest };
            prop_assert!(delay <= longest + 2 * Duration::from_millis(1), "retry {}: {:?} > {:?}", k, delay, longest);
        }
    }

    #[test]
    fn the_worst_case_fills_the_window(policy in any_policy()) {
        prop_assume!(policy.max_retries > 0 && policy.base > 100 * Duration::from_millis(1));
        let attempts = all_attempts(&policy, &[1.0], &[1.0], None);
        let last = attempts[attempts.len() - 1].0.since(attempts[0].0);
        prop_assert!(last + policy.window / 100 + Duration::from_millis(25) >= policy.window);
    }

    #[test]
    fn the_error_suggests_a_window_that_fits(
        retries in 1_u8..=20, factor in 1.0..=3.0, jitter in 0.0..=0.9, timeout in 1_u64..30_000,
    ) {
        let timeout = Duration::from_millis(timeout);
        let Err(PolicyError::WindowTooSmall { smallest, .. }) =
            Policy::new(retries, Duration::ZERO, factor, jitter, timeout) else { return Ok(()) };
        prop_assert!(Policy::new(retries, smallest, factor, jitter, timeout).is_ok());
        let less = smallest - 2 * Duration::from_millis(1);
        prop_assert!(Policy::new(retries, less, factor, jitter, timeout).is_err());
    }
}

/// A delivery whose attempts all fail at once, on a clock that is set while it waits.
struct SteppedClock<'a> {
    policy: &'a Policy,
    /// The true time since the first attempt, and how far the clock is ahead of it.
    elapsed: Duration,
    ahead_ms: i64,
    first_attempt_at: Timestamp,
    due: Timestamp,
    delay: Duration,
}

impl SteppedClock<'_> {
    fn now(&self) -> Timestamp {
        let right = Timestamp::from_millis(1_700_000_000_000).plus(self.elapsed);
        let by = Duration::from_millis(self.ahead_ms.unsigned_abs());
        if self.ahead_ms < 0 { right.minus(by) } else { right.plus(by) }
    }

    fn step(&mut self, ms: i64) {
        self.ahead_ms += ms;
        if ms < 0 {
            let now = self.now();
            self.due = due_after_step_back(self.due, self.delay, now);
            self.first_attempt_at = self.first_attempt_at.min(now);
        }
    }

    /// Makes attempt `attempts`, and returns whether another one follows.
    fn attempt(&mut self, attempts: u8, random: f64, retry_after: Option<Duration>) -> bool {
        let now = self.now();
        let first_attempt_at = self.first_attempt_at;
        let failed = FailedAttempt { attempts, first_attempt_at, ended_at: now, retry_after };
        match self.policy.next(failed, random) {
            NextAttempt::At(due) => {
                (self.due, self.delay) = (due, due.since(now));
                true
            }
            NextAttempt::Exhausted => false,
        }
    }
}

proptest! {
    /// Whatever steps the clock makes, every attempt is made. A wait is never longer than the delay
    /// from the last step on, and only a step forward makes an attempt early.
    #[test]
    fn steps_of_the_clock_cost_no_attempt_and_no_long_wait(
        policy in any_policy(),
        random in prop::collection::vec(0.0..=1.0, 1..20),
        // Steps in milliseconds, each in the wait before a retry, at this share of it.
        steps in prop::collection::vec((-100_000_000_i64..100_000_000, 0.0..1.0), 0..30),
        retry_after in prop::option::of((0_u64..10_000).prop_map(Duration::from_secs)),
    ) {
        let start = Timestamp::from_millis(1_700_000_000_000);
        let mut clock = SteppedClock {
            policy: &policy,
            elapsed: Duration::ZERO,
            ahead_ms: 0,
            first_attempt_at: start,
            due: start,
            delay: Duration::ZERO,
        };
        let mut attempts = 1;
        while clock.attempt(attempts, random[usize::from(attempts) % random.len()], retry_after) {
            let (shortest, longest) = policy.delay_bounds(attempts);
            let longest = retry_after.map_or(longest, |asked| longest.max(asked)).max(shortest)
                + 2 * Duration::from_millis(1);
            let (attempted, mut stepped, mut was_forward) = (clock.elapsed, clock.elapsed, false);
            if let Some((ms, share)) = steps.get(usize::from(attempts)) {
                clock.elapsed += clock.delay.mul_f64(*share);
                clock.step(*ms);
                (stepped, was_forward) = (clock.elapsed, *ms > 0);
            }
            clock.elapsed += clock.due.since(clock.now());
            prop_assert!(clock.elapsed - stepped <= longest, "{:?} > {:?}", clock.elapsed - stepped, longest);
            prop_assert!(was_forward || clock.elapsed - attempted >= shortest);
            attempts += 1;
        }
        prop_assert_eq!(u32::from(attempts), policy.max_attempts());
    }
}

#[test]
fn once_the_window_is_over_delays_follow_the_schedule() {
    let policy = Policy::default();
    let first = Timestamp::from_millis(1_000_000);
    let next = |ended_at, retry_after| {
        let failed = FailedAttempt { attempts: 2, first_attempt_at: first, ended_at, retry_after };
        match policy.next(failed, 1.0) {
            NextAttempt::At(due) => due.since(ended_at),
            NextAttempt::Exhausted => panic!("eight retries are left"),
        }
    };
    let over = first.plus(policy.window());
    assert_eq!(next(over, Some(1800 * SECOND)), 1800 * SECOND);
    let longest = policy.delay_bounds(2).1;
    assert!(longest - next(over, None) < Duration::from_millis(1));
}

#[test]
fn the_default_is_about_eleven_seconds_growing_to_half_a_day() {
    let policy = Policy::default();
    assert_eq!(policy.max_retries(), 10);
    assert!((Duration::from_secs(11)..Duration::from_secs(12)).contains(&policy.delay(1)));
    assert!(
        (Duration::from_secs(11 * 3600)..Duration::from_secs(13 * 3600))
            .contains(&policy.delay(10))
    );
}

#[test]
fn the_expected_exhaustion_adds_the_remaining_delays() {
    let policy = Policy::new(3, Duration::from_secs(700), 2.0, 0.0, Duration::ZERO).expect("fits");
    let due = Timestamp::from_millis(5_000);
    let after = |attempts| policy.expected_exhaustion(attempts, due).since(due).as_secs();
    assert_eq!([after(1), after(2), after(3)], [600, 400, 0]);
    assert_eq!(policy.expected_exhaustion(u8::MAX, due), due);
}

#[test]
fn retry_after_lengthens_within_bounds_and_never_shortens() {
    let policy = Policy::default();
    let at = Timestamp::from_millis(1_000_000);
    let failed = |retry_after| FailedAttempt {
        attempts: 1,
        first_attempt_at: at,
        ended_at: at,
        retry_after,
    };
    let due = |ask: Option<u64>| match policy.next(failed(ask.map(Duration::from_secs)), 0.5) {
        NextAttempt::At(due) => due.since(at),
        NextAttempt::Exhausted => panic!("ten retries are left"),
    };
    assert_eq!(due(Some(0)), due(None));
    assert_eq!(due(Some(15)), 15 * SECOND);
    assert_eq!(due(Some(1800)), 1800 * SECOND);
    assert_eq!(due(Some(86_400)), MAX_REST);
}

#[test]
fn delays_are_kept_after_our_own_outage() {
    let policy = Policy::default();
    let first = Timestamp::from_millis(1_000_000);
    let late = first.plus(3 * policy.window());
    let failed =
        FailedAttempt { attempts: 4, first_attempt_at: first, ended_at: late, retry_after: None };
    let NextAttempt::At(due) = policy.next(failed, 0.5) else { panic!("seven retries are left") };
    assert!(due.since(late) >= policy.delay_bounds(4).0);
}

#[test]
fn without_retries_the_first_failure_exhausts_the_delivery() {
    let policy = Policy::new(0, Duration::ZERO, 2.5, 0.2, 5 * SECOND).expect("fits");
    let at = Timestamp::from_millis(1);
    let failed =
        FailedAttempt { attempts: 1, first_attempt_at: at, ended_at: at, retry_after: None };
    assert_eq!(policy.next(failed, 0.5), NextAttempt::Exhausted);
}

#[test]
fn invalid_schedules_are_rejected() {
    let day = Duration::from_secs(86_400);
    let new =
        |retries, window, factor, jitter| Policy::new(retries, window, factor, jitter, SECOND);
    assert_eq!(new(101, day, 2.5, 0.2), Err(PolicyError::MaxRetries));
    assert_eq!(new(10, day, 0.5, 0.2), Err(PolicyError::Factor));
    assert_eq!(new(10, day, f64::NAN, 0.2), Err(PolicyError::Factor));
    assert_eq!(new(10, day, 2.5, -0.1), Err(PolicyError::Jitter));
    assert_eq!(new(10, day, 2.5, f64::INFINITY), Err(PolicyError::Jitter));
    assert_eq!(new(10, 91 * day, 2.5, 0.2), Err(PolicyError::WindowTooLong));
    for (retries, factor) in [(100, 2.5), (100, 10.0), (20, 10.0)] {
        let rejected = Err(PolicyError::FitsNoWindow { max_retries: retries, factor });
        assert_eq!(new(retries, 90 * day, factor, 0.2), rejected);
    }
}
