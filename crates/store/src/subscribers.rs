//! Who wants the events of a type.

use std::sync::Arc;

use futures::future::try_join;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;

use crate::keys::{gate, subscription};
use crate::kv::{Error, Range, Tx, prefix_end};

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
        let named = count(tx, subscription::of_type(account, Some(event_type))).await?;
        let all = count(tx, subscription::of_type(account, None)).await?;
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
