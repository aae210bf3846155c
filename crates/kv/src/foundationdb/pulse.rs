//! Whether the cluster answers: asked four times a second, so that whoever waits for a cluster that
//! is away is told soon, and not only when a transaction's time is up.

use std::sync::Arc;
use std::time::Duration;

use foundationdb::options::TransactionOption;
use foundationdb::{Database, FdbResult};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use crate::{BUDGET, Error};

/// The pause between an answer and the next question.
const EVERY: Duration = Duration::from_millis(250);
/// How long an answer may take. A cluster that is merely busy answers these questions first.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for the first good answer, at most [`BUDGET`].
pub(super) async fn first(cluster: &Cluster) -> Result<(), Error> {
    let deadline = Instant::now() + BUDGET;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match ask(cluster, left).await {
            Err(error) if error.is_retryable() => tokio::time::sleep(EVERY).await,
            answer => return answer,
        }
    }
}

/// Asks from now on, until the handle is dropped. What comes out says whether the cluster is away.
pub(super) fn watch(cluster: Arc<Cluster>) -> (AbortOnDropHandle<()>, watch::Receiver<bool>) {
    let (away, told) = watch::channel(false);
    let task = tokio::spawn(async move {
        loop {
            let answer = ask(&cluster, PATIENCE).await;
            // That it is to be asked again is an answer, too.
            let is_away = matches!(answer, Err(Error::Unavailable(_)));
            away.send_if_modified(|was_away| {
                let changed = *was_away != is_away;
                match &answer {
                    Err(error) if changed && is_away => {
                        tracing::warn!(%error, "FoundationDB is away");
                    }
                    _ if changed => tracing::info!("FoundationDB answers again"),
                    _ => {}
                }
                *was_away = is_away;
                changed
            });
            tokio::time::sleep(EVERY).await;
        }
    });
    (AbortOnDropHandle::new(task), told)
}

async fn ask(cluster: &Cluster, patience: Duration) -> Result<(), Error> {
    match tokio::time::timeout(patience, read(cluster)).await {
        Ok(answer) => answer.map_err(super::failure::of),
        Err(_) => Err(Error::Unavailable(format!("no answer within {patience:?}"))),
    }
}

/// A read goes to a proxy for its version and to a storage server for its value.
async fn read(cluster: &Cluster) -> FdbResult<()> {
    let transaction = cluster.database.create_trx()?;
    // Before all others: what is asked is whether it answers at all.
    transaction.set_option(TransactionOption::PrioritySystemImmediate)?;
    transaction.get(&cluster.prefix, true).await.map(drop)
}

/// What the client knows of its connections, to be put behind a sentence; empty when it knows
/// nothing.
pub(super) async fn connections(database: &Database) -> String {
    let status = database.get_client_status();
    let Ok(Ok(status)) = tokio::time::timeout(PATIENCE, status).await else {
        return String::new();
    };
    serde_json::from_slice(&status).map(|status| describe(&status)).unwrap_or_default()
}

fn describe(status: &Value) -> String {
    let connections = status["Connections"].as_array().map(Vec::as_slice).unwrap_or_default();
    let described: Vec<_> = connections
        .iter()
        .filter_map(|connection| {
            let address = connection["Address"].as_str()?;
            let state = connection["Status"].as_str().unwrap_or("unknown");
            let strange = connection["Compatible"] == Value::Bool(false);
            let version = if strange { ", of an incompatible version" } else { "" };
            Some(format!("{address} {state}{version}"))
        })
        .collect();
    if described.is_empty() { String::new() } else { format!(" ({})", described.join("; ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn connections_are_described() {
        assert_eq!(describe(&json!({})), "");
        let status = json!({"Connections": [
            {"Address": "10.0.0.1:4500", "Status": "failed", "Compatible": true},
            {"Address": "10.0.0.2:4500", "Status": "connected", "Compatible": false},
        ]});
        let expected =
            " (10.0.0.1:4500 failed; 10.0.0.2:4500 connected, of an incompatible version)";
        assert_eq!(describe(&status), expected);
    }
}
