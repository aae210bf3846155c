//! Replays.

use super::*;

/// Adds a replay to the good endpoint that reports `reported` deliveries (`None`: unknown whether
/// it exists), and `made` repeated deliveries.
fn replayed(run: &mut Evidence, past: &[&str], reported: Option<u64>, made: usize) {
    let past = past.iter().map(|&id| id.to_owned()).collect();
    let replay = reported.map(|done| -> Replay {
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
fn a_replay_repeats_past_deliveries_and_not_its_own() {
    let replay = |past: &[&str], reported, made| caught(|run| replayed(run, past, reported, made));
    let violated = name("a replay");
    assert_eq!(replay(&["dlv_good"], Some(1), 1), "");
    assert_eq!(replay(&["dlv_good"], Some(0), 0), violated);
    // It repeated its own delivery.
    assert_eq!(replay(&["dlv_good"], Some(2), 2), violated);
    // It reports the wrong count.
    assert_eq!(replay(&["dlv_good"], Some(2), 1), violated);
    // An unfinished delivery may have finished in time.
    assert_eq!(replay(&[], Some(0), 0), "");
    assert_eq!(replay(&[], Some(1), 1), "");
    assert_eq!(replay(&[], Some(2), 2), violated);
    // It is unknown whether the replay exists.
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
fn a_replay_that_does_not_complete_and_one_that_was_not_requested() {
    let unfinished = caught(|run| {
        replayed(run, &["dlv_good"], Some(1), 1);
        run.replays[0].replay.as_mut().expect("a replay").state = "running".to_owned();
    });
    assert_eq!(unfinished, name("a replay"));
    let unrequested = caught(|run| {
        replayed(run, &["dlv_good"], Some(1), 1);
        run.replays.clear();
    });
    assert_eq!(unrequested, name("a replay"));
}

#[test]
fn a_request_that_no_repeat_explains() {
    let with = |requests: usize| {
        caught(|run| {
            replayed(run, &["dlv_good"], Some(1), 1);
            let at = after(run.healed, seconds(2));
            run.received.extend((0..requests).map(|n| post(4 + n, "good", at, 200)));
        })
    };
    assert_eq!(with(0), "");
    assert_eq!(with(1), name("I6: every"));
    let with_differing_clocks = |requests: usize| {
        caught(|run| {
            run.clocks_agree = false;
            replayed(run, &["dlv_good"], Some(1), 1);
            let at = after(run.healed, seconds(2));
            run.received.extend((0..requests).map(|n| post(4 + n, "good", at, 200)));
        })
    };
    assert_eq!(with_differing_clocks(0), "");
    assert_eq!(with_differing_clocks(1), name("I6: with"));
}
