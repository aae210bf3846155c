//! The checker is worth what it catches: each test takes the evidence of a flawless run, does
//! to it what a mutant of the product would, and the invariant must speak up.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use standardwebhooks::Webhook;
use tokio::time::Instant;

use super::*;
use crate::client::records::{Delivery, Endpoint};
use crate::evidence::{
    Evidence, Glimpse, Least, Pause, Sighting, StoreRecords, Subscriber, Vitals, after,
};
use crate::fault::{Fault, Kind};
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
        faults: Vec::new(),
        healed: start,
        sightings: Vec::new(),
        glimpses: Vec::new(),
        vitals: Vec::new(),
        one_clock: true,
        pauses: Vec::new(),
        schedule: SCHEDULE,
        least: Least { events: 1, faults: Vec::new(), disabled: 1 },
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
        *delivery = self::delivery("good", "delivered", &[(after(first, millis(500)), 200)]);
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
        call.outcome = Outcome::Accepted(vec!["evt_2".to_owned()]);
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
    run.store.deliveries[0] = delivery("good", "delivered", &[(second, 200)]);
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
