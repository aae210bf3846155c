//! What a call can fail with. The layout of an error is the same in every version, so that whoever
//! speaks another one can still read why it was not understood.

use std::fmt;

use postrider_domain::findings::Finding;
use serde::{Deserialize, Serialize};

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct CallError {
    /// What kind of error it is: what a caller goes by.
    pub kind: CallErrorKind,
    /// What happened, in words.
    pub message: String,
}

/// The kinds of error of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallErrorKind {
    /// The gateway does not speak the version that it was asked in.
    UnknownVersion,
    /// The version has no such message.
    UnknownKind,
    /// The bytes are no message.
    Malformed,
    /// The message is over a bound. Split it.
    TooLarge,
    /// The events break rules: everything that is wrong with them. The same call fails again.
    Refused(Vec<Finding>),
    /// The account has no such thing.
    NotFound,
    /// It contradicts what is stored: the idempotency key was used with another request.
    Conflict,
    /// The store cannot be reached or is full. Nothing was done, or it is not known whether: repeat
    /// the call, with its idempotency key.
    Unavailable,
    /// The gateway has too many calls in hand. Nothing was done: repeat the call later, or to
    /// another gateway.
    Overloaded,
    /// The gateway's own mistake, of which its log has the details.
    Internal,
    /// No answer came in time. It is not known whether the call was done.
    TimedOut,
    /// The session with the gateway's node ended, or there is no gateway. It is not known whether
    /// the call was done.
    Lost,
    /// An error of a kind that a later version has.
    Other(u16),
}

/// An error as it travels.
#[derive(Serialize, Deserialize)]
pub(super) struct WireError {
    code: u16,
    message: String,
    findings: Vec<Finding>,
}

impl CallError {
    /// An error.
    #[must_use]
    pub fn new(kind: CallErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Our own mistake, of which the log tells.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(CallErrorKind::Internal, "the node's log has the details")
    }

    /// Whether the same call may succeed a little later, or at another gateway. It may have been
    /// done already: only a call that may be done twice is repeated.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use CallErrorKind::{Lost, Overloaded, TimedOut, Unavailable};
        matches!(self.kind, Unavailable | Overloaded | TimedOut | Lost)
    }

    /// The error with half of its findings, which are all of it that can be long.
    pub(super) fn shortened(mut self) -> Self {
        match &mut self.kind {
            CallErrorKind::Refused(findings) if !findings.is_empty() => {
                findings.truncate(findings.len() / 2);
            }
            _ => self.message.clear(),
        }
        self
    }

    pub(super) fn wire(&self) -> WireError {
        let findings = match &self.kind {
            CallErrorKind::Refused(findings) => findings.clone(),
            _ => Vec::new(),
        };
        WireError { code: self.kind.code(), message: self.message.clone(), findings }
    }

    pub(super) fn of_wire(WireError { code, message, findings }: WireError) -> Self {
        Self { kind: CallErrorKind::of_code(code, findings), message }
    }
}

impl CallErrorKind {
    /// Its number on the wire, which never changes.
    fn code(&self) -> u16 {
        match self {
            Self::UnknownVersion => 1,
            Self::UnknownKind => 2,
            Self::Malformed => 3,
            Self::TooLarge => 4,
            Self::Refused(_) => 5,
            Self::NotFound => 6,
            Self::Conflict => 7,
            Self::Unavailable => 8,
            Self::Overloaded => 9,
            Self::Internal => 10,
            Self::TimedOut => 11,
            Self::Lost => 12,
            Self::Other(code) => *code,
        }
    }

    fn of_code(code: u16, findings: Vec<Finding>) -> Self {
        match code {
            1 => Self::UnknownVersion,
            2 => Self::UnknownKind,
            3 => Self::Malformed,
            4 => Self::TooLarge,
            5 => Self::Refused(findings),
            6 => Self::NotFound,
            7 => Self::Conflict,
            8 => Self::Unavailable,
            9 => Self::Overloaded,
            10 => Self::Internal,
            11 => Self::TimedOut,
            12 => Self::Lost,
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
            Self::Refused(_) => "refused",
            Self::NotFound => "not found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal error",
            Self::TimedOut => "no answer in time",
            Self::Lost => "no gateway",
            Self::Other(code) => return write!(f, "error {code}"),
        })
    }
}
