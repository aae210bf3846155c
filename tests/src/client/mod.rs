//! The interface contract from the caller's side: [`Api`] speaks HTTP and judges nothing,
//! [`Operator`] and [`Account`] are typed calls that must succeed, [`records`] is what comes
//! back.

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

/// Longer than any call should take: test events wait for an attempt of 5 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// One caller of a node's API.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

/// What a call was answered with, whatever the status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The call, for error messages.
    pub call: String,
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Api {
    /// A caller of the node at `base` who shows `key`.
    #[must_use]
    pub fn new(base: &str, key: Option<&str>) -> Self {
        choose_cryptography();
        Self { http: client(CALL_TIMEOUT), base: base.to_owned(), key: key.map(str::to_owned) }
    }

    /// Another node, seen by the same caller.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    /// The same, but for calls that are given up after `timeout`.
    #[must_use]
    pub fn patient_for(&self, timeout: Duration) -> Self {
        Self { http: client(timeout), ..self.clone() }
    }

    /// The same node, seen with another key or none.
    #[must_use]
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// Where the node listens: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The key that it shows.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, &[], None).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, &[], None).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, &[], Some(body.to_string())).await
    }

    /// PUT with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PUT, path, &[], Some(body.to_string())).await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PATCH, path, &[], Some(body.to_string())).await
    }

    /// Any call. The body goes out as it is given.
    ///
    /// # Errors
    /// When no answer came: the call may or may not have had its effect.
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
        let response = request.send().await.with_context(|| format!("no answer to {call}"))?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.with_context(|| format!("half an answer to {call}"))?;
        Ok(Answer { call, status, headers, body })
    }
}

impl Answer {
    /// The body, if the status is `status`.
    pub fn expect(&self, status: u16) -> Result<Value> {
        self.parse(status)
    }

    /// The body as a `T`, if the status is `status`.
    pub fn parse<T: DeserializeOwned>(&self, status: u16) -> Result<T> {
        if self.status != status {
            bail!("{self}, not with {status}");
        }
        // A 204 has no body; `null` reads as `()` and as `Value`.
        let body: &[u8] = if self.body.is_empty() { b"null" } else { &self.body };
        serde_json::from_slice(body).with_context(|| format!("{self}, which cannot be read"))
    }

    /// Success of any kind.
    pub fn succeeded(&self) -> Result<Value> {
        match self.status {
            200..=299 => self.expect(self.status),
            _ => bail!("{self}"),
        }
    }

    /// The problem that it reports, as RFC 9457 wants it, if the status is among `statuses`.
    pub fn problem(&self, statuses: &[u16]) -> Result<Problem> {
        if !statuses.contains(&self.status) {
            bail!("{self}, not with one of {statuses:?}");
        }
        let media_type = self.headers.get("content-type").map(|v| v.to_str()).transpose()?;
        if !media_type.unwrap_or("").starts_with("application/problem+json") {
            bail!("{self}, as {media_type:?}, not as application/problem+json");
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
        write!(f, "{} was answered with {}: {body}", self.call, self.status)
    }
}

fn client(timeout: Duration) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(timeout)
        .build()
        .expect("a client without TLS needs nothing that could be missing")
}

/// reqwest asks for a process-wide choice of cryptography even where none is used.
fn choose_cryptography() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that somebody chose before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
