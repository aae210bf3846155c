//! Finds the shard of each endpoint from the record of an attempt.

use std::time::Duration;

use anyhow::{Context, Result};
use postrider_tests::client::Account;
use postrider_tests::client::records::Endpoint;
use postrider_tests::wait::{self, seconds};

use crate::deployment::Deployment;
use crate::node::Bench;

/// The deadline for an attempt to be recorded.
const RECORDED_WITHIN: Duration = seconds(20);

/// The shard of each endpoint by number, found by sending each an event.
pub async fn of_endpoints(bench: &Bench, deployment: &Deployment) -> Result<Vec<u64>> {
    let account = Account::new(bench.account.clone(), deployment.operator(0)?.api);
    let endpoints: Vec<Endpoint> = account.list("/endpoints?").await?;
    let mut shards = Vec::new();
    for number in 0..bench.options.endpoints as u64 {
        bench.publish(&[number]).await?;
        let event_type = bench.event_type_of(number);
        let endpoint = endpoints.iter().find(|endpoint| endpoint.name == event_type);
        let endpoint = endpoint.with_context(|| format!("no endpoint for {event_type}"))?;
        shards.push(recorded(&account, &endpoint.id).await?);
    }
    Ok(shards)
}

async fn recorded(account: &Account, endpoint: &str) -> Result<u64> {
    let attempted = async || {
        let deliveries = account.full_deliveries(endpoint).await?;
        Ok(deliveries.first().and_then(|delivery| delivery.attempts.first()?.shard))
    };
    wait::until("an attempt is recorded", RECORDED_WITHIN, attempted).await
}
