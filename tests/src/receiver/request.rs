//! What is kept of a request.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::Value;
use standardwebhooks::Webhook;
use tokio::time::Instant;

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its place in the receiver's log.
    pub index: usize,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    /// The path of its target.
    pub path: String,
    /// The request line and the headers, to the empty line, byte for byte.
    pub head: Bytes,
    /// The body, byte for byte.
    pub body: Bytes,
    /// When its first byte arrived, by the wall clock, which all of one machine share.
    pub arrived: Timestamp,
    /// The same, by a clock that does not jump.
    pub began: Instant,
    /// When it was answered, or the sender had closed the connection.
    pub ended: Option<Instant>,
    /// The status that it was answered with.
    pub answered: Option<u16>,
}

impl Received {
    /// The request line.
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

    /// The values of one header, by its name in any case.
    #[must_use]
    pub fn header_values(&self, name: &str) -> Vec<String> {
        let named = self.headers().into_iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value).collect()
    }

    /// The value of a header that comes once.
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

    /// `webhook-timestamp`: when this attempt was made, in whole seconds.
    #[must_use]
    pub fn signed_at(&self) -> Option<Timestamp> {
        let stamp = self.header("webhook-timestamp")?.parse().ok()?;
        Timestamp::from_second(stamp).ok()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("a body that is no JSON")
    }

    /// Checks the signature with the reference library of Standard Webhooks. It also refuses a
    /// `webhook-timestamp` more than 5 minutes from now.
    pub fn verify(&self, secret: &str) -> Result<()> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers() {
            headers.append(name.parse::<HeaderName>()?, value.parse::<HeaderValue>()?);
        }
        let verified = Webhook::new(secret)?.verify(&self.body, &headers);
        verified.with_context(|| format!("the signature of {}", self.request_line()))
    }

    /// Whether it is signed with `secret`, as the reference library signs, whenever it came.
    pub fn is_signed_with(&self, secret: &str) -> Result<()> {
        let id = self.webhook_id().context("no webhook-id")?;
        let stamp = self.header("webhook-timestamp").context("no webhook-timestamp")?;
        let expected = Webhook::new(secret)?.sign(&id, stamp.parse()?, &self.body)?;
        let signatures = self.header("webhook-signature").context("no webhook-signature")?;
        let matches = signatures.split(' ').any(|signature| signature == expected);
        ensure!(matches, "{signatures} are no signatures of {}", self.request_line());
        Ok(())
    }

    /// How long it lasted, if it is over.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.ended.map(|ended| ended.duration_since(self.began))
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let text = String::from_utf8_lossy(&self.head).into_owned();
        text.split("\r\n").map(str::to_owned).collect::<Vec<_>>().into_iter()
    }
}
