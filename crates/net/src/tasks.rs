//! The essential tasks of a node. Each has a name, and one that ends before the node does is
//! reported. Otherwise a node whose shard manager or recorder has stopped would look healthy and do
//! nothing.
//!
//! Components spawn such tasks through [`Tasks`]. The node's `run` waits for the first one that
//! ends, logs its name, and stops the node. A task that its owner aborts does not count as ended.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The essential tasks of a node. Clones share them.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<watch::Sender<Option<Ended>>>);

/// An essential task that has ended unexpectedly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task {task:?} has ended: {why}")]
pub struct Ended {
    /// The name of the task.
    pub task: &'static str,
    /// How the task ended.
    pub why: String,
    panicked: bool,
}

impl Tasks {
    /// Creates an empty set of tasks.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Spawns a task that is expected to run for as long as the node.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let tasks = self.clone();
        tokio::spawn(async move {
            let outcome = AssertUnwindSafe(task).catch_unwind().await;
            tasks.record_end(name, outcome);
        })
    }

    /// Watches an actor that is expected to run for as long as the node.
    pub fn watch(&self, name: &'static str, actor: JoinHandle<()>) {
        let tasks = self.clone();
        tokio::spawn(async move {
            match actor.await {
                Ok(()) => tasks.record_end(name, Ok(())),
                Err(error) if error.is_panic() => tasks.record_end(name, Err(error.into_panic())),
                Err(_aborted) => {}
            }
        });
    }

    /// The first task that panicked, or else the first that returned. `None` while all are running.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.0.borrow().clone()
    }

    /// Waits until a task has ended unexpectedly.
    pub async fn failed(&self) -> Ended {
        let mut ended = self.0.subscribe();
        let first = ended.wait_for(Option::is_some).await.expect("this value owns the sender");
        first.clone().expect("the condition holds")
    }

    fn record_end(&self, task: &'static str, outcome: Result<(), Box<dyn Any + Send>>) {
        let (why, panicked) = match outcome {
            Ok(()) => ("it returned".to_owned(), false),
            Err(panic) => (format!("it panicked: {}", panic_message(&*panic)), true),
        };
        self.0.send_if_modified(|first| {
            // A panicking task drops its values before its panic is recorded here, which may cause
            // other tasks to return first. A panic therefore replaces a return as the cause.
            let is_cause = first.as_ref().is_none_or(|first| panicked && !first.panicked);
            if is_cause {
                *first = Some(Ended { task, why, panicked });
            }
            is_cause
        });
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("unknown reason")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_task_that_ends_is_reported_by_name() {
        let tasks = Tasks::new();
        tasks.spawn("idle", std::future::pending());
        assert_eq!(tasks.ended(), None);
        tasks.spawn("shard manager", async { panic!("row {}", 7) });
        let ended = tasks.failed().await;
        assert_eq!((ended.task, &*ended.why), ("shard manager", "it panicked: row 7"));
        tasks.spawn("recorder", async {}).await.unwrap();
        assert_eq!(tasks.failed().await, ended, "a later end is not the cause");
    }

    #[tokio::test]
    async fn a_panic_is_the_cause_even_if_another_task_returned_before_it() {
        let tasks = Tasks::new();
        tasks.spawn("view", async {}).await.unwrap();
        tasks.spawn("shard manager", async { panic!("damaged") }).await.unwrap();
        assert_eq!(tasks.failed().await.task, "shard manager");
    }

    #[tokio::test]
    async fn a_task_that_returns_is_reported_and_an_aborted_one_is_not() {
        let tasks = Tasks::new();
        let aborted = tasks.spawn("aborted", std::future::pending());
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(tasks.ended(), None);
        tasks.spawn("accepting", async {});
        assert_eq!(
            tasks.failed().await.to_string(),
            "the task \"accepting\" has ended: it returned"
        );
    }

    #[tokio::test]
    async fn a_watched_actor_that_panics_is_reported() {
        let tasks = Tasks::new();
        tasks.watch("outbox", tokio::spawn(async { panic!("damaged") }));
        assert_eq!(tasks.failed().await.why, "it panicked: damaged");
    }
}
