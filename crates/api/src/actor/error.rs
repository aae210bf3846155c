//! Errors of the service, as the errors of calls.

use postrider_net::messages::{CallError, CallErrorKind};
use postrider_service::Refusal;
use postrider_store::kv;

/// The error of a call. Failures of this node are logged; the rest concerns the caller.
pub(super) fn call_error(refusal: Refusal) -> CallError {
    let message = refusal.to_string();
    let kind = match refusal {
        Refusal::NoSuchAccount
        | Refusal::NoSuchEndpoint
        | Refusal::NoSuchEvent
        | Refusal::NoSuchDelivery => CallErrorKind::NotFound,
        Refusal::EndpointDeleted | Refusal::IdempotencyKeyReused => CallErrorKind::Conflict,
        Refusal::Invalid(findings) => CallErrorKind::Refused(findings.into_vec()),
        Refusal::Store(error) => return of_store(&error),
    };
    CallError::new(kind, message)
}

fn of_store(error: &kv::Error) -> CallError {
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
