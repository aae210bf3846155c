//! Deliveries.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::endpoint::State as EndpointState;
use crate::event::EventTypeName;
use crate::ids::{AccountId, DeliveryId, EndpointId, EventId};
use crate::retry;
use crate::time::Timestamp;

/// One event for one endpoint, with its retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub account: AccountId,
    pub event: EventId,
    pub event_type: EventTypeName,
    pub endpoint: EndpointId,
    /// When the event was accepted, or the retry, resend or replay was requested.
    pub created_at: Timestamp,
    /// Recorded attempts, by default at most 11 in each schedule.
    pub attempt_count: u8,
    /// When the first attempt of the current schedule began; the retry window counts from here.
    pub first_attempt_at: Option<Timestamp>,
    pub schedule: Schedule,
    pub progress: Progress,
}

/// The retry schedule that a delivery is in. Enabling its endpoint starts a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// How often the endpoint had been enabled again when the schedule started.
    pub resumptions: u32,
    /// Attempts in earlier schedules.
    pub earlier_attempts: u8,
    /// Whether a recovery of the endpoint has brought a retry forward. That happens once in a
    /// schedule, so that a delivery which alone fails keeps its delays.
    pub brought_forward: bool,
}

/// The stored state of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not finished. The state of its endpoint determines whether it is sent or held.
    Pending {
        /// When the next attempt is due.
        due: Timestamp,
    },
    Finished {
        end: FinalState,
        at: Timestamp,
    },
}

/// The final states of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalState {
    Delivered,
    /// All attempts failed.
    Exhausted,
    /// Its owner discarded it, or deleted the endpoint.
    Discarded,
}

/// The state of a delivery in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// An attempt is due or in flight.
    Pending,
    /// An attempt got a 2XX.
    Delivered,
    /// All attempts failed.
    Exhausted,
    /// Pending, but the endpoint is disabled.
    Held,
    /// Discarded by its owner, or deleted with its endpoint.
    Discarded,
}

impl Delivery {
    /// The state, given that of the endpoint. A pending delivery of a disabled endpoint is held:
    /// disabling an endpoint with a million pending deliveries is one small write.
    #[must_use]
    pub fn state(&self, endpoint: &EndpointState) -> DeliveryState {
        match (self.progress, endpoint) {
            (Progress::Pending { .. }, EndpointState::Enabled) => DeliveryState::Pending,
            (Progress::Pending { .. }, EndpointState::Disabled(_)) => DeliveryState::Held,
            (Progress::Pending { .. }, EndpointState::Deleted) => DeliveryState::Discarded,
            (Progress::Finished { end: FinalState::Delivered, .. }, _) => DeliveryState::Delivered,
            (Progress::Finished { end: FinalState::Exhausted, .. }, _) => DeliveryState::Exhausted,
            (Progress::Finished { end: FinalState::Discarded, .. }, _) => DeliveryState::Discarded,
        }
    }

    /// The attempts made in the current schedule.
    #[must_use]
    pub fn attempts_in_schedule(&self) -> u8 {
        self.attempt_count.saturating_sub(self.schedule.earlier_attempts)
    }

    /// The delivery in the schedule that started when its endpoint was enabled again for the
    /// `resumptions`th time.
    #[must_use]
    pub fn in_schedule(self, resumptions: u32) -> Self {
        if self.schedule.resumptions == resumptions {
            return self;
        }
        let earlier_attempts = self.attempt_count;
        let schedule = Schedule { resumptions, earlier_attempts, brought_forward: false };
        Self { first_attempt_at: None, schedule, ..self }
    }

    /// The delivery once the clock has been set back and shows `now`: its next attempt, which was to
    /// follow `delay` after the last one, waits no longer than that, and its schedule has not begun
    /// in the future.
    #[must_use]
    pub fn after_step_back(self, delay: Duration, now: Timestamp) -> Self {
        let progress = match self.progress {
            Progress::Pending { due } => {
                Progress::Pending { due: retry::due_after_step_back(due, delay, now) }
            }
            finished @ Progress::Finished { .. } => finished,
        };
        let first_attempt_at = self.first_attempt_at.map(|at| at.min(now));
        Self { progress, first_attempt_at, ..self }
    }

    /// When the next attempt is due. `None` if the delivery is finished.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        match self.progress {
            Progress::Pending { due } => Some(due),
            Progress::Finished { .. } => None,
        }
    }

    #[must_use]
    pub fn finished_at(&self) -> Option<Timestamp> {
        match self.progress {
            Progress::Pending { .. } => None,
            Progress::Finished { at, .. } => Some(at),
        }
    }
}
