//! Errors of calls. Their encoding is the same in every version, so that a caller of another
//! version can still decode the reason.

use std::fmt;

use postrider_domain::findings::Finding;
use serde::{Deserialize, Serialize};

/// The error of a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct CallError {
    /// The kind of the error, which determines how a caller reacts.
    pub kind: CallErrorKind,
    /// A description for people.
    pub message: String,
}

/// The kind of a [`CallError`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallErrorKind {
    /// The gateway does not support the version of the call.
    UnknownVersion,
    /// The version has no request of this kind.
    UnknownKind,
    /// The bytes of the call or of the reply cannot be decoded, or a required part is missing.
    Malformed,
    /// The request exceeds a limit. Split it into several.
    TooLarge,
    /// The events violate rules. Lists every violation. Repeating the call fails again.
    Invalid(Vec<Finding>),
    /// The account, endpoint or delivery does not exist.
    NotFound,
    /// The request conflicts with the stored state, for example because the idempotency key was
    /// used with another request.
    Conflict,
    /// The store is unavailable or full. The call may or may not have taken effect: repeat it with
    /// the same idempotency key.
    Unavailable,
    /// The gateway has too many calls in flight. The call had no effect: repeat it later, or on
    /// another gateway.
    Overloaded,
    /// The gateway failed unexpectedly. The node's log has the details.
    Internal,
    /// The gateway did not reply in time. The call may or may not have taken effect.
    TimedOut,
    /// The connection to the gateway's node was lost, or no gateway is connected. The call may or
    /// may not have taken effect.
    ConnectionLost,
    /// A kind of error that this version does not know.
    Other(u16),
}

/// The encoding of a [`CallError`].
#[derive(Serialize, Deserialize)]
pub(super) struct WireError {
    code: u16,
    message: String,
    findings: Vec<Finding>,
}

impl CallError {
    /// Creates an error.
    #[must_use]
    pub fn new(kind: CallErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Creates an `Internal` error that refers to the log.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(CallErrorKind::Internal, "unexpected failure; see the log of the node")
    }

    /// Whether the same call may succeed later or on another gateway. The failed call may have
    /// taken effect, so repeat only calls that are safe to execute twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use CallErrorKind::{ConnectionLost, Overloaded, TimedOut, Unavailable};
        matches!(self.kind, Unavailable | Overloaded | TimedOut | ConnectionLost)
    }

    /// The error with half of its findings, the only part that can be long.
    pub(super) fn shortened(mut self) -> Self {
        match &mut self.kind {
            CallErrorKind::Invalid(findings) if !findings.is_empty() => {
                findings.truncate(findings.len() / 2);
            }
            _ => self.message.clear(),
        }
        self
    }

    pub(super) fn to_wire(&self) -> WireError {
        let findings = match &self.kind {
            CallErrorKind::Invalid(findings) => findings.clone(),
            _ => Vec::new(),
        };
        WireError { code: self.kind.code(), message: self.message.clone(), findings }
    }

    pub(super) fn from_wire(WireError { code, message, findings }: WireError) -> Self {
        Self { kind: CallErrorKind::from_code(code, findings), message }
    }
}

impl CallErrorKind {
    /// The number in the encoding. Numbers never change.
    fn code(&self) -> u16 {
        match self {
            Self::UnknownVersion => 1,
            Self::UnknownKind => 2,
            Self::Malformed => 3,
            Self::TooLarge => 4,
            Self::Invalid(_) => 5,
            Self::NotFound => 6,
            Self::Conflict => 7,
            Self::Unavailable => 8,
            Self::Overloaded => 9,
            Self::Internal => 10,
            Self::TimedOut => 11,
            Self::ConnectionLost => 12,
            Self::Other(code) => *code,
        }
    }

    fn from_code(code: u16, findings: Vec<Finding>) -> Self {
        match code {
            1 => Self::UnknownVersion,
            2 => Self::UnknownKind,
            3 => Self::Malformed,
            4 => Self::TooLarge,
            5 => Self::Invalid(findings),
            6 => Self::NotFound,
            7 => Self::Conflict,
            8 => Self::Unavailable,
            9 => Self::Overloaded,
            10 => Self::Internal,
            11 => Self::TimedOut,
            12 => Self::ConnectionLost,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for CallErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownVersion => "unknown version",
            Self::UnknownKind => "unknown message",
            Self::Malformed => "malformed message",
            Self::TooLarge => "too large",
            Self::Invalid(_) => "invalid events",
            Self::NotFound => "not found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal error",
            Self::TimedOut => "timed out",
            Self::ConnectionLost => "connection lost",
            Self::Other(code) => return write!(f, "error {code}"),
        })
    }
}
