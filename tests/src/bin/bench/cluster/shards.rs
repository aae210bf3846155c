//! Which shard each endpoint is in, as the record of an attempt tells.

use std::time::Duration;

use anyhow::{Context, Result};
use postrider_tests::client::Account;
use postrider_tests::client::records::Endpoint;
use postrider_tests::wait::{self, seconds};

use crate::node::Bench;
use crate::service::Service;

/// An event is on record at its endpoint within.
const RECORDED_WITHIN: Duration = seconds(20);

/// The shard of each endpoint, by its number: sends each of them an event to find out.
pub async fn of_endpoints(bench: &Bench, service: &Service) -> Result<Vec<u64>> {
    let account = Account::new(bench.account.clone(), service.operator(0)?.api);
    let endpoints: Vec<Endpoint> = account.list("/endpoints?").await?;
    let mut shards = Vec::new();
    for number in 0..bench.options.endpoints as u64 {
        bench.publish(&[number]).await?;
        let event_type = bench.event_type_of(number);
        let endpoint = endpoints.iter().find(|endpoint| endpoint.name == event_type);
        let endpoint = endpoint.with_context(|| format!("an endpoint for {event_type}"))?;
        shards.push(recorded(&account, &endpoint.id).await?);
    }
    Ok(shards)
}

async fn recorded(account: &Account, endpoint: &str) -> Result<u64> {
    let attempted = async || {
        let deliveries = account.full_deliveries(endpoint).await?;
        Ok(deliveries.first().and_then(|delivery| delivery.attempts.first()?.shard))
    };
    wait::until("an attempt is on record", RECORDED_WITHIN, attempted).await
}
