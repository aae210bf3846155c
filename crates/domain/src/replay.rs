//! Replays: durable jobs that deliver past events again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::delivery::{Delivery, DeliveryState};
use crate::event::EventTypeName;
use crate::ids::{AccountId, DeliveryId, EndpointId, ReplayId};
use crate::time::Timestamp;

/// A replay job. For each past delivery that matches its filter, it creates a new delivery of the
/// same event to the same endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    pub id: ReplayId,
    pub account: AccountId,
    pub filter: Filter,
    /// The maximum number of new deliveries per second.
    pub rate: u32,
    pub state: ReplayState,
    /// How many deliveries matched the filter when the job was created.
    pub total: u64,
    /// How many have been replayed.
    pub done: u64,
    /// The last delivery scanned; the job continues after it.
    pub cursor: Option<DeliveryId>,
    /// Deliveries created later, including its own, are not replayed.
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// The rate of a replay if the request does not specify one, in new deliveries per second.
pub const DEFAULT_RATE: u32 = 100;
/// The highest rate of a replay, in new deliveries per second.
pub const MAX_RATE: u32 = 10_000;
/// The states of deliveries that can be replayed: the final ones.
pub const REPLAYABLE: [DeliveryState; 3] =
    [DeliveryState::Delivered, DeliveryState::Exhausted, DeliveryState::Discarded];

/// Which past deliveries are replayed. Omitted filters match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only deliveries to this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Only deliveries of these event types.
    pub event_types: Option<BTreeSet<EventTypeName>>,
    /// Only deliveries in these states.
    pub states: Option<Vec<DeliveryState>>,
    /// Only deliveries created at this time or later.
    pub since: Option<Timestamp>,
    /// Only deliveries created before this time.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether `delivery`, whose state is `state`, matches.
    #[must_use]
    pub fn matches(&self, delivery: &Delivery, state: DeliveryState) -> bool {
        let Self { endpoint, event_types, states, since, until } = self;
        endpoint.is_none_or(|endpoint| delivery.endpoint == endpoint)
            && event_types.as_ref().is_none_or(|names| names.contains(&delivery.event_type))
            && states.as_ref().is_none_or(|states| states.contains(&state))
            && since.is_none_or(|since| delivery.created_at >= since)
            && until.is_none_or(|until| delivery.created_at < until)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    Running,
    Paused,
    Cancelled,
    /// It has scanned every delivery.
    Completed,
}

/// A command to a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Pause,
    Resume,
    Cancel,
}

impl ReplayState {
    /// The state after `command`. `None` if it is invalid in this state. A command without effect
    /// is valid.
    #[must_use]
    pub fn after(self, command: Command) -> Option<Self> {
        match (self, command) {
            (Self::Running | Self::Paused, Command::Pause) => Some(Self::Paused),
            (Self::Running | Self::Paused, Command::Resume) => Some(Self::Running),
            (Self::Running | Self::Paused | Self::Cancelled, Command::Cancel) => {
                Some(Self::Cancelled)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_replay_stays_finished() {
        for command in [Command::Pause, Command::Resume, Command::Cancel] {
            assert_eq!(ReplayState::Completed.after(command), None);
        }
        assert_eq!(ReplayState::Cancelled.after(Command::Resume), None);
        assert_eq!(ReplayState::Paused.after(Command::Resume), Some(ReplayState::Running));
    }
}
