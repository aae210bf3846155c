//! The tasks that a node cannot do without: each has a name, and one that ends before the node does
//! is told of. Otherwise a node whose shard_manager or recorder is gone would look well, and do nothing.
//!
//! Who takes part: those who start such a task start it through [`Tasks`]; the node's `run` waits for
//! the first that ends, says which one it was, and ends the node. A task that its owner aborts has not
//! ended in this sense.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The vital tasks of one node. Clones are the same.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<watch::Sender<Option<Ended>>>);

/// A task that has ended, and should not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task {task:?} has ended: {why}")]
pub struct Ended {
    /// Its name.
    pub task: &'static str,
    /// How it ended.
    pub why: String,
    panicked: bool,
}

impl Tasks {
    /// A node without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Runs a task that goes on for as long as the node does.
    pub fn spawn(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let tasks = self.clone();
        tokio::spawn(async move {
            let outcome = AssertUnwindSafe(task).catch_unwind().await;
            tasks.note(name, outcome);
        })
    }

    /// Watches an actor that goes on for as long as the node does.
    pub fn watch(&self, name: &'static str, actor: JoinHandle<()>) {
        let tasks = self.clone();
        tokio::spawn(async move {
            match actor.await {
                Ok(()) => tasks.note(name, Ok(())),
                Err(error) if error.is_panic() => tasks.note(name, Err(error.into_panic())),
                Err(_aborted) => {}
            }
        });
    }

    /// The task that ended first, or panicked first, if one has.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.0.borrow().clone()
    }

    /// Waits until a task has ended.
    pub async fn failed(&self) -> Ended {
        let mut ended = self.0.subscribe();
        let first = ended.wait_for(Option::is_some).await.expect("its sender is this value's");
        first.clone().expect("it was waited for")
    }

    fn note(&self, task: &'static str, outcome: Result<(), Box<dyn Any + Send>>) {
        let (why, panicked) = match outcome {
            Ok(()) => ("it returned".to_owned(), false),
            Err(panic) => (format!("it panicked: {}", message(&*panic)), true),
        };
        self.0.send_if_modified(|first| {
            // What a task held is dropped before its panic comes here, and others may have returned
            // for that reason.
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

/// What a panic says.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_task_that_ends_is_told_of_by_name() {
        let tasks = Tasks::new();
        tasks.spawn("idle", std::future::pending());
        assert_eq!(tasks.ended(), None);
        tasks.spawn("shard_manager", async { panic!("row {}", 7) });
        let ended = tasks.failed().await;
        assert_eq!((ended.task, &*ended.why), ("shard_manager", "it panicked: row 7"));
        tasks.spawn("recorder", async {}).await.unwrap();
        assert_eq!(tasks.failed().await, ended, "what follows from the first is not the cause");
    }

    #[tokio::test]
    async fn a_panic_is_the_cause_of_what_returned_before_it() {
        let tasks = Tasks::new();
        tasks.spawn("view", async {}).await.unwrap();
        tasks.spawn("shard_manager", async { panic!("damaged") }).await.unwrap();
        assert_eq!(tasks.failed().await.task, "shard_manager");
    }

    #[tokio::test]
    async fn one_that_returns_has_ended_and_one_that_is_aborted_has_not() {
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
    async fn actors_are_watched_alike() {
        let tasks = Tasks::new();
        tasks.watch("outbox", tokio::spawn(async { panic!("damaged") }));
        assert_eq!(tasks.failed().await.why, "it panicked: damaged");
    }
}
