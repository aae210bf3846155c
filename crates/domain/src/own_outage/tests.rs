use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::ids::Id;

const MAX: usize = 2_048;

fn account(byte: u8) -> AccountId {
    AccountId::from_bytes([byte; 16])
}

fn seen(account_: u8, site: u8, reached_lately: bool, reached: bool) -> Observation {
    Observation {
        account: account(account_),
        site: format!("{site}.example"),
        reached_lately,
        reached,
    }
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn check(dns: Finding, ipv4: Finding) -> Check {
    Check { has_resources: true, dns, ipv4, ipv6: Finding::Unclear }
}

const WORKING: Check =
    Check { has_resources: true, dns: Finding::Works, ipv4: Finding::Works, ipv6: Finding::Works };

fn any_observation() -> impl Strategy<Value = Observation> {
    (0_u8..6, 0_u8..6, any::<bool>(), any::<bool>())
        .prop_map(|(account, site, lately, reached)| seen(account, site, lately, reached))
}

fn any_finding() -> impl Strategy<Value = Finding> {
    prop_oneof![Just(Finding::Works), Just(Finding::Broken), Just(Finding::Unclear)]
}

fn any_check() -> impl Strategy<Value = Check> {
    (any::<bool>(), any_finding(), any_finding(), any_finding())
        .prop_map(|(has_resources, dns, ipv4, ipv6)| Check { has_resources, dns, ipv4, ipv6 })
}

proptest! {
    #[test]
    fn a_target_that_is_reached_refutes_an_outage(
        mut observations in prop::collection::vec(any_observation(), 0..64),
        proof: bool,
    ) {
        // Whatever the others are, and whoever they belong to.
        observations.push(seen(9, 9, false, true));
        prop_assert_eq!(weigh(&observations, proof), Finding::Works);
    }

    #[test]
    fn one_account_is_never_an_outage(
        sites in prop::collection::vec((any::<u8>(), any::<bool>()), 0..64)
    ) {
        let observations: Vec<_> =
            sites.into_iter().map(|(site, lately)| seen(1, site, lately, false)).collect();
        prop_assert_eq!(weigh(&observations, false), Finding::Unclear);
    }

    #[test]
    fn one_site_is_never_an_outage(
        accounts in prop::collection::vec((any::<u8>(), any::<bool>()), 0..64)
    ) {
        let observations: Vec<_> =
            accounts.into_iter().map(|(account, lately)| seen(account, 1, lately, false)).collect();
        prop_assert_eq!(weigh(&observations, false), Finding::Unclear);
    }

    #[test]
    fn a_tenant_with_many_dead_names_and_a_dead_provider_are_no_outage(
        names in prop::collection::vec(any::<u8>(), 0..32),
        tenants in prop::collection::vec(any::<u8>(), 0..31),
    ) {
        let names = names.into_iter().map(|site| seen(1, site, false, false));
        let tenants = tenants.into_iter().map(|account| seen(account, 1, true, false));
        let observations: Vec<_> = names.chain(tenants).collect();
        prop_assert_eq!(weigh(&observations, false), Finding::Unclear);
    }

    #[test]
    fn an_outage_of_everything_is_found(
        unrelated in 3_u8..20,
        lately: bool,
        others in prop::collection::vec((any::<u8>(), any::<u8>()), 0..40),
    ) {
        let mut observations: Vec<_> =
            (0..unrelated).map(|number| seen(number, number, lately, false)).collect();
        let others = others.into_iter().map(|(account, site)| seen(account, site, lately, false));
        observations.splice(0..0, others);
        prop_assert_eq!(weigh(&observations, false), Finding::Broken);
    }

    #[test]
    fn sending_always_resumes(checks in prop::collection::vec(any_check(), 0..40)) {
        let mut state = OwnOutage::default();
        let mut now = secs(0);
        for check in checks {
            now += secs(1);
            state = state.after_check(&check, now).settled(now, MAX);
            let limits = state.limits(now, MAX);
            prop_assert!((1..=MAX).contains(&limits.all) && (1..=MAX).contains(&limits.names));
        }
        let mut least = 0;
        for _ in 0..15 {
            now += secs(1);
            state = state.after_check(&WORKING, now).settled(now, MAX);
            let limit = state.limits(now, MAX).all.min(state.limits(now, MAX).names);
            prop_assert!(limit >= least, "the limit never falls again");
            least = limit;
        }
        prop_assert_eq!(state, OwnOutage::None);
    }

    #[test]
    fn a_failure_counts_unless_its_facility_is_broken(
        checks in prop::collection::vec(any_check(), 1..10)
    ) {
        let mut state = OwnOutage::default();
        let mut was_broken = false;
        for (second, check) in checks.iter().enumerate() {
            let now = secs(second as u64);
            was_broken |= check.dns == Finding::Broken
                || check.ipv4 == Finding::Broken
                || !check.has_resources;
            state = state.after_check(check, now);
            if let Some(cause) = state.excuse(Facility::Dns, now, check) {
                prop_assert!(was_broken, "{cause:?}");
            }
        }
    }

    #[test]
    fn the_number_of_targets_is_bounded(
        uses in prop::collection::vec((0_u8..40, any::<u8>(), any::<bool>()), 0..150)
    ) {
        let mut targets = Targets::default();
        for (number, (account, host, reached)) in uses.into_iter().enumerate() {
            let (target, now) = (target(account, host), secs(number as u64));
            targets.used(&target, now);
            if reached {
                targets.reached(&target, address(host), now);
            }
            let all = targets.by_importance();
            prop_assert!(all.len() <= MAX_TARGETS);
            let own = all.iter().filter(|known| known.target.account == target.account).count();
            prop_assert!(own <= MAX_PER_ACCOUNT);
        }
    }
}

fn target(account_: u8, host: u8) -> Target {
    Target { account: account(account_), host: format!("{host}.example"), port: 443 }
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host], 443))
}

#[test]
fn targets_that_were_never_reached_count_only_while_none_was() {
    let never: Vec<_> = (0..3).map(|number| seen(number, number, false, false)).collect();
    assert_eq!(weigh(&never, false), Finding::Broken);
    let two_reached = [&never[..], &[seen(7, 7, true, false), seen(8, 8, true, false)]].concat();
    assert_eq!(weigh(&two_reached, false), Finding::Unclear);
    assert_eq!(weigh(&two_reached, true), Finding::Broken, "the machine knows it");
    assert_eq!(weigh(&[], false), Finding::Unclear);
}

#[test]
fn accounts_may_use_sites_of_others() {
    // Each of three accounts uses a shared site, too.
    let shared = (0..3).map(|number| seen(number, 9, true, false));
    let own = (1..3).map(|number| seen(number, number, true, false));
    let observations: Vec<_> = shared.chain(own).collect();
    assert_eq!(weigh(&observations, false), Finding::Broken);
}

#[test]
fn one_tenant_displaces_nobodys_targets() {
    let mut targets = Targets::default();
    for number in 0..MAX_TARGETS as u8 {
        targets.reached(&target(number, number), address(number), secs(1));
    }
    for host in 0..=u8::MAX {
        targets.used(&target(200, host), secs(2));
    }
    assert!(targets.by_importance().iter().all(|known| known.target.account != account(200)));
    targets.reached(&target(200, 1), address(1), secs(3));
    let all = targets.by_importance();
    assert_eq!(all[0].target, target(200, 1));
    assert_eq!(all.len(), MAX_TARGETS);
}

#[test]
fn a_target_that_fails_alone_no_longer_counts_as_reached() {
    let mut targets = Targets::default();
    targets.reached(&target(1, 1), address(1), secs(1));
    assert!(targets.by_importance()[0].reached_lately(secs(2)));
    assert!(!targets.by_importance()[0].reached_lately(secs(1) + LATELY));
    targets.failed(&target(1, 1));
    assert!(!targets.by_importance()[0].reached_lately(secs(2)));
}

#[test]
fn sites_are_what_fails_together() {
    for (host, expected) in [
        ("hooks.zapier.example", "zapier.example"),
        ("a.hooks.Zapier.example.", "zapier.example"),
        ("shop.acme.co.uk", "acme.co.uk"),
        ("acme.io", "acme.io"),
        ("localhost", "localhost"),
        ("192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
    ] {
        assert_eq!(site(host), expected);
    }
}

#[test]
fn an_outage_ends_only_with_proof_and_the_limit_doubles() {
    let broken = check(Finding::Broken, Finding::Unclear);
    let state = OwnOutage::None.after_check(&broken, secs(10));
    assert_eq!(state, OwnOutage::Ongoing { cause: Cause::Dns, since: secs(10) });
    assert_eq!(state.limits(secs(11), MAX), Limits { all: MAX, names: 1 });
    let unclear = check(Finding::Unclear, Finding::Works);
    assert_eq!(state.after_check(&unclear, secs(11)), state);
    let total = check(Finding::Broken, Finding::Broken);
    let state = state.after_check(&total, secs(12));
    assert_eq!(state, OwnOutage::Ongoing { cause: Cause::Network, since: secs(10) });
    assert_eq!(state.limits(secs(12), MAX), Limits { all: 1, names: MAX });
    let ended = state.after_check(&WORKING, secs(20));
    let limits: Vec<_> = (20..33).map(|now| ended.limits(secs(now), MAX).all).collect();
    assert_eq!(limits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 2048]);
    assert_eq!(ended.settled(secs(30), MAX), ended);
    assert_eq!(ended.settled(secs(31), MAX), OwnOutage::None);
}

#[test]
fn an_attempt_that_ran_in_the_outage_is_excused() {
    let ended = OwnOutage::Ended { cause: Cause::Dns, at: secs(20) };
    assert_eq!(ended.excuse(Facility::Dns, secs(19), &WORKING), Some(Cause::Dns));
    assert_eq!(ended.excuse(Facility::Dns, secs(20), &WORKING), None);
    assert_eq!(ended.excuse(Facility::Ipv4, secs(19), &WORKING), None);
    let broken = check(Finding::Broken, Finding::Works);
    assert_eq!(OwnOutage::None.excuse(Facility::Dns, secs(1), &broken), Some(Cause::Dns));
    assert_eq!(OwnOutage::None.excuse(Facility::Ipv4, secs(1), &broken), None);
}

#[test]
fn an_outage_of_ipv6_limits_nothing() {
    let check = Check { ipv6: Finding::Broken, ..WORKING };
    let state = OwnOutage::None.after_check(&check, secs(1));
    assert_eq!(state.cause(), Some(Cause::Ipv6));
    assert_eq!(state.limits(secs(1), MAX), Limits { all: MAX, names: MAX });
    assert_eq!(state.excuse(Facility::Ipv6, secs(1), &check), Some(Cause::Ipv6));
    assert_eq!(state.excuse(Facility::Ipv4, secs(1), &check), None);
}

#[test]
fn a_process_without_resources_recovers_once_it_has_some() {
    let state = OwnOutage::None.after_exhaustion(secs(1));
    let exhausted = Check { has_resources: false, ..check(Finding::Broken, Finding::Broken) };
    let state = state.after_check(&exhausted, secs(2));
    assert_eq!(state, OwnOutage::Ongoing { cause: Cause::Resources, since: secs(1) });
    let state = state.after_check(&check(Finding::Unclear, Finding::Unclear), secs(3));
    assert_eq!(state, OwnOutage::Ended { cause: Cause::Resources, at: secs(3) });
}

/// Noon of some day.
const NOON: Timestamp = Timestamp::from_millis(1_792_584_000_000);

#[test]
fn the_clock_is_wrong_if_unrelated_endpoints_agree() {
    let mut clocks = ClockOffsets::default();
    let theirs = NOON.plus(secs(3600));
    for number in 0..2 {
        clocks.observe(account(number), format!("{number}.example"), theirs, secs(1));
    }
    assert!(!clocks.is_wrong(NOON, secs(1)), "two do not suffice");
    clocks.observe(account(2), "1.example".to_owned(), theirs, secs(1));
    assert!(!clocks.is_wrong(NOON, secs(1)), "nor do related ones");
    clocks.observe(account(2), "2.example".to_owned(), theirs, secs(1));
    assert!(clocks.is_wrong(NOON, secs(1)));
    // A corrected clock is right at once.
    assert!(!clocks.is_wrong(theirs.plus(secs(9)), secs(10)));
    // What was seen long ago does not count.
    assert!(!clocks.is_wrong(NOON.plus(secs(700)), secs(701)));
}

#[test]
fn wrong_clocks_of_some_endpoints_do_not_matter() {
    let mut clocks = ClockOffsets::default();
    for number in 0..5 {
        let wrong = number < 2;
        let date = if wrong { NOON.plus(secs(3600)) } else { NOON };
        clocks.observe(account(number), format!("{number}.example"), date, secs(1));
    }
    for site in 0..100 {
        let date = NOON.plus(secs(3600));
        clocks.observe(account(0), format!("{site}.example"), date, secs(1));
    }
    assert!(!clocks.is_wrong(NOON, secs(1)));
}
