//! Errors of the service, as the errors of calls.

use postrider_net::messages::{CallError, CallErrorKind};
use postrider_service::ServiceError;
use postrider_store::kv;

/// The error of a call. Failures of this node are logged; the rest concerns the caller.
pub(super) fn call_error(error: ServiceError) -> CallError {
    let message = error.to_string();
    let kind = match error {
        ServiceError::NotFound(_) => CallErrorKind::NotFound,
        ServiceError::EndpointDeleted
        | ServiceError::IdempotencyKeyReused
        | ServiceError::ChangedMeanwhile
        | ServiceError::ReplayEnded(_) => CallErrorKind::Conflict,
        ServiceError::InvalidEvents(findings) => CallErrorKind::Refused(findings.into_vec()),
        // No call has fields of its own that only the service can check.
        ServiceError::InvalidFields(_) => CallErrorKind::Malformed,
        ServiceError::Random(error) => {
            tracing::error!(%error, "a call failed");
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
            "the request makes more data than one transaction can hold",
        ),
        kv::Error::Full => {
            tracing::error!(%error, "a call was refused");
            CallError::new(CallErrorKind::Unavailable, "the store has no room left")
        }
        kv::Error::MaybeCommitted => {
            tracing::warn!(%error, "a call was cut off");
            CallError::new(
                CallErrorKind::Unavailable,
                "the store became unavailable during the call; it may or may not have taken effect",
            )
        }
        kv::Error::Unavailable(_) | kv::Error::Conflict => {
            // While the store is away this is every call.
            tracing::debug!(%error, "a call was refused");
            CallError::new(CallErrorKind::Unavailable, "the store cannot be reached")
        }
        kv::Error::Corrupt(_) => {
            tracing::error!(%error, "a call failed");
            CallError::internal()
        }
    }
}
