//! One attempt from start to record, as a task of its own.

use std::sync::Arc;

use postrider_cluster::tenure::Tenure;
use postrider_cluster::trace;
use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::Payload;
use postrider_domain::ids::DeliveryId;
use postrider_domain::machine::Attempted;
use postrider_domain::outcome::Outcome;
use postrider_domain::time::Timestamp;
use postrider_domain::trace::TraceContext;
use postrider_store::{Applied, Finished};
use tracing::{Instrument, Span};

use crate::context::Context;
use crate::permits::Permit;
use crate::sender::{Message, Sent};
use crate::spans;

/// An attempt that is to be made.
pub(crate) struct Job {
    /// Held until the attempt is on record.
    pub(crate) tenure: Tenure,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) delivery: Delivery,
    pub(crate) payload: Option<Payload>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) permit: Permit,
}

/// What an endpoint's actor learns of an attempt.
pub(crate) enum Ended {
    /// It is on record.
    Recorded {
        /// What it came to.
        outcome: Outcome,
        /// The delivery as it is now.
        delivery: Delivery,
        /// It disabled the endpoint.
        disabled: bool,
    },
    /// It is not on record, since the delivery came to its end or went away meanwhile, or was not
    /// made, since the tenure was over: the store knows how the delivery stands.
    Stale {
        /// Which.
        delivery: DeliveryId,
    },
    /// It could not be made or recorded, through no fault of the endpoint's. To be tried again
    /// after a pause, as it may happen again.
    Trouble {
        /// Which.
        delivery: DeliveryId,
    },
    /// The shard has a later owner.
    Fenced,
}

/// Makes an attempt, puts it on record, and then tells those who must know.
pub(crate) async fn make(context: &Context, job: Job) -> Ended {
    let Job { tenure, endpoint, delivery, payload, trace, permit } = job;
    let payload = match payload {
        Some(payload) => payload,
        None => match context.records.payload(delivery.account, delivery.event).await {
            Ok(Some(payload)) => payload,
            Ok(None) => return Ended::Stale { delivery: delivery.id },
            Err(error) => {
                tracing::warn!(event = %delivery.event, %error, "a payload cannot be read");
                return Ended::Trouble { delivery: delivery.id };
            }
        },
    };
    // It may be long ago that the actor looked, if this process was stopped.
    if tenure.is_over() {
        return Ended::Stale { delivery: delivery.id };
    }
    let span = spans::attempt(&delivery, &endpoint.url, trace);
    let at = context.now();
    let sent = send(context, &endpoint, &delivery, &payload).instrument(span.clone()).await;
    spans::ended(&span, &sent);
    if let Some(error) = sent.shortage {
        tracing::error!(%error, "this node cannot make requests");
        return Ended::Trouble { delivery: delivery.id };
    }
    let commit = spans::commit(&delivery, tenure.fence(), trace::of(&span));
    // It ends with the request, and not with the record.
    drop(span);
    record(context, &tenure, &delivery, at, sent, permit).instrument(commit).await
}

async fn send(
    context: &Context,
    endpoint: &Endpoint,
    delivery: &Delivery,
    payload: &Payload,
) -> Sent {
    let message = Message { event: delivery.event, event_type: &delivery.event_type, payload };
    context.metrics.in_flight.add(1, &[]);
    let sent = context.sender.send(endpoint, message, context.wall()).await;
    context.metrics.in_flight.add(-1, &[]);
    sent
}

async fn record(
    context: &Context,
    tenure: &Tenure,
    delivery: &Delivery,
    at: Timestamp,
    sent: Sent,
    permit: Permit,
) -> Ended {
    let outcome = sent.outcome.clone();
    let finished = Finished {
        fence: tenure.fence(),
        account: delivery.account,
        endpoint: delivery.endpoint,
        delivery: delivery.id,
        attempted: attempted(context, delivery.attempt_count + 1, at, sent),
    };
    let applied = context.recorder.record(finished).await;
    // Until then the attempt counts as in flight: while the store is away, nothing new begins.
    drop(permit);
    spans::committed(&Span::current(), applied.as_ref());
    match applied {
        Some(Applied::Stepped(step)) => {
            context.metrics.recorded(&step);
            if let Some(notice) = &step.notice {
                tracing::info!(endpoint = %notice.endpoint, reason = ?notice.disabled.reason, "an endpoint is disabled");
                context.notifier.nudge(tenure.fence());
            }
            Ended::Recorded { outcome, disabled: step.disabled.is_some(), delivery: step.delivery }
        }
        Some(Applied::Stale) => Ended::Stale { delivery: delivery.id },
        Some(Applied::Fenced) => {
            context.metrics.cluster.fenced(1);
            Ended::Fenced
        }
        None => Ended::Trouble { delivery: delivery.id },
    }
}

fn attempted(context: &Context, number: u8, at: Timestamp, sent: Sent) -> Attempted {
    Attempted {
        id: context.mint.id(at),
        number,
        at,
        // By the clock that does not jump.
        ended_at: at.plus(sent.duration),
        duration_ms: sent.duration_ms(),
        request: sent.request,
        response: sent.response,
        outcome: sent.outcome,
        luck: context.dice.roll(),
    }
}
