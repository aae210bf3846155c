//! The webhook receiver: an HTTP/1.1 server that keeps every request byte for byte and misbehaves
//! as configured, per path.
//!
//! A [`Hook`] is one path. A test gives its URL to an endpoint, configures its behaviour, and waits
//! for requests. Connections are served in [`connection`], requests are kept as in [`request`], and
//! responses are defined in [`behaviour`].

pub mod behaviour;
mod connection;
pub mod request;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::background::Background;
use crate::port::Port;
pub use behaviour::Behaviour;
pub use request::Received;

/// A server that receives webhooks.
#[derive(Debug)]
pub struct Receiver {
    state: Arc<State>,
    port: Port,
    _thread: Background,
}

/// One path of a [`Receiver`].
#[derive(Clone, Debug)]
pub struct Hook {
    state: Arc<State>,
    address: SocketAddr,
    path: String,
}

/// State shared by connections and hooks.
#[derive(Debug)]
struct State {
    log: Mutex<Log>,
    /// Counts changes of the log, to wake waiting tests.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Log {
    requests: Vec<Received>,
    behaviours: HashMap<String, Behaviour>,
    /// Failures by path and webhook id, for [`Behaviour::AtFirst`].
    failed: HashMap<(String, String), u32>,
}

impl Receiver {
    /// Starts a server on a free port on 127.0.0.1.
    pub async fn start() -> Result<Self> {
        Self::listen(Port::reserve()?)
    }

    /// Starts a server on a free port on `host`.
    pub async fn start_at(host: Ipv4Addr) -> Result<Self> {
        Self::listen(Port::reserve_at(host)?)
    }

    /// Starts a server at this address.
    pub fn start_on(address: SocketAddr) -> Result<Self> {
        Self::listen(Port::at(address)?)
    }

    fn listen(port: Port) -> Result<Self> {
        let listener = port.listen().context("listen for webhooks")?.into_std()?;
        let state = Arc::new(State { log: Mutex::default(), changes: watch::Sender::new(0) });
        let thread = Background::start("receiver")?;
        thread.spawn(connection::accept(listener, Arc::clone(&state)));
        Ok(Self { state, port, _thread: thread })
    }

    /// A path that responds with 200 until configured otherwise.
    #[must_use]
    pub fn hook(&self, name: &str) -> Hook {
        let path = format!("/{name}");
        Hook { state: Arc::clone(&self.state), address: self.address(), path }
    }

    /// All requests so far, in order of arrival.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.state.log().requests.clone()
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Waits until `wanted` returns a value for the requests so far.
    pub async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&[Received]) -> Option<T>,
    ) -> Result<T> {
        self.state.until(what, within, wanted).await
    }
}

impl Hook {
    /// Sets the behaviour from the next request on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.state.log().behaviours.insert(self.path.clone(), behaviour);
    }

    /// Another path of the same server.
    #[must_use]
    pub fn sibling(&self, name: &str) -> Self {
        Self { path: format!("/{name}"), ..self.clone() }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }

    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The requests so far, in order of arrival.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.mine(&self.state.log().requests)
    }

    /// Waits until `n` requests have arrived, and returns all.
    pub async fn wait_for(&self, n: usize, within: Duration) -> Result<Vec<Received>> {
        let what = format!("{n} requests arrive at {}", self.path);
        let enough = |log: &[Received]| Some(self.mine(log)).filter(|mine| mine.len() >= n);
        self.state
            .until(&what, within, enough)
            .await
            .map_err(|error| anyhow::anyhow!("{error:#}; {} arrived", self.received().len()))
    }

    /// Waits until `n` requests are over: responded to, or abandoned by the sender.
    pub async fn wait_for_ended(&self, n: usize, within: Duration) -> Result<Vec<Received>> {
        let what = format!("{n} requests to {} are over", self.path);
        let enough = |log: &[Received]| {
            let mine = self.mine(log);
            (mine.iter().filter(|r| r.ended.is_some()).count() >= n).then_some(mine)
        };
        self.state.until(&what, within, enough).await
    }

    fn mine(&self, log: &[Received]) -> Vec<Received> {
        log.iter().filter(|request| request.path == self.path).cloned().collect()
    }
}

impl State {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock()
    }

    /// Logs a request, and returns its index and the behaviour for it.
    fn record(&self, mut request: Received) -> (usize, Behaviour) {
        let mut log = self.log();
        let behaviour = log.behaviours.get(&request.path).cloned().unwrap_or_default();
        let webhook = (request.path.clone(), request.webhook_id().unwrap_or_default().to_owned());
        let failed = log.failed.entry(webhook).or_insert(0);
        let behaviour = behaviour.resolve(failed);
        request.index = log.requests.len();
        let index = request.index;
        log.requests.push(request);
        drop(log);
        self.changes.send_modify(|n| *n += 1);
        (index, behaviour)
    }

    /// Records the end of a request.
    fn finish(&self, index: usize, answered: Option<u16>) {
        if let Some(request) = self.log().requests.get_mut(index) {
            request.answered = answered;
            request.ended = Some(Instant::now());
        }
        self.changes.send_modify(|n| *n += 1);
    }

    async fn until<T>(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&[Received]) -> Option<T>,
    ) -> Result<T> {
        let mut changes = self.changes.subscribe();
        let waiting = async {
            loop {
                if let Some(value) = wanted(&self.log().requests) {
                    return Ok(value);
                }
                changes.changed().await.context("the receiver has stopped")?;
            }
        };
        match tokio::time::timeout(within, waiting).await {
            Ok(value) => value,
            Err(_) => bail!("timed out after {within:?} waiting until {what}"),
        }
    }
}

#[cfg(test)]
mod tests;
