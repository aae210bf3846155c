//! Wakes as messages: how the work that a node tells another node about is packed and read.

use postrider_domain::assignment::shard_of;
use postrider_domain::delivery::{Delivery, Progress};
use postrider_domain::event::{EventTypeName, Payload};
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_net::messages::{
    CallError, CallErrorKind, MAX_WAKE_BYTES, MAX_WAKE_PAYLOAD_BYTES, MAX_WAKES, ReadyDelivery,
    WakeItem, WakeMany, Work,
};
use postrider_store::{Ready, Wake};

/// More than one wake has beside its texts and its payload: four ids, numbers, lengths.
const WAKE_BYTES: usize = 128;

/// Packs work into as few messages as its bounds allow.
pub fn pack(wakes: impl IntoIterator<Item = Wake>) -> Vec<WakeMany> {
    let mut packed = Vec::new();
    let mut many = WakeMany::default();
    let mut bytes = 0;
    for wake in wakes {
        let traceparent = wake.trace().map(|trace| trace.to_string());
        let nudge = WakeItem { work: work_of(wake), traceparent };
        let size = size(&nudge);
        let full = many.wakes.len() == MAX_WAKES || bytes + size > MAX_WAKE_BYTES;
        if full && !many.wakes.is_empty() {
            packed.push(std::mem::take(&mut many));
            bytes = 0;
        }
        many.wakes.push(nudge);
        bytes += size;
    }
    if !many.wakes.is_empty() {
        packed.push(many);
    }
    packed
}

/// The work, in a store of so many shards.
///
/// # Errors
/// `Malformed` when something of it cannot be: nothing of it is to be done.
pub fn unpack(many: WakeMany, shards: u16) -> Result<Vec<Wake>, CallError> {
    let unpack = |WakeItem { work, traceparent }: WakeItem| {
        let mut wake = wake_of(work, shards)?;
        if let Wake::Endpoint { ready: Some(ready), .. } = &mut wake {
            // A trace that cannot be read breaks off, and the work goes on.
            ready.trace = traceparent.and_then(|text| text.parse().ok());
        }
        Ok(wake)
    };
    many.wakes.into_iter().map(unpack).collect()
}

/// At most how many bytes it has in a message.
fn size(nudge: &WakeItem) -> usize {
    let ready = match &nudge.work {
        Work::Endpoint { ready: Some(ready), .. } => ready.event_type.len() + ready.payload.len(),
        _ => 0,
    };
    WAKE_BYTES + nudge.traceparent.as_ref().map_or(0, String::len) + ready
}

fn work_of(wake: Wake) -> Work {
    match wake {
        Wake::Endpoint { account, endpoint, ready, .. } => {
            let ready = ready.and_then(|ready| small(*ready)).map(Box::new);
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
            return Err(malformed(format!("there is no shard {shard} of {shards}")));
        }
    })
}

/// The delivery, if it is due and small.
fn small(Ready { delivery, payload, .. }: Ready) -> Option<ReadyDelivery> {
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
    // A node has accepted it, and the bytes are what it made durable.
    let payload = Payload::of_json(it.payload)
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
        progress: Progress::Pending { due: it.due },
    };
    Ok(Ready { delivery, payload, trace: None })
}

fn malformed(message: String) -> CallError {
    CallError::new(CallErrorKind::Malformed, message)
}

#[cfg(test)]
mod tests;
