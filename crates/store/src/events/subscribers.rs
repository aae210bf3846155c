//! The subscribers to an event type.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::future::try_join;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;

use crate::keys::{dispatch_state, subscriber_delta, subscription};
use crate::kv::{Error, Range, Tx, counter, lock, prefix_end};
use crate::records::Records;

/// The subscribers to one event type.
#[derive(Clone)]
pub(crate) enum Subscribers {
    /// Few enough for one transaction to create their deliveries.
    Few(Arc<[EndpointId]>),
    /// Too many for one transaction.
    Many {
        count: u64,
        /// The subscriber with the greatest id.
        last: EndpointId,
    },
}

impl Subscribers {
    /// Reads the subscribers and, if they are few, prefetches their dispatch states.
    pub(crate) async fn of(
        records: &Records,
        tx: &Tx,
        account: AccountId,
        event_type: &EventTypeName,
    ) -> Result<Self, Error> {
        let list = async |event_type| {
            let range = Range::prefix(subscription::of_type(account, event_type));
            tx.range(range.limit(MAX_FAN_OUT_PER_TRANSACTION + 1)).await
        };
        let (named, all) = try_join(list(Some(event_type)), list(None)).await?;
        let endpoints = named.iter().chain(&all).map(|(key, _)| subscription::parse_key(key));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        if endpoints.len() <= MAX_FAN_OUT_PER_TRANSACTION {
            tx.prefetch(endpoints.iter().map(|endpoint| dispatch_state::key(account, *endpoint)))
                .await?;
            return Ok(Self::Few(endpoints.into()));
        }
        let named = records.subscriber_counts.of(tx, account, Some(event_type)).await?;
        let all = records.subscriber_counts.of(tx, account, None).await?;
        let last = async |event_type| {
            let range = Range::prefix(subscription::of_type(account, event_type));
            tx.range(range.reverse().limit(1)).await
        };
        let (last_named, last_all) = try_join(last(Some(event_type)), last(None)).await?;
        let last = last_named.iter().chain(&last_all).map(|(key, _)| subscription::parse_key(key));
        let last = last.collect::<Result<Vec<_>, _>>()?.into_iter().max();
        let last = last.expect("the lists are not empty");
        Ok(Self::Many { count: named + all, last })
    }

    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Few(endpoints) => u64::try_from(endpoints.len()).expect("bounded"),
            Self::Many { count, .. } => *count,
        }
    }
}

/// The lengths of long lists of subscribers. Each process counts a list once: the number of rows minus
/// the delta counter at that moment is the base. From then on, base plus counter is the length.
#[derive(Debug, Default)]
pub(crate) struct SubscriberCounts {
    lists: Mutex<HashMap<List, i64>>,
    /// Held while counting, so that of many concurrent publishes only one counts.
    counting: tokio::sync::Mutex<()>,
}

/// An account and an event type; `None` is the list of subscribers to every type.
type List = (AccountId, Option<EventTypeName>);

/// Most lists whose counts are cached. Beyond it one is evicted, and recounted when needed.
const MAX_CACHED: usize = 10_000;

impl SubscriberCounts {
    async fn of(
        &self,
        tx: &Tx,
        account: AccountId,
        event_type: Option<&EventTypeName>,
    ) -> Result<u64, Error> {
        let delta = tx.snap_get(subscriber_delta::key(account, event_type)).await?;
        let delta = counter(delta.as_deref());
        let list = (account, event_type.cloned());
        if let Some(base) = self.cached(&list) {
            return Ok(u64::try_from(base + delta).unwrap_or(0));
        }
        let _counting = self.counting.lock().await;
        let base = match self.cached(&list) {
            Some(base) => base,
            None => {
                let rows = count(tx, subscription::of_type(account, event_type)).await?;
                let base = i64::try_from(rows).expect("fewer rows than that") - delta;
                self.insert(list, base);
                base
            }
        };
        Ok(u64::try_from(base + delta).unwrap_or(0))
    }

    fn cached(&self, list: &List) -> Option<i64> {
        lock(&self.lists).get(list).copied()
    }

    fn insert(&self, list: List, base: i64) {
        let mut lists = lock(&self.lists);
        if lists.len() >= MAX_CACHED && !lists.contains_key(&list) {
            let evicted = lists.keys().next().cloned();
            evicted.map(|evicted| lists.remove(&evicted));
        }
        lists.insert(list, base);
    }
}

/// Counts the rows with `prefix`.
async fn count(tx: &Tx, prefix: Vec<u8>) -> Result<u64, Error> {
    const BATCH_SIZE: usize = 4_096;
    let end = prefix_end(&prefix);
    let mut begin = prefix;
    let mut count = 0;
    loop {
        let rows = tx.snap_range(Range::new(begin, end.clone()).limit(BATCH_SIZE)).await?;
        count += u64::try_from(rows.len()).expect("bounded");
        match rows.last() {
            Some((last, _)) if rows.len() == BATCH_SIZE => begin = [last, &[0][..]].concat(),
            _ => return Ok(count),
        }
    }
}
