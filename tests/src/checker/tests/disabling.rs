//! I7, I8.

use super::*;

#[test]
fn a_request_to_a_disabled_endpoint() {
    let paused = caught(|run| {
        let first = run.received[0].arrived;
        let acknowledged = first.saturating_sub(millis(1_500)).expect("in range");
        run.manual_disables.push(ManualDisable {
            endpoint: "ep_good".to_owned(),
            acknowledged,
            enabled: None,
        });
    });
    assert_eq!(paused, name("I7:"));
}

#[test]
fn an_endpoint_disabled_without_an_email() {
    assert_eq!(caught(|run| run.emails.clear()), name("I8:"));
    assert_eq!(caught(|run| run.emails[0].text = "ep_other".to_owned()), name("I8:"));
}

#[test]
fn the_grace_period_is_a_lease_while_a_node_is_unreachable() {
    let disabled = |before: u64, kind: Option<Kind>| {
        caught(|run| {
            let first = run.received[0].arrived;
            let acknowledged = first.saturating_sub(millis(before)).expect("in range");
            run.manual_disables.push(ManualDisable {
                endpoint: "ep_good".to_owned(),
                acknowledged,
                enabled: None,
            });
            run.faults.extend(kind.map(|kind| fault(kind, acknowledged, millis(500))));
        })
    };
    assert_eq!(disabled(1_500, None), name("I7:"));
    assert_eq!(disabled(1_500, Some(Kind::PeerPartition)), "");
    assert_eq!(disabled(11_000, Some(Kind::PeerPartition)), name("I7:"));
    assert_eq!(disabled(1_500, Some(Kind::Kill)), name("I7:"));
}
