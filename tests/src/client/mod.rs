//! An API client: [`Api`] sends HTTP requests and returns any response, [`Operator`] and
//! [`Account`] have typed calls that must succeed, and [`records`] has the response types.

mod account;
mod operator;
pub mod records;

use std::sync::Once;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use account::{Account, NewEndpoint};
pub use operator::Operator;

use records::Problem;

/// Longer than any call should take: a test event waits for an attempt of 5 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A client of a node's API.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

/// The response to a call, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Method and path, for error messages.
    pub call: String,
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Api {
    /// A client of the node at `base`, with an API key.
    #[must_use]
    pub fn new(base: &str, key: Option<&str>) -> Self {
        install_crypto_provider();
        Self { http: client(CALL_TIMEOUT), base: base.to_owned(), key: key.map(str::to_owned) }
    }

    /// The same client for another node.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same client with another call timeout.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { http: client(timeout), ..self.clone() }
    }

    /// The same client with another API key, or without one.
    #[must_use]
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// The base URL: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, &[], None).await
    }

    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, &[], Some(body.to_string())).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PUT, path, &[], Some(body.to_string())).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PATCH, path, &[], Some(body.to_string())).await
    }

    /// Any call. The body is sent verbatim.
    ///
    /// # Errors
    /// If no response arrives. The call may or may not have taken effect.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Answer> {
        let call = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.with_context(|| format!("no response to {call}"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body =
            response.bytes().await.with_context(|| format!("incomplete response to {call}"))?;
        Ok(Answer { call, status, headers, body })
    }
}

impl Answer {
    /// The body, if the status matches.
    pub fn expect(&self, status: u16) -> Result<Value> {
        self.parse(status)
    }

    /// The body as a `T`, if the status matches.
    pub fn parse<T: DeserializeOwned>(&self, status: u16) -> Result<T> {
        if self.status != status {
            bail!("{self} (expected {status})");
        }
        // A 204 has no body; `null` parses as `()` and as `Value`.
        let body: &[u8] = if self.body.is_empty() { b"null" } else { &self.body };
        serde_json::from_slice(body).with_context(|| format!("parse the response: {self}"))
    }

    /// The body, for any 2xx status.
    pub fn succeeded(&self) -> Result<Value> {
        match self.status {
            200..=299 => self.expect(self.status),
            _ => bail!("{self}"),
        }
    }

    /// The RFC 9457 problem, if the status is one of `statuses`.
    pub fn problem(&self, statuses: &[u16]) -> Result<Problem> {
        if !statuses.contains(&self.status) {
            bail!("{self} (expected one of {statuses:?})");
        }
        let media_type = self.headers.get("content-type").map(|v| v.to_str()).transpose()?;
        if !media_type.unwrap_or("").starts_with("application/problem+json") {
            bail!("{self} ({media_type:?}, expected application/problem+json)");
        }
        let problem: Problem = self.parse(self.status)?;
        if problem.status != self.status || problem.title.is_empty() {
            bail!("{self}: the problem must repeat the status and have a title");
        }
        Ok(problem)
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let body = String::from_utf8_lossy(&self.body);
        write!(f, "{} returned {}: {body}", self.call, self.status)
    }
}

fn client(timeout: Duration) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(timeout)
        .build()
        .expect("building a client without TLS cannot fail")
}

/// reqwest needs a process-wide crypto provider even without TLS.
fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that one is already installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
