//! Structs shared by several records. They never change: a record that needs a different one gets a
//! new version.

use postrider_domain::endpoint::{Disabled, DisabledReason, LastError};
use postrider_domain::ids::DeliveryId;
use postrider_domain::notice::Exhaustion;
use postrider_domain::outcome::ErrorKind;
use postrider_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
pub(super) struct DisabledV1 {
    reason: DisabledReasonV1,
    at: Timestamp,
    delivery: Option<DeliveryId>,
}

#[derive(Serialize, Deserialize)]
enum DisabledReasonV1 {
    Exhausted,
    Manual,
    Gone,
}

#[derive(Serialize, Deserialize)]
pub(super) struct LastErrorV1<'a> {
    at: Timestamp,
    kind: ErrorKindV1,
    status: Option<u16>,
    message: &'a str,
    delivery: DeliveryId,
}

#[derive(PartialEq, Serialize, Deserialize)]
pub(super) struct ExhaustionV1 {
    delivery: DeliveryId,
    at: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(super) enum ErrorKindV1 {
    Timeout,
    Dns,
    Connect,
    Tls,
    Status,
    Blocked,
    Protocol,
}

impl From<&Disabled> for DisabledV1 {
    fn from(&Disabled { reason, at, delivery }: &Disabled) -> Self {
        let reason = match reason {
            DisabledReason::Exhausted => DisabledReasonV1::Exhausted,
            DisabledReason::Manual => DisabledReasonV1::Manual,
            DisabledReason::Gone => DisabledReasonV1::Gone,
        };
        Self { reason, at, delivery }
    }
}

impl From<DisabledV1> for Disabled {
    fn from(DisabledV1 { reason, at, delivery }: DisabledV1) -> Self {
        let reason = match reason {
            DisabledReasonV1::Exhausted => DisabledReason::Exhausted,
            DisabledReasonV1::Manual => DisabledReason::Manual,
            DisabledReasonV1::Gone => DisabledReason::Gone,
        };
        Self { reason, at, delivery }
    }
}

impl<'a> From<&'a LastError> for LastErrorV1<'a> {
    fn from(LastError { at, kind, status, message, delivery }: &'a LastError) -> Self {
        Self { at: *at, kind: (*kind).into(), status: *status, message, delivery: *delivery }
    }
}

impl From<LastErrorV1<'_>> for LastError {
    fn from(LastErrorV1 { at, kind, status, message, delivery }: LastErrorV1<'_>) -> Self {
        Self { at, kind: kind.into(), status, message: message.to_owned(), delivery }
    }
}

impl From<Exhaustion> for ExhaustionV1 {
    fn from(Exhaustion { delivery, at }: Exhaustion) -> Self {
        Self { delivery, at }
    }
}

impl From<ExhaustionV1> for Exhaustion {
    fn from(ExhaustionV1 { delivery, at }: ExhaustionV1) -> Self {
        Self { delivery, at }
    }
}

impl From<ErrorKind> for ErrorKindV1 {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Timeout => Self::Timeout,
            ErrorKind::Dns => Self::Dns,
            ErrorKind::Connect => Self::Connect,
            ErrorKind::Tls => Self::Tls,
            ErrorKind::Status => Self::Status,
            ErrorKind::Blocked => Self::Blocked,
            ErrorKind::Protocol => Self::Protocol,
        }
    }
}

impl From<ErrorKindV1> for ErrorKind {
    fn from(kind: ErrorKindV1) -> Self {
        match kind {
            ErrorKindV1::Timeout => Self::Timeout,
            ErrorKindV1::Dns => Self::Dns,
            ErrorKindV1::Connect => Self::Connect,
            ErrorKindV1::Tls => Self::Tls,
            ErrorKindV1::Status => Self::Status,
            ErrorKindV1::Blocked => Self::Blocked,
            ErrorKindV1::Protocol => Self::Protocol,
        }
    }
}

/// Borrows names and values for a record.
pub(super) fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Converts names and values from a record.
pub(super) fn owned(pairs: Vec<(&str, &str)>) -> Vec<(String, String)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
