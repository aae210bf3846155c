//! This node's lease, renewed in a task of its own, so that nothing else can hold it up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use postrider_store::kv::Error;
use postrider_store::{Lease, Records};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::lease_validity::LeaseValidity;
use crate::membership::{Identity, RENEW_EVERY, SELF_STOP};
use postrider_net::tasks::Tasks;

/// The pause before a renewal that failed is tried again.
const PAUSE: Duration = Duration::from_millis(250);
/// A renewal that has not come through after so long is not relied upon any more.
const HANGS: Duration = Duration::from_secs(1);

const _: () = assert!(
    RENEW_EVERY.as_millis() + 3 * HANGS.as_millis() <= SELF_STOP.as_millis(),
    "three renewals can hang before the node stops itself"
);

/// A lease that is being renewed. The renewals end with it.
pub(super) struct LeaseRenewer {
    shared: Arc<Shared>,
    records: Records,
    task: JoinHandle<()>,
}

struct Shared {
    validity: LeaseValidity,
    /// As it was written last, or may have been.
    lease: Mutex<Lease>,
    draining: AtomicBool,
    now: Notify,
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
            now: Notify::new(),
        });
        let task = tasks.spawn("lease renewal", renew(records.clone(), shared.clone()));
        Self { shared, records, task }
    }

    /// Tells the others, with the next renewal, which comes at once, that this node leaves.
    pub(super) fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
        self.shared.now.notify_one();
    }

    /// Ends the renewals and removes the lease.
    pub(super) async fn end(&mut self) {
        self.task.abort();
        // It was broken off, which is no error here.
        let _ = (&mut self.task).await;
        let Lease { node, revision, .. } = self.shared.lock().clone();
        if let Err(error) = self.records.remove_lease(node, revision).await {
            tracing::warn!(%error, "this node's lease cannot be removed; it runs out by itself");
        }
    }
}

impl Drop for LeaseRenewer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lease> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lease to write next. No revision is tried twice: of one that failed nobody knows whether
    /// it was written, and others would not see the same one move.
    fn next(&self) -> Lease {
        let mut lease = self.lock();
        lease.revision += 1;
        lease.draining = self.draining.load(Ordering::Acquire);
        lease.clone()
    }
}

/// Renews the lease for ever. A renewal that hangs holds no other one up: its successor begins
/// beside it after [`HANGS`], and whichever comes through counts from when it was begun. So one lost
/// answer costs nothing, and a store that is slow all the time is still in time.
async fn renew(records: Records, shared: Arc<Shared>) {
    let (mut failing, mut joined) = (false, false);
    // The store gives each up after some seconds, so they are few.
    let mut under_way = FuturesUnordered::new();
    let mut next = Instant::now();
    let mut succeeded = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(next) => {
                next = Instant::now() + HANGS;
                under_way.push(once(&records, &shared));
            }
            // Does not go through `next`: a renewal that completes now would overwrite it.
            () = shared.now.notified() => {
                next = Instant::now() + HANGS;
                under_way.push(once(&records, &shared));
            }
            Some((began, outcome)) = under_way.next() => match outcome {
                Ok(known) => {
                    if failing {
                        tracing::info!("this node's lease is renewed again");
                    }
                    if !known && joined {
                        tracing::warn!("this node's lease had expired; it has been renewed");
                    }
                    (failing, joined) = (false, true);
                    succeeded = succeeded.max(Some(began));
                    next = began + RENEW_EVERY;
                }
                // One that was begun before another succeeded tells nothing new.
                Err(_) if Some(began) < succeeded => {}
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "this node's lease cannot be renewed; trying again");
                    }
                    failing = true;
                    next = Instant::now() + PAUSE;
                }
            },
        }
    }
}

/// One renewal, and when it was begun.
async fn once(records: &Records, shared: &Shared) -> (Instant, Result<bool, Error>) {
    let (began, validity) = (Instant::now(), shared.validity.start_renewal());
    let renewed = records.renew_lease(&shared.next()).await;
    if renewed.is_ok() {
        shared.validity.renewed(validity);
    }
    (began, renewed)
}
