//! Counts of the subscribers to event types, cached between transactions.

use std::collections::HashMap;

use parking_lot::Mutex;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::AccountId;

use crate::keys::{subscriber_delta, subscription};
use crate::kv::{Error, Range, Tx, counter, prefix_end};

/// The lengths of long lists of subscribers. Each process counts a list once: the number of rows
/// minus the delta counter at that moment is the base. From then on, base plus counter is the
/// length.
#[derive(Debug, Default)]
pub(crate) struct SubscriberCounts {
    lists: Mutex<HashMap<List, i64>>,
    /// Held while counting, so that only one of many concurrent publishes counts.
    counting: tokio::sync::Mutex<()>,
}

/// An account and an event type; `None` is the list of subscribers to every type.
type List = (AccountId, Option<EventTypeName>);

/// The maximum number of lists whose counts are cached. Beyond that, one is evicted, to be
/// recounted when needed.
const MAX_CACHED: usize = 10_000;

impl SubscriberCounts {
    pub(crate) async fn of(
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
                let base = i64::try_from(rows).expect("the number of rows fits in an i64") - delta;
                self.insert(list, base);
                base
            }
        };
        Ok(u64::try_from(base + delta).unwrap_or(0))
    }

    fn cached(&self, list: &List) -> Option<i64> {
        self.lists.lock().get(list).copied()
    }

    fn insert(&self, list: List, base: i64) {
        let mut lists = self.lists.lock();
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
