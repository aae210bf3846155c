//! The errors of the use cases. Each way in tells them in its own words.

use std::fmt;

use postrider_domain::findings::Findings;
use postrider_domain::replay::ReplayState;
use postrider_store::{ResendError, kv};
use rand::rngs::SysError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The account has none with this id, or the account itself does not exist.
    #[error("there is no such {0}")]
    NotFound(Resource),
    /// The endpoint was deleted. Nothing is delivered to it any more.
    #[error("the endpoint was deleted")]
    EndpointDeleted,
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used with another request")]
    IdempotencyKeyReused,
    /// The resource was changed since the caller read it.
    #[error("it was changed in the meantime")]
    ChangedMeanwhile,
    /// The replay has ended, and the command makes no sense any more.
    #[error("the replay has ended")]
    ReplayEnded(ReplayState),
    /// Fields of the request break rules.
    #[error("the request has invalid fields")]
    InvalidFields(Vec<InvalidField>),
    /// The events break rules.
    #[error("the events break rules")]
    InvalidEvents(Findings),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random(#[from] SysError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
}

/// A field that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// Where it is in the request: a JSON pointer (RFC 6901).
    pub pointer: String,
    /// The rule, as a sentence without its subject: "must be …", "is not …".
    pub detail: String,
}

/// What there is none of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// An account.
    Account,
    /// An API key.
    ApiKey,
    /// An endpoint.
    Endpoint,
    /// An event.
    Event,
    /// An event type of the catalogue.
    EventType,
    /// A delivery.
    Delivery,
    /// A replay.
    Replay,
}

impl Resource {
    /// Its name in a sentence.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::ApiKey => "key",
            Self::Endpoint => "endpoint",
            Self::Event => "event",
            Self::EventType => "event type",
            Self::Delivery => "delivery",
            Self::Replay => "replay",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ServiceError {
    pub(crate) fn invalid_field(pointer: &str, detail: impl Into<String>) -> Self {
        let (pointer, detail) = (pointer.to_owned(), detail.into());
        Self::InvalidFields(vec![InvalidField { pointer, detail }])
    }
}

impl From<ResendError> for ServiceError {
    fn from(error: ResendError) -> Self {
        match error {
            ResendError::NoSuchEvent => Self::NotFound(Resource::Event),
            ResendError::NoSuchEndpoint => Self::NotFound(Resource::Endpoint),
            ResendError::EndpointDeleted => Self::EndpointDeleted,
            ResendError::Store(error) => Self::Store(error),
        }
    }
}
