//! The connections that the HTTP client opens: counts them, and notes for each request how far its
//! connection got.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use parking_lot::Mutex;
use tower::{Layer, Service};

use crate::permits::MAX_IN_FLIGHT;

/// Limits of the connections to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The maximum age of a connection when a request starts on it.
    pub max_age: Duration,
    /// The maximum number of concurrent requests to one host and port.
    pub per_host: usize,
}

impl ConnectionLimits {
    /// The maximum of [`Self::per_host`]: all requests of the node.
    pub const MAX_PER_HOST: usize = MAX_IN_FLIGHT;
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(30), per_host: 64 }
    }
}

tokio::task_local! {
    /// The request that the current task sends.
    static REQUEST: RequestContext;
}

/// What the connector learns about a request, and the request about its connection.
#[derive(Debug)]
struct RequestContext {
    port: u16,
    opening: Mutex<Opening>,
}

/// A connection that may have been opened for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) step: Step,
    /// Whether the host's name resolved to IPv6 addresses alone.
    pub(crate) is_ipv6_only: bool,
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Step {
    /// None was opened: the request used an open one.
    #[default]
    Reused,
    Connecting,
    /// Its name was being resolved.
    Resolving,
    Connected,
}

/// Runs a request to `port`. Returns its output, and what happened to its connection.
pub(crate) async fn observe<T>(port: u16, request: impl Future<Output = T>) -> (T, Opening) {
    let context = RequestContext { port, opening: Mutex::default() };
    let observed = async {
        let output = request.await;
        (output, REQUEST.with(|context| *context.opening.lock()))
    };
    REQUEST.scope(context, observed).await
}

/// The port of the request for which the current task opens a connection. `None` if the connection
/// is opened in the background, because the request found another one.
pub(crate) fn port() -> Option<u16> {
    REQUEST.try_with(|context| context.port).ok()
}

/// Notes that the name of the current task's request is being resolved.
pub(crate) fn resolving() {
    note(|opening| opening.step = Step::Resolving);
}

/// Notes that it was resolved.
pub(crate) fn resolved(addresses: &[SocketAddr]) {
    note(|opening| {
        opening.step = Step::Connecting;
        opening.is_ipv6_only = addresses.iter().all(SocketAddr::is_ipv6);
    });
}

fn note(change: impl FnOnce(&mut Opening)) {
    // A connection that is opened in the background belongs to no request.
    let _ = REQUEST.try_with(|context| change(&mut context.opening.lock()));
}

/// A layer around the client's connector that counts connections. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionCounter(Arc<AtomicU64>);

impl ConnectionCounter {
    /// Number of connections opened.
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Layer<S> for ConnectionCounter {
    type Service = CountingConnector<S>;

    fn layer(&self, connector: S) -> CountingConnector<S> {
        CountingConnector { connector, connections: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct CountingConnector<S> {
    connector: S,
    connections: ConnectionCounter,
}

impl<S, R> Service<R> for CountingConnector<S>
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
        note(|opening| opening.step = Step::Connecting);
        let connections = self.connections.clone();
        let connecting = self.connector.call(to);
        let counted = async move {
            let connected = connecting.await?;
            connections.0.fetch_add(1, Ordering::Relaxed);
            note(|opening| opening.step = Step::Connected);
            Ok(connected)
        };
        counted.boxed()
    }
}
