//! Counts the connections that the HTTP client makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use tower::{Layer, Service};

/// A count of connections. Clones share it. It is put around the client's connector.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections(Arc<AtomicU64>);

impl Connections {
    /// How many have been made.
    pub(crate) fn made(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S> Layer<S> for Connections {
    type Service = CountingConnector<S>;

    fn layer(&self, connector: S) -> CountingConnector<S> {
        CountingConnector { connector, connections: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct CountingConnector<S> {
    connector: S,
    connections: Connections,
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
