//! Times the phases of one request at their boundaries:
//!
//! ```text
//!   connector called ─ dns ─ name resolved ─ connect ─ ClientHello ─ tls ─ connector done
//!                    ─ wait ─ status line ─ read ─ body read
//! ```
//!
//! The HTTP client treats its connector as a black box. Our own resolver marks the end of name
//! resolution, and the TLS library asks for a session ticket exactly when it begins a handshake.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::{Mutex, MutexGuard};
use postrider_domain::attempt::Phases;
use postrider_domain::target::TargetUrl;
use reqwest::dns::{Name, Resolve, Resolving};
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::connections;
use crate::resolver::{self, GuardedResolver};

/// A phase of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Dns,
    Connect,
    Tls,
    Wait,
    Read,
}

/// Times one request on a new connection. Clones share their timings.
#[derive(Clone, Debug)]
pub(crate) struct Stopwatch {
    /// The first phase: `Connect` if the host is an address, which needs no resolution.
    first: Phase,
    timings: Arc<Mutex<Timings>>,
}

#[derive(Debug, Default)]
struct Timings {
    /// The current phase and its start.
    current: Option<(Phase, Instant)>,
    phases: Phases,
    stopped: bool,
}

impl Stopwatch {
    pub(crate) fn new(url: &TargetUrl) -> Self {
        let first = if url.origin().domain().is_some() { Phase::Dns } else { Phase::Connect };
        Self { first, timings: Arc::default() }
    }

    /// Ends the current phase and begins this one.
    pub(crate) fn enter(&self, phase: Phase) {
        let now = Instant::now();
        let mut timings = self.timings();
        timings.leave(now);
        timings.current = Some((phase, now));
    }

    /// Ends the current phase and returns the timings. A connection attempt may continue in the
    /// background; its phases are no longer recorded.
    pub(crate) fn stop(&self) -> Phases {
        let mut timings = self.timings();
        timings.leave(Instant::now());
        timings.stopped = true;
        timings.phases
    }

    fn leave(&self) {
        self.timings().leave(Instant::now());
    }

    fn timings(&self) -> MutexGuard<'_, Timings> {
        self.timings.lock()
    }
}

impl Timings {
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

/// Wraps the client's connector.
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

/// A resolver that marks on the stopwatch when it has addresses.
pub(crate) struct TimedResolver {
    pub(crate) resolver: GuardedResolver,
    pub(crate) watch: Stopwatch,
}

impl Resolve for TimedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, watch) = (self.resolver.clone(), self.watch.clone());
        Box::pin(async move {
            connections::resolving();
            let addresses = resolver.allowed_addresses(name.as_str()).await?;
            connections::resolved(&addresses);
            watch.enter(Phase::Connect);
            Ok(resolver::order(addresses).await)
        })
    }
}

/// Stores no TLS sessions, so that every handshake is a full one, and treats a request for a ticket
/// as the beginning of a handshake.
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
