//! Encodes wakes as messages between nodes, and decodes them.

use postrider_domain::assignment::shard_of;
use postrider_domain::delivery::{Delivery, Progress, Schedule};
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_net::messages::{
    CallError, CallErrorKind, MAX_WAKE_BYTES, MAX_WAKE_PAYLOAD_BYTES, MAX_WAKES, ReadyDelivery,
    WakeItem, WakeMany, Work,
};
use postrider_store::{Ready, Wake};

/// An upper bound on a wake's encoded size without its strings and payload: four ids, numbers,
/// lengths.
const WAKE_OVERHEAD_BYTES: usize = 128;

/// Packs wakes into as few messages as the limits allow.
pub fn pack(wakes: impl IntoIterator<Item = Wake>) -> Vec<WakeMany> {
    let mut packed = Vec::new();
    let mut batch = WakeMany::default();
    let mut bytes = 0;
    for wake in wakes {
        let traceparent = wake.trace().map(|trace| trace.to_string());
        let item = WakeItem { work: work_of(wake), traceparent };
        let size = size(&item);
        let full = batch.wakes.len() == MAX_WAKES || bytes + size > MAX_WAKE_BYTES;
        if full && !batch.wakes.is_empty() {
            packed.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        batch.wakes.push(item);
        bytes += size;
    }
    if !batch.wakes.is_empty() {
        packed.push(batch);
    }
    packed
}

/// Decodes the wakes in a message, in a store with `shards` shards.
///
/// # Errors
/// `Malformed` if any of the wakes is invalid. The whole message is then rejected.
pub fn unpack(batch: WakeMany, shards: u16) -> Result<Vec<Wake>, CallError> {
    let unpack = |WakeItem { work, traceparent }: WakeItem| {
        let mut wake = wake_of(work, shards)?;
        if let Wake::Endpoint { ready: Some(ready), .. } = &mut wake {
            // A malformed trace context ends the trace, but not the work.
            ready.trace = traceparent.and_then(|text| text.parse().ok());
        }
        Ok(wake)
    };
    batch.wakes.into_iter().map(unpack).collect()
}

/// An upper bound on the wake's encoded size.
fn size(item: &WakeItem) -> usize {
    let ready = match &item.work {
        Work::Endpoint { ready: Some(ready), .. } => ready.event_type.len() + ready.payload.len(),
        _ => 0,
    };
    WAKE_OVERHEAD_BYTES + item.traceparent.as_ref().map_or(0, String::len) + ready
}

fn work_of(wake: Wake) -> Work {
    match wake {
        Wake::Endpoint { account, endpoint, ready, .. } => {
            let ready = ready.and_then(|ready| small_delivery(*ready)).map(Box::new);
            Work::Endpoint { account, endpoint, ready }
        }
        Wake::Changed { account, endpoint, .. } => Work::Changed { account, endpoint },
        Wake::Jobs { shard } => Work::Jobs { shard },
    }
}

fn wake_of(work: Work, shards: u16) -> Result<Wake, CallError> {
    Ok(match work {
        Work::Endpoint { account, endpoint, ready } => {
            let ready = ready.map(|it| ready_of(*it, account, endpoint)).transpose()?;
            let shard = shard_of(endpoint, shards);
            Wake::Endpoint { shard, account, endpoint, ready: ready.map(Box::new) }
        }
        Work::Changed { account, endpoint } => {
            Wake::Changed { shard: shard_of(endpoint, shards), account, endpoint }
        }
        Work::Jobs { shard } if shard < shards => Wake::Jobs { shard },
        Work::Jobs { shard } => {
            return Err(malformed(format!("shard {shard} does not exist; the store has {shards}")));
        }
    })
}

/// The delivery as a message, if it is pending and its payload is small.
fn small_delivery(Ready { delivery, payload, .. }: Ready) -> Option<ReadyDelivery> {
    let Progress::Pending { due } = delivery.progress else { return None };
    (payload.bytes().len() <= MAX_WAKE_PAYLOAD_BYTES).then(|| ReadyDelivery {
        id: delivery.id,
        event: delivery.event,
        event_type: delivery.event_type.as_str().to_owned(),
        created_at: delivery.created_at,
        attempt_count: delivery.attempt_count,
        first_attempt_at: delivery.first_attempt_at,
        due,
        payload: payload.bytes().clone(),
    })
}

fn ready_of(
    it: ReadyDelivery,
    account: AccountId,
    endpoint: EndpointId,
) -> Result<Ready, CallError> {
    let event_type = EventTypeName::parse(&it.event_type)
        .map_err(|error| malformed(format!("a wake's event type {error}")))?;
    // The sending node has validated the payload; these are the bytes that it stored.
    let payload = Payload::within_limits(it.payload)
        .map_err(|error| malformed(format!("a wake's payload {error}")))?;
    let delivery = Delivery {
        id: it.id,
        account,
        event: it.event,
        event_type,
        endpoint,
        created_at: it.created_at,
        attempt_count: it.attempt_count,
        first_attempt_at: it.first_attempt_at,
        schedule: Schedule::default(),
        progress: Progress::Pending { due: it.due },
    };
    Ok(Ready { delivery, payload, trace: None })
}

fn malformed(message: String) -> CallError {
    CallError::new(CallErrorKind::Malformed, message)
}

#[cfg(test)]
mod tests;
