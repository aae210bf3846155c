//! Verifies signature and timestamp of a webhook according to Standard Webhooks.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use postrider_domain::signature::Secret;
use postrider_domain::time::Timestamp;

/// The largest accepted difference between the timestamp and this clock, in either direction.
const TOLERANCE: Duration = Duration::from_secs(300);

/// The result of verifying a webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verification {
    /// No secret was given.
    Unchecked,
    /// The signature matches one of the secrets.
    Valid,
    /// A required header is missing or cannot be parsed.
    Missing(&'static str),
    /// The signature matches none of the secrets.
    Mismatch,
    /// The signature is valid, but the timestamp differs from this clock by this many seconds: a
    /// replayed request, or a wrong clock.
    Stale(u64),
}

impl Verification {
    /// Whether a receiver should reject the webhook.
    pub fn is_rejected(&self) -> bool {
        !matches!(self, Self::Unchecked | Self::Valid)
    }
}

/// Verifies a webhook.
pub fn verify(
    secrets: &[Secret],
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Verification {
    if secrets.is_empty() {
        return Verification::Unchecked;
    }
    let header = |name: &'static str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or(Verification::Missing(name))
    };
    let check = || {
        let id = header("webhook-id")?;
        let timestamp = header("webhook-timestamp")?;
        let signature = header("webhook-signature")?;
        let seconds: u64 =
            timestamp.parse().map_err(|_| Verification::Missing("webhook-timestamp"))?;
        let good = secrets.iter().any(|s| s.verifies(id, timestamp, body, signature));
        let distance = now.seconds().abs_diff(seconds);
        Ok(match good {
            false => Verification::Mismatch,
            true if distance > TOLERANCE.as_secs() => Verification::Stale(distance),
            true => Verification::Valid,
        })
    };
    check().unwrap_or_else(|missing| missing)
}

impl fmt::Display for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchecked => f.write_str("signature not verified (set --secret)"),
            Self::Valid => f.write_str("signature ok"),
            Self::Missing(name) => write!(f, "BAD SIGNATURE: {name} is missing or invalid"),
            Self::Mismatch => f.write_str("BAD SIGNATURE: does not match any given secret"),
            Self::Stale(seconds) => {
                write!(
                    f,
                    "REJECTED: the signature is valid, but the timestamp differs from this clock by {seconds} seconds"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::signature;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const BODY: &[u8] = b"{\"a\":1}";

    fn secret(byte: u8) -> Secret {
        Secret::from_bytes([byte; 32])
    }

    fn headers(secret: &Secret, at: Timestamp) -> HeaderMap {
        let signature = signature::header([secret].into_iter(), "evt_1", at, BODY);
        let mut headers = HeaderMap::new();
        let seconds = at.seconds().to_string();
        for (name, value) in [
            ("webhook-id", "evt_1"),
            ("webhook-timestamp", &seconds),
            ("webhook-signature", &signature),
        ] {
            headers.insert(name, value.parse().expect("a value"));
        }
        headers
    }

    #[test]
    fn one_matching_secret_is_enough() {
        let headers = headers(&secret(2), NOW);
        let verify = |secrets: &[Secret], body| verify(secrets, &headers, body, NOW);
        assert_eq!(verify(&[], BODY), Verification::Unchecked);
        assert_eq!(verify(&[secret(1), secret(2)], BODY), Verification::Valid);
        assert_eq!(verify(&[secret(1)], BODY), Verification::Mismatch);
        assert_eq!(verify(&[secret(2)], b"{\"a\":2}"), Verification::Mismatch);
    }

    #[test]
    fn timestamps_within_five_minutes_are_accepted() {
        let at = |now| verify(&[secret(1)], &headers(&secret(1), NOW), BODY, now);
        let seconds = Duration::from_secs;
        for near in [NOW.plus(seconds(300)), NOW.minus(seconds(300))] {
            assert_eq!(at(near), Verification::Valid);
        }
        for far in [NOW.plus(seconds(301)), NOW.minus(seconds(301))] {
            assert_eq!(at(far), Verification::Stale(301));
        }
    }

    #[test]
    fn every_header_is_required() {
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut headers = headers(&secret(1), NOW);
            headers.remove(name);
            let verification = verify(&[secret(1)], &headers, BODY, NOW);
            assert_eq!(verification, Verification::Missing(name));
            assert!(verification.is_rejected());
        }
        let mut headers = headers(&secret(1), NOW);
        headers.insert("webhook-timestamp", "soon".parse().expect("a value"));
        let verification = verify(&[secret(1)], &headers, BODY, NOW);
        assert_eq!(verification, Verification::Missing("webhook-timestamp"));
    }
}
