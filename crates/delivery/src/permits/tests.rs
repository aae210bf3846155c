use super::*;

const PER_HOST: usize = 4;

/// A share of a host of its own, so that only the node's limits apply.
fn share(failing: bool, named: bool) -> Share {
    Share { failing, named, host: Permits::new(MAX_IN_FLIGHT).host("other.example", 443) }
}

fn healthy() -> Share {
    share(false, true)
}

fn failing() -> Share {
    share(true, true)
}

fn at(permits: &Permits, name: &str, failing: bool) -> Share {
    Share { failing, named: true, host: permits.host(name, 443) }
}

fn all(permits: &Permits, share: &Share) -> Vec<Permit> {
    std::iter::from_fn(|| permits.try_acquire(share.clone())).collect()
}

#[tokio::test]
async fn failing_endpoints_leave_permits_for_healthy_ones() {
    let permits = Permits::new(PER_HOST);
    let held = all(&permits, &failing());
    assert_eq!(held.len(), MAX_IN_FLIGHT_FAILING);
    let healthy = all(&permits, &healthy());
    assert_eq!(healthy.len(), MAX_IN_FLIGHT - MAX_IN_FLIGHT_FAILING);
    assert_eq!(permits.in_use(), MAX_IN_FLIGHT);
    drop(held);
    assert!(permits.try_acquire(failing()).is_some());
}

#[tokio::test]
async fn permits_are_granted_in_fifo_order() {
    let permits = Permits::new(PER_HOST);
    let mut held = all(&permits, &healthy());
    let mut first = Box::pin(permits.acquire(healthy()));
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = Box::pin(permits.acquire(healthy()));
    assert!(futures::poll!(&mut second).is_pending());
    held.pop();
    assert!(permits.try_acquire(healthy()).is_none(), "waiters are not overtaken");
    assert!(futures::poll!(&mut second).is_pending());
    assert!(futures::poll!(&mut first).is_ready());
}

#[tokio::test]
async fn a_lower_limit_holds_once_requests_have_finished() {
    let permits = Permits::new(PER_HOST);
    let mut held: Vec<_> = (0..10).filter_map(|_| permits.try_acquire(healthy())).collect();
    permits.set_limits(Limits { all: 1, names: MAX_IN_FLIGHT });
    assert_eq!(permits.in_use(), 10);
    let mut waiting = Box::pin(permits.acquire(healthy()));
    assert!(futures::poll!(&mut waiting).is_pending());
    held.truncate(1);
    assert!(futures::poll!(&mut waiting).is_pending());
    held.clear();
    assert!(futures::poll!(&mut waiting).is_ready());
    assert_eq!(permits.in_use(), 0);
    let one = permits.try_acquire(healthy());
    assert!(one.is_some() && permits.try_acquire(healthy()).is_none());
    permits.set_limits(Limits { all: MAX_IN_FLIGHT, names: MAX_IN_FLIGHT });
    let rest = all(&permits, &healthy());
    assert_eq!((rest.len() + 1, permits.in_use()), (MAX_IN_FLIGHT, MAX_IN_FLIGHT));
}

#[tokio::test]
async fn a_limit_that_rises_while_too_many_are_in_flight_grants_no_more() {
    let permits = Permits::new(PER_HOST);
    let held: Vec<_> = (0..10).filter_map(|_| permits.try_acquire(healthy())).collect();
    permits.set_limits(Limits { all: 1, names: MAX_IN_FLIGHT });
    permits.set_limits(Limits { all: 10, names: MAX_IN_FLIGHT });
    assert!(permits.try_acquire(healthy()).is_none());
    drop(held);
    assert_eq!(all(&permits, &healthy()).len(), 10);
}

#[tokio::test]
async fn targets_without_names_do_not_wait_for_name_servers() {
    let permits = Permits::new(PER_HOST);
    permits.set_limits(Limits { all: MAX_IN_FLIGHT, names: 1 });
    let name = permits.try_acquire(healthy());
    assert!(name.is_some() && permits.try_acquire(failing()).is_none());
    assert!(permits.try_acquire(share(false, false)).is_some());
}

#[tokio::test]
async fn one_host_has_a_limit_and_takes_nothing_from_others() {
    let permits = Permits::new(PER_HOST);
    let busy = all(&permits, &at(&permits, "busy.example", false));
    assert_eq!((busy.len(), permits.in_use()), (PER_HOST, PER_HOST));
    let mut waiting = Box::pin(permits.acquire(at(&permits, "busy.example", false)));
    assert!(futures::poll!(&mut waiting).is_pending());
    assert_eq!(permits.in_use(), PER_HOST);
    assert!(permits.try_acquire(at(&permits, "idle.example", false)).is_some());
    drop(busy);
    assert!(futures::poll!(&mut waiting).is_ready());
}

#[tokio::test]
async fn failing_endpoints_leave_a_part_of_their_host() {
    let permits = Permits::new(PER_HOST);
    let held = all(&permits, &at(&permits, "a.example", true));
    assert_eq!(held.len(), PER_HOST / 2);
    assert_eq!(all(&permits, &at(&permits, "a.example", false)).len(), PER_HOST - PER_HOST / 2);
    let single = Permits::new(1);
    assert!(single.try_acquire(at(&single, "a.example", true)).is_some());
}

#[tokio::test]
async fn hosts_without_requests_are_forgotten() {
    let permits = Permits::new(PER_HOST);
    let held = permits.try_acquire(at(&permits, "held.example", false));
    for number in 0..100_000 {
        permits.host(&format!("{number}.example"), 443);
    }
    assert!(permits.hosts.known() < 10_000);
    assert!(Arc::ptr_eq(&held.unwrap().share().host, &permits.host("held.example", 443)));
}

#[tokio::test]
async fn a_response_that_is_being_read_holds_its_host_alone() {
    let permits = Permits::new(MAX_UNRECORDED);
    let host = at(&permits, "a.example", false);
    let mut reading = Vec::new();
    for _ in 0..MAX_READING {
        let mut permit = permits.try_acquire(host.clone()).unwrap();
        assert!(permit.begin_reading() && permit.begin_reading());
        reading.push(permit);
    }
    assert_eq!(permits.in_use(), 0);
    let mut held = all(&permits, &host);
    assert_eq!(held.len(), MAX_IN_FLIGHT);
    assert!(!held[0].begin_reading(), "too many responses are being read");
    assert_eq!(permits.in_use(), MAX_IN_FLIGHT);
    reading.pop();
    assert!(held[0].begin_reading());
    assert_eq!(permits.in_use(), MAX_IN_FLIGHT - 1);
}
