//! The connections that the HTTP client opens: counts them, and marks the requests for which one
//! was opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use tower::{Layer, Service};

tokio::task_local! {
    /// The request that the current task sends.
    static REQUEST: RequestContext;
}

/// What the connector learns about a request, and the request about its connection.
#[derive(Debug)]
struct RequestContext {
    port: u16,
    opened: AtomicBool,
}

/// Runs a request to `port`. Returns its output, and whether a connection was opened for it.
pub(crate) async fn observe<T>(port: u16, request: impl Future<Output = T>) -> (T, bool) {
    let context = RequestContext { port, opened: AtomicBool::new(false) };
    let observed = async {
        let output = request.await;
        (output, REQUEST.with(|context| context.opened.load(Ordering::Relaxed)))
    };
    REQUEST.scope(context, observed).await
}

/// The port of the request for which the current task opens a connection. `None` if the connection
/// is opened in the background, because the request found another one.
pub(crate) fn port() -> Option<u16> {
    REQUEST.try_with(|context| context.port).ok()
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
        let _ = REQUEST.try_with(|context| context.opened.store(true, Ordering::Relaxed));
        let connections = self.connections.clone();
        let connecting = self.connector.call(to);
        let counted = async move {
            let connected = connecting.await?;
            connections.0.fetch_add(1, Ordering::Relaxed);
            Ok(connected)
        };
        counted.boxed()
    }
}
