//! Metrics of the nodes, from `/metrics`.

use anyhow::{Context, Result};

use crate::node::Bench;

/// Wakes sent to other nodes.
pub const WAKES_SENT: &str = "postrider_wakes_sent_total";
pub const DELIVERIES_FINISHED: &str = "postrider_deliveries_finished_total";
/// Commits to the disk or to FoundationDB, each of a group of transactions.
pub const COMMITS: &str = "postrider_store_commits_total";
/// Transactions in those groups.
pub const TRANSACTIONS: &str = "postrider_store_transactions_total";
/// Transactions retried after a conflict.
pub const CONFLICTS: &str = "postrider_store_conflicts_total";
/// Endpoints with an actor.
pub const ENDPOINTS_ACTIVE: &str = "postrider_endpoints_active";

impl Bench {
    /// A metric's value at each node, summed over its attributes; 0 if not exported yet.
    pub async fn metric(&self, name: &str) -> Result<Vec<f64>> {
        let mut values = Vec::new();
        for base in &self.bases {
            let answer = self.client.get(format!("{base}/metrics")).send().await?;
            let text = answer.error_for_status()?.text().await?;
            values.push(sum(&text, name)?);
        }
        Ok(values)
    }
}

fn sum(text: &str, name: &str) -> Result<f64> {
    let mut sum = 0.0;
    for line in text.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        if rest.starts_with(['{', ' ']) {
            let value = rest.rsplit(' ').next().context("there is no value")?;
            sum += value.parse::<f64>().with_context(|| format!("the value of {line:?}"))?;
        }
    }
    Ok(sum)
}
