//! A separate runtime for a server of the harness, so that a busy test cannot delay the server
//! that measures it.

use std::future::Future;

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// A runtime with one thread, shut down on drop.
#[derive(Debug)]
pub struct Background(Option<Runtime>);

impl Background {
    /// Starts the thread.
    pub fn start(name: &str) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build()
            .with_context(|| format!("start the {name} thread"))?;
        Ok(Self(Some(runtime)))
    }

    /// Runs `task` on the thread.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.handle().spawn(task)
    }

    fn handle(&self) -> &Handle {
        self.0.as_ref().expect("only drop takes it").handle()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A plain drop would block, which Tokio forbids inside another runtime.
            runtime.shutdown_background();
        }
    }
}
