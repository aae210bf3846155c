//! Why a request was not done, for any way in to tell in its own words.

use postrider_domain::findings::Findings;
use postrider_store::{ResendError, kv};

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such account.
    #[error("there is no such account")]
    NoSuchAccount,
    /// The account has no such endpoint.
    #[error("there is no such endpoint")]
    NoSuchEndpoint,
    /// The account has no such event.
    #[error("there is no such event")]
    NoSuchEvent,
    /// The account has no such delivery.
    #[error("there is no such delivery")]
    NoSuchDelivery,
    /// The endpoint was deleted, and nothing can be delivered to it again.
    #[error("the endpoint was deleted")]
    EndpointDeleted,
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used with another request")]
    IdempotencyKeyReused,
    /// The events break rules.
    #[error("the events break rules")]
    Invalid(Findings),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] kv::Error),
}

impl From<ResendError> for Refusal {
    fn from(error: ResendError) -> Self {
        match error {
            ResendError::NoSuchEvent => Self::NoSuchEvent,
            ResendError::NoSuchEndpoint => Self::NoSuchEndpoint,
            ResendError::EndpointDeleted => Self::EndpointDeleted,
            ResendError::Store(error) => Self::Store(error),
        }
    }
}
