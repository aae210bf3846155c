//! The index of an event's deliveries. Deliveries that are created together share one row.
//! Deliveries created by early versions are not indexed.

use postrider_domain::delivery::Delivery;
use postrider_domain::ids::{AccountId, DeliveryId, EventId};

use crate::codec::{Record, RecordTx};
use crate::deliveries::view::DeliveryView;
use crate::endpoints::state_of;
use crate::keys::{delivery, dispatch_state, event, event_delivery};
use crate::kv::{Error, Range, Tx, prefix_end};
use crate::records::{ListPage, PageRequest, Records};

/// Index rows that are read in one batch. A row usually has at least one delivery, and at most as
/// many as one transaction creates for an event.
const READ_BATCH_SIZE: usize = 64;

/// Indexes a batch of an event's deliveries. `batch_id` is not greater than any of their ids.
pub(crate) fn index(
    tx: &Tx,
    account: AccountId,
    event: EventId,
    batch_id: DeliveryId,
    made: &[DeliveryId],
) {
    tx.save(event_delivery::key(account, event, batch_id), &made.to_vec());
}

/// Indexes the deliveries of one step, with the smallest id as the batch id.
pub(crate) fn index_step(tx: &Tx, account: AccountId, event: EventId, made: &[DeliveryId]) {
    if let Some(batch_id) = made.iter().min() {
        index(tx, account, event, *batch_id, made);
    }
}

/// Why an event's deliveries cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventDeliveriesError {
    /// The account has no such event.
    #[error("there is no such event")]
    NoSuchEvent,
    /// The cursor is not a delivery of this event.
    #[error("the cursor belongs to another list")]
    UnknownCursor,
    #[error(transparent)]
    Store(#[from] Error),
}

impl Records {
    /// Lists an event's deliveries, newest first.
    ///
    /// # Errors
    /// See [`EventDeliveriesError`].
    pub async fn event_deliveries(
        &self,
        account: AccountId,
        event: EventId,
        request: PageRequest<DeliveryId>,
    ) -> Result<ListPage<DeliveryView>, EventDeliveriesError> {
        let PageRequest { limit, after } = request;
        self.store
            .read(|tx| async move {
                if tx.snap_get(event::meta_key(account, event)).await?.is_none() {
                    return Err(EventDeliveriesError::NoSuchEvent);
                }
                let mut ids = ids_after(&tx, account, event, after, limit + 1).await?;
                let more = ids.len() > limit;
                ids.truncate(limit);
                let next = if more { ids.last().map(ToString::to_string) } else { None };
                Ok(ListPage { items: views(&tx, account, &ids).await?, next })
            })
            .await
    }
}

/// Returns at most `limit` deliveries that follow `after` in the list.
async fn ids_after(
    tx: &Tx,
    account: AccountId,
    event: EventId,
    after: Option<DeliveryId>,
    limit: usize,
) -> Result<Vec<DeliveryId>, EventDeliveriesError> {
    let all = event_delivery::prefix(account, event);
    let mut end = match after {
        Some(after) => [event_delivery::key(account, event, after), vec![0]].concat(),
        None => prefix_end(&all),
    };
    // The rows of different nodes may overlap, so the first row read may not contain `after`.
    // Deliveries before it have already been listed.
    let mut skip_through = after;
    let mut ids = Vec::new();
    loop {
        let rows =
            tx.snap_range(Range::new(all.clone(), end).limit(READ_BATCH_SIZE).reverse()).await?;
        for (_, value) in &rows {
            let mut made = Vec::<DeliveryId>::decode(value)?;
            if let Some(after) = skip_through {
                let Some(position) = made.iter().position(|id| *id == after) else { continue };
                made.truncate(position);
                skip_through = None;
            }
            ids.extend(made.into_iter().rev());
        }
        match rows.last() {
            Some((last, _)) if rows.len() == READ_BATCH_SIZE && ids.len() < limit => {
                end = last.to_vec()
            }
            _ => break,
        }
    }
    if skip_through.is_some() {
        return Err(EventDeliveriesError::UnknownCursor);
    }
    ids.truncate(limit);
    Ok(ids)
}

async fn views(
    tx: &Tx,
    account: AccountId,
    ids: &[DeliveryId],
) -> Result<Vec<DeliveryView>, Error> {
    tx.prefetch(ids.iter().map(|id| delivery::key(account, *id))).await?;
    let mut found = Vec::with_capacity(ids.len());
    for id in ids {
        found.extend(tx.snap_load::<Delivery>(&delivery::key(account, *id)).await?);
    }
    tx.prefetch(found.iter().map(|delivery| dispatch_state::key(account, delivery.endpoint)))
        .await?;
    let mut views = Vec::with_capacity(found.len());
    for delivery in found {
        views.push(DeliveryView { state: state_of(tx, &delivery).await?, delivery });
    }
    Ok(views)
}
