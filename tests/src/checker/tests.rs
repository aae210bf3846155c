//! The checker is worth what it catches: each test takes the evidence of a flawless run, does
//! to it what a mutant of the product would, and the invariant must speak up.

use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use standardwebhooks::Webhook;
use tokio::time::Instant;

use super::*;
use crate::client::records::{Delivery, Endpoint, Event, Replay};
use crate::evidence::{
    Evidence, Flush, Glimpse, Least, Pause, ReplayRun, Sighting, StoreRecords, Subscriber,
    Subscription, Vitals, after,
};
use crate::fault::{Fault, Kind};
use crate::load::{Call, Outcome, Publication, Receipt};
use crate::mail::Mail;
use crate::receiver::Received;
use crate::schedule::Schedule;
use crate::wait::{millis, seconds};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PAYLOAD: &str = r#"{ "n": 1 }"#;
const SCHEDULE: Schedule =
    Schedule { max_retries: 1, window: seconds(4), factor: 2.5, jitter: 0.2, timeout: seconds(1) };

/// One event to two endpoints: `good` takes it, `bad` fails twice and is disabled.
fn flawless() -> Evidence {
    let start = Timestamp::now().round(jiff::Unit::Second).expect("in range");
    let (first, second) = (start, after(start, millis(2_600)));
    let good = delivery("good", "delivered", &[(first, 200)]);
    let bad = delivery("bad", "exhausted", &[(first, 503), (second, 503)]);
    let calls = vec![Call { asked: start, answered: Some(start), outcome: accepted("evt_1", 2) }];
    let mail = Mail {
        at: after(second, millis(20)),
        from: String::new(),
        to: Vec::new(),
        subject: "disabled".to_owned(),
        text: "ep_bad was disabled".to_owned(),
        raw: String::new(),
    };
    Evidence {
        publications: vec![Publication {
            event_type: "t".to_owned(),
            payloads: vec![PAYLOAD.to_owned()],
            idempotency_key: Some("k".to_owned()),
            calls,
        }],
        received: vec![
            post(0, "good", first, 200),
            post(1, "bad", first, 503),
            post(2, "bad", second, 503),
        ],
        mails: vec![mail],
        store: StoreRecords {
            events: vec![event("evt_1", start, 2)],
            endpoints: vec![
                endpoint("good", None),
                endpoint("bad", Some(after(second, millis(10)))),
            ],
            by_event: listed(&[&good, &bad]),
            deliveries: vec![good, bad],
        },
        subscribers: ["good", "bad"].map(subscriber).to_vec(),
        faults: Vec::new(),
        healed: start,
        sightings: Vec::new(),
        glimpses: Vec::new(),
        vitals: Vec::new(),
        slow_flushes: Vec::new(),
        one_clock: true,
        pauses: Vec::new(),
        replays: Vec::new(),
        schedule: SCHEDULE,
        least: Least { events: 1, disabled: 1, ..Least::default() },
    }
}

fn accepted(id: &str, deliveries: u64) -> Outcome {
    Outcome::Accepted(vec![Receipt { id: id.to_owned(), deliveries }])
}

fn event(id: &str, created_at: Timestamp, deliveries: u64) -> Event {
    read(json!({
        "id": id, "event_type": "t", "created_at": created_at, "deliveries": deliveries,
    }))
}

/// The lists of the events' deliveries.
fn listed(deliveries: &[&Delivery]) -> HashMap<String, Vec<String>> {
    let mut lists: HashMap<_, Vec<_>> = HashMap::new();
    for delivery in deliveries {
        lists.entry(delivery.event_id.clone()).or_default().push(delivery.id.clone());
    }
    lists
}

fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("a record")
}

fn subscriber(name: &str) -> Subscriber {
    let (endpoint, path) = (format!("ep_{name}"), format!("/{name}"));
    let subscriptions = vec![subscription(Timestamp::MIN, Some(Timestamp::MIN), &["*"])];
    Subscriber { endpoint, path, secret: SECRET.to_owned(), subscriptions }
}

fn subscription(
    asked: Timestamp,
    answered: Option<Timestamp>,
    event_types: &[&str],
) -> Subscription {
    let event_types = event_types.iter().map(|&name| name.to_owned()).collect();
    Subscription { asked, answered, event_types }
}

fn endpoint(name: &str, disabled: Option<Timestamp>) -> Endpoint {
    let state = if disabled.is_some() { "disabled" } else { "enabled" };
    let disabled = disabled
        .map(|at| json!({"reason": "exhausted", "at": at, "delivery_id": format!("dlv_{name}")}));
    read(json!({
        "id": format!("ep_{name}"), "name": name, "url": format!("http://h/{name}"),
        "event_types": ["*"], "headers": {}, "ordering": "parallel", "state": state,
        "disabled": disabled, "failure_count": 0, "last_error": null, "pending": 0, "held": 0,
        "oldest_pending_at": null,
    }))
}

/// A delivery with an attempt of 10 ms at each of these times.
fn delivery(name: &str, state: &str, attempts: &[(Timestamp, u16)]) -> Delivery {
    let records: Vec<_> = (1..)
        .zip(attempts)
        .map(|(number, &(at, status))| {
            let next = attempts.get(number).map(|next| next.0);
            let stamp = at.as_second().to_string();
            json!({
                "number": number, "at": at, "duration_ms": 10,
                "request": {"method": "POST", "url": "u", "headers": [["webhook-timestamp", stamp]], "body": PAYLOAD},
                "response": {"status": status, "headers": [], "body": ""},
                "error": null, "next_attempt_at": next,
            })
        })
        .collect();
    let last = attempts.last().expect("an attempt").0;
    read(json!({
        "id": format!("dlv_{name}"), "event_id": "evt_1", "endpoint_id": format!("ep_{name}"),
        "event_type": "t", "state": state, "attempt_count": attempts.len(),
        "next_attempt_at": null, "created_at": attempts[0].0,
        "finished_at": after(last, millis(10)), "attempts": records,
    }))
}

fn post(index: usize, name: &str, at: Timestamp, status: u16) -> Received {
    let stamp = at.as_second();
    let webhook = Webhook::new(SECRET).expect("a secret");
    let signature = webhook.sign("evt_1", stamp, PAYLOAD.as_bytes()).expect("text");
    let head = format!(
        "POST /{name} HTTP/1.1\r\nwebhook-id: evt_1\r\nwebhook-timestamp: {stamp}\r\n\
         webhook-signature: {signature}\r\n\r\n"
    );
    let began = Instant::now();
    Received {
        index,
        connection: index,
        path: format!("/{name}"),
        head: Bytes::from(head),
        body: Bytes::from_static(PAYLOAD.as_bytes()),
        arrived: after(at, millis(2)),
        began,
        ended: Some(began + millis(3)),
        answered: Some(status),
    }
}

fn fault(kind: Kind, from: Timestamp, lasted: std::time::Duration) -> Fault {
    Fault { kind, node: "node-1".to_owned(), from, to: after(from, lasted) }
}

/// The name of the invariant that begins so.
fn name(beginning: &str) -> &'static str {
    let found = INVARIANTS.iter().find(|invariant| invariant.name.starts_with(beginning));
    found.expect("an invariant").name
}

/// The invariants that speak up after `harm` was done to a flawless run.
fn caught(harm: impl FnOnce(&mut Evidence)) -> String {
    let mut evidence = flawless();
    harm(&mut evidence);
    let violated: Vec<_> = violated(&evidence).into_iter().map(|(name, _)| name).collect();
    violated.join("; ")
}

#[test]
fn a_flawless_run_passes() {
    check(&flawless()).expect("nothing is wrong");
}

#[test]
fn acknowledged_before_the_commit() {
    let lost = caught(|run| {
        run.store.events.clear();
        run.store.deliveries.clear();
        run.received.clear();
    });
    assert!(lost.contains("I1"), "{lost}");
}

#[test]
fn one_endpoint_forgotten() {
    assert!(caught(|run| drop(run.store.deliveries.remove(0))).contains("I1"));
    assert!(caught(|run| run.store.deliveries[0].state = "pending".to_owned()).contains("I1"));
}

/// A third endpoint, which is disabled and so holds what it receives, with this history of
/// subscriptions, and with so many deliveries. The event was asked for and answered at the same moment.
fn with_third(run: &mut Evidence, subscriptions: Vec<Subscription>, deliveries: usize) {
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

/// The receipt of the event says so many deliveries.
fn told(run: &mut Evidence, deliveries: u64) {
    run.publications[0].calls[0].outcome = accepted("evt_1", deliveries);
    run.store.events[0].deliveries = deliveries;
}

/// So many milliseconds after the event was asked for.
fn at(run: &Evidence, ms: i64) -> Timestamp {
    run.healed.saturating_add(jiff::SignedDuration::from_millis(ms)).expect("in range")
}

#[test]
fn an_endpoint_that_moves_between_all_types_and_named_ones_is_reached_once() {
    let moved_about = |deliveries: usize| {
        caught(|run| {
            // Between the two, and while the fan-out may be under way.
            let moved = [
                subscription(at(run, -500), Some(at(run, -400)), &["*"]),
                subscription(at(run, -10), Some(at(run, 10)), &["t", "other"]),
                subscription(at(run, 20), None, &["*"]),
                subscription(at(run, 40), Some(at(run, 60)), &["t"]),
            ];
            with_third(run, moved.to_vec(), deliveries);
            told(run, 3);
        })
    };
    assert_eq!(moved_about(1), "");
    let both = "I1: nothing accepted is lost; I1: every receipt is kept";
    assert_eq!(moved_about(0), both);
    assert_eq!(moved_about(2), both);
}

#[test]
fn an_endpoint_that_was_created_before_the_event_is_reached() {
    // Created and answered so long after the event was asked for.
    let created = |asked: i64, answered: Option<i64>, deliveries: usize, said: u64| {
        caught(|run| {
            let answered = answered.map(|ms| at(run, ms));
            with_third(run, vec![subscription(at(run, asked), answered, &["*"])], deliveries);
            told(run, said);
        })
    };
    let both = "I1: nothing accepted is lost; I1: every receipt is kept";
    // A clock that is ahead gives it an id later than the event's.
    assert_eq!(created(-20, Some(-10), 0, 3), both);
    assert_eq!(created(-20, Some(-10), 1, 3), "");
    // Meanwhile, or nobody knows whether at all: it may have been counted, and may be reached.
    for (asked, answered) in [(-20, Some(10)), (-20, None)] {
        for (deliveries, said) in [(0, 2), (1, 3), (1, 2)] {
            assert_eq!(created(asked, answered, deliveries, said), "", "{deliveries}, told {said}");
        }
        // But nobody left whom the receipt could have counted.
        assert_eq!(created(asked, answered, 0, 4), name("I1: every"));
        assert!(created(asked, answered, 2, 3).contains(name("I1: nothing")));
    }
    // Afterwards: it may be reached, and was not counted.
    assert_eq!(created(10, Some(20), 0, 2), "");
    assert_eq!(created(10, Some(20), 1, 2), "");
    assert_eq!(created(10, Some(20), 1, 3), name("I1: every"));
}

#[test]
fn an_endpoint_that_leaves_explains_what_it_lacks() {
    // The event was asked for and answered at 0.
    let left = |asked: i64, answered: Option<i64>, types: &[&str], deliveries: usize, said: u64| {
        caught(|run| {
            let answered = answered.map(|ms| at(run, ms));
            let subscriptions = vec![
                subscription(Timestamp::MIN, Some(Timestamp::MIN), &["t"]),
                subscription(at(run, asked), answered, types),
            ];
            with_third(run, subscriptions, deliveries);
            told(run, said);
        })
    };
    // Deleted while the fan-out may be under way: it was counted, and may have been reached.
    assert_eq!(left(10, Some(20), &[], 0, 3), "");
    assert_eq!(left(10, Some(20), &[], 1, 3), "");
    assert_eq!(left(10, Some(20), &["other"], 0, 2), name("I1: every"));
    // Gone before the event.
    assert_eq!(left(-20, Some(-10), &["other"], 0, 2), "");
    let unwanted = left(-20, Some(-10), &["other"], 1, 2);
    assert_eq!(unwanted, "I1: nothing accepted is lost", "the receipt is explained");
    assert_eq!(left(-20, Some(-10), &[], 0, 3), name("I1: every"));
    // Nobody knows.
    assert_eq!(left(-20, None, &[], 0, 3), "");
    assert_eq!(left(-20, None, &[], 0, 2), "");
}

#[test]
fn a_receipt_counts_the_deliveries() {
    assert_eq!(caught(|run| told(run, 1)), name("I1: every"));
    assert_eq!(caught(|run| told(run, 3)), name("I1: every"));
    assert_eq!(caught(|run| run.store.events[0].deliveries = 3), name("I1: every"));
    // Of what got no answer, the record must still be right.
    let unanswered = |stored: u64| {
        caught(|run| {
            run.publications[0].calls[0].outcome = Outcome::Unknown;
            run.publications[0].calls[0].answered = None;
            run.store.events[0].deliveries = stored;
            run.least.events = 0;
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
fn a_delivery_to_an_endpoint_that_nobody_created() {
    let made_up = caught(|run| {
        with_third(run, Vec::new(), 1);
        run.subscribers.pop();
    });
    assert_eq!(made_up, name("I1: nothing"));
}

/// Makes a replay of the good endpoint's delivery, which says that it made so many, and so many
/// deliveries of which it is told.
fn replayed(run: &mut Evidence, past: &[&str], said: Option<u64>, made: usize) {
    let past = past.iter().map(|&id| id.to_owned()).collect();
    let replay = said.map(|done| -> Replay {
        read(json!({"id": "rpl_1", "endpoint": "ep_good", "state": "completed", "total": 1, "done": done}))
    });
    run.replays.push(ReplayRun { endpoint: "ep_good".to_owned(), past, replay });
    for n in 1..=made {
        let at = after(run.healed, seconds(n as u64));
        let mut again = delivery("good", "delivered", &[(at, 200)]);
        again.id = format!("dlv_again_{n}");
        run.store.by_event.entry("evt_1".to_owned()).or_default().push(again.id.clone());
        run.store.deliveries.push(again);
        run.received.push(post(2 + n, "good", at, 200));
    }
}

#[test]
fn a_replay_repeats_what_was_there_and_nothing_of_its_own() {
    let replay = |past: &[&str], said, made| caught(|run| replayed(run, past, said, made));
    let violated = name("a replay");
    assert_eq!(replay(&["dlv_good"], Some(1), 1), "");
    assert_eq!(replay(&["dlv_good"], Some(0), 0), violated);
    // It took its own delivery for an old one.
    assert_eq!(replay(&["dlv_good"], Some(2), 2), violated);
    // It does not say what it did.
    assert_eq!(replay(&["dlv_good"], Some(2), 1), violated);
    // What was not at its end yet may have been in time.
    assert_eq!(replay(&[], Some(0), 0), "");
    assert_eq!(replay(&[], Some(1), 1), "");
    assert_eq!(replay(&[], Some(2), 2), violated);
    // Nobody knows whether there is a replay.
    assert_eq!(replay(&["dlv_good"], None, 0), "");
    assert_eq!(replay(&["dlv_good"], None, 1), "");
    assert_eq!(replay(&["dlv_good"], None, 2), violated);
}

#[test]
fn two_replays_repeat_twice() {
    let second = |made: usize| {
        caught(|run| {
            replayed(run, &["dlv_good"], Some(1), made);
            run.replays[0].replay.as_mut().expect("a replay").done = 1;
            replayed(run, &["dlv_good", "dlv_again_1"], Some(made as u64 - 1), 0);
        })
    };
    assert_eq!(second(3), "");
    assert_eq!(second(2), name("a replay"));
    assert_eq!(second(4), name("a replay"));
}

#[test]
fn a_replay_that_does_not_end_and_one_that_nobody_asked_for() {
    let unfinished = caught(|run| {
        replayed(run, &["dlv_good"], Some(1), 1);
        run.replays[0].replay.as_mut().expect("a replay").state = "running".to_owned();
    });
    assert_eq!(unfinished, name("a replay"));
    let unasked = caught(|run| {
        replayed(run, &["dlv_good"], Some(1), 1);
        run.replays.clear();
    });
    assert_eq!(unasked, name("a replay"));
}

#[test]
fn a_request_that_no_repetition_explains() {
    let with = |requests: usize| {
        caught(|run| {
            replayed(run, &["dlv_good"], Some(1), 1);
            let at = after(run.healed, seconds(2));
            run.received.extend((0..requests).map(|n| post(4 + n, "good", at, 200)));
        })
    };
    assert_eq!(with(0), "");
    assert_eq!(with(1), name("I6: every"));
    let with_clocks_apart = |requests: usize| {
        caught(|run| {
            run.one_clock = false;
            replayed(run, &["dlv_good"], Some(1), 1);
            let at = after(run.healed, seconds(2));
            run.received.extend((0..requests).map(|n| post(4 + n, "good", at, 200)));
        })
    };
    assert_eq!(with_clocks_apart(0), "");
    assert_eq!(with_clocks_apart(1), name("I6: where"));
}

/// After a first acceptance, the key is asked for again so much later, and answered so.
fn repeated(after_s: u64, outcome: Outcome) -> String {
    caught(|run| {
        let asked = after(run.healed, seconds(after_s));
        let answered = Some(after(asked, millis(10)));
        run.publications[0].calls.push(Call { asked, answered, outcome });
    })
}

#[test]
fn a_key_is_repeated_after_the_schema_changed() {
    assert_eq!(repeated(5, accepted("evt_1", 2)), "");
    assert_eq!(repeated(5, Outcome::Refused(422)), name("one key"));
    assert_eq!(repeated(5, Outcome::Refused(409)), name("one key"));
    // For now, or nobody knows.
    for outcome in [Outcome::Refused(503), Outcome::Refused(429), Outcome::Unknown] {
        assert_eq!(repeated(5, outcome), "");
    }
    // The first call may have come to nothing.
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
    let anew = |run: &mut Evidence, after_s: u64, id: &str| {
        let asked = after(run.healed, seconds(after_s));
        let answered = Some(after(asked, millis(10)));
        run.publications[0].calls.push(Call { asked, answered, outcome: accepted(id, 2) });
    };
    let in_turn = |last: &str| {
        let mut run = flawless();
        anew(&mut run, DAY_S, "evt_2");
        anew(&mut run, DAY_S + 5, last);
        loss::same_key_same_answer(&run.publications)
    };
    assert!(in_turn("evt_2").is_empty());
    assert!(!in_turn("evt_1").is_empty(), "the memory begins anew");
}

#[test]
fn retry_count_in_memory_only() {
    // Begins again at 1 after a crash.
    assert!(caught(|run| run.store.deliveries[1].attempts[1].number = 1).contains("I4"));
    let gave_up_early = |run: &mut Evidence| {
        run.store.deliveries[1].attempts.pop();
        run.store.deliveries[1].attempt_count = 1;
    };
    assert!(caught(gave_up_early).contains("I4"));
}

#[test]
fn no_epoch_check() {
    let stale = caught(|run| {
        for (attempt, epoch) in run.store.deliveries[1].attempts.iter_mut().zip([2, 1]) {
            (attempt.shard, attempt.epoch) = (Some(7), Some(epoch));
        }
    });
    assert!(stale.contains("I3"), "{stale}");
    let two_nodes = caught(|run| {
        for (attempt, node) in run.store.deliveries[1].attempts.iter_mut().zip(["a", "b"]) {
            (attempt.shard, attempt.epoch) = (Some(7), Some(1));
            attempt.node = Some(node.to_owned());
        }
    });
    assert!(two_nodes.contains("I3"), "{two_nodes}");
    assert!(caught(|run| run.store.deliveries[1].attempts[0].duration_ms = 3_000).contains("I3"));
}

#[test]
fn a_body_written_anew() {
    let body = Bytes::from_static(br#"{"n":1}"#);
    assert!(caught(|run| run.received[0].body = body).contains("I2"));
}

#[test]
fn a_wrong_secret() {
    assert_eq!(caught(|run| run.subscribers[0].secret = "whsec_AAAA".to_owned()), name("I2:"));
}

#[test]
fn a_retry_too_soon_or_too_late() {
    let at = |run: &mut Evidence, plus: u64| {
        let attempts = &mut run.store.deliveries[1].attempts;
        let (first, stamp) = (attempts[0].at, after(attempts[0].at, millis(plus)));
        attempts[0].next_attempt_at = Some(stamp);
        attempts[1].at = stamp;
        run.received[2] = post(2, "bad", stamp, 503);
        attempts[1].request.headers =
            vec![("webhook-timestamp".to_owned(), stamp.as_second().to_string())];
        first
    };
    assert_eq!(caught(|run| _ = at(run, 500)), name("I5:"));
    assert_eq!(
        caught(|run| _ = at(run, 4_900)),
        "I5: attempts keep the schedule; I7: a disabled endpoint is left alone"
    );
    let before_due = caught(|run| {
        let due = run.store.deliveries[1].attempts[0].next_attempt_at;
        run.store.deliveries[1].attempts[0].next_attempt_at =
            due.map(|due| after(due, millis(300)));
    });
    assert_eq!(before_due, name("I5:"));
}

#[test]
fn an_attempt_that_ended_late_plans_the_next_one_late() {
    let planned_after = |ms: u64| {
        let mut run = flawless();
        let held = &mut run.store.deliveries[1];
        (held.state, held.attempt_count) = ("held".to_owned(), 1);
        held.attempts.truncate(1);
        // A second is its timeout, and its node was frozen for three more.
        held.attempts[0].duration_ms = 4_000;
        held.attempts[0].next_attempt_at = Some(after(held.attempts[0].at, millis(ms)));
        attempts::spaced(&run)
    };
    assert!(planned_after(6_900).is_empty());
    assert_eq!(planned_after(7_100).len(), 1);
}

#[test]
fn sent_again_without_a_reason() {
    let again = |run: &mut Evidence| {
        let first = run.received[0].arrived;
        run.received.push(post(3, "good", after(first, millis(500)), 200));
        first
    };
    assert_eq!(caught(|run| _ = again(run)), name("I6: every"));
    // A kill while the first was under way explains a second, but not one after the commit.
    let explained = caught(|run| {
        let first = again(run);
        let delivery = &mut run.store.deliveries[0];
        let created_at = delivery.created_at;
        *delivery = self::delivery("good", "delivered", &[(after(first, millis(500)), 200)]);
        delivery.created_at = created_at;
        run.faults.push(fault(Kind::Kill, after(first, millis(5)), millis(4)));
    });
    assert_eq!(explained, "");
}

#[test]
fn a_record_of_what_never_happened() {
    assert_eq!(caught(|run| drop(run.received.remove(0))), name("I6: every"));
}

#[test]
fn sent_to_a_disabled_endpoint() {
    let paused = caught(|run| {
        let first = run.received[0].arrived;
        let acknowledged = first.saturating_sub(millis(1_500)).expect("in range");
        run.pauses.push(Pause { endpoint: "ep_good".to_owned(), acknowledged, enabled: None });
    });
    assert_eq!(paused, name("I7:"));
}

#[test]
fn disabled_without_a_word() {
    assert_eq!(caught(|run| run.mails.clear()), name("I8:"));
    assert_eq!(caught(|run| run.mails[0].text = "ep_other".to_owned()), name("I8:"));
}

#[test]
fn an_attempt_without_end() {
    assert_eq!(
        caught(|run| run.received[0].ended = Some(run.received[0].began + millis(1_400))),
        name("I9:")
    );
}

#[test]
fn one_key_two_events() {
    let twice = caught(|run| {
        let mut call = run.publications[0].calls[0].clone();
        call.outcome = accepted("evt_2", 2);
        run.publications[0].calls.push(call);
    });
    assert_eq!(twice, name("one key"));
}

#[test]
fn a_run_without_faults_shows_nothing() {
    assert_eq!(caught(|run| run.least.faults.push((Kind::Kill, 1))), "the run shows something");
}

/// Each attempt under this epoch of shard 7, by this node.
fn owned(delivery: &mut Delivery, tenures: &[(u64, &str)]) {
    for (attempt, &(epoch, node)) in delivery.attempts.iter_mut().zip(tenures) {
        (attempt.shard, attempt.epoch) = (Some(7), Some(epoch));
        attempt.node = Some(node.to_owned());
    }
}

/// At `at`, these runs of these nodes were seen, and who of them owned shard 7 by which epoch.
fn sighting(at: Timestamp, nodes: &[(&str, &str)], owner: (&str, u64)) -> Sighting {
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name, "state": "alive", "shards": 1}))
        .collect();
    let owners = json!([{"shard": 7, "node": owner.0, "epoch": owner.1}]);
    let cluster = read(json!({
        "shards": 8, "nodes": nodes, "unowned": 0, "oldest_pending_age_ms": null,
        "owners": owners,
    }));
    Sighting { at, cluster }
}

/// A second request of the good delivery half a second after the first, which alone is on
/// record, and everything of shard 7 is of boot_a, which is node-1.
fn again_under_boot_a(run: &mut Evidence) -> Timestamp {
    let first = run.received[0].arrived;
    let second = after(first, millis(500));
    run.received.push(post(3, "good", second, 200));
    let created_at = run.store.deliveries[0].created_at;
    run.store.deliveries[0] = delivery("good", "delivered", &[(second, 200)]);
    run.store.deliveries[0].created_at = created_at;
    owned(&mut run.store.deliveries[0], &[(1, "boot_a")]);
    owned(&mut run.store.deliveries[1], &[(1, "boot_a"), (1, "boot_a")]);
    let nodes = [("boot_a", "node-1"), ("boot_b", "node-2")];
    run.sightings.push(sighting(first, &nodes, ("boot_a", 1)));
    first
}

#[test]
fn a_stale_owner_commits() {
    let stale = caught(|run| {
        owned(&mut run.store.deliveries[0], &[(2, "boot_b")]);
        owned(&mut run.store.deliveries[1], &[(1, "boot_a"), (3, "boot_c")]);
        // Ends after the owner of epoch 2 has begun.
        run.store.deliveries[1].attempts[0].duration_ms = 400;
    });
    assert_eq!(stale, name("I3: one owner"));
}

#[test]
fn a_stale_owner_commits_what_it_began_long_ago() {
    let seen_at = |epoch: u64| {
        caught(|run| {
            owned(&mut run.store.deliveries[0], &[(1, "boot_a")]);
            let mut then = run.store.deliveries[0].clone();
            (then.state, then.attempt_count) = ("pending".to_owned(), 0);
            let cluster = sighting(run.healed, &[], ("boot_b", epoch)).cluster;
            run.glimpses.push(Glimpse { cluster, pending: vec![then] });
        })
    };
    assert_eq!(seen_at(1), "");
    assert_eq!(seen_at(2), name("I3: epochs"));
}

#[test]
fn an_epoch_of_two_nodes_is_seen() {
    let seen = caught(|run| {
        let at = again_under_boot_a(run);
        run.faults.push(fault(Kind::Kill, at, millis(4)));
        run.sightings.push(sighting(at, &[], ("boot_b", 1)));
    });
    assert_eq!(seen, name("I3: epochs"));
}

#[test]
fn only_the_owner_s_death_is_a_reason() {
    let of = |node: &str| {
        caught(|run| {
            let first = again_under_boot_a(run);
            let mut kill = fault(Kind::Kill, after(first, millis(5)), millis(4));
            kill.node = node.to_owned();
            run.faults.push(kill);
        })
    };
    assert_eq!(of("node-1"), "");
    assert_eq!(of("node-2"), name("I6: every"));
}

#[test]
fn a_slow_disk_keeps_an_attempt_off_the_record_for_longer() {
    let killed_after = |kill_after: Duration, slow: bool| {
        caught(|run| {
            let first = again_under_boot_a(run);
            run.faults.push(fault(Kind::Kill, after(first, kill_after), millis(4)));
            if slow {
                let from = after(first, millis(100));
                run.slow_flushes.push(Flush { from, to: after(from, seconds(3)) });
            }
        })
    };
    let longest = flawless().schedule.timeout + seconds(2);
    assert_eq!(killed_after(longest, false), "");
    assert_eq!(killed_after(longest + seconds(1), false), name("I6: every"));
    assert_eq!(killed_after(longest + seconds(1), true), "");
    assert_eq!(killed_after(longest + seconds(4), true), name("I6: every"));
}

#[test]
fn a_pause_is_a_reason_and_a_handoff_is_none() {
    let during = |kind| {
        caught(|run| {
            let first = again_under_boot_a(run);
            run.faults.push(fault(kind, after(first, millis(5)), millis(400)));
        })
    };
    assert_eq!(during(Kind::Freeze), "");
    assert_eq!(during(Kind::ApartFromWorld), "");
    for kind in [Kind::ApartFromNodes, Kind::Restart, Kind::Join, Kind::Leave] {
        assert_eq!(during(kind), name("I6: every"), "{kind:?}");
    }
}

#[test]
fn what_the_store_could_not_record_is_sent_again_but_not_after_success() {
    for kind in [Kind::StoreKill, Kind::StoreFreeze] {
        let unrecorded = caught(|run| {
            let first = again_under_boot_a(run);
            run.faults.push(fault(kind, after(first, millis(5)), millis(400)));
        });
        assert_eq!(unrecorded, "", "{kind:?}");
        let recorded = caught(|run| {
            let first = run.received[0].arrived;
            run.received.push(post(3, "good", after(first, millis(500)), 200));
            run.faults.push(fault(kind, after(first, millis(5)), millis(400)));
        });
        assert_eq!(recorded, name("I6: every"), "{kind:?}");
    }
}

#[test]
fn a_node_without_its_store_is_replaced_and_its_requests_are_sent_again() {
    let of = |node: &str| {
        caught(|run| {
            let first = again_under_boot_a(run);
            let mut cut = fault(Kind::ApartFromStore, after(first, millis(5)), seconds(20));
            cut.node = node.to_owned();
            run.faults.push(cut);
        })
    };
    assert_eq!(of("node-1"), "");
    assert_eq!(of("node-2"), name("I6: every"));
}

#[test]
fn an_owner_change_is_a_reason_unless_it_was_a_handoff() {
    let changed = |run: &mut Evidence| {
        let first = again_under_boot_a(run);
        owned(&mut run.store.deliveries[0], &[(2, "boot_b")]);
        owned(&mut run.store.deliveries[1], &[(1, "boot_a"), (2, "boot_b")]);
        first
    };
    assert_eq!(caught(|run| _ = changed(run)), "");
    let handed_over = caught(|run| {
        let first = changed(run);
        run.faults.push(fault(Kind::Leave, first, millis(100)));
    });
    assert_eq!(handed_over, name("I6: every"));
}

#[test]
fn what_a_pause_held_up_comes_when_it_ends() {
    let after_success = |thawed_after: u64| {
        caught(|run| {
            let first = run.received[0].arrived;
            run.received.push(post(3, "good", after(first, millis(2_000)), 200));
            run.faults.push(fault(Kind::Freeze, first, millis(thawed_after)));
        })
    };
    assert_eq!(after_success(1_900), "");
    assert_eq!(after_success(1_000), name("I6: every"));
}

#[test]
fn what_was_sent_into_a_broken_network_comes_when_it_may() {
    // Made so long after the first attempt; the network breaks 5 s after that, for 3 s.
    let made_and_arrived = |made: u64, arrived: u64| {
        caught(|run| {
            let first = run.received[0].arrived;
            let mut again = post(3, "good", after(first, seconds(made)), 200);
            again.arrived = after(first, seconds(arrived));
            run.received.push(again);
            run.faults.push(fault(Kind::ApartFromWorld, after(first, seconds(5)), seconds(3)));
        })
    };
    for (made, arrived) in [(4, 8), (6, 8), (6, 20), (6, 100)] {
        assert_eq!(made_and_arrived(made, arrived), "", "made {made}, arrived {arrived}");
    }
    for (made, arrived) in [(2, 8), (6, 7), (6, 130), (9, 9), (10, 12)] {
        let violated = name("I6: every");
        assert_eq!(made_and_arrived(made, arrived), violated, "made {made}, arrived {arrived}");
    }
}

#[test]
fn a_lease_s_time_of_grace_while_a_node_is_out_of_reach() {
    let disabled = |before: u64, kind: Option<Kind>| {
        caught(|run| {
            let first = run.received[0].arrived;
            let acknowledged = first.saturating_sub(millis(before)).expect("in range");
            run.pauses.push(Pause { endpoint: "ep_good".to_owned(), acknowledged, enabled: None });
            run.faults.extend(kind.map(|kind| fault(kind, acknowledged, millis(500))));
        })
    };
    assert_eq!(disabled(1_500, None), name("I7:"));
    assert_eq!(disabled(1_500, Some(Kind::ApartFromNodes)), "");
    assert_eq!(disabled(11_000, Some(Kind::ApartFromNodes)), name("I7:"));
    assert_eq!(disabled(1_500, Some(Kind::Kill)), name("I7:"));
}

#[test]
fn nobody_ends_the_attempts_of_a_frozen_node() {
    let frozen = |kind| {
        caught(|run| {
            let start = run.received[0].arrived;
            run.received[0].ended = Some(run.received[0].began + millis(1_400));
            run.faults.push(fault(kind, after(start, millis(100)), millis(1_000)));
        })
    };
    assert_eq!(frozen(Kind::Freeze), "");
    assert_eq!(frozen(Kind::Kill), name("I9:"));
}

#[test]
fn a_node_that_grows() {
    let with = |grow: fn(&mut Vitals)| {
        caught(|run| {
            let mut vitals = Vitals {
                at: run.healed,
                node: "node-1".to_owned(),
                anonymous_kib: 60_000,
                descriptors: 60,
                threads: 12,
            };
            grow(&mut vitals);
            run.vitals.push(vitals);
        })
    };
    assert_eq!(with(|_| ()), "");
    assert_eq!(with(|vitals| vitals.anonymous_kib = 2_000_000), name("I12:"));
    assert_eq!(with(|vitals| vitals.descriptors = 5_000), name("I12:"));
    assert_eq!(with(|vitals| vitals.threads = 500), name("I12:"));
}

#[test]
fn too_many_requests_at_once() {
    // Made so long after the first one; half of them begin `apart` later than the others, and the
    // receiver hears of their end much later. The fault comes so long after the first one.
    let crowded = |kind, made, apart, fault_after| {
        let mut run = flawless();
        let (arrived, first) = (run.received[0].arrived, run.received[0].began);
        for index in 3..40 {
            let mut request = post(index, "good", after(arrived, made), 200);
            request.began = if index % 2 == 0 { first + apart } else { first };
            request.ended = Some(request.began + seconds(10));
            run.received.push(request);
        }
        run.faults.push(fault(kind, after(arrived, fault_after), millis(4)));
        violated(&run).iter().any(|(violated, _)| *violated == name("I12:"))
    };
    let (broken, at_once, timeout) = (Kind::ApartFromWorld, millis(0), SCHEDULE.timeout);
    assert!(crowded(Kind::Freeze, at_once, timeout, at_once), "nothing is given up");
    assert!(!crowded(broken, at_once, timeout, seconds(5)), "the first ones were given up by then");
    assert!(crowded(broken, at_once, timeout - millis(1), seconds(5)), "not yet");
    assert!(!crowded(broken, at_once, at_once, at_once), "TCP sent them again");
    assert!(crowded(broken, seconds(2), at_once, at_once), "made when the network was mended");
}

#[test]
fn a_backlog_that_is_not_worked_off() {
    let late = |seconds_late: u64| {
        caught(|run| {
            let began = after(run.received[0].arrived, seconds(seconds_late));
            let created = run.store.deliveries[0].created_at;
            run.store.deliveries[0] = delivery("good", "delivered", &[(began, 200)]);
            run.store.deliveries[0].created_at = created;
            run.received[0] = post(0, "good", began, 200);
        })
    };
    assert_eq!(late(29), "");
    assert_eq!(late(32), name("I13:"));
}

#[test]
fn where_clocks_differ_times_are_not_compared() {
    let hour_early = |one_clock| {
        caught(|run| {
            run.one_clock = one_clock;
            let early = run.received[2].arrived.saturating_sub(seconds(3_600)).expect("in range");
            run.store.deliveries[1].attempts[1].at = early;
        })
    };
    assert!(hour_early(true).contains("I5"));
    assert_eq!(hour_early(false), "");
    let mut run = flawless();
    run.one_clock = false;
    assert!(left_out(&run).contains(&name("I5:")));
    // What is left sees a second success.
    let twice = caught(|run| {
        run.one_clock = false;
        run.received.push(post(3, "good", run.received[0].arrived, 200));
    });
    assert_eq!(twice, name("I6: where"));
}

#[test]
fn a_cluster_whose_attempts_name_no_epoch_shows_nothing() {
    let dark = caught(|run| {
        let at = run.healed;
        run.sightings.push(sighting(at, &[], ("boot_a", 1)));
    });
    assert_eq!(dark, "the run shows something");
}
