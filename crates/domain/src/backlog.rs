//! The unfinished deliveries of an endpoint: pending while it is enabled, held while it is
//! disabled.

use crate::endpoint::State;

/// How many unfinished deliveries an endpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// They wait for their next attempt.
    Pending(u64),
    /// They are kept until the endpoint is enabled.
    Held(u64),
}

impl Backlog {
    /// The `unfinished` deliveries of an endpoint in this state.
    #[must_use]
    pub fn of(state: &State, unfinished: u64) -> Self {
        match state {
            State::Enabled => Self::Pending(unfinished),
            State::Disabled(_) | State::Deleted => Self::Held(unfinished),
        }
    }

    /// How many deliveries there are, whichever of the two they are.
    #[must_use]
    pub fn count(self) -> u64 {
        let (Self::Pending(count) | Self::Held(count)) = self;
        count
    }

    /// How many deliveries wait for their next attempt.
    #[must_use]
    pub fn pending(self) -> u64 {
        match self {
            Self::Pending(count) => count,
            Self::Held(_) => 0,
        }
    }

    /// How many deliveries are held.
    #[must_use]
    pub fn held(self) -> u64 {
        match self {
            Self::Pending(_) => 0,
            Self::Held(count) => count,
        }
    }
}
