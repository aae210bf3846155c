use proptest::prelude::*;

use super::*;
use crate::attempt::RequestHead;
use crate::delivery::Schedule;
use crate::endpoint::DisabledReason;
use crate::event::EventTypeName;
use crate::ids::{AccountId, DeliveryId, EndpointId, EventId};
use crate::outcome;

fn context(attempts: u8, health: Health, endpoint: State) -> DeliveryContext {
    let at = Timestamp::from_millis(1_000);
    let delivery = Delivery {
        id: DeliveryId::MIN,
        account: AccountId::MIN,
        event: EventId::MIN,
        event_type: EventTypeName::parse("a.b").expect("a name"),
        endpoint: EndpointId::MIN,
        created_at: at,
        attempt_count: attempts,
        first_attempt_at: (attempts > 0).then_some(at),
        schedule: Schedule::default(),
        progress: Progress::Pending { due: at },
    };
    DeliveryContext { delivery, endpoint, resumptions: 0, health }
}

fn result(number: u8, status: u16) -> AttemptResult {
    let at = Timestamp::from_millis(2_000);
    AttemptResult {
        id: AttemptId::MIN,
        number,
        at,
        exchange: Exchange {
            request: RequestHead { url: "https://example.com/".into(), headers: vec![] },
            response: None,
            outcome: outcome::of_status(status, None, None),
            duration: std::time::Duration::from_millis(30),
        },
        jitter: 0.5,
        disable_when: None,
    }
}

#[test]
fn a_success_ends_the_delivery_and_resets_the_count() {
    let failing = Health { failure_count: 3, ..Health::default() };
    let changes = decide(&context(3, failing, State::Enabled), result(4, 204), &Rules::default());
    assert_eq!(
        changes.delivery.progress,
        Progress::Finished { end: FinalState::Delivered, at: Timestamp::from_millis(2_030) }
    );
    assert_eq!(changes.health.map(|h| h.failure_count), Some(0));
    assert_eq!((changes.attempt.error, changes.notice, changes.disabled), (None, None, None));
}

#[test]
fn a_success_of_a_healthy_endpoint_writes_no_health() {
    let changes =
        decide(&context(0, Health::default(), State::Enabled), result(1, 200), &Rules::default());
    assert_eq!(changes.health, None);
    assert_eq!(changes.delivery.first_attempt_at, Some(Timestamp::from_millis(2_000)));
}

#[test]
fn a_failure_schedules_the_next_attempt() {
    let changes =
        decide(&context(0, Health::default(), State::Enabled), result(1, 500), &Rules::default());
    let due = changes.delivery.due().expect("pending");
    assert_eq!(changes.attempt.next_attempt_at, Some(due));
    assert!(due > Timestamp::from_millis(2_030));
    assert_eq!(changes.health.expect("changed").failure_count, 1);
    assert_eq!(changes.disabled, None);
}

#[test]
fn the_eleventh_failure_disables_the_endpoint_with_a_notice() {
    let changes =
        decide(&context(10, Health::default(), State::Enabled), result(11, 301), &Rules::default());
    assert!(matches!(
        changes.delivery.progress,
        Progress::Finished { end: FinalState::Exhausted, .. }
    ));
    let disabled = changes.disabled.expect("disabled");
    assert_eq!(
        (disabled.reason, disabled.delivery),
        (DisabledReason::Exhausted, Some(DeliveryId::MIN))
    );
    let notice = changes.notice.expect("a notice");
    assert_eq!(notice.report, Report::Disabled(disabled));
    assert_eq!(notice.last_error.and_then(|error| error.status), Some(301));
}

#[test]
fn a_disabled_endpoint_gets_no_second_notice() {
    let disabled =
        Disabled { reason: DisabledReason::Manual, at: Timestamp::EPOCH, delivery: None };
    let context = context(10, Health::default(), State::Disabled(disabled));
    let changes = decide(&context, result(11, 500), &Rules::default());
    assert_eq!((changes.disabled, changes.notice), (None, None));
    assert!(changes.delivery.finished_at().is_some());
}

#[test]
fn enabling_an_endpoint_starts_a_new_schedule() {
    let mut state = context(10, Health::default(), State::Enabled);
    state.resumptions = 1;
    let changes = decide(&state, result(11, 500), &Rules::default());
    assert!(changes.delivery.due().is_some(), "one attempt of eleven is used up");
    assert_eq!(changes.disabled, None);
    assert_eq!(changes.delivery.attempts_in_schedule(), 1);
    assert_eq!(changes.delivery.first_attempt_at, Some(Timestamp::from_millis(2_000)));
    state.delivery = changes.delivery;
    for number in 12..=21 {
        assert_eq!(state.delivery.finished_at(), None);
        state.delivery = decide(&state, result(number, 500), &Rules::default()).delivery;
    }
    assert!(state.delivery.finished_at().is_some(), "eleven attempts are used up");
}

#[test]
fn a_delivery_has_at_most_255_attempts() {
    let mut state = context(254, Health::default(), State::Enabled);
    state.resumptions = 30;
    let changes = decide(&state, result(255, 500), &Rules::default());
    assert!(changes.delivery.finished_at().is_some());
    assert!(changes.disabled.is_some());
}

#[test]
fn an_endpoint_can_be_spared_while_other_deliveries_succeed() {
    let spared = |recovered_at: Option<u64>, setting, policy| {
        let recovered_at = recovered_at.map(Timestamp::from_millis);
        let state = context(10, Health { recovered_at, ..Health::default() }, State::Enabled);
        let disable = disable::Policy { when: policy, on_gone: false };
        let result = AttemptResult { disable_when: setting, ..result(11, 500) };
        let changes = decide(&state, result, &Rules { disable, ..Rules::default() });
        assert!(changes.delivery.finished_at().is_some());
        changes.disabled.is_none()
    };
    let (always, unless) = (DisableWhen::Exhausted, DisableWhen::ExhaustedAndNothingDelivered);
    // The first attempt began at 1,000.
    assert!(spared(Some(1_500), None, unless));
    assert!(spared(Some(1_500), Some(unless), always), "the endpoint's setting has priority");
    assert!(!spared(Some(1_500), Some(always), unless));
    assert!(!spared(Some(900), None, unless), "nothing was delivered since");
    assert!(!spared(None, None, unless));
}

/// One delivery's attempts at these times all fail. Returns the notices and the state after them.
fn fail_at(times: &[u64], state: &mut DeliveryContext) -> Vec<Notice> {
    let mut notices = Vec::new();
    for &at in times {
        let mut result = result(state.delivery.attempt_count + 1, 503);
        result.at = Timestamp::from_millis(at);
        let changes = decide(state, result, &Rules::default());
        state.health = changes.health.expect("changed");
        state.delivery = changes.delivery;
        notices.extend(changes.notice);
    }
    notices
}

const MINUTE: u64 = 60_000;

#[test]
fn an_hour_of_failures_earns_one_warning() {
    let mut state = context(0, Health::default(), State::Enabled);
    assert_eq!(fail_at(&[MINUTE, 30 * MINUTE, 61 * MINUTE - 1], &mut state), []);
    let notices = fail_at(&[61 * MINUTE, 200 * MINUTE], &mut state);
    let [Notice { report: Report::Warning(warning), failure_count: 4, .. }] = &notices[..] else {
        panic!("{notices:?}");
    };
    assert_eq!(warning.failing_since, Timestamp::from_millis(MINUTE + 30));
    assert_eq!(warning.exhaustion.delivery, state.delivery.id);
    let hours = warning.exhaustion.at.since(warning.at).as_secs() / 3600;
    assert!((15..24).contains(&hours), "{hours} h after the fourth of eleven attempts");
}

#[test]
fn a_success_ends_the_series_of_failures() {
    let mut state = context(0, Health::default(), State::Enabled);
    fail_at(&[MINUTE], &mut state);
    let succeeded = decide(&state, result(2, 200), &Rules::default());
    state.health = succeeded.health.expect("changed");
    assert_eq!(state.health.series, None);
    assert_eq!(fail_at(&[120 * MINUTE], &mut state), []);
    assert_eq!(fail_at(&[181 * MINUTE], &mut state).len(), 1);
}

/// An endpoint that is only disabled while nothing is delivered, and a delivery that was tried before
/// another one succeeded.
#[test]
fn a_delivery_that_will_not_disable_the_endpoint_earns_no_warning() {
    let health = Health { recovered_at: Some(Timestamp::from_millis(1_500)), ..Health::default() };
    let mut state = context(1, health, State::Enabled);
    let when = DisableWhen::ExhaustedAndNothingDelivered;
    let rules = Rules { disable: disable::Policy { when, on_gone: false }, ..Rules::default() };
    let fail = |state: &mut DeliveryContext, at: u64| {
        let mut result = result(state.delivery.attempt_count + 1, 503);
        result.at = Timestamp::from_millis(at);
        let changes = decide(state, result, &rules);
        state.health = changes.health.expect("changed");
        state.delivery = changes.delivery;
        changes.notice
    };
    assert_eq!(fail(&mut state, MINUTE), None);
    assert_eq!(fail(&mut state, 90 * MINUTE), None);
    let mut next = context(0, state.health, State::Enabled);
    next.delivery.id = DeliveryId::MAX;
    let notice = fail(&mut next, 100 * MINUTE).expect("a warning");
    let Report::Warning(warning) = notice.report else { panic!("{notice:?}") };
    assert_eq!(warning.exhaustion.delivery, DeliveryId::MAX);
    assert_eq!(warning.failing_since, Timestamp::from_millis(MINUTE + 30));
}

/// After enabling, a delivery has all its attempts again.
#[test]
fn the_expected_exhaustion_is_that_of_the_current_schedule() {
    let mut state = context(9, Health::default(), State::Enabled);
    state.resumptions = 1;
    fail_at(&[MINUTE], &mut state);
    let exhaustion = state.health.series.and_then(|series| series.exhaustion).expect("known");
    let hours = exhaustion.at.since(Timestamp::from_millis(MINUTE)).as_secs() / 3600;
    assert!((17..24).contains(&hours), "{hours} h after the first of eleven attempts");
}

#[test]
fn a_disabled_endpoint_earns_no_warning() {
    let disabled =
        Disabled { reason: DisabledReason::Manual, at: Timestamp::EPOCH, delivery: None };
    let mut state = context(0, Health::default(), State::Disabled(disabled));
    assert_eq!(fail_at(&[MINUTE, 200 * MINUTE], &mut state), []);
}

proptest! {
    /// Whatever the responses, a delivery finishes after at most 11 consecutively numbered
    /// attempts, and an exhausted one has disabled its endpoint with exactly one notice.
    #[test]
    fn every_delivery_finishes(statuses in prop::collection::vec(100_u16..600, 11), gone in any::<bool>()) {
        let rules = Rules { disable: disable::Policy { on_gone: gone, ..Default::default() }, ..Rules::default() };
        let mut state = context(0, Health::default(), State::Enabled);
        let mut notices = 0;
        for (number, status) in (1..).zip(statuses) {
            let changes = decide(&state, result(number, status), &rules);
            prop_assert_eq!(changes.attempt.number, number);
            notices += u32::from(changes.notice.is_some());
            state.health = changes.health.unwrap_or(state.health);
            if let Some(disabled) = changes.disabled {
                state.endpoint = State::Disabled(disabled);
            }
            state.delivery = changes.delivery;
            if state.delivery.finished_at().is_some() {
                break;
            }
        }
        let Progress::Finished { end, .. } = state.delivery.progress else { panic!("never finished") };
        prop_assert_eq!(end == FinalState::Delivered, state.health.failure_count == 0);
        prop_assert_eq!(notices, u32::from(state.endpoint != State::Enabled));
        prop_assert!(end != FinalState::Exhausted || notices == 1);
    }
}
