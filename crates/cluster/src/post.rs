//! Wakes on their way to other nodes: one [`Outbox`] a node, emptied in batches by a task of its
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
use postrider_domain::ids::BootId;
use postrider_domain::ownership::Shard;
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
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// How long a wake may be astray: by then its owner has looked for itself.
const ASTRAY: Duration = Duration::from_secs(6);

/// Carries wakes to a node.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Delivers wakes, and gives the shards that the node does not own.
    ///
    /// # Errors
    /// When it does not answer in time, or there is no link to it.
    async fn carry(&self, to: BootId, wakes: &[Wake]) -> Result<Vec<Shard>, NotReached>;
}

/// A node cannot be reached now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node cannot be reached")]
pub struct NotReached;

/// The way to other nodes. Clones share it.
#[derive(Clone)]
pub struct Post(Arc<Office>);

struct Office {
    me: BootId,
    view: watch::Receiver<Arc<View>>,
    carrier: Arc<dyn Carrier>,
    /// Told when a node turned out not to own what the view says.
    doubt: Arc<Notify>,
    outboxes: Mutex<HashMap<BootId, Arc<Outbox>>>,
    /// Each since when it has been on its way.
    strays: Mutex<Vec<(Instant, Wake)>>,
}

#[derive(Default)]
struct Outbox {
    waiting: Mutex<Vec<(Instant, Wake)>>,
    filled: Notify,
}

impl Post {
    /// Opens the post of node `me`. What went astray is given to `route` again; `doubt` is notified
    /// when the view proves wrong.
    #[must_use]
    pub fn open(
        me: BootId,
        view: watch::Receiver<Arc<View>>,
        carrier: Arc<dyn Carrier>,
        doubt: Arc<Notify>,
        route: impl Fn(Vec<Wake>) -> Vec<Wake> + Send + 'static,
        tasks: &Tasks,
    ) -> Self {
        let outboxes = Mutex::default();
        let strays = Mutex::default();
        let office = Arc::new(Office { me, view, carrier, doubt, outboxes, strays });
        tasks.spawn("routing stray wakes", route_strays(Arc::downgrade(&office), route));
        Self(office)
    }

    /// Sends wakes to the nodes that own their shards.
    pub fn send(&self, wakes: Vec<Wake>) {
        if !wakes.is_empty() {
            let now = Instant::now();
            self.0.dispatch(wakes.into_iter().map(|wake| (now, wake)));
        }
    }
}

impl Office {
    fn dispatch(self: &Arc<Self>, wakes: impl Iterator<Item = (Instant, Wake)>) {
        let view = self.view.borrow().clone();
        for (since, wake) in wakes {
            match view.owner(wake.shard()) {
                // The picture says that it is ours, and yet nobody here works on it: not yet, or no
                // longer.
                Some(owner) if owner.node != self.me => self.outbox(owner.node).push(since, wake),
                _ => self.stray(since, wake),
            }
        }
    }

    fn outbox(self: &Arc<Self>, node: BootId) -> Arc<Outbox> {
        let mut outboxes = lock(&self.outboxes);
        let outbox = outboxes.entry(node).or_insert_with(|| {
            let outbox = Arc::<Outbox>::default();
            tokio::spawn(empty(Arc::downgrade(self), node, outbox.clone()));
            outbox
        });
        outbox.clone()
    }

    fn stray(&self, since: Instant, wake: Wake) {
        let mut strays = lock(&self.strays);
        if strays.len() < MAX_WAITING {
            strays.push((since, wake.without_delivery()));
        }
    }

    fn take_strays(&self) -> Vec<(Instant, Wake)> {
        let mut strays = std::mem::take(&mut *lock(&self.strays));
        strays.retain(|(since, _)| since.elapsed() < ASTRAY);
        strays
    }

    /// Closes the outboxes of nodes that are gone.
    fn close_outboxes(&self) {
        let view = self.view.borrow().clone();
        lock(&self.outboxes).retain(|node, outbox| {
            let stays = view.node(*node).is_some();
            if !stays {
                outbox.filled.notify_one();
            }
            stays
        });
    }

    /// Whether a node still has an outbox here; if not, its task ends.
    fn serves(&self, node: BootId, outbox: &Arc<Outbox>) -> bool {
        lock(&self.outboxes).get(&node).is_some_and(|current| Arc::ptr_eq(current, outbox))
    }
}

impl Outbox {
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

/// Empties an outbox for as long as its node is there.
async fn empty(office: Weak<Office>, node: BootId, outbox: Arc<Outbox>) {
    loop {
        let (since, batch) = outbox.take();
        if batch.is_empty() {
            match office.upgrade() {
                Some(office) if office.serves(node, &outbox) => {}
                _ => return,
            }
            outbox.filled.notified().await;
            continue;
        }
        let Some(office) = office.upgrade() else { return };
        match office.carrier.carry(node, &batch).await {
            Ok(not_owned) if not_owned.is_empty() => {}
            Ok(not_owned) => {
                office.doubt.notify_one();
                let not_owned: HashSet<Shard> = not_owned.into_iter().collect();
                let back = since.into_iter().zip(batch);
                let back = back.filter(|(_, wake)| not_owned.contains(&wake.shard()));
                back.for_each(|(since, wake)| office.stray(since, wake));
            }
            Err(NotReached) => {
                since.into_iter().zip(batch).for_each(|(since, wake)| office.stray(since, wake));
            }
        }
    }
}

/// Routes anew what went astray, whenever the view has changed and every now and then.
async fn route_strays(office: Weak<Office>, route: impl Fn(Vec<Wake>) -> Vec<Wake> + Send) {
    let Some(mut view) = office.upgrade().map(|office| office.view.clone()) else { return };
    loop {
        let changed = tokio::time::timeout(TRY_AGAIN, view.changed()).await;
        let Some(office) = office.upgrade() else { return };
        match changed {
            Ok(Ok(())) => office.close_outboxes(),
            Ok(Err(_)) => return,
            Err(_) => {}
        }
        let strays = office.take_strays();
        if strays.is_empty() {
            continue;
        }
        // Each keeps the time since when it has been on its way, or it would be tried for ever.
        let others = strays
            .into_iter()
            .flat_map(|(since, wake)| route(vec![wake]).into_iter().map(move |wake| (since, wake)));
        office.dispatch(others);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
