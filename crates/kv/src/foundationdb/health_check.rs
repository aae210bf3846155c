//! The health check: queries the cluster four times a second, so that operations waiting for an
//! unreachable cluster fail early instead of at their transaction's timeout.

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

/// The pause between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The time limit for an answer. A busy cluster still answers in time, as the checks have priority.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// Waits for the first successful check, for at most [`BUDGET`].
pub(super) async fn wait_until_reachable(cluster: &Cluster) -> Result<(), Error> {
    let deadline = Instant::now() + BUDGET;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match check(cluster, left).await {
            Err(error) if error.is_retryable() => tokio::time::sleep(CHECK_INTERVAL).await,
            result => return result,
        }
    }
}

/// Runs the checks until the handle is dropped. The receiver holds whether the cluster is
/// unreachable.
pub(super) fn monitor(cluster: Arc<Cluster>) -> (AbortOnDropHandle<()>, watch::Receiver<bool>) {
    let (unreachable, unreachable_rx) = watch::channel(false);
    let task = tokio::spawn(async move {
        loop {
            let result = check(&cluster, CHECK_TIMEOUT).await;
            // A retryable error counts as an answer.
            let is_unreachable = matches!(result, Err(Error::Unavailable(_)));
            unreachable.send_if_modified(|was_unreachable| {
                let changed = *was_unreachable != is_unreachable;
                match &result {
                    Err(error) if changed && is_unreachable => {
                        tracing::warn!(%error, "FoundationDB is unreachable");
                    }
                    _ if changed => tracing::info!("FoundationDB is reachable again"),
                    _ => {}
                }
                *was_unreachable = is_unreachable;
                changed
            });
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    });
    (AbortOnDropHandle::new(task), unreachable_rx)
}

async fn check(cluster: &Cluster, timeout: Duration) -> Result<(), Error> {
    match tokio::time::timeout(timeout, read(cluster)).await {
        Ok(result) => result.map_err(super::failure::from_read),
        Err(_) => Err(Error::Unavailable(format!("no answer within {timeout:?}"))),
    }
}

/// The read gets its version from a proxy and its value from a storage server.
async fn read(cluster: &Cluster) -> FdbResult<()> {
    let transaction = cluster.database.create_trx()?;
    // With priority: this checks whether the cluster answers at all.
    transaction.set_option(TransactionOption::PrioritySystemImmediate)?;
    transaction.get(&cluster.prefix, true).await.map(drop)
}

/// The client's connection status, to be appended to a sentence; empty if unknown.
pub(super) async fn connections(database: &Database) -> String {
    let status = database.get_client_status();
    let Ok(Ok(status)) = tokio::time::timeout(CHECK_TIMEOUT, status).await else {
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
            let incompatible = connection["Compatible"] == Value::Bool(false);
            let version = if incompatible { ", of an incompatible version" } else { "" };
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
