//! Wakes on their way to other nodes: one [`PeerQueue`] a node, emptied in batches by a task of its
//! own, with one batch under way at a time, so that what comes meanwhile travels together.
//!
//! A wake is a hint. Everything here is bounded and what exceeds the bounds is dropped: the owner
//! finds the rows by itself, only later. What cannot be delivered, since the owner is not linked,
//! has changed or is not known, goes astray for a moment and is routed anew when the picture of the
//! cluster changes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use postrider_domain::assignment::Shard;
use postrider_domain::ids::BootId;
use postrider_store::Wake;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::view::View;
use postrider_net::tasks::Tasks;

/// Wakes that wait for one node, and wakes that went astray.
const MAX_WAITING: usize = 8_192;
/// Beyond so many that wait, wakes travel without their deliveries.
const MAX_WITH_DELIVERIES: usize = 1_024;
/// Most wakes in a batch.
const MAX_BATCH: usize = 500;
/// Most bytes of payloads in a batch.
const MAX_BATCH_PAYLOADS: usize = 512 * 1024;
/// How often stray wakes are tried again.
const REROUTE_INTERVAL: Duration = Duration::from_millis(250);
/// How long a wake may be astray: by then its owner has looked for itself.
const UNROUTABLE_TTL: Duration = Duration::from_secs(6);

/// Carries wakes to a node.
#[async_trait]
pub trait WakeTransport: Send + Sync + 'static {
    /// Delivers wakes, and gives the shards that the node does not own.
    ///
    /// # Errors
    /// When it does not answer in time, or there is no link to it.
    async fn send(&self, to: BootId, wakes: &[Wake]) -> Result<Vec<Shard>, Unreachable>;
}

/// A node cannot be reached now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node cannot be reached")]
pub struct Unreachable;

/// The way to other nodes. Clones share it.
#[derive(Clone)]
pub struct WakeForwarder(Arc<Forwarder>);

struct Forwarder {
    me: BootId,
    view: watch::Receiver<Arc<View>>,
    transport: Arc<dyn WakeTransport>,
    /// Told when a node turned out not to own what the view says.
    view_is_stale: Arc<Notify>,
    queues: Mutex<HashMap<BootId, Arc<PeerQueue>>>,
    /// Each since when it has been on its way.
    unroutable: Mutex<Vec<(Instant, Wake)>>,
}

#[derive(Default)]
struct PeerQueue {
    waiting: Mutex<Vec<(Instant, Wake)>>,
    filled: Notify,
}

impl WakeForwarder {
    /// Opens the forwarder of node `me`. What went astray is given to `route` again; `view_is_stale` is notified
    /// when the view proves wrong.
    #[must_use]
    pub fn open(
        me: BootId,
        view: watch::Receiver<Arc<View>>,
        transport: Arc<dyn WakeTransport>,
        view_is_stale: Arc<Notify>,
        route: impl Fn(Vec<Wake>) -> Vec<Wake> + Send + 'static,
        tasks: &Tasks,
    ) -> Self {
        let queues = Mutex::default();
        let unroutable = Mutex::default();
        let forwarder =
            Arc::new(Forwarder { me, view, transport, view_is_stale, queues, unroutable });
        tasks.spawn("routing stray wakes", reroute(Arc::downgrade(&forwarder), route));
        Self(forwarder)
    }

    /// Sends wakes to the nodes that own their shards.
    pub fn send(&self, wakes: Vec<Wake>) {
        if !wakes.is_empty() {
            let now = Instant::now();
            self.0.dispatch(wakes.into_iter().map(|wake| (now, wake)));
        }
    }
}

impl Forwarder {
    fn dispatch(self: &Arc<Self>, wakes: impl Iterator<Item = (Instant, Wake)>) {
        let view = self.view.borrow().clone();
        for (since, wake) in wakes {
            match view.owner(wake.shard()) {
                // The picture says that it is ours, and yet nobody here works on it: not yet, or no
                // longer.
                Some(owner) if owner.node != self.me => self.queue(owner.node).push(since, wake),
                _ => self.add_unroutable(since, wake),
            }
        }
    }

    fn queue(self: &Arc<Self>, node: BootId) -> Arc<PeerQueue> {
        let mut queues = lock(&self.queues);
        let queue = queues.entry(node).or_insert_with(|| {
            let queue = Arc::<PeerQueue>::default();
            tokio::spawn(empty(Arc::downgrade(self), node, queue.clone()));
            queue
        });
        queue.clone()
    }

    fn add_unroutable(&self, since: Instant, wake: Wake) {
        let mut unroutable = lock(&self.unroutable);
        if unroutable.len() < MAX_WAITING {
            unroutable.push((since, wake.without_delivery()));
        }
    }

    fn take_unroutable(&self) -> Vec<(Instant, Wake)> {
        let mut unroutable = std::mem::take(&mut *lock(&self.unroutable));
        unroutable.retain(|(since, _)| since.elapsed() < UNROUTABLE_TTL);
        unroutable
    }

    /// Closes the queues of nodes that are gone.
    fn close_queues(&self) {
        let view = self.view.borrow().clone();
        lock(&self.queues).retain(|node, queue| {
            let stays = view.node(*node).is_some();
            if !stays {
                queue.filled.notify_one();
            }
            stays
        });
    }

    /// Whether a node still has an queue here; if not, its task ends.
    fn serves(&self, node: BootId, queue: &Arc<PeerQueue>) -> bool {
        lock(&self.queues).get(&node).is_some_and(|current| Arc::ptr_eq(current, queue))
    }
}

impl PeerQueue {
    fn push(&self, since: Instant, wake: Wake) {
        let mut waiting = lock(&self.waiting);
        match waiting.len() {
            0..MAX_WITH_DELIVERIES => waiting.push((since, wake)),
            MAX_WITH_DELIVERIES..MAX_WAITING => waiting.push((since, wake.without_delivery())),
            _ => {}
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// The oldest that wait, as many as travel together, and since when each has been on its way.
    fn take(&self) -> (Vec<Instant>, Vec<Wake>) {
        let mut waiting = lock(&self.waiting);
        let mut payloads = 0;
        let fit = |(_, wake): &&(Instant, Wake)| {
            payloads += wake.payload_bytes();
            payloads <= MAX_BATCH_PAYLOADS
        };
        // One alone is always within the bound.
        let count = waiting.iter().take(MAX_BATCH).take_while(fit).count().max(1);
        let count = count.min(waiting.len());
        let rest = waiting.split_off(count);
        std::mem::replace(&mut *waiting, rest).into_iter().unzip()
    }
}

/// Empties an queue for as long as its node is there.
async fn empty(forwarder: Weak<Forwarder>, node: BootId, queue: Arc<PeerQueue>) {
    loop {
        let (since, batch) = queue.take();
        if batch.is_empty() {
            match forwarder.upgrade() {
                Some(forwarder) if forwarder.serves(node, &queue) => {}
                _ => return,
            }
            queue.filled.notified().await;
            continue;
        }
        let Some(forwarder) = forwarder.upgrade() else { return };
        match forwarder.transport.send(node, &batch).await {
            Ok(not_owned) if not_owned.is_empty() => {}
            Ok(not_owned) => {
                forwarder.view_is_stale.notify_one();
                let not_owned: HashSet<Shard> = not_owned.into_iter().collect();
                let back = since.into_iter().zip(batch);
                let back = back.filter(|(_, wake)| not_owned.contains(&wake.shard()));
                back.for_each(|(since, wake)| forwarder.add_unroutable(since, wake));
            }
            Err(Unreachable) => {
                since
                    .into_iter()
                    .zip(batch)
                    .for_each(|(since, wake)| forwarder.add_unroutable(since, wake));
            }
        }
    }
}

/// Routes anew what went astray, whenever the view has changed and every now and then.
async fn reroute(forwarder: Weak<Forwarder>, route: impl Fn(Vec<Wake>) -> Vec<Wake> + Send) {
    let Some(mut view) = forwarder.upgrade().map(|forwarder| forwarder.view.clone()) else {
        return;
    };
    loop {
        let changed = tokio::time::timeout(REROUTE_INTERVAL, view.changed()).await;
        let Some(forwarder) = forwarder.upgrade() else { return };
        match changed {
            Ok(Ok(())) => forwarder.close_queues(),
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        let unroutable = forwarder.take_unroutable();
        if unroutable.is_empty() {
            continue;
        }
        // Each keeps the time since when it has been on its way, or it would be tried for ever.
        let others = unroutable
            .into_iter()
            .flat_map(|(since, wake)| route(vec![wake]).into_iter().map(move |wake| (since, wake)));
        forwarder.dispatch(others);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
