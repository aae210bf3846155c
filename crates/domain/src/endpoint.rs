//! Endpoints: their configuration, state and health.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::Name;
use crate::disable::DisableWhen;
use crate::event::EventTypeName;
use crate::headers::CustomHeaders;
use crate::ids::{AccountId, DeliveryId, EndpointId};
use crate::notice::FailureSeries;
use crate::outcome::ErrorKind;
use crate::rate_limit::RateLimit;
use crate::signature::Secret;
use crate::target::TargetUrl;
use crate::time::Timestamp;

/// An endpoint's configuration. [`Health`] and [`State`] are separate because they change at a
/// different rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub id: EndpointId,
    pub account: AccountId,
    pub name: Name,
    pub url: TargetUrl,
    pub event_types: Subscription,
    /// Custom headers, added to each request.
    pub headers: CustomHeaders,
    pub ordering: Ordering,
    /// How many requests it gets. `None` is unlimited.
    pub rate_limit: Option<RateLimit>,
    /// When it is disabled, if that differs from the installation's policy.
    pub disable_when: Option<DisableWhen>,
    /// The signing secrets.
    pub secrets: Secrets,
    pub created_at: Timestamp,
    /// When the configuration was last changed.
    pub updated_at: Timestamp,
}

/// The event types that an endpoint subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Every type, including future ones (`["*"]`).
    All,
    /// Only these types (`[]` is none).
    Only(BTreeSet<EventTypeName>),
}

impl Subscription {
    /// Whether the subscription includes a type.
    #[must_use]
    pub fn wants(&self, event_type: &EventTypeName) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(event_type),
        }
    }
}

/// Whether deliveries to one endpoint may overtake each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// Several deliveries in flight, earliest due first; later ones overtake a failing delivery.
    #[default]
    Parallel,
    /// One delivery in flight, in the order of acceptance. A failing delivery blocks later ones
    /// until it is delivered or exhausted.
    Strict,
}

/// Whether an endpoint receives webhooks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Enabled,
    /// Pending deliveries are held.
    Disabled(Disabled),
    /// Pending deliveries are discarded.
    Deleted,
}

/// Why and when an endpoint was disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    pub reason: DisabledReason,
    pub at: Timestamp,
    /// The delivery whose failure caused it. `None` if a person disabled the endpoint.
    pub delivery: Option<DeliveryId>,
}

/// Why an endpoint is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledReason {
    /// A delivery used up its attempts.
    Exhausted,
    /// A person asked for it.
    Manual,
    /// The endpoint responded with 410 Gone, and the installation is configured to disable it.
    Gone,
}

/// The results of an endpoint's recent attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Consecutive failed attempts; 0 after a success.
    pub failure_count: u32,
    /// The latest failure, kept after a success too.
    pub last_error: Option<LastError>,
    /// When the latest series of failures ended with a success.
    pub recovered_at: Option<Timestamp>,
    /// The failures since the last success, or since the endpoint was enabled.
    pub series: Option<FailureSeries>,
}

impl Health {
    /// The health for a clock that was set back and shows `now`: nothing has happened in the future.
    #[must_use]
    pub fn after_step_back(self, now: Timestamp) -> Self {
        let series = self.series.map(|series| series.after_step_back(now));
        Self { recovered_at: self.recovered_at.map(|at| at.min(now)), series, ..self }
    }
}

/// The latest failed attempt, to help debug the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When the attempt ended.
    pub at: Timestamp,
    pub kind: ErrorKind,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    pub message: String,
    pub delivery: DeliveryId,
}

/// The secrets that sign an endpoint's requests: the current one and, during a rotation, the
/// replaced ones until their overlap ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    pub current: Secret,
    /// Replaced secrets with their expiry, newest first.
    pub replaced: Vec<(Secret, Timestamp)>,
}

/// The maximum number of replaced secrets kept; each one adds a signature to every request.
const MAX_REPLACED: usize = 4;

impl Secrets {
    #[must_use]
    pub fn new(current: Secret) -> Self {
        Self { current, replaced: Vec::new() }
    }

    /// The secrets that sign a request made at `now`, newest first.
    pub fn active(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        let replaced = self.replaced.iter().filter(move |(_, until)| *until > now);
        std::iter::once(&self.current).chain(replaced.map(|(secret, _)| secret))
    }

    /// Makes `next` the current secret; the old one keeps signing until `overlap` has passed.
    pub fn rotate(&mut self, next: Secret, now: Timestamp, overlap: Duration) {
        let old = std::mem::replace(&mut self.current, next);
        self.replaced.insert(0, (old, now.plus(overlap)));
        self.replaced.retain(|(_, until)| *until > now);
        self.replaced.truncate(MAX_REPLACED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_secret_signs_until_the_overlap_ends() {
        let secret = |byte: u8| Secret::from_bytes([byte; 32]);
        let at = Timestamp::from_millis;
        let mut secrets = Secrets::new(secret(1));
        secrets.rotate(secret(2), at(1_000), Duration::from_secs(10));
        let active = |secrets: &Secrets, now| secrets.active(now).cloned().collect::<Vec<_>>();
        assert_eq!(active(&secrets, at(1_000)), [secret(2), secret(1)]);
        assert_eq!(active(&secrets, at(11_000)), [secret(2)]);
        secrets.rotate(secret(3), at(20_000), Duration::ZERO);
        assert_eq!(active(&secrets, at(20_000)), [secret(3)]);
        assert!(secrets.replaced.is_empty());
    }
}
