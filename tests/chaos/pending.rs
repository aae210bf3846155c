//! Waiting for the pending deliveries of a run.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use postrider_tests::client::records::{Delivery, Endpoint};
use postrider_tests::evidence::after;
use postrider_tests::wait;

use crate::cluster_fixture::ClusterFixture;
use crate::run::WINDOW;

/// How many pending deliveries of an endpoint are printed.
const MAX_PRINTED: usize = 3;

/// Waits until nothing is pending: every delivery has finished or is held.
pub(crate) async fn wait_until_work_is_done(
    fixture: &ClusterFixture,
    within: Duration,
) -> Result<()> {
    let endpoints = async || fixture.account.list::<Endpoint>("/endpoints?").await;
    let left = async || {
        let pending: u64 = endpoints().await?.iter().map(|endpoint| endpoint.pending).sum();
        Ok(usize::try_from(pending)?)
    };
    let done = wait::until_none_left("nothing is pending", within, left).await;
    if done.is_err() {
        print_pending(fixture).await?;
    }
    done
}

/// Waits until only those deliveries are pending that are due later than any retry could be.
pub(crate) async fn wait_until_due_work_is_done(
    fixture: &ClusterFixture,
    within: Duration,
) -> Result<()> {
    let account = &fixture.account;
    let left = async || {
        let later = after(Timestamp::now(), 2 * WINDOW);
        let mut left = 0;
        for endpoint in account.list::<Endpoint>("/endpoints?").await? {
            let pending = format!("/endpoints/{}/deliveries?state=pending&", endpoint.id);
            let pending = account.list::<Delivery>(&pending).await?;
            let is_due_later = |d: &Delivery| d.next_attempt_at.is_some_and(|due| due > later);
            // At a strict endpoint, all deliveries wait behind the first.
            let first = pending.last().is_some_and(is_due_later);
            let strict = endpoint.ordering == "strict" && first;
            if endpoint.state == "enabled" && !strict {
                left += pending.iter().filter(|delivery| !is_due_later(delivery)).count();
            }
        }
        Ok(left)
    };
    let done = wait::until_none_left("nothing that is due is pending", within, left).await;
    if done.is_err() {
        print_pending(fixture).await?;
    }
    done
}

async fn print_pending(fixture: &ClusterFixture) -> Result<()> {
    for endpoint in fixture.account.list::<Endpoint>("/endpoints?").await? {
        let Endpoint { id, name, state, pending, oldest_pending_at, .. } = endpoint;
        eprintln!("{name} is {state}: {pending} pending, the oldest of {oldest_pending_at:?}");
        let pending = format!("/endpoints/{id}/deliveries?state=pending&");
        let pending = fixture.account.list::<Delivery>(&pending).await?;
        for Delivery { id, created_at, next_attempt_at, .. } in
            pending.iter().rev().take(MAX_PRINTED)
        {
            eprintln!("  {id}, created {created_at}, is due {next_attempt_at:?}");
        }
    }
    Ok(())
}
