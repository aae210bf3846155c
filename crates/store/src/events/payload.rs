//! Payloads of events, each stored in one row or in several chunks.

use postrider_domain::event::Payload;
use postrider_domain::ids::{AccountId, EventId};

use crate::keys::event;
use crate::kv::{Error, Range, Tx};

/// Reassembles an event's payload. `None` if it is missing; a payload is never empty.
pub(crate) async fn load_payload(
    tx: &Tx,
    account: AccountId,
    id: EventId,
) -> Result<Option<Payload>, Error> {
    let mut rows = tx.snap_range(Range::prefix(event::chunks(account, id))).await?;
    let bytes = match rows.len() {
        0 => return Ok(None),
        1 => rows.remove(0).1,
        _ => rows.iter().flat_map(|(_, chunk)| chunk.iter().copied()).collect(),
    };
    Ok(Some(Payload::from_stored(bytes)))
}
