//! The checker is only as good as what it catches. Each test takes the evidence of a flawless run,
//! breaks it as a mutant of the product would, and expects the invariant to be violated.

mod attempts;
mod bounds;
mod disabling;
mod duplicates;
mod loss;
mod ownership;
mod replays;

use std::collections::HashMap;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use standardwebhooks::Webhook;
use tokio::time::Instant;

use super::*;
use crate::client::records::{Delivery, Endpoint, Event, Replay};
use crate::evidence::{
    ClusterSample, Evidence, Flush, ManualDisable, Minimum, ReplayRun, Snapshot, StoreRecords,
    Subscriber, Subscription, Usage, after,
};
use crate::fault::{Fault, Kind};
use crate::load::{Call, Outcome, Publication, Receipt};
use crate::mail::Email;
use crate::receiver::Received;
use crate::schedule::Schedule;
use crate::wait::{millis, seconds};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const PAYLOAD: &str = r#"{ "n": 1 }"#;
const SCHEDULE: Schedule =
    Schedule { max_retries: 1, window: seconds(4), factor: 2.5, jitter: 0.2, timeout: seconds(1) };

/// One event to two endpoints: `good` accepts it, `bad` fails twice and is disabled.
fn flawless() -> Evidence {
    let start = Timestamp::now().round(jiff::Unit::Second).expect("in range");
    let (first, second) = (start, after(start, millis(2_600)));
    let good = delivery("good", "delivered", &[(first, 200)]);
    let bad = delivery("bad", "exhausted", &[(first, 503), (second, 503)]);
    let calls = vec![Call { sent_at: start, answered: Some(start), outcome: accepted("evt_1", 2) }];
    let mail = Email {
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
        emails: vec![mail],
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
        cluster_samples: Vec::new(),
        snapshots: Vec::new(),
        usage: Vec::new(),
        slow_flushes: Vec::new(),
        clocks_agree: true,
        manual_disables: Vec::new(),
        replays: Vec::new(),
        schedule: SCHEDULE,
        minimum: Minimum { events: 1, disabled: 1, ..Minimum::default() },
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

/// Delivery ids by event.
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
    sent_at: Timestamp,
    answered: Option<Timestamp>,
    event_types: &[&str],
) -> Subscription {
    let event_types = event_types.iter().map(|&name| name.to_owned()).collect();
    Subscription { sent_at, answered, event_types }
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

/// A delivery with a 10 ms attempt at each of these times.
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

/// The invariant whose name starts with `prefix`.
fn name(prefix: &str) -> &'static str {
    let found = INVARIANTS.iter().find(|invariant| invariant.name.starts_with(prefix));
    found.expect("an invariant").name
}

/// The invariants violated after `damage` was done to a flawless run.
fn caught(damage: impl FnOnce(&mut Evidence)) -> String {
    let mut evidence = flawless();
    damage(&mut evidence);
    let violated: Vec<_> = violated(&evidence).into_iter().map(|(name, _)| name).collect();
    violated.join("; ")
}

#[test]
fn a_flawless_run_passes() {
    check(&flawless()).expect("no violations");
}

#[test]
fn a_run_without_its_planned_faults_lacks_coverage() {
    assert_eq!(
        caught(|run| run.minimum.faults.push((Kind::Kill, 1))),
        "the run has enough coverage"
    );
}

/// Sets the epoch and node of each attempt, in shard 7.
fn owned(delivery: &mut Delivery, owners: &[(u64, &str)]) {
    for (attempt, &(epoch, node)) in delivery.attempts.iter_mut().zip(owners) {
        (attempt.shard, attempt.epoch) = (Some(7), Some(epoch));
        attempt.node = Some(node.to_owned());
    }
}

/// A cluster sample at `at` with these boot ids and node names, and the owner of shard 7.
fn sample(at: Timestamp, nodes: &[(&str, &str)], owner: (&str, u64)) -> ClusterSample {
    let nodes: Vec<_> = nodes
        .iter()
        .map(|(id, name)| json!({"id": id, "name": name, "state": "alive", "shards": 1}))
        .collect();
    let owners = json!([{"shard": 7, "node": owner.0, "epoch": owner.1}]);
    let cluster = read(json!({
        "shards": 8, "nodes": nodes, "unowned": 0, "oldest_pending_age_ms": null,
        "owners": owners,
    }));
    ClusterSample { at, cluster }
}

/// Adds a second request of the good delivery half a second after the first. Only the second is
/// recorded, and boot_a of node-1 owns shard 7.
fn duplicate_under_boot_a(run: &mut Evidence) -> Timestamp {
    let first = run.received[0].arrived;
    let second = after(first, millis(500));
    run.received.push(post(3, "good", second, 200));
    let created_at = run.store.deliveries[0].created_at;
    run.store.deliveries[0] = delivery("good", "delivered", &[(second, 200)]);
    run.store.deliveries[0].created_at = created_at;
    owned(&mut run.store.deliveries[0], &[(1, "boot_a")]);
    owned(&mut run.store.deliveries[1], &[(1, "boot_a"), (1, "boot_a")]);
    let nodes = [("boot_a", "node-1"), ("boot_b", "node-2")];
    run.cluster_samples.push(sample(first, &nodes, ("boot_a", 1)));
    first
}

#[test]
fn times_are_not_compared_when_clocks_differ() {
    let hour_early = |clocks_agree| {
        caught(|run| {
            run.clocks_agree = clocks_agree;
            let early = run.received[2].arrived.saturating_sub(seconds(3_600)).expect("in range");
            run.store.deliveries[1].attempts[1].at = early;
        })
    };
    assert!(hour_early(true).contains("I5"));
    assert_eq!(hour_early(false), "");
    let mut run = flawless();
    run.clocks_agree = false;
    assert!(skipped(&run).contains(&name("I5:")));
    // The remaining invariants still catch a second success.
    let twice = caught(|run| {
        run.clocks_agree = false;
        run.received.push(post(3, "good", run.received[0].arrived, 200));
    });
    assert_eq!(twice, name("I6: with"));
}

#[test]
fn a_cluster_run_without_epochs_lacks_coverage() {
    let without_epochs = caught(|run| {
        let at = run.healed;
        run.cluster_samples.push(sample(at, &[], ("boot_a", 1)));
    });
    assert_eq!(without_epochs, "the run has enough coverage");
}
