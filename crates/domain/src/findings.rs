//! Everything that is wrong with a request to publish, so that its sender can mend it at once.

use serde::{Deserialize, Serialize};

use crate::limits::{MAX_ERROR_CHARS, clip};

/// Most findings that one refusal lists.
pub const MAX_FINDINGS: usize = 1_000;
/// What is said of a name that the catalogue does not have.
pub const UNKNOWN_TYPE: &str = "is not in the catalogue of event types";

/// Everything that was found to be wrong, at most [`MAX_FINDINGS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(Vec<Finding>);

/// One thing that is wrong with an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Which event, from 0.
    pub index: u32,
    /// Which part of it.
    pub field: Field,
    /// Where within a payload, as a JSON pointer (RFC 6901); `""` is all of it.
    pub pointer: String,
    /// What is wrong.
    pub detail: String,
}

/// The parts of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Field {
    /// Its type.
    EventType,
    /// What it sends.
    Payload,
}

impl Findings {
    /// Adds one, unless there are too many already.
    ///
    /// # Panics
    /// If a request has more events than a `u32` counts, which no bound lets through.
    pub fn add(&mut self, index: usize, field: Field, pointer: String, detail: &str) {
        if self.0.len() < MAX_FINDINGS {
            let index = u32::try_from(index).expect("requests are bounded");
            let detail = clip(detail, MAX_ERROR_CHARS);
            self.0.push(Finding { index, field, pointer, detail });
        }
    }

    /// These and, for each event of `unknown`, that its type is unknown.
    #[must_use]
    pub fn with_unknown_types(mut self, unknown: &[usize]) -> Self {
        for index in unknown {
            self.add(*index, Field::EventType, String::new(), UNKNOWN_TYPE);
        }
        self
    }

    /// Adds those of `others` that still fit.
    pub fn extend(&mut self, others: Self) {
        let room = MAX_FINDINGS.saturating_sub(self.0.len());
        self.0.extend(others.0.into_iter().take(room));
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The findings, in the order in which they were made.
    #[must_use]
    pub fn into_vec(self) -> Vec<Finding> {
        self.0
    }
}

impl Field {
    /// Its name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EventType => "event_type",
            Self::Payload => "payload",
        }
    }
}
