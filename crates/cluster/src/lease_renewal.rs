//! Renews this node's lease in a separate task, so that no other work can delay it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use postrider_net::tasks::Tasks;
use postrider_store::kv::Error;
use postrider_store::{Lease, Records};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::lease_validity::LeaseValidity;
use crate::membership::{Identity, RENEW_INTERVAL, SELF_FENCE_AFTER};

/// The delay before a failed renewal is retried.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// If a renewal has not completed after this time, another one is started beside it.
const HEDGE_AFTER: Duration = Duration::from_secs(1);

const _: () = assert!(
    RENEW_INTERVAL.as_millis() + 3 * HEDGE_AFTER.as_millis() <= SELF_FENCE_AFTER.as_millis(),
    "three renewals can hang before the node fences itself"
);

/// Renews a lease until it is dropped.
pub(super) struct LeaseRenewer {
    shared: Arc<Shared>,
    records: Records,
    task: JoinHandle<()>,
}

struct Shared {
    validity: LeaseValidity,
    /// The lease as it was last written, or may have been.
    lease: Mutex<Lease>,
    draining: AtomicBool,
    renew_now: Notify,
}

impl LeaseRenewer {
    pub(super) fn start(
        records: Records,
        me: &Identity,
        validity: LeaseValidity,
        tasks: &Tasks,
    ) -> Self {
        let lease = Lease {
            node: me.node,
            name: me.name.clone(),
            address: me.address,
            version: me.version.clone(),
            draining: false,
            revision: 0,
            is_readable: true,
        };
        let shared = Arc::new(Shared {
            validity,
            lease: Mutex::new(lease),
            draining: AtomicBool::new(false),
            renew_now: Notify::new(),
        });
        let task = tasks.spawn("lease renewal", renew(records.clone(), shared.clone()));
        Self { shared, records, task }
    }

    /// Announces with an immediate renewal whether this node hands its shards over.
    pub(super) fn set_draining(&self, draining: bool) {
        self.shared.draining.store(draining, Ordering::Release);
        self.shared.renew_now.notify_one();
    }

    /// Stops the renewals and removes the lease.
    pub(super) async fn release(&mut self) {
        self.task.abort();
        // The task was aborted, which is not an error here.
        let _ = (&mut self.task).await;
        let Lease { node, revision, .. } = self.shared.lease.lock().clone();
        if let Err(error) = self.records.remove_lease(node, revision).await {
            tracing::warn!(%error, "removing this node's lease failed; it will expire");
        }
    }
}

impl Drop for LeaseRenewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    /// The lease to write next. No revision is written twice: a failed renewal may have been
    /// committed, and writing the same revision again would not look like a renewal to other nodes.
    fn next_revision(&self) -> Lease {
        let mut lease = self.lease.lock();
        lease.revision += 1;
        lease.draining = self.draining.load(Ordering::Acquire);
        lease.clone()
    }
}

/// Renews the lease forever. A renewal that hangs does not delay the next one, which is started
/// beside it after [`HEDGE_AFTER`]. Each successful renewal counts from its own start. A lost reply
/// therefore costs nothing, and a store that is always slow still renews the lease in time.
async fn renew(records: Records, shared: Arc<Shared>) {
    let (mut failing, mut joined) = (false, false);
    // Bounded: the store times out each of them after a few seconds.
    let mut in_flight = FuturesUnordered::new();
    let mut next_at = Instant::now();
    let mut last_success = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next_at) => {
                next_at = Instant::now() + HEDGE_AFTER;
                in_flight.push(renew_once(&records, &shared));
            }
            // Does not go through `next_at`: a renewal that completes now would overwrite it.
            () = shared.renew_now.notified() => {
                next_at = Instant::now() + HEDGE_AFTER;
                in_flight.push(renew_once(&records, &shared));
            }
            Some((started_at, outcome)) = in_flight.next() => match outcome {
                Ok(existed) => {
                    if failing {
                        tracing::info!("renewing this node's lease succeeded again");
                    }
                    if !existed && joined {
                        tracing::warn!("this node's lease had expired; it has been renewed");
                    }
                    (failing, joined) = (false, true);
                    last_success = last_success.max(Some(started_at));
                    next_at = started_at + RENEW_INTERVAL;
                }
                // Ignore the failure: a renewal that was started later has succeeded.
                Err(_) if Some(started_at) < last_success => {}
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "renewing this node's lease failed; retrying");
                    }
                    failing = true;
                    next_at = Instant::now() + RETRY_INTERVAL;
                }
            },
        }
    }
}

/// Runs one renewal. Returns when it was started, and whether the lease existed.
async fn renew_once(records: &Records, shared: &Shared) -> (Instant, Result<bool, Error>) {
    let (started_at, validity) = (Instant::now(), shared.validity.start_renewal());
    let renewed = records.renew_lease(&shared.next_revision()).await;
    if renewed.is_ok() {
        shared.validity.renewed(validity);
    }
    (started_at, renewed)
}
