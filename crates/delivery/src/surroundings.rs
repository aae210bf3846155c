//! Watches whether this node can reach the endpoints at all. An attempt that got no sign of life is
//! judged here before it is recorded: after a check of the surroundings ([`self_check`]), it is
//! either the endpoint's failure, or this node's own outage, which counts for nothing. In an
//! outage the limits of requests are lowered ([`Permits`]), and raised again step by step once a
//! check succeeds. All rules are in `domain::own_outage`.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use parking_lot::Mutex;
use postrider_domain::own_outage::{
    self, Cause, Check, ClockOffsets, Facility, Outage, OwnOutage, Target, Targets,
};
use postrider_domain::time::{Clock, Timestamp};
use postrider_net::tasks::Tasks;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::permits::{MAX_IN_FLIGHT, Permits};
use crate::reach::Reach;
use crate::resolver::GuardedResolver;
use crate::self_check::{self, Findings};

/// The shortest time from the start of one check to the next.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the limits are adjusted after an outage.
const RESUME_INTERVAL: Duration = Duration::from_millis(250);

/// A node's view of its surroundings.
pub(crate) struct Surroundings {
    resolver: GuardedResolver,
    permits: Permits,
    clock: Arc<dyn Clock>,
    uncounted: Counter<u64>,
    started: Instant,
    state: Mutex<State>,
    last_check: tokio::sync::Mutex<Option<(Instant, Check)>>,
    /// Wakes the task that ends an outage.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    targets: Targets,
    outage: OwnOutage,
    clocks: ClockOffsets,
    /// Since when the clock has been wrong.
    clock_wrong_since: Option<Duration>,
}

impl Drop for Surroundings {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

impl Surroundings {
    /// Starts watching.
    pub(crate) fn start(
        resolver: GuardedResolver,
        permits: Permits,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Arc<Self> {
        let changed = Arc::new(Notify::new());
        let uncounted = global::meter("postrider")
            .u64_counter("postrider.attempts.uncounted")
            .with_unit("{attempt}")
            .with_description(
                "Failed attempts that do not count because of an outage of this node, by cause.",
            )
            .build();
        let surroundings = Arc::new(Self {
            resolver,
            permits,
            clock,
            uncounted,
            started: Instant::now(),
            state: Mutex::default(),
            last_check: tokio::sync::Mutex::default(),
            changed: changed.clone(),
        });
        register_gauge(&surroundings);
        tasks.spawn("outage watch", watch(Arc::downgrade(&surroundings), changed));
        surroundings
    }

    /// Whether requests to this target wait for the name servers.
    pub(crate) fn needs_name_server(&self, target: &Target) -> bool {
        target.host.parse::<std::net::IpAddr>().is_err()
            && self.resolver.needs_name_server(&target.host)
    }

    /// A request to a target begins, or waits for a permit. Returns the time.
    pub(crate) fn used(&self, target: &Target) -> Duration {
        let now = self.uptime();
        self.state.lock().targets.used(target, now);
        now
    }

    /// Why an attempt that failed does not count, if it does not. A failure without a sign of life
    /// is judged after a check, which takes at most about two seconds. If it is a timeout, a recent
    /// check will do: a node that worked shortly before is not the reason for it.
    pub(crate) async fn excuse(
        &self,
        target: &Target,
        began: Duration,
        reach: Reach,
        timed_out: bool,
    ) -> Option<Cause> {
        let failed = Instant::now();
        let facility = match reach {
            Reach::Answered(address) => {
                if let Some(address) = address {
                    let now = self.uptime();
                    self.state.lock().targets.reached(target, address, now);
                }
                return None;
            }
            Reach::Silent(facility) => self.facility_of(target, facility),
        };
        let since = if timed_out { failed.checked_sub(CHECK_INTERVAL) } else { None };
        let check = self.check_since(since.unwrap_or(failed)).await;
        let mut state = self.state.lock();
        let cause = state.outage.excuse(facility, began, &check);
        match cause {
            Some(cause) => self.count(cause),
            None => state.targets.failed(target),
        }
        cause
    }

    /// Why a response that rejects a request does not count, if it does not: this node's clock is
    /// wrong. `date` is the response's.
    pub(crate) fn observe_clock(
        &self,
        target: &Target,
        date: Timestamp,
        status: u16,
    ) -> Option<Cause> {
        let now = self.uptime();
        let mut state = self.state.lock();
        state.clocks.observe(target.account, own_outage::site(&target.host), date, now);
        let is_wrong = state.clocks.is_wrong(self.clock.wall(), now);
        self.note_clock(&mut state, is_wrong, now);
        let excused = is_wrong && own_outage::may_reject_the_time(status);
        excused.then(|| {
            self.count(Cause::Clock);
            Cause::Clock
        })
    }

    /// A request failed because this process ran out of file descriptors or memory. Returns after
    /// the next check, so that requests that fail at once do not follow each other at once.
    pub(crate) async fn exhausted(&self) {
        let now = self.uptime();
        self.update(|state| state.outage.after_exhaustion(now));
        self.count(Cause::Resources);
        self.check_since(Instant::now()).await;
    }

    /// The current outages.
    pub(crate) fn outages(&self) -> Vec<Outage> {
        let (now, wall) = (self.uptime(), self.clock.now());
        let state = self.state.lock();
        let ongoing = match state.outage {
            OwnOutage::Ongoing { cause, since } => Some((cause, since)),
            OwnOutage::None | OwnOutage::Ended { .. } => None,
        };
        let clock = state.clock_wrong_since.map(|since| (Cause::Clock, since));
        ongoing
            .into_iter()
            .chain(clock)
            .map(|(cause, since)| Outage { cause, since: wall.minus(now.saturating_sub(since)) })
            .collect()
    }

    /// Whether an outage has kept this node from sending for at least `time`.
    pub(crate) fn has_been_cut_off_for(&self, time: Duration) -> bool {
        match self.state.lock().outage {
            OwnOutage::Ongoing { cause, since } => {
                cause.lowers_limits() && self.uptime().saturating_sub(since) >= time
            }
            OwnOutage::None | OwnOutage::Ended { .. } => false,
        }
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn count(&self, cause: Cause) {
        self.uncounted.add(1, &[KeyValue::new("cause", cause.as_str())]);
    }

    /// A request that got no response may have used a connection over IPv6.
    fn facility_of(&self, target: &Target, facility: Facility) -> Facility {
        let state = self.state.lock();
        let is_ipv6_only = || {
            state
                .targets
                .find(target)
                .is_some_and(|known| known.ipv4.is_none() && known.ipv6.is_some())
        };
        match facility {
            Facility::Ipv4 if is_ipv6_only() => Facility::Ipv6,
            facility => facility,
        }
    }

    /// The result of a check that began at or after `since`. Concurrent callers share checks.
    async fn check_since(&self, since: Instant) -> Check {
        let mut last = self.last_check.lock().await;
        if let Some((began, check)) = *last {
            if began >= since {
                return check;
            }
            sleep_until(began + CHECK_INTERVAL).await;
        }
        let began = Instant::now();
        let (targets, as_of) = {
            let state = self.state.lock();
            let as_of = match state.outage {
                OwnOutage::Ongoing { since, .. } => since,
                OwnOutage::None | OwnOutage::Ended { .. } => self.uptime(),
            };
            (state.targets.by_importance(), as_of)
        };
        let Findings { check, reached, failed } =
            self_check::run(&self.resolver, &targets, as_of).await;
        let now = self.uptime();
        self.update(|state| {
            for target in &failed {
                state.targets.failed(target);
            }
            for (target, address) in reached {
                state.targets.reached(&target, address, now);
            }
            state.outage.after_check(&check, now)
        });
        *last = Some((began, check));
        check
    }

    /// Changes the state of the outage, and what follows from it.
    fn update(&self, change: impl FnOnce(&mut State) -> OwnOutage) {
        let mut state = self.state.lock();
        let before = state.outage;
        let now = self.uptime();
        state.outage = change(&mut state).settled(now, MAX_IN_FLIGHT);
        self.permits.set_limits(state.outage.limits(now, MAX_IN_FLIGHT));
        if state.outage == before {
            return;
        }
        self.changed.notify_one();
        match (before.cause(), state.outage) {
            (before, OwnOutage::Ongoing { cause, .. }) if before != Some(cause) => {
                tracing::error!(
                    cause = cause.as_str(),
                    "this node has an outage of its own: {}; deliveries wait, and their failures do not count",
                    cause.description()
                );
            }
            (Some(cause), OwnOutage::Ended { .. }) => {
                tracing::warn!(
                    cause = cause.as_str(),
                    "this node's outage has ended; sending resumes step by step"
                );
            }
            _ => {}
        }
    }

    fn note_clock(&self, state: &mut State, is_wrong: bool, now: Duration) {
        match (state.clock_wrong_since, is_wrong) {
            (None, true) => {
                tracing::error!(
                    "this node's clock differs by more than {:?} from the clocks of the endpoints; \
                     rejected requests do not count",
                    own_outage::TOLERANCE
                );
                state.clock_wrong_since = Some(now);
            }
            (Some(_), false) => {
                tracing::warn!("this node's clock agrees with the clocks of the endpoints again");
                state.clock_wrong_since = None;
            }
            _ => {}
        }
    }
}

/// Checks the surroundings during an outage, and raises the limits after it.
async fn watch(surroundings: Weak<Surroundings>, changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        loop {
            let Some(surroundings) = surroundings.upgrade() else { return };
            let outage = surroundings.state.lock().outage;
            match outage {
                OwnOutage::None => break,
                OwnOutage::Ongoing { .. } => {
                    surroundings.check_since(Instant::now()).await;
                }
                OwnOutage::Ended { .. } => {
                    surroundings.update(|state| state.outage);
                    drop(surroundings);
                    sleep(RESUME_INTERVAL).await;
                }
            }
        }
    }
}

fn register_gauge(surroundings: &Arc<Surroundings>) {
    let weak = Arc::downgrade(surroundings);
    global::meter("postrider")
        .u64_observable_gauge("postrider.node.outage")
        .with_description("1 while this node has an outage of its own, by cause; 0 otherwise.")
        .with_callback(move |observer| {
            let Some(surroundings) = weak.upgrade() else { return };
            let active: HashSet<_> =
                surroundings.outages().iter().map(|outage| outage.cause).collect();
            for cause in Cause::ALL {
                let value = u64::from(active.contains(&cause));
                observer.observe(value, &[KeyValue::new("cause", cause.as_str())]);
            }
        })
        .build();
}
