use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A receiver that accepts `limit` requests in any period of `per`.
struct Receiver {
    limit: usize,
    per: Duration,
    accepted: VecDeque<Uptime>,
}

impl Receiver {
    fn new(limit: usize, per: Duration) -> Self {
        Self { limit, per, accepted: VecDeque::new() }
    }

    fn accepts(&mut self, now: Uptime) -> bool {
        self.accepted.retain(|at| now - *at < self.per);
        let accepts = self.accepted.len() < self.limit;
        if accepts {
            self.accepted.push_back(now);
        }
        accepts
    }
}

/// The start of each request, and whether the receiver accepted it, until `accepted` were. Up to
/// four requests are in flight at once, and each takes 10 ms.
fn send(
    receiver: &mut Receiver,
    retry_after: Option<Duration>,
    accepted: usize,
) -> Vec<(Uptime, bool)> {
    const LATENCY: Duration = Duration::from_millis(10);
    let mut throttle = Throttle::default();
    let mut in_flight: VecDeque<Uptime> = VecDeque::new();
    let mut sent = Vec::new();
    let mut now = ms(5_000);
    while sent.iter().filter(|(_, accepted)| *accepted).count() < accepted {
        let limit = if throttle.is_probing() { 1 } else { 4 };
        if in_flight.len() < limit && throttle.ready_at() <= now {
            throttle.started(now);
            in_flight.push_back(now);
            continue;
        }
        let completes = in_flight.front().map(|started| *started + LATENCY);
        let starts = (in_flight.len() < limit).then(|| throttle.ready_at());
        now = now.max(completes.into_iter().chain(starts).min().expect("something happens next"));
        if completes.is_some_and(|at| at <= now) {
            let started_at = in_flight.pop_front().expect("one is in flight");
            let accepts = receiver.accepts(started_at);
            sent.push((started_at, accepts));
            if accepts {
                throttle.succeeded(now);
            } else {
                let refusal = Refusal { started_at, retry_after, next_attempt_in: HOUR };
                throttle.refused(refusal, now);
            }
        }
    }
    sent
}

fn refused(sent: &[(Uptime, bool)]) -> usize {
    sent.iter().filter(|(_, accepted)| !accepted).count()
}

fn duration(sent: &[(Uptime, bool)]) -> Duration {
    sent.last().expect("some").0 - sent[0].0
}

#[test]
fn a_burst_adapts_to_a_receiver_that_accepts_one_a_second() {
    for retry_after in [None, Some(ms(1_000)), Some(ms(10_000))] {
        let sent = send(&mut Receiver::new(1, ms(1_000)), retry_after, 100);
        assert!(refused(&sent) <= 6, "{retry_after:?}: {} refused", refused(&sent));
        let took = duration(&sent).as_secs();
        assert!(took <= 140, "{retry_after:?}: {took} s");
    }
}

#[test]
fn a_receiver_is_used_at_most_of_its_rate() {
    for (limit, per) in [(5, ms(1_000)), (50, ms(1_000)), (1, ms(10_000))] {
        let sent = send(&mut Receiver::new(limit, per), None, 200);
        let least = per.mul_f64(200.0 / limit as f64);
        assert!(refused(&sent) <= 24, "{limit} in {per:?}: {} refused", refused(&sent));
        assert!(
            duration(&sent) <= least.mul_f64(2.0) + ms(10_000),
            "{limit} in {per:?}: {:?}",
            duration(&sent)
        );
    }
}

#[test]
fn one_refusal_of_an_idle_endpoint_is_soon_forgotten() {
    let mut throttle = Throttle::default();
    let mut now = ms(60_000);
    let refusal = Refusal { started_at: now, retry_after: None, next_attempt_in: HOUR };
    throttle.refused(refusal, now);
    let rested_at = throttle.ready_at();
    for _ in 0..100 {
        now = now.max(throttle.ready_at());
        throttle.started(now);
        throttle.succeeded(now);
    }
    assert!(now - rested_at < ms(15_000), "{:?}", now - rested_at);
    throttle.started(now);
    assert!(throttle.ready_at() <= now, "unlimited again");
}

#[test]
fn the_endpoint_rests_as_long_as_it_asks_within_bounds() {
    let rest = |retry_after: Option<u64>, next_attempt_in| {
        let mut throttle = Throttle::default();
        let retry_after = retry_after.map(Duration::from_secs);
        throttle.refused(Refusal { started_at: ms(0), retry_after, next_attempt_in }, ms(0));
        assert!(throttle.is_probing());
        throttle.ready_at().as_secs()
    };
    assert_eq!(rest(Some(30), HOUR), 30);
    assert_eq!(rest(Some(86_400), 24 * HOUR), 3_600);
    assert_eq!(rest(Some(30), ms(9_000)), 9);
    assert_eq!(rest(None, HOUR), 1);
}

#[test]
fn pauses_double_up_to_a_minute() {
    let mut throttle = Throttle::default();
    let mut now = ms(0);
    let pauses: Vec<_> = (0..9)
        .map(|_| {
            let refusal = Refusal { started_at: now, retry_after: None, next_attempt_in: HOUR };
            throttle.refused(refusal, now);
            let pause = throttle.ready_at() - now;
            now = throttle.ready_at();
            pause.as_secs()
        })
        .collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
}

#[test]
fn requests_refused_together_count_once() {
    let mut throttle = Throttle::default();
    for _ in 0..4 {
        let refusal = Refusal { started_at: ms(0), retry_after: None, next_attempt_in: HOUR };
        throttle.refused(refusal, ms(10));
    }
    assert_eq!(throttle.ready_at(), ms(1_010));
}

proptest! {
    #[test]
    fn rests_are_bounded_and_success_ends_them(
        refusals in prop::collection::vec((prop::option::of(0_u64..1_000_000), 0_u64..100_000, any::<bool>()), 1..60)
    ) {
        let mut throttle = Throttle::default();
        let mut now = ms(0);
        for (retry_after, next, succeeds) in refusals {
            now = now.max(throttle.ready_at());
            throttle.started(now);
            if succeeds {
                throttle.succeeded(now);
                prop_assert!(!throttle.is_probing());
                prop_assert!(throttle.ready_at() <= now + MAX_INTERVAL);
            } else {
                let next_attempt_in = Duration::from_secs(next);
                let retry_after = retry_after.map(Duration::from_secs);
                throttle.refused(Refusal { started_at: now, retry_after, next_attempt_in }, now);
                prop_assert!(throttle.is_probing());
                prop_assert!(throttle.ready_at() <= now + MAX_REST);
            }
        }
    }
}
