//! How long each phase of one request takes, measured where the phases meet:
//!
//! ```text
//!   connector called ─ dns ─ name resolved ─ connect ─ ClientHello ─ tls ─ connector done
//!                    ─ wait ─ status line ─ read ─ body read
//! ```
//!
//! The HTTP client sees its connector as a whole. The resolver, which is ours, tells when the
//! addresses are there, and the TLS library asks for a ticket of an earlier session at the moment
//! at which it begins a handshake.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use postrider_cluster::route::Phases;
use postrider_domain::target::TargetUrl;
use reqwest::dns::{Name, Resolve, Resolving};
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tower::{Layer, Service};

/// A part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Dns,
    Connect,
    Tls,
    Wait,
    Read,
}

/// Measures one request on a connection of its own. Clones share what they measure.
#[derive(Clone, Debug)]
pub(crate) struct Stopwatch {
    /// What a connection begins with: an address needs no resolution.
    first: Phase,
    laps: Arc<Mutex<Laps>>,
}

#[derive(Debug, Default)]
struct Laps {
    /// The phase that it is in, and since when.
    current: Option<(Phase, Instant)>,
    phases: Phases,
    stopped: bool,
}

impl Stopwatch {
    pub(crate) fn new(url: &TargetUrl) -> Self {
        let first = if url.url().domain().is_some() { Phase::Dns } else { Phase::Connect };
        Self { first, laps: Arc::default() }
    }

    /// The phase before is over, and this one begins.
    pub(crate) fn enter(&self, phase: Phase) {
        let now = Instant::now();
        let mut laps = self.laps();
        laps.leave(now);
        laps.current = Some((phase, now));
    }

    /// What was measured. A phase that is still under way took until now; of what a connection
    /// does in the background after that, nothing is taken down.
    pub(crate) fn stop(&self) -> Phases {
        let mut laps = self.laps();
        laps.leave(Instant::now());
        laps.stopped = true;
        laps.phases
    }

    fn leave(&self) {
        self.laps().leave(Instant::now());
    }

    fn laps(&self) -> MutexGuard<'_, Laps> {
        self.laps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Laps {
    fn leave(&mut self, now: Instant) {
        if let Some((phase, since)) = self.current.take()
            && !self.stopped
        {
            *self.slot(phase) = Some(now - since);
        }
    }

    fn slot(&mut self, phase: Phase) -> &mut Option<Duration> {
        match phase {
            Phase::Dns => &mut self.phases.dns,
            Phase::Connect => &mut self.phases.connect,
            Phase::Tls => &mut self.phases.tls,
            Phase::Wait => &mut self.phases.wait,
            Phase::Read => &mut self.phases.read,
        }
    }
}

/// Around the client's connector.
impl<S> Layer<S> for Stopwatch {
    type Service = TimedConnector<S>;

    fn layer(&self, connector: S) -> TimedConnector<S> {
        TimedConnector { connector, watch: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct TimedConnector<S> {
    connector: S,
    watch: Stopwatch,
}

impl<S, R> Service<R> for TimedConnector<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let watch = self.watch.clone();
        watch.enter(watch.first);
        let connecting = self.connector.call(to);
        let timed = async move {
            let connected = connecting.await;
            match connected {
                Ok(_) => watch.enter(Phase::Wait),
                Err(_) => watch.leave(),
            }
            connected
        };
        timed.boxed()
    }
}

/// A resolver that tells the watch when it has addresses.
pub(crate) struct TimedResolver<R> {
    pub(crate) resolver: R,
    pub(crate) watch: Stopwatch,
}

impl<R: Resolve> Resolve for TimedResolver<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolving, watch) = (self.resolver.resolve(name), self.watch.clone());
        Box::pin(async move {
            let addresses = resolving.await?;
            watch.enter(Phase::Connect);
            Ok(addresses)
        })
    }
}

/// Keeps no TLS session, so that every handshake is a whole one, and takes a question for a
/// ticket as the beginning of a handshake.
impl ClientSessionStore for Stopwatch {
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.enter(Phase::Tls);
        None
    }

    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {}
}
