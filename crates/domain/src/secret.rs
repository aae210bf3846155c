//! The rotation of signing secrets: how long a replaced secret still signs next to its successor.

use std::time::Duration;

use crate::duration;

/// The overlap of a rotation if the request does not specify one.
pub const DEFAULT_OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// The longest overlap.
pub const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

/// Parses an overlap, such as `90s` or `1h30m`, from `0s` to [`MAX_OVERLAP`].
///
/// # Errors
/// The rule that the text violates.
pub fn parse_overlap(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(overlap) if overlap <= MAX_OVERLAP => Ok(overlap),
        Ok(_) => Err(format!("must be at most {}", duration::format(MAX_OVERLAP))),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_is_at_most_30_days() {
        assert_eq!(parse_overlap("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_overlap("30d"), Ok(MAX_OVERLAP));
        assert!(parse_overlap("31d").is_err());
        assert!(parse_overlap("soon").is_err());
    }
}
