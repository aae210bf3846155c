//! Who wants the events of a type.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures::future::try_join;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;

use crate::keys::{gate, subscriber_delta, subscription};
use crate::kv::{Error, Range, Tx, counter, lock, prefix_end};
use crate::records::Records;

/// Who wants the events of one type.
#[derive(Clone)]
pub(crate) enum Subscribers {
    /// These endpoints, whose deliveries one transaction can make.
    Few(Arc<[EndpointId]>),
    /// More endpoints than that.
    Many {
        /// How many.
        count: u64,
        /// The one with the greatest id.
        last: EndpointId,
    },
}

impl Subscribers {
    /// Reads them, with the gates of those that are few.
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
        let endpoints = named.iter().chain(&all).map(|(key, _)| subscription::of_key(key));
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        if endpoints.len() <= MAX_FAN_OUT_PER_TRANSACTION {
            tx.prefetch(endpoints.iter().map(|endpoint| gate::key(account, *endpoint))).await?;
            return Ok(Self::Few(endpoints.into()));
        }
        let named = records.subscriber_counts.of(tx, account, Some(event_type)).await?;
        let all = records.subscriber_counts.of(tx, account, None).await?;
        let last = async |event_type| {
            let range = Range::prefix(subscription::of_type(account, event_type));
            tx.range(range.reverse().limit(1)).await
        };
        let (last_named, last_all) = try_join(last(Some(event_type)), last(None)).await?;
        let last = last_named.iter().chain(&last_all).map(|(key, _)| subscription::of_key(key));
        let last = last.collect::<Result<Vec<_>, _>>()?.into_iter().max();
        let last = last.expect("there are more than fit into one transaction");
        Ok(Self::Many { count: named + all, last })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        match self {
            Self::Few(endpoints) => u64::try_from(endpoints.len()).expect("bounded"),
            Self::Many { count, .. } => *count,
        }
    }
}

/// How many endpoints there are in long lists of subscribers. A list is counted once in a process:
/// its rows at one moment, less what its counter of changes was at that moment. From then on its
/// counter alone tells how long it is.
#[derive(Debug, Default)]
pub(crate) struct SubscriberCounts {
    lists: Mutex<HashMap<List, i64>>,
    /// Held by who counts: of many publishes that come first, one does.
    counting: tokio::sync::Mutex<()>,
}

/// An account and a type; none is the list of those that want every type.
type List = (AccountId, Option<EventTypeName>);

/// Most lists whose counts are kept. Beyond it one makes room, and is counted again when it is wanted.
const MAX_COUNTED: usize = 10_000;

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
        if let Some(base) = self.known(&list) {
            return Ok(u64::try_from(base + delta).unwrap_or(0));
        }
        let _counting = self.counting.lock().await;
        let base = match self.known(&list) {
            Some(base) => base,
            None => {
                let rows = count(tx, subscription::of_type(account, event_type)).await?;
                let base = i64::try_from(rows).expect("fewer rows than that") - delta;
                self.keep(list, base);
                base
            }
        };
        Ok(u64::try_from(base + delta).unwrap_or(0))
    }

    fn known(&self, list: &List) -> Option<i64> {
        lock(&self.lists).get(list).copied()
    }

    fn keep(&self, list: List, base: i64) {
        let mut lists = lock(&self.lists);
        if lists.len() >= MAX_COUNTED && !lists.contains_key(&list) {
            let any = lists.keys().next().cloned();
            any.map(|any| lists.remove(&any));
        }
        lists.insert(list, base);
    }
}

/// How many rows begin with `prefix`.
async fn count(tx: &Tx, prefix: Vec<u8>) -> Result<u64, Error> {
    const AT_ONCE: usize = 4_096;
    let end = prefix_end(&prefix);
    let mut begin = prefix;
    let mut count = 0;
    loop {
        let rows = tx.snap_range(Range::new(begin, end.clone()).limit(AT_ONCE)).await?;
        count += u64::try_from(rows.len()).expect("bounded");
        match rows.last() {
            Some((last, _)) if rows.len() == AT_ONCE => begin = [last, &[0][..]].concat(),
            _ => return Ok(count),
        }
    }
}
