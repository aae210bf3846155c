//! A received request.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::time::Instant;

/// A request as received on the wire.
#[derive(Clone, Debug)]
pub struct Received {
    /// The index in the receiver's log.
    pub index: usize,
    /// The number of the connection, from 0.
    pub connection: usize,
    /// Without the query.
    pub path: String,
    /// The request line and the headers, up to and including the empty line, byte for byte.
    pub head: Bytes,
    /// The body, byte for byte.
    pub body: Bytes,
    /// Arrival of the first byte, by the machine's wall clock.
    pub arrived: Timestamp,
    /// The same, by the monotonic clock.
    pub began: Instant,
    /// The time of the response, or when the sender closed the connection.
    pub ended: Option<Instant>,
    /// The status of the response.
    pub answered: Option<u16>,
}

impl Received {
    #[must_use]
    pub fn request_line(&self) -> String {
        self.lines().next().unwrap_or_default()
    }

    /// Names and values in their order and spelling on the wire.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let fields = self.lines().skip(1).take_while(|line| !line.is_empty());
        fields
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_owned(), value.trim().to_owned()))
            })
            .collect()
    }

    /// All values of a header; the name is case-insensitive.
    #[must_use]
    pub fn header_values(&self, name: &str) -> Vec<String> {
        let named = self.headers().into_iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value).collect()
    }

    /// The value of a header that occurs exactly once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let mut values = self.header_values(name);
        if values.len() == 1 { values.pop() } else { None }
    }

    /// `webhook-id`: the event's id.
    #[must_use]
    pub fn webhook_id(&self) -> Option<String> {
        self.header("webhook-id")
    }

    /// `webhook-timestamp`: the time of the attempt, in whole seconds.
    #[must_use]
    pub fn signed_at(&self) -> Option<Timestamp> {
        let stamp = self.header("webhook-timestamp")?.parse().ok()?;
        Timestamp::from_second(stamp).ok()
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("parse the body as JSON")
    }

    /// Verifies the signature with the Standard Webhooks reference library, which also rejects a
    /// `webhook-timestamp` more than 5 minutes from now.
    pub fn verify(&self, secret: &str) -> Result<()> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers() {
            headers.append(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
        }
        let verified = Webhook::new(secret)?.verify(&self.body, &headers);
        verified.with_context(|| format!("verify the signature of {}", self.request_line()))
    }

    /// Like [`Self::verify`], but accepts any `webhook-timestamp`.
    pub fn is_signed_with(&self, secret: &str) -> Result<()> {
        let id = self.webhook_id().context("no webhook-id")?;
        let stamp = self.header("webhook-timestamp").context("no webhook-timestamp")?;
        let expected = Webhook::new(secret)?.sign(&id, stamp.parse()?, &self.body)?;
        let signatures = self.header("webhook-signature").context("no webhook-signature")?;
        let matches = signatures.split(' ').any(|signature| signature == expected);
        ensure!(matches, "{signatures} has no valid signature of {}", self.request_line());
        Ok(())
    }

    /// The duration, if the request is over.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.ended.map(|ended| ended.duration_since(self.began))
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        text.split("\r\n").map(str::to_owned).collect::<Vec<_>>().into_iter()
    }
}
