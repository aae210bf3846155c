//! Replays: a durable job that delivers past events again.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::delivery::{Delivery, DeliveryState};
use crate::event::EventTypeName;
use crate::ids::{AccountId, DeliveryId, EndpointId, ReplayId};
use crate::time::Timestamp;

/// A replay job. Each past delivery that its filter takes becomes a new delivery of the same
/// event to the same endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: ReplayId,
    /// Whose it is.
    pub account: AccountId,
    /// What it replays.
    pub filter: Filter,
    /// Most new deliveries a second.
    pub rate: u32,
    /// Where it stands.
    pub state: ReplayState,
    /// How many deliveries the filter took when the job was made.
    pub total: u64,
    /// How many were replayed.
    pub done: u64,
    /// The last delivery that was looked at; the job goes on after it.
    pub cursor: Option<DeliveryId>,
    /// When it was made. Deliveries made later, its own among them, are not replayed.
    pub created_at: Timestamp,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
}

/// New deliveries a second of a replay that does not name a rate.
pub const DEFAULT_RATE: u32 = 100;
/// The highest rate of a replay, in new deliveries a second.
pub const MAX_RATE: u32 = 10_000;
/// The states of deliveries that can be replayed: those that have ended.
pub const REPLAYABLE: [DeliveryState; 3] =
    [DeliveryState::Delivered, DeliveryState::Exhausted, DeliveryState::Discarded];

/// Which past deliveries are replayed. Omitted filters match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those to this endpoint.
    pub endpoint: Option<EndpointId>,
    /// Those of these types.
    pub event_types: Option<BTreeSet<EventTypeName>>,
    /// Only deliveries in these states.
    pub states: Option<Vec<DeliveryState>>,
    /// Those made at this time or later.
    pub since: Option<Timestamp>,
    /// Those made before this time.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether it takes a delivery that stands so.
    #[must_use]
    pub fn takes(&self, delivery: &Delivery, state: DeliveryState) -> bool {
        let Self { endpoint, event_types, states, since, until } = self;
        endpoint.is_none_or(|endpoint| delivery.endpoint == endpoint)
            && event_types.as_ref().is_none_or(|names| names.contains(&delivery.event_type))
            && states.as_ref().is_none_or(|states| states.contains(&state))
            && since.is_none_or(|since| delivery.created_at >= since)
            && until.is_none_or(|until| delivery.created_at < until)
    }
}

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It makes deliveries.
    Running,
    /// It waits to be resumed.
    Paused,
    /// Its owner gave it up.
    Cancelled,
    /// It has looked at every delivery.
    Completed,
}

/// What a person may ask of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stop for now.
    Pause,
    /// Go on.
    Resume,
    /// Stop for good.
    Cancel,
}

impl ReplayState {
    /// The state after `command`; none when it has no meaning in this state. Asking for what
    /// is already so is no error.
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
    fn an_ended_replay_stays_ended() {
        for command in [Command::Pause, Command::Resume, Command::Cancel] {
            assert_eq!(ReplayState::Completed.after(command), None);
        }
        assert_eq!(ReplayState::Cancelled.after(Command::Resume), None);
        assert_eq!(ReplayState::Paused.after(Command::Resume), Some(ReplayState::Running));
    }
}
