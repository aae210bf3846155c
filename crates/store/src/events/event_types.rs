//! The catalogue of event types.

use postrider_domain::event::{EventType, EventTypeName};

use crate::codec::{Record, RecordTx};
use crate::keys::event_type;
use crate::kv::{Error, Range, prefix_end};
use crate::records::{ListPage, PageRequest, Records, page};

impl Records {
    /// Adds an event type, or replaces the one with the same name but keeps its `created_at`.
    pub async fn put_event_type(&self, record: EventType) -> Result<EventType, Error> {
        let record = &record;
        self.store
            .transact(|tx, _| async move {
                let key = event_type::key(&record.name);
                let mut record = record.clone();
                if let Some(earlier) = tx.load::<EventType>(&key).await? {
                    record.created_at = earlier.created_at;
                }
                tx.save(key, &record);
                Ok(record)
            })
            .await
    }

    pub async fn event_type(&self, name: &EventTypeName) -> Result<Option<EventType>, Error> {
        self.store.read(|tx| async move { tx.snap_load(&event_type::key(name)).await }).await
    }

    /// Lists event types by name.
    pub async fn event_types(
        &self,
        request: PageRequest<EventTypeName>,
    ) -> Result<ListPage<EventType>, Error> {
        let all = event_type::all();
        let end = prefix_end(&all);
        // A name's key ends in NUL, so appending a byte gives the next possible key.
        let begin = request.after.map_or(all, |after| [event_type::key(&after), vec![0]].concat());
        let range = Range::new(begin, end).limit(request.limit + 1);
        let rows = self.store.rows(range).await?;
        let items =
            rows.iter().map(|(_, value)| Record::decode(value)).collect::<Result<_, _>>()?;
        Ok(page(items, request.limit, |event_type: &EventType| event_type.name.to_string()))
    }

    /// Removes an event type, whose events are then rejected. Endpoints keep their subscriptions to
    /// it, in case it is added again. Returns false if it does not exist.
    pub async fn delete_event_type(&self, name: &EventTypeName) -> Result<bool, Error> {
        self.store
            .transact(|tx, maybe_committed| async move {
                let key = event_type::key(name);
                let known = tx.get(&key).await?.is_some();
                tx.clear(key);
                // An earlier run may have removed it.
                Ok(known || maybe_committed)
            })
            .await
    }
}
