//! Errors of the use cases. Each API maps them to its own representation.

use std::fmt;

use postrider_domain::delivery::DeliveryState;
use postrider_domain::findings::Findings;
use postrider_domain::replay::ReplayState;
use postrider_store::{AnswerError, ResendError, kv};
use rand::rngs::SysError;

/// The reason why a use case failed.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The resource does not exist in this account, or the account does not exist.
    #[error("{0} not found")]
    NotFound(Resource),
    /// The endpoint was deleted and cannot receive deliveries.
    #[error("the endpoint was deleted")]
    EndpointDeleted,
    /// The endpoint is disabled, and its deliveries are held.
    #[error("the endpoint is disabled")]
    EndpointDisabled,
    /// The delivery has ended and cannot be discarded.
    #[error("the delivery has ended")]
    DeliveryEnded(DeliveryState),
    /// The idempotency key was used with a different request.
    #[error("the idempotency key was used with a different request")]
    IdempotencyKeyReused,
    /// The idempotency key was used by an earlier request, whose answer is to be repeated. Nothing
    /// was changed.
    #[error("the request was repeated")]
    RepeatedRequest,
    /// The resource was updated after the caller read it.
    #[error("the resource was updated concurrently")]
    ConcurrentUpdate,
    /// The replay has ended and accepts no more commands.
    #[error("the replay has ended")]
    ReplayEnded(ReplayState),
    /// Some fields of the request are invalid.
    #[error("the request has invalid fields")]
    InvalidFields(Vec<InvalidField>),
    /// Some of the events are invalid.
    #[error("the request has invalid events")]
    InvalidEvents(Findings),
    /// The operating system provided no random bytes.
    #[error("the operating system provided no random bytes")]
    Random(#[from] SysError),
    /// The store failed.
    #[error(transparent)]
    Store(kv::Error),
}

/// An invalid field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidField {
    /// The JSON pointer (RFC 6901) to the field.
    pub pointer: String,
    /// The violated rule, as a predicate without its subject: "must be …", "is not …".
    pub detail: String,
}

/// A kind of resource.
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
    /// An event type in the catalogue.
    EventType,
    /// A delivery.
    Delivery,
    /// A replay.
    Replay,
}

impl Resource {
    /// Its name, as used in messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::ApiKey => "API key",
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

impl From<kv::Error> for ServiceError {
    fn from(error: kv::Error) -> Self {
        match error {
            // The store itself retries conflicts: this one is permanent.
            kv::Error::Conflict => Self::RepeatedRequest,
            error => Self::Store(error),
        }
    }
}

impl From<AnswerError> for ServiceError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::IdempotencyKeyReused => Self::IdempotencyKeyReused,
            AnswerError::Store(error) => error.into(),
        }
    }
}

impl From<ResendError> for ServiceError {
    fn from(error: ResendError) -> Self {
        match error {
            ResendError::NoSuchEvent => Self::NotFound(Resource::Event),
            ResendError::NoSuchEndpoint => Self::NotFound(Resource::Endpoint),
            ResendError::EndpointDeleted => Self::EndpointDeleted,
            ResendError::Store(error) => error.into(),
        }
    }
}
