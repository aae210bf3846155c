//! Who received an event: the index of its deliveries. Deliveries that are made together share one
//! row of it. Events that an early version accepted have no row for what it made of them.

use postrider_domain::delivery::Delivery;
use postrider_domain::ids::{AccountId, DeliveryId, EventId};

use crate::codec::{Record, RecordTx};
use crate::deliveries::query::DeliveryView;
use crate::endpoints::state_of;
use crate::keys::{delivery, event, gate, of_event};
use crate::kv::{Error, Range, Tx, prefix_end};
use crate::records::{Page, PageRequest, Records};

/// Rows of the index that are read together. Each has at least one delivery, mostly, and at most as
/// many as one transaction makes of an event.
const ROWS: usize = 64;

/// Notes deliveries of an event that were made together. `mark` is no later than any of them.
pub(crate) fn note(
    tx: &Tx,
    account: AccountId,
    event: EventId,
    mark: DeliveryId,
    made: &[DeliveryId],
) {
    tx.save(of_event::key(account, event, mark), &made.to_vec());
}

/// Notes deliveries that were made in one step. The first of them is their mark.
pub(crate) fn note_step(tx: &Tx, account: AccountId, event: EventId, made: &[DeliveryId]) {
    if let Some(mark) = made.iter().min() {
        note(tx, account, event, *mark, made);
    }
}

/// Why an event's deliveries cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiversError {
    /// The account has no such event.
    #[error("there is no such event")]
    NoSuchEvent,
    /// The cursor is no delivery of this event.
    #[error("the cursor belongs to another list")]
    UnknownCursor,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Records {
    /// An event's deliveries, those that were made last first.
    ///
    /// # Errors
    /// See [`ReceiversError`].
    pub async fn event_deliveries(
        &self,
        account: AccountId,
        event: EventId,
        request: PageRequest<DeliveryId>,
    ) -> Result<Page<DeliveryView>, ReceiversError> {
        let PageRequest { limit, after } = request;
        self.store
            .read(|tx| async move {
                if tx.snap_get(event::head(account, event)).await?.is_none() {
                    return Err(ReceiversError::NoSuchEvent);
                }
                let mut ids = ids_after(&tx, account, event, after, limit + 1).await?;
                let more = ids.len() > limit;
                ids.truncate(limit);
                let next = if more { ids.last().map(ToString::to_string) } else { None };
                Ok(Page { items: views(&tx, account, &ids).await?, next })
            })
            .await
    }
}

/// At most `most` deliveries that were made before `after`, in the order of the list.
async fn ids_after(
    tx: &Tx,
    account: AccountId,
    event: EventId,
    after: Option<DeliveryId>,
    most: usize,
) -> Result<Vec<DeliveryId>, ReceiversError> {
    let all = of_event::of_event(account, event);
    let mut end = match after {
        Some(after) => [of_event::key(account, event, after), vec![0]].concat(),
        None => prefix_end(&all),
    };
    // Rows of different nodes may overlap, and then `after` does not stand in the first one here:
    // what comes before it was listed already.
    let mut passing = after;
    let mut ids = Vec::new();
    loop {
        let rows = tx.snap_range(Range::new(all.clone(), end).limit(ROWS).reverse()).await?;
        for (_, value) in &rows {
            let mut made = Vec::<DeliveryId>::decode(value)?;
            if let Some(after) = passing {
                let Some(upto) = made.iter().position(|id| *id == after) else { continue };
                made.truncate(upto);
                passing = None;
            }
            ids.extend(made.into_iter().rev());
        }
        match rows.last() {
            Some((last, _)) if rows.len() == ROWS && ids.len() < most => end = last.to_vec(),
            _ => break,
        }
    }
    if passing.is_some() {
        return Err(ReceiversError::UnknownCursor);
    }
    ids.truncate(most);
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
    tx.prefetch(found.iter().map(|delivery| gate::key(account, delivery.endpoint))).await?;
    let mut views = Vec::with_capacity(found.len());
    for delivery in found {
        views.push(DeliveryView { state: state_of(tx, &delivery).await?, delivery });
    }
    Ok(views)
}
