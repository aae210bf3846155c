//! One attempt from start to record, as a task of its own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::FutureExt;
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
use postrider_store::kv::Error;
use postrider_store::{Applied, Finished};
use tracing::{Instrument, Span};

use crate::context::Context;
use crate::failure;
use crate::permits::Permit;
use crate::sender::{Message, Sent};
use crate::spans;
use crate::trouble::Row;

/// An attempt that is to be made.
pub(crate) struct Job {
    /// Held until the attempt is on record.
    pub(crate) tenure: Tenure,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) delivery: Delivery,
    pub(crate) payload: Option<Payload>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) permit: Permit,
    /// Trouble that its last attempts met.
    pub(crate) row: Option<Row>,
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

/// A request that was made, or counts as one.
struct Made {
    at: Timestamp,
    sent: Sent,
    /// What its record's commit follows from.
    trace: Option<TraceContext>,
}

/// Why there is no request to be recorded.
enum NotMade {
    /// The tenure is over, or the event is gone.
    Stale,
    /// Through no fault of the endpoint's. What is to be recorded if it comes back again and again
    /// for this delivery alone; nothing when it says nothing about the delivery.
    Trouble(Option<Box<Made>>),
}

/// Makes an attempt, puts it on record, and then tells those who must know.
pub(crate) async fn make(context: &Context, job: Job) -> Ended {
    let requested = AssertUnwindSafe(request(context, &job)).catch_unwind().await;
    // The panic's message has gone to the log, by the process's hook.
    let requested = requested
        .unwrap_or_else(|_| Err(unmade(context, &job, "the request failed inside Postrider")));
    let delivery = job.delivery.id;
    let made = match requested {
        Ok(made) => made,
        Err(NotMade::Stale) => return Ended::Stale { delivery },
        Err(NotMade::Trouble(made)) => {
            let is_enough = job.row.is_some_and(|row| row.is_enough(context.done()));
            match made.filter(|_| is_enough) {
                Some(made) => *made,
                None => return Ended::Trouble { delivery },
            }
        }
    };
    let commit = spans::commit(&job.delivery, job.tenure.fence(), made.trace);
    record(context, job, made).instrument(commit).await
}

async fn request(context: &Context, job: &Job) -> Result<Made, NotMade> {
    let Job { tenure, endpoint, delivery, .. } = job;
    let payload = payload(context, job).await?;
    // It may be long ago that the actor looked, if this process was stopped.
    if tenure.is_over() {
        return Err(NotMade::Stale);
    }
    let span = spans::attempt(delivery, &endpoint.url, job.trace);
    let at = context.now();
    let sent = send(context, endpoint, delivery, &payload).instrument(span.clone()).await;
    spans::ended(&span, &sent);
    if let Some(error) = &sent.shortage {
        tracing::error!(%error, "this node cannot make requests");
        // Local ports are used up for one address at a time; descriptors and memory for all.
        let made = (error.raw_os_error() == Some(failure::EADDRNOTAVAIL))
            .then(|| Box::new(Made { at, sent, trace: trace::of(&span) }));
        return Err(NotMade::Trouble(made));
    }
    // The span ends with the request, and not with the record.
    Ok(Made { at, sent, trace: trace::of(&span) })
}

async fn payload(context: &Context, job: &Job) -> Result<Payload, NotMade> {
    if let Some(payload) = &job.payload {
        return Ok(payload.clone());
    }
    let Delivery { id, account, event, endpoint, .. } = job.delivery;
    let payload = match context.records.payload(account, event).await {
        Ok(Some(payload)) => payload,
        Ok(None) => return Err(NotMade::Stale),
        Err(error @ Error::Corrupt(_)) => {
            tracing::error!(%event, %error, "a payload is damaged");
            return Err(unmade(context, job, "Postrider could not read the event's payload"));
        }
        Err(error) => {
            tracing::warn!(%event, %error, "a payload cannot be read");
            return Err(NotMade::Trouble(None));
        }
    };
    // That may have taken long, and the endpoint may have been disabled meanwhile.
    match context.records.is_to_be_sent(account, endpoint, id).await {
        Ok(true) => Ok(payload),
        Ok(false) => Err(NotMade::Stale),
        Err(error) => {
            tracing::warn!(%endpoint, %error, "reading an endpoint's state failed");
            Err(NotMade::Trouble(None))
        }
    }
}

fn unmade(context: &Context, job: &Job, reason: &str) -> NotMade {
    let sent = Sent::unmade(&job.endpoint, reason);
    NotMade::Trouble(Some(Box::new(Made { at: context.now(), sent, trace: None })))
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

async fn record(context: &Context, job: Job, made: Made) -> Ended {
    let Job { tenure, delivery, permit, .. } = job;
    let Made { at, sent, .. } = made;
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
            if let Outcome::Success { .. } = outcome {
                context.successes.fetch_add(1, Ordering::Relaxed);
            }
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
