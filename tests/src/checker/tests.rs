//! The checker is worth what it catches: each test takes the evidence of a flawless run, does
//! to it what a mutant of the product would, and the invariant must speak up.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use standardwebhooks::Webhook;
use tokio::time::Instant;

use super::*;
use crate::client::records::{Delivery, Endpoint};
use crate::evidence::{Evidence, Kill, Least, Pause, StoreRecords, Subscriber, after};
use crate::load::{Call, Publication};
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
    let calls = vec![Call {
        asked: start,
        answered: Some(start),
        outcome: Outcome::Accepted(vec!["evt_1".to_owned()]),
    }];
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
            events: vec![read(json!({"id": "evt_1", "event_type": "t", "created_at": start}))],
            endpoints: vec![
                endpoint("good", None),
                endpoint("bad", Some(after(second, millis(10)))),
            ],
            deliveries: vec![good, bad],
        },
        subscribers: ["good", "bad"].map(subscriber).to_vec(),
        kills: Vec::new(),
        pauses: Vec::new(),
        schedule: SCHEDULE,
        least: Least { events: 1, kills: 0, disabled: 1 },
    }
}

fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).expect("a record")
}

fn subscriber(name: &str) -> Subscriber {
    let (endpoint, path) = (format!("ep_{name}"), format!("/{name}"));
    Subscriber { endpoint, path, secret: SECRET.to_owned(), event_types: vec!["*".to_owned()] }
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
    assert_eq!(caught(|run| run.subscribers[0].secret = "whsec_AAAA".to_owned()), INVARIANTS[1].0);
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
    assert_eq!(caught(|run| _ = at(run, 500)), INVARIANTS[4].0);
    assert_eq!(
        caught(|run| _ = at(run, 4_900)),
        "I5: attempts keep the schedule; I7: a disabled endpoint is left alone"
    );
    let before_due = caught(|run| {
        let due = run.store.deliveries[1].attempts[0].next_attempt_at;
        run.store.deliveries[1].attempts[0].next_attempt_at =
            due.map(|due| after(due, millis(300)));
    });
    assert_eq!(before_due, INVARIANTS[4].0);
}

#[test]
fn sent_again_without_a_reason() {
    let again = |run: &mut Evidence| {
        let first = run.received[0].arrived;
        run.received.push(post(3, "good", after(first, millis(500)), 200));
        first
    };
    assert_eq!(caught(|run| _ = again(run)), INVARIANTS[5].0);
    // A kill while the first was under way explains a second, but not one after the commit.
    let explained = caught(|run| {
        let first = again(run);
        let delivery = &mut run.store.deliveries[0];
        *delivery = self::delivery("good", "delivered", &[(after(first, millis(500)), 200)]);
        run.kills.push(Kill { sent: after(first, millis(5)), gone: after(first, millis(9)) });
    });
    assert_eq!(explained, "");
}

#[test]
fn a_record_of_what_never_happened() {
    assert_eq!(caught(|run| drop(run.received.remove(0))), INVARIANTS[5].0);
}

#[test]
fn sent_to_a_disabled_endpoint() {
    let paused = caught(|run| {
        let first = run.received[0].arrived;
        let acknowledged = first.saturating_sub(millis(1_500)).expect("in range");
        run.pauses.push(Pause { endpoint: "ep_good".to_owned(), acknowledged, enabled: None });
    });
    assert_eq!(paused, INVARIANTS[6].0);
}

#[test]
fn disabled_without_a_word() {
    assert_eq!(caught(|run| run.mails.clear()), INVARIANTS[7].0);
    assert_eq!(caught(|run| run.mails[0].text = "ep_other".to_owned()), INVARIANTS[7].0);
}

#[test]
fn an_attempt_without_end() {
    assert_eq!(
        caught(|run| run.received[0].ended = Some(run.received[0].began + millis(1_200))),
        INVARIANTS[8].0
    );
}

#[test]
fn one_key_two_events() {
    let twice = caught(|run| {
        let mut call = run.publications[0].calls[0].clone();
        call.outcome = Outcome::Accepted(vec!["evt_2".to_owned()]);
        run.publications[0].calls.push(call);
    });
    assert_eq!(twice, INVARIANTS[9].0);
}

#[test]
fn a_run_without_faults_shows_nothing() {
    assert_eq!(caught(|run| run.least.kills = 1), "the run shows something");
}
