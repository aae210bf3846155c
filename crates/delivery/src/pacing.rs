//! When an endpoint may get its next request: its owner's rate limit, and the rests and the rate
//! that its responses ask for.

use std::time::Duration;

use postrider_domain::endpoint::{Health, LastError};
use postrider_domain::ids::DeliveryId;
use postrider_domain::outcome::{Failure, Outcome};
use postrider_domain::rate_limit::{RateLimit, TokenBucket};
use postrider_domain::throttle::{Refusal, Throttle, Uptime};
use postrider_domain::time::Timestamp;
use tokio::time::Instant;

/// What makes an attempt wait although it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ThrottledBy {
    /// The rate limit that the endpoint's owner set.
    RateLimit,
    /// The endpoint responded with 429 or 503.
    Endpoint,
}

impl ThrottledBy {
    /// The name in metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimit => "rate_limit",
            Self::Endpoint => "endpoint",
        }
    }
}

/// The pacing of one endpoint's requests.
pub(crate) struct Pacing {
    /// The origin of all [`Uptime`]s.
    origin: Instant,
    throttle: Throttle,
    bucket: TokenBucket,
    /// Until when an attempt last had to wait, and why.
    last_wait: Option<(Instant, ThrottledBy)>,
    /// Whether the endpoint's stored health was taken into account.
    knows_health: bool,
}

impl Pacing {
    /// The pacing of an endpoint whose shard was claimed at `owned_since`. What the previous owner
    /// sent is unknown.
    pub(crate) fn new(owned_since: Instant) -> Self {
        Self {
            origin: owned_since,
            throttle: Throttle::default(),
            bucket: TokenBucket::empty(Uptime::ZERO),
            last_wait: None,
            knows_health: false,
        }
    }

    /// When the next request may start, if that is later than `now`.
    pub(crate) fn wait(&mut self, limit: Option<RateLimit>, now: Instant) -> Option<Instant> {
        let throttle = (self.throttle.ready_at(), ThrottledBy::Endpoint);
        let bucket = limit.map(|limit| (self.bucket.ready_at(limit), ThrottledBy::RateLimit));
        let (at, by) = bucket.into_iter().fold(throttle, |a, b| if b.0 > a.0 { b } else { a });
        let at = self.origin + at;
        if at <= now {
            return None;
        }
        self.last_wait = Some((at, by));
        Some(at)
    }

    /// Whether only one request may be in flight.
    pub(crate) fn is_probing(&self) -> bool {
        self.throttle.is_probing()
    }

    /// Notes that a request starts, `lateness` after it was due. Returns what made it wait.
    pub(crate) fn started(
        &mut self,
        limit: Option<RateLimit>,
        lateness: Duration,
        now: Instant,
    ) -> Option<ThrottledBy> {
        let uptime = now - self.origin;
        self.throttle.started(uptime);
        if let Some(limit) = limit {
            self.bucket.take(limit, uptime);
        }
        let (until, by) = self.last_wait?;
        (lateness > now.saturating_duration_since(until)).then_some(by)
    }

    /// Notes the outcome of a request that started at `started_at`. The delivery's next attempt is
    /// due in `next_attempt_in`, if it has one.
    pub(crate) fn completed(
        &mut self,
        outcome: &Outcome,
        started_at: Instant,
        next_attempt_in: Option<Duration>,
        now: Instant,
    ) {
        let now = now - self.origin;
        match outcome {
            Outcome::Success { .. } => self.throttle.succeeded(now),
            Outcome::Failure(Failure { status: Some(429 | 503), retry_after, .. }) => {
                let refusal = Refusal {
                    started_at: started_at.saturating_duration_since(self.origin),
                    retry_after: *retry_after,
                    next_attempt_in: next_attempt_in.unwrap_or(Duration::MAX),
                };
                self.throttle.refused(refusal, now);
            }
            Outcome::Failure(_) => {}
        }
    }

    /// Rests if the endpoint refused the latest request of the shard's previous owner, until the
    /// next attempt of that delivery is due. Does so only once. `wall` is the wall clock's time.
    pub(crate) fn apply_health(
        &mut self,
        health: &Health,
        due_in: impl FnOnce(DeliveryId) -> Option<Duration>,
        now: Instant,
        wall: Timestamp,
    ) {
        if std::mem::replace(&mut self.knows_health, true) || health.failure_count == 0 {
            return;
        }
        let owned_since = wall.minus(now - self.origin);
        let refused =
            |error: &&LastError| matches!(error.status, Some(429 | 503)) && error.at < owned_since;
        if let Some(error) = health.last_error.as_ref().filter(refused)
            && let Some(due_in) = due_in(error.delivery)
        {
            self.throttle.rest(due_in, now - self.origin);
        }
    }

    /// Forgets what the endpoint asked for: a person wants the deliveries to be sent now.
    pub(crate) fn forget_refusals(&mut self) {
        self.throttle = Throttle::default();
        self.knows_health = true;
    }

    /// When the pacing may be forgotten: a new one would allow no more than this one.
    pub(crate) fn forgettable_at(&self, limit: Option<RateLimit>) -> Instant {
        let full_at = limit.map(|limit| self.bucket.full_at(limit)).unwrap_or_default();
        self.origin + full_at.max(self.throttle.ready_at())
    }
}

#[cfg(test)]
mod tests;
