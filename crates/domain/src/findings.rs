//! Everything that is wrong with a request to publish, reported at once so that the sender can fix
//! all of it.

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ERROR_CHARS, truncate};

/// The maximum number of findings that one response lists.
pub const MAX_FINDINGS: usize = 1_000;
/// The detail for an event type that is not in the catalogue.
pub const UNKNOWN_TYPE: &str = "is not in the catalogue of event types";

/// The problems found in a request, at most [`MAX_FINDINGS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

/// One problem with an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The index of the event, from 0.
    pub index: u32,
    /// The part of the event.
    pub field: Field,
    /// The location within the payload, as a JSON pointer (RFC 6901); `""` is the whole payload.
    pub pointer: String,
    /// What is wrong.
    pub detail: String,
}

/// The parts of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Field {
    EventType,
    Payload,
}

impl Findings {
    /// Adds a finding, unless there are already [`MAX_FINDINGS`].
    ///
    /// # Panics
    /// If `index` exceeds a `u32`; requests are too small for that.
    pub fn add(&mut self, index: usize, field: Field, pointer: String, detail: &str) {
        if self.0.len() < MAX_FINDINGS {
            let index = u32::try_from(index).expect("requests are bounded");
            let detail = truncate(detail, MAX_ERROR_CHARS);
            self.0.push(Finding { index, field, pointer, detail });
        }
    }

    /// Adds a finding for each event in `unknown`: its type is not in the catalogue.
    #[must_use]
    pub fn with_unknown_types(mut self, unknown: &[usize]) -> Self {
        for index in unknown {
            self.add(*index, Field::EventType, String::new(), UNKNOWN_TYPE);
        }
        self
    }

    /// Adds the findings of `others`, as many as still fit.
    pub fn extend(&mut self, others: Self) {
        let remaining = MAX_FINDINGS.saturating_sub(self.0.len());
        self.0.extend(others.0.into_iter().take(remaining));
    }

    /// Whether no problem was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The findings in the order in which they were added.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}

impl Field {
    /// The name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::Payload => "payload",
        }
    }
}
