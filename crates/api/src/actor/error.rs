//! Converts errors of the service into errors of calls.

use postrider_net::messages::{CallError, CallErrorKind};
use postrider_service::ServiceError;
use postrider_store::kv;

/// Converts an error. Failures of this node are logged; errors of the caller are not.
pub(super) fn call_error(error: ServiceError) -> CallError {
    let message = error.to_string();
    let kind = match error {
        ServiceError::NotFound(_) => CallErrorKind::NotFound,
        ServiceError::EndpointDeleted
        | ServiceError::EndpointDisabled
        | ServiceError::DeliveryEnded(_)
        | ServiceError::IdempotencyKeyReused
        | ServiceError::RepeatedRequest
        | ServiceError::ConcurrentUpdate
        | ServiceError::ReplayEnded(_) => CallErrorKind::Conflict,
        ServiceError::InvalidEvents(findings) => CallErrorKind::Invalid(findings.into_vec()),
        // Unreachable: only the REST API and the dashboard send such fields.
        ServiceError::InvalidFields(_) => CallErrorKind::Malformed,
        ServiceError::Random(error) => {
            tracing::error!(%error, "reading random bytes from the operating system failed");
            return CallError::internal();
        }
        ServiceError::Store(error) => return store_error(&error),
    };
    CallError::new(kind, message)
}

fn store_error(error: &kv::Error) -> CallError {
    match error {
        kv::Error::TooLarge { .. } => CallError::new(
            CallErrorKind::TooLarge,
            "the request creates more data than fits into one transaction; split it",
        ),
        kv::Error::Full => {
            tracing::error!(%error, "rejected a call: the store is full");
            CallError::new(CallErrorKind::Unavailable, "the store is full")
        }
        kv::Error::MaybeCommitted => {
            tracing::warn!(%error, "a call may or may not have taken effect");
            CallError::new(
                CallErrorKind::Unavailable,
                "the store became unavailable during the call; it may or may not have taken effect",
            )
        }
        kv::Error::Unavailable(_) | kv::Error::Conflict => {
            // At debug level, because during an outage every call fails.
            tracing::debug!(%error, "rejected a call: the store is unavailable");
            CallError::new(CallErrorKind::Unavailable, "the store is unavailable")
        }
        kv::Error::Corrupt(_) => {
            tracing::error!(%error, "a call failed");
            CallError::internal()
        }
    }
}
