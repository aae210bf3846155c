//! What waits on a node: how many deliveries are held for disabled endpoints, and how old the
//! oldest is that is still to be delivered.
//!
//! Who takes part: one task walks through all endpoints, account by account, and adds up those
//! whose shards are owned here; at the end of a walk the sums become the node's [`Waiting`],
//! which the metrics show. One beat looks at no more than [`LOOKS`] endpoints and accounts, so
//! that it costs the same however many there are; a walk through more takes several beats, and
//! what is shown is as old as that: a hundred thousand endpoints take four minutes. An endpoint
//! that moves between nodes meanwhile may be missed or counted twice, until the next walk.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use opentelemetry::global;
use postrider_domain::endpoint::State;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::ownership::Shard;
use postrider_domain::time::Timestamp;
use postrider_net::tasks::Tasks;
use postrider_store::kv::Error;
use postrider_store::{EndpointView, PageRequest, Records};

use crate::context::Context;

/// How often the walk goes on.
const BEAT: Duration = Duration::from_secs(5);
/// Most endpoints and accounts that one beat looks at.
const LOOKS: usize = 2_000;
/// Most of them that one read of the store gives.
const PAGE: usize = 200;

/// What waits on a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Deliveries that are kept while their endpoints are disabled.
    pub held: u64,
    /// When the oldest of those that are to be delivered was made.
    pub oldest_pending_at: Option<Timestamp>,
}

/// Starts to count, until the node drains.
pub(crate) fn start(context: &Arc<Context>, tasks: &Tasks) {
    show(context);
    let context = Arc::downgrade(context);
    tasks.spawn("census", async move {
        let mut walk = Walk::default();
        while let Some(context) = context.upgrade() {
            if let Err(error) = walk.go_on(&context).await {
                // The store's troubles are told of by those who cannot work for them.
                tracing::debug!(%error, "what waits cannot be counted");
            }
            drop(context);
            tokio::time::sleep(BEAT).await;
        }
    });
}

/// Shows the figures, whenever somebody looks.
fn show(context: &Arc<Context>) {
    let meter = global::meter("postrider");
    let look = |read: fn(&Context) -> u64| {
        let context = Arc::downgrade(context);
        move || Weak::upgrade(&context).map(|context| read(&context))
    };
    let gauge = |name, unit, description, read: fn(&Context) -> u64| {
        let look = look(read);
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
            .with_callback(move |observer| {
                if let Some(value) = look() {
                    observer.observe(value, &[]);
                }
            })
            .build();
    };
    gauge(
        "postrider.deliveries.held",
        "{delivery}",
        "Deliveries that are kept while their endpoints are disabled, in the shards owned here.",
        |context| context.waiting().held,
    );
    gauge("postrider.shards.owned", "{shard}", "Shards that this node works on.", |context| {
        u64::try_from(context.shards.owned().len()).unwrap_or(u64::MAX)
    });
    let look = Arc::downgrade(context);
    meter
        .f64_observable_gauge("postrider.deliveries.oldest.age")
        .with_unit("s")
        .with_description("How old the oldest delivery is that is still to be delivered; 0: none.")
        .with_callback(move |observer| {
            if let Some(context) = look.upgrade() {
                let oldest = context.waiting().oldest_pending_at;
                let age = oldest.map(|at| context.now().since(at)).unwrap_or_default();
                observer.observe(age.as_secs_f64(), &[]);
            }
        })
        .build();
}

/// A walk through all endpoints, as far as it has come.
#[derive(Default)]
struct Walk {
    /// The last account that was listed.
    listed: Option<AccountId>,
    /// Accounts that were listed and not yet walked through; of the first one, the endpoints up
    /// to `after` were counted.
    accounts: VecDeque<AccountId>,
    after: Option<EndpointId>,
    sums: Waiting,
}

impl Walk {
    /// Takes the steps of one beat.
    async fn go_on(&mut self, context: &Context) -> Result<(), Error> {
        let owned = context.shards.owned();
        let mut room = LOOKS;
        while room > 0 {
            let (looked_at, over) = self.step(&context.records, &owned, room.min(PAGE)).await?;
            room = room.saturating_sub(looked_at.max(1));
            if over {
                let walk = std::mem::take(self);
                *context.waiting.lock().unwrap_or_else(PoisonError::into_inner) = walk.sums;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads one page, and tells how much there was on it and whether it was the last.
    async fn step(
        &mut self,
        records: &Records,
        owned: &HashSet<Shard>,
        limit: usize,
    ) -> Result<(usize, bool), Error> {
        let Some(account) = self.accounts.front() else {
            let request = PageRequest { limit, after: self.listed };
            let page = records.accounts(request).await?;
            self.accounts.extend(page.items.iter().map(|account| account.id));
            self.listed = self.accounts.back().copied();
            return Ok((page.items.len(), self.accounts.is_empty()));
        };
        let page = records.endpoints(*account, PageRequest { limit, after: self.after }).await?;
        for view in &page.items {
            if owned.contains(&records.shard_of(view.endpoint.id)) {
                self.sums.add(view);
            }
        }
        self.after = page.items.last().map(|view| view.endpoint.id);
        if page.next.is_none() || self.after.is_none() {
            self.accounts.pop_front();
            self.after = None;
        }
        Ok((page.items.len(), false))
    }
}

impl Waiting {
    fn add(&mut self, view: &EndpointView) {
        match view.state {
            State::Enabled => {
                let oldest = [self.oldest_pending_at, view.oldest_pending_at];
                self.oldest_pending_at = oldest.into_iter().flatten().min();
            }
            State::Disabled(_) => self.held += view.unfinished,
            State::Deleted => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use postrider_domain::endpoint::Ordering;
    use postrider_domain::time::Clock;

    use super::*;
    use crate::tests::world::{RealClock, SHARDS, World, hasty};

    #[tokio::test]
    async fn a_walk_counts_what_waits_in_the_shards_that_are_owned() {
        let world = World::new(hasty()).await;
        let url = "http://127.0.0.1:9/hook";
        let (open, closed) = (
            world.endpoint(url, Ordering::Parallel).await,
            world.endpoint(url, Ordering::Parallel).await,
        );
        let now = RealClock.now();
        world.records.disable_endpoint(world.account, closed, now).await.expect("disabled");
        let before = RealClock.now();
        for _ in 0..3 {
            world.accept_silently("{}").await;
        }

        let sums = |owned: HashSet<Shard>, page| {
            let records = world.records.clone();
            async move {
                let mut walk = Walk::default();
                while !walk.step(&records, &owned, page).await.expect("read").1 {}
                walk.sums
            }
        };
        for page in [1, 2, PAGE] {
            let waiting = sums((0..SHARDS).collect(), page).await;
            assert_eq!(waiting.held, 3, "pages of {page}");
            assert!(waiting.oldest_pending_at.is_some_and(|at| at >= before));
        }
        assert_eq!(sums(HashSet::new(), PAGE).await, Waiting::default());
        let of_open = sums(HashSet::from([world.records.shard_of(open)]), PAGE).await;
        assert!(of_open.oldest_pending_at.is_some());
    }
}
