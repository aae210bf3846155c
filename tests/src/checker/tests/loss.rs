//! I1, I2 and idempotency keys.

use super::*;

#[test]
fn an_event_acknowledged_before_its_commit_is_lost() {
    let lost = caught(|run| {
        run.store.events.clear();
        run.store.deliveries.clear();
        run.received.clear();
    });
    assert!(lost.contains("I1"), "{lost}");
}

#[test]
fn an_endpoint_left_out_of_the_fan_out() {
    assert!(caught(|run| drop(run.store.deliveries.remove(0))).contains("I1"));
    assert!(caught(|run| run.store.deliveries[0].state = "pending".to_owned()).contains("I1"));
}

/// Adds a third, disabled endpoint with this subscription history and number of held deliveries.
/// The event was published and accepted at one moment.
fn add_third_endpoint(run: &mut Evidence, subscriptions: Vec<Subscription>, deliveries: usize) {
    let start = run.healed;
    run.subscribers.push(Subscriber { subscriptions, ..subscriber("third") });
    for n in 0..deliveries {
        let mut held = delivery("third", "held", &[(start, 200)]);
        (held.id, held.attempt_count, held.finished_at) = (format!("dlv_third_{n}"), 0, None);
        held.attempts.clear();
        run.store.by_event.entry(held.event_id.clone()).or_default().push(held.id.clone());
        run.store.deliveries.push(held);
    }
}

/// Sets the receipt's delivery count.
fn set_receipt(run: &mut Evidence, deliveries: u64) {
    run.publications[0].calls[0].outcome = accepted("evt_1", deliveries);
    run.store.events[0].deliveries = deliveries;
}

/// The time `ms` milliseconds after the event was published.
fn at(run: &Evidence, ms: i64) -> Timestamp {
    run.healed.saturating_add(jiff::SignedDuration::from_millis(ms)).expect("in range")
}

#[test]
fn an_endpoint_that_switches_between_all_and_named_types_is_reached_once() {
    let switched = |deliveries: usize| {
        caught(|run| {
            // Between both forms, while the fan-out may be in progress.
            let subscriptions = [
                subscription(at(run, -500), Some(at(run, -400)), &["*"]),
                subscription(at(run, -10), Some(at(run, 10)), &["t", "other"]),
                subscription(at(run, 20), None, &["*"]),
                subscription(at(run, 40), Some(at(run, 60)), &["t"]),
            ];
            add_third_endpoint(run, subscriptions.to_vec(), deliveries);
            set_receipt(run, 3);
        })
    };
    assert_eq!(switched(1), "");
    let both = "I1: nothing accepted is lost; I1: every receipt has the right count";
    assert_eq!(switched(0), both);
    assert_eq!(switched(2), both);
}

#[test]
fn an_endpoint_that_was_created_before_the_event_is_reached() {
    // Created at these milliseconds after the event was published.
    let created = |sent_at: i64, answered: Option<i64>, deliveries: usize, receipt: u64| {
        caught(|run| {
            let answered = answered.map(|ms| at(run, ms));
            add_third_endpoint(
                run,
                vec![subscription(at(run, sent_at), answered, &["*"])],
                deliveries,
            );
            set_receipt(run, receipt);
        })
    };
    let both = "I1: nothing accepted is lost; I1: every receipt has the right count";
    // With a clock ahead, its id is later than the event's.
    assert_eq!(created(-20, Some(-10), 0, 3), both);
    assert_eq!(created(-20, Some(-10), 1, 3), "");
    // During acceptance, or unknown: it may have been counted and may be reached.
    for (sent_at, answered) in [(-20, Some(10)), (-20, None)] {
        for (deliveries, receipt) in [(0, 2), (1, 3), (1, 2)] {
            assert_eq!(
                created(sent_at, answered, deliveries, receipt),
                "",
                "{deliveries}, {receipt}"
            );
        }
        // No endpoint is left that the receipt could have counted.
        assert_eq!(created(sent_at, answered, 0, 4), name("I1: every"));
        assert!(created(sent_at, answered, 2, 3).contains(name("I1: nothing")));
    }
    // After acceptance: it may be reached but was not counted.
    assert_eq!(created(10, Some(20), 0, 2), "");
    assert_eq!(created(10, Some(20), 1, 2), "");
    assert_eq!(created(10, Some(20), 1, 3), name("I1: every"));
}

#[test]
fn an_endpoint_that_unsubscribes_explains_a_missing_delivery() {
    // The event was published and accepted at 0.
    let left =
        |sent_at: i64, answered: Option<i64>, types: &[&str], deliveries: usize, receipt: u64| {
            caught(|run| {
                let answered = answered.map(|ms| at(run, ms));
                let subscriptions = vec![
                    subscription(Timestamp::MIN, Some(Timestamp::MIN), &["t"]),
                    subscription(at(run, sent_at), answered, types),
                ];
                add_third_endpoint(run, subscriptions, deliveries);
                set_receipt(run, receipt);
            })
        };
    // Deleted while the fan-out may be in progress: it was counted and may have been reached.
    assert_eq!(left(10, Some(20), &[], 0, 3), "");
    assert_eq!(left(10, Some(20), &[], 1, 3), "");
    assert_eq!(left(10, Some(20), &["other"], 0, 2), name("I1: every"));
    // Unsubscribed before the event.
    assert_eq!(left(-20, Some(-10), &["other"], 0, 2), "");
    let unwanted = left(-20, Some(-10), &["other"], 1, 2);
    assert_eq!(unwanted, "I1: nothing accepted is lost", "the receipt is explained");
    assert_eq!(left(-20, Some(-10), &[], 0, 3), name("I1: every"));
    // Unknown.
    assert_eq!(left(-20, None, &[], 0, 3), "");
    assert_eq!(left(-20, None, &[], 0, 2), "");
}

#[test]
fn a_receipt_has_the_number_of_deliveries() {
    assert_eq!(caught(|run| set_receipt(run, 1)), name("I1: every"));
    assert_eq!(caught(|run| set_receipt(run, 3)), name("I1: every"));
    assert_eq!(caught(|run| run.store.events[0].deliveries = 3), name("I1: every"));
    // Without a response, the record must still be right.
    let unanswered = |stored: u64| {
        caught(|run| {
            run.publications[0].calls[0].outcome = Outcome::Unknown;
            run.publications[0].calls[0].answered = None;
            run.store.events[0].deliveries = stored;
            run.minimum.events = 0;
        })
    };
    assert_eq!(unanswered(2), "");
    assert_eq!(unanswered(1), name("I1: every"));
}

#[test]
fn an_event_lists_its_deliveries() {
    let list = |run: &mut Evidence| run.store.by_event.get_mut("evt_1").expect("a list").clone();
    let forgotten = caught(|run| {
        let rest = list(run).split_off(1);
        run.store.by_event.insert("evt_1".to_owned(), rest);
    });
    assert_eq!(forgotten, name("I1: every"));
    let twice = caught(|run| {
        let twice = [list(run), list(run)].concat();
        run.store.by_event.insert("evt_1".to_owned(), twice);
    });
    assert_eq!(twice, name("I1: every"));
}

#[test]
fn a_delivery_to_an_endpoint_that_does_not_exist() {
    let made_up = caught(|run| {
        add_third_endpoint(run, Vec::new(), 1);
        run.subscribers.pop();
    });
    assert_eq!(made_up, name("I1: nothing"));
}

#[test]
fn a_reserialized_body() {
    let body = Bytes::from_static(br#"{"n":1}"#);
    assert!(caught(|run| run.received[0].body = body).contains("I2"));
}

#[test]
fn a_wrong_secret() {
    assert_eq!(caught(|run| run.subscribers[0].secret = "whsec_AAAA".to_owned()), name("I2:"));
}

/// The key of an accepted event is sent again after `after_s` seconds, with this outcome.
fn repeated(after_s: u64, outcome: Outcome) -> String {
    caught(|run| {
        let sent_at = after(run.healed, seconds(after_s));
        let answered = Some(after(sent_at, millis(10)));
        run.publications[0].calls.push(Call { sent_at, answered, outcome });
    })
}

#[test]
fn a_key_is_repeated_after_the_schema_changed() {
    assert_eq!(repeated(5, accepted("evt_1", 2)), "");
    assert_eq!(repeated(5, Outcome::Refused(422)), name("one key"));
    assert_eq!(repeated(5, Outcome::Refused(409)), name("one key"));
    // Temporary rejections, or unknown.
    for outcome in [Outcome::Refused(503), Outcome::Refused(429), Outcome::Unknown] {
        assert_eq!(repeated(5, outcome), "");
    }
    // The first call may have failed.
    let refused_first = caught(|run| {
        let mut refused = run.publications[0].calls[0].clone();
        refused.outcome = Outcome::Refused(422);
        run.publications[0].calls.insert(0, refused);
    });
    assert_eq!(refused_first, "");
}

#[test]
fn a_key_is_repeated_after_a_day() {
    const DAY_S: u64 = 24 * 3_600;
    assert_eq!(repeated(DAY_S - 1, accepted("evt_1", 2)), "");
    assert_eq!(repeated(DAY_S - 1, accepted("evt_2", 2)), name("one key"));
    // The new event is swallowed.
    assert_eq!(repeated(DAY_S, accepted("evt_1", 2)), name("one key"));
    let publish_again = |run: &mut Evidence, after_s: u64, id: &str| {
        let sent_at = after(run.healed, seconds(after_s));
        let answered = Some(after(sent_at, millis(10)));
        run.publications[0].calls.push(Call { sent_at, answered, outcome: accepted(id, 2) });
    };
    let in_turn = |last: &str| {
        let mut run = flawless();
        publish_again(&mut run, DAY_S, "evt_2");
        publish_again(&mut run, DAY_S + 5, last);
        crate::checker::loss::same_key_same_answer(&run.publications)
    };
    assert!(in_turn("evt_2").is_empty());
    assert!(!in_turn("evt_1").is_empty(), "retention starts again");
}

#[test]
fn two_events_under_one_idempotency_key() {
    let twice = caught(|run| {
        let mut call = run.publications[0].calls[0].clone();
        call.outcome = accepted("evt_2", 2);
        run.publications[0].calls.push(call);
    });
    assert_eq!(twice, name("one key"));
}
