//! Counts the connections that the HTTP client opens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use tower::{Layer, Service};

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
