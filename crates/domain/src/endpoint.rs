//! Endpoints: what an account registered, and how the endpoint is faring.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::account::Name;
use crate::event::EventTypeName;
use crate::headers::CustomHeaders;
use crate::ids::{AccountId, DeliveryId, EndpointId};
use crate::outcome::ErrorKind;
use crate::signature::Secret;
use crate::target::TargetUrl;
use crate::time::Timestamp;

/// What the owner set. How the endpoint fares is in [`Health`] and [`State`], which change
/// at another pace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// Whose it is.
    pub account: AccountId,
    /// What people call it.
    pub name: Name,
    /// Where webhooks go.
    pub url: TargetUrl,
    /// Which events it wants.
    pub event_types: Subscription,
    /// What is added to each request.
    pub headers: CustomHeaders,
    /// How deliveries may overtake each other.
    pub ordering: Ordering,
    /// What requests are signed with.
    pub secrets: Secrets,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its owner last changed it.
    pub updated_at: Timestamp,
}

/// The event types that an endpoint wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subscription {
    /// Every type, also those to come (`["*"]`).
    All,
    /// These (`[]` is none).
    Only(BTreeSet<EventTypeName>),
}

impl Subscription {
    /// Whether events of a type are among them.
    #[must_use]
    pub fn wants(&self, event_type: &EventTypeName) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(event_type),
        }
    }
}

/// How deliveries to one endpoint may overtake each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// Oldest due first, several in flight; a failing delivery is overtaken.
    #[default]
    Parallel,
    /// In the order of acceptance, one in flight; a failing delivery holds back the later
    /// ones until it is delivered or exhausted.
    Strict,
}

/// Whether an endpoint is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Enabled,
    /// It is not; what is pending is held.
    Disabled(Disabled),
    /// Its owner removed it; what was pending is discarded.
    Deleted,
}

/// How and when an endpoint came to be disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// Why.
    pub reason: DisabledReason,
    /// When.
    pub at: Timestamp,
    /// The delivery whose failure did it; none when a person did.
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
    /// The endpoint answered 410 Gone, and the installation takes that at its word.
    Gone,
}

/// How the endpoint's attempts have gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Failed attempts in a row; 0 after a success.
    pub failure_count: u32,
    /// The newest failure, kept also after a success.
    pub last_error: Option<LastError>,
}

/// The newest failed attempt, for the people who mend the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When the attempt ended.
    pub at: Timestamp,
    /// What kind of failure it was.
    pub kind: ErrorKind,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// What happened, in words.
    pub message: String,
    /// The delivery whose attempt it was.
    pub delivery: DeliveryId,
}

/// The secrets that sign an endpoint's requests: one, and during a rotation those that it
/// replaces, until their overlap ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The newest.
    pub current: Secret,
    /// Replaced ones and when each ends, newest first.
    pub replaced: Vec<(Secret, Timestamp)>,
}

/// Most replaced secrets that are kept; each costs a signature in every request.
const MAX_REPLACED: usize = 4;

impl Secrets {
    /// One secret.
    #[must_use]
    pub fn new(current: Secret) -> Self {
        Self { current, replaced: Vec::new() }
    }

    /// The secrets that sign a request made at `now`, newest first.
    pub fn active(&self, now: Timestamp) -> impl Iterator<Item = &Secret> {
        let replaced = self.replaced.iter().filter(move |(_, until)| *until > now);
        std::iter::once(&self.current).chain(replaced.map(|(secret, _)| secret))
    }

    /// Puts `next` in front; the old one signs too until `overlap` has passed.
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
    fn a_rotation_overlaps_and_ends() {
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
