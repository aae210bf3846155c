//! The subscribers to an event type.

use std::sync::Arc;

use futures::future::try_join;
use postrider_domain::event::EventTypeName;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::limits::MAX_FAN_OUT_PER_TRANSACTION;

use crate::keys::{dispatch_state, subscription};
use crate::kv::{Error, Range, Tx};
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
