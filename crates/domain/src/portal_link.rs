//! Portal links: links that sign their holder in to the dashboard of one account.

use std::time::Duration;

use crate::duration;
use crate::ids::AccountId;
use crate::time::Timestamp;

/// The lifetime of a link if the request does not specify one.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(3600);
/// The longest lifetime.
pub const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a link grants to its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The account that it signs in to.
    pub account: AccountId,
    /// The generation of the account's links. Revoking the links starts the next generation.
    pub generation: u64,
    /// When the link expires, together with the sessions started from it.
    pub expires_at: Timestamp,
}

/// Parses a lifetime, such as `30m` or `1h30m`, from `1s` to [`MAX_LIFETIME`].
///
/// # Errors
/// The rule that the text violates.
pub fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = duration::parse(text).map_err(|error| error.to_string())?;
    let range = Duration::from_secs(1)..=MAX_LIFETIME;
    range
        .contains(&lifetime)
        .then_some(lifetime)
        .ok_or_else(|| format!("must be from 1s to {}", duration::format(MAX_LIFETIME)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_from_a_second_to_a_week() {
        assert_eq!(parse_lifetime("1s"), Ok(Duration::from_secs(1)));
        assert_eq!(parse_lifetime("7d"), Ok(MAX_LIFETIME));
        for bad in ["0s", "8d", "soon"] {
            assert!(parse_lifetime(bad).is_err(), "{bad}");
        }
    }
}
