//! This node's lease, renewed in a task of its own, so that nothing else can hold it up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_store::{Lease, Records};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
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
    task: JoinHandle<()>,
}

struct Shared {
    pulse: Pulse,
    /// As it was written last, or may have been.
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
            is_readable: true,
        };
        let shared = Arc::new(Shared {
            pulse,
            lease: Mutex::new(lease),
            draining: AtomicBool::new(false),
            now: Notify::new(),
        });
        let task = tokio::spawn(renew(records.clone(), shared.clone()));
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

impl Drop for Lifeline {
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

async fn renew(records: Records, shared: Arc<Shared>) {
    let (mut failing, mut joined) = (false, false);
    loop {
        let began = Instant::now();
        match records.renew_lease(&shared.next()).await {
            Ok(known) => {
                if failing {
                    tracing::info!("this node's lease is renewed again");
                }
                if !known && joined {
                    tracing::warn!("this node was taken for dead, and is back");
                }
                (failing, joined) = (false, true);
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
