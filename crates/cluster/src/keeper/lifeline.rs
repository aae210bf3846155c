//! This node's lease, renewed in a task of its own, so that nothing else can hold it up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider_store::{Lease, Records};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::Identity;
use crate::membership::RENEW_EVERY;
use crate::pulse::Pulse;

/// The pause before a renewal that failed is tried again.
const PAUSE: Duration = Duration::from_millis(250);

/// A lease that is being renewed. The renewals end with it.
pub(super) struct Lifeline {
    shared: Arc<Shared>,
    records: Records,
    task: AbortHandle,
}

struct Shared {
    pulse: Pulse,
    /// The revision that was written last.
    lease: Mutex<Lease>,
    draining: AtomicBool,
    now: Notify,
}

impl Lifeline {
    pub(super) fn start(records: Records, me: &Identity, pulse: Pulse) -> Self {
        let lease = Lease {
            node: me.node,
            name: me.name.clone(),
            address: me.address,
            version: me.version.clone(),
            draining: false,
            revision: 0,
        };
        let shared = Arc::new(Shared {
            pulse,
            lease: Mutex::new(lease),
            draining: AtomicBool::new(false),
            now: Notify::new(),
        });
        let task = tokio::spawn(renew(records.clone(), shared.clone())).abort_handle();
        Self { shared, records, task }
    }

    /// Tells the others, with the next renewal, which comes at once, that this node leaves.
    pub(super) fn drain(&self) {
        self.shared.draining.store(true, Ordering::Release);
        self.shared.now.notify_one();
    }

    /// Ends the renewals and removes the lease.
    pub(super) async fn end(&self) {
        self.task.abort();
        let lease = self.shared.lease();
        // A renewal that was broken off may have been written after all.
        for revision in [lease.revision, lease.revision + 1] {
            if let Err(error) = self.records.remove_lease(lease.node, revision).await {
                tracing::warn!(%error, "this node's lease cannot be removed; it runs out by itself");
                return;
            }
        }
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lease(&self) -> Lease {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn renew(records: Records, shared: Arc<Shared>) {
    let mut failing = false;
    loop {
        let began = Instant::now();
        let before = shared.lease();
        let draining = shared.draining.load(Ordering::Acquire);
        let lease = Lease { revision: before.revision + 1, draining, ..before };
        match records.renew_lease(&lease).await {
            Ok(known) => {
                if failing {
                    tracing::info!("this node's lease is renewed again");
                }
                if !known && lease.revision > 1 {
                    tracing::warn!("this node was taken for dead, and is back");
                }
                failing = false;
                *shared.lease.lock().unwrap_or_else(PoisonError::into_inner) = lease;
                shared.pulse.beat(began);
                let next = tokio::time::sleep_until(began + RENEW_EVERY);
                tokio::select! {
                    () = next => {}
                    () = shared.now.notified() => {}
                }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "this node's lease cannot be renewed; trying again");
                }
                failing = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
