//! Converts FoundationDB's errors.
//!
//! Error codes: <https://apple.github.io/foundationdb/api-error-codes.html>.

use foundationdb::FdbError;

use super::SIZE_LIMIT;
use crate::Error;

/// The read version is older than FoundationDB's 5 s window.
pub(super) const TRANSACTION_TOO_OLD: i32 = 1007;
/// A read conflict.
pub(super) const NOT_COMMITTED: i32 = 1020;
const TRANSACTION_TIMED_OUT: i32 = 1031;
/// An operator has locked the database, for example for a restore. This may take long.
const DATABASE_LOCKED: i32 = 1038;
const TRANSACTION_TOO_LARGE: i32 = 2101;

/// Converts the error of a commit, which may take effect even though it timed out.
pub(super) fn from_commit(error: FdbError) -> Error {
    match error.code() {
        TRANSACTION_TIMED_OUT => Error::MaybeCommitted,
        _ => from_read(error),
    }
}

/// Converts the error of a read.
pub(super) fn from_read(error: FdbError) -> Error {
    if error.code() == TRANSACTION_TOO_LARGE {
        let limit = usize::try_from(SIZE_LIMIT).unwrap_or_default();
        // FoundationDB does not report the actual size.
        return Error::TooLarge {
            what: "transaction with its conflict ranges",
            limit,
            actual: None,
        };
    }
    if error.is_maybe_committed() {
        return Error::MaybeCommitted;
    }
    if error.is_retryable_not_committed() && error.code() != DATABASE_LOCKED {
        return Error::Conflict;
    }
    Error::Unavailable(format!("FoundationDB: {error} (error {})", error.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_classified() {
        let convert = |code| from_read(FdbError::from_code(code));
        // process_behind, future_version, commit_proxy_memory_limit_exceeded
        for code in [TRANSACTION_TOO_OLD, NOT_COMMITTED, 1037, 1009, 1042] {
            assert_eq!(convert(code), Error::Conflict, "{code}");
        }
        // commit_unknown_result, cluster_version_changed
        for code in [1021, 1039] {
            assert_eq!(convert(code), Error::MaybeCommitted, "{code}");
        }
        // operation_cancelled
        for code in [TRANSACTION_TIMED_OUT, 1025, DATABASE_LOCKED] {
            assert!(matches!(convert(code), Error::Unavailable(_)), "{code}");
        }
        assert!(matches!(convert(TRANSACTION_TOO_LARGE), Error::TooLarge { .. }));
        let late = from_commit(FdbError::from_code(TRANSACTION_TIMED_OUT));
        assert_eq!(late, Error::MaybeCommitted);
    }
}
