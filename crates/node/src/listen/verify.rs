//! Whether a webhook is signed as Standard Webhooks asks, and freshly.

use std::fmt;
use std::time::Duration;

use http::HeaderMap;
use postrider_domain::signature::Secret;
use postrider_domain::time::Timestamp;

/// How far the timestamp may be from our clock, either way.
const TOLERANCE: Duration = Duration::from_secs(300);

/// What the check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// There is no secret to check with.
    Unchecked,
    /// One of the secrets made the signature.
    Good,
    /// A header that the signature needs is not there or not legible.
    Missing(&'static str),
    /// No secret made this signature for this body, id and time.
    Forged,
    /// The signature is right, but the time is too far from ours, in seconds: an old request
    /// sent again, or a clock that is wrong.
    Stale(u64),
}

impl Judgement {
    /// Whether a receiver should turn the webhook down.
    pub fn is_bad(&self) -> bool {
        !matches!(self, Self::Unchecked | Self::Good)
    }
}

/// Judges a webhook.
pub fn judge(secrets: &[Secret], headers: &HeaderMap, body: &[u8], now: Timestamp) -> Judgement {
    if secrets.is_empty() {
        return Judgement::Unchecked;
    }
    let header = |name: &'static str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.ok_or(Judgement::Missing(name))
    };
    let judged = || {
        let id = header("webhook-id")?;
        let timestamp = header("webhook-timestamp")?;
        let signature = header("webhook-signature")?;
        let seconds: u64 =
            timestamp.parse().map_err(|_| Judgement::Missing("webhook-timestamp"))?;
        let good = secrets.iter().any(|s| s.verifies(id, timestamp, body, signature));
        let distance = now.seconds().abs_diff(seconds);
        Ok(match good {
            false => Judgement::Forged,
            true if distance > TOLERANCE.as_secs() => Judgement::Stale(distance),
            true => Judgement::Good,
        })
    };
    judged().unwrap_or_else(|missing| missing)
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchecked => f.write_str("signature not checked (give --secret)"),
            Self::Good => f.write_str("signature ok"),
            Self::Missing(name) => write!(f, "BAD SIGNATURE: {name} is missing or not legible"),
            Self::Forged => f.write_str("BAD SIGNATURE: not made with a secret that was given"),
            Self::Stale(seconds) => {
                write!(f, "BAD SIGNATURE: right, but {seconds} seconds from this clock")
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
    fn one_of_several_secrets_is_enough() {
        let headers = headers(&secret(2), NOW);
        let judge = |secrets: &[Secret], body| judge(secrets, &headers, body, NOW);
        assert_eq!(judge(&[], BODY), Judgement::Unchecked);
        assert_eq!(judge(&[secret(1), secret(2)], BODY), Judgement::Good);
        assert_eq!(judge(&[secret(1)], BODY), Judgement::Forged);
        assert_eq!(judge(&[secret(2)], b"{\"a\":2}"), Judgement::Forged);
    }

    #[test]
    fn five_minutes_either_way() {
        let at = |now| judge(&[secret(1)], &headers(&secret(1), NOW), BODY, now);
        let seconds = Duration::from_secs;
        for near in [NOW.plus(seconds(300)), NOW.minus(seconds(300))] {
            assert_eq!(at(near), Judgement::Good);
        }
        for far in [NOW.plus(seconds(301)), NOW.minus(seconds(301))] {
            assert_eq!(at(far), Judgement::Stale(301));
        }
    }

    #[test]
    fn every_header_is_needed() {
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut headers = headers(&secret(1), NOW);
            headers.remove(name);
            let judgement = judge(&[secret(1)], &headers, BODY, NOW);
            assert_eq!(judgement, Judgement::Missing(name));
            assert!(judgement.is_bad());
        }
        let mut headers = headers(&secret(1), NOW);
        headers.insert("webhook-timestamp", "soon".parse().expect("a value"));
        let judgement = judge(&[secret(1)], &headers, BODY, NOW);
        assert_eq!(judgement, Judgement::Missing("webhook-timestamp"));
    }
}
