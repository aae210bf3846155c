//! One attempt, from the request to the committed record. Each runs as its own task.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use postrider_cluster::route::Notifier;
use postrider_cluster::shard_guard::ShardGuard;
use postrider_cluster::trace;
use postrider_domain::attempt::{Exchange, TestReport};
use postrider_domain::delivery::Delivery;
use postrider_domain::endpoint::Endpoint;
use postrider_domain::event::{Event, Payload};
use postrider_domain::ids::{DeliveryId, IdGenerator};
use postrider_domain::limits::MAX_RESPONSE_READ_TIME;
use postrider_domain::notice::Report;
use postrider_domain::outcome::{ErrorKind, Outcome};
use postrider_domain::own_outage::{Cause, Target};
use postrider_domain::time::{Clock, Timestamp};
use postrider_domain::trace::TraceContext;
use postrider_domain::transition::AttemptResult;
use postrider_store::kv::Error;
use postrider_store::{Applied, FencedAttempt, Records};
use tracing::{Instrument, Span};

use crate::failure;
use crate::internal_errors::{ErrorStreak, NodeProgress};
use crate::metrics::Metrics;
use crate::permits::Permit;
use crate::reach::{self, Reach};
use crate::recorder::Recorder;
use crate::rng::SharedRng;
use crate::sender::{self, OutOfResources, Sender, Webhook};
use crate::spans;
use crate::surroundings::Surroundings;

/// An attempt to make.
pub(crate) struct AttemptTask {
    /// Held until the attempt is recorded.
    pub(crate) guard: ShardGuard,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) delivery: Delivery,
    pub(crate) payload: Option<Payload>,
    pub(crate) trace: Option<TraceContext>,
    pub(crate) permit: Permit,
    /// The delivery's current streak of internal errors.
    pub(crate) errors: Option<ErrorStreak>,
}

/// How an attempt ended, as reported to the endpoint's actor.
pub(crate) enum Completion {
    Recorded {
        outcome: Outcome,
        /// The delivery after the attempt.
        delivery: Delivery,
        /// Whether the attempt disabled the endpoint.
        disabled: bool,
    },
    /// The attempt was not recorded, because the delivery finished or was deleted meanwhile, or it
    /// was not made, because the guard was revoked. The store has the delivery's current state.
    Stale { delivery: DeliveryId },
    /// The attempt could not be made or recorded, through no fault of the endpoint. It is retried
    /// after a pause, as the error may recur.
    InternalError { delivery: DeliveryId },
    /// The attempt failed, or was not made, because of an outage of this node. It changes nothing,
    /// and is repeated after a pause.
    OwnOutage { delivery: DeliveryId, cause: Cause },
    /// The write was fenced off: the shard has a newer owner.
    Fenced,
}

/// An exchange to record. It is not sent if the attempt failed before the request.
struct AttemptRecord {
    at: Timestamp,
    exchange: Exchange,
    /// The request's span, from which the commit's span follows.
    trace: Option<TraceContext>,
}

/// Why there is no exchange to record.
enum NotSent {
    /// The guard was revoked, or the event no longer exists.
    Stale,
    /// An internal error, through no fault of the endpoint. Carries the exchange to record if the
    /// error keeps recurring for this delivery alone. `None` if the error is unrelated to the
    /// delivery.
    InternalError(Option<Box<AttemptRecord>>),
    /// An outage of this node.
    OwnOutage(Cause),
}

/// Makes attempts and records them.
pub(crate) struct Attempts {
    pub(crate) records: Records,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) id_generator: Arc<IdGenerator>,
    pub(crate) rng: SharedRng,
    pub(crate) sender: Sender,
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) recorder: Recorder,
    pub(crate) notifier: Arc<dyn Notifier>,
    pub(crate) metrics: Arc<Metrics>,
    /// Number of recorded successful attempts.
    pub(crate) successes: AtomicU64,
}

impl Attempts {
    /// What this node has accomplished since it started.
    pub(crate) fn progress(&self) -> NodeProgress {
        let successes = self.successes.load(Ordering::Relaxed);
        NodeProgress { connections: self.sender.connections_opened(), successes }
    }

    /// Makes one attempt that is not recorded.
    pub(crate) async fn test(&self, endpoint: &Endpoint, event: &Event) -> TestReport {
        let Event { id, event_type, payload, .. } = event;
        let webhook = Webhook { event: *id, event_type, payload };
        let (exchange, phases) = self.sender.send_timed(endpoint, webhook, self.clock.wall()).await;
        TestReport { exchange, phases }
    }

    /// Makes an attempt, records it, then updates the metrics and wakes the notifier.
    pub(crate) async fn run(&self, mut task: AttemptTask) -> Completion {
        let requested = AssertUnwindSafe(self.request(&mut task)).catch_unwind().await;
        // The panic hook has logged the message.
        let requested = requested.unwrap_or_else(|_| {
            Err(self.not_sent(&task, "an internal error prevented the request"))
        });
        let delivery = task.delivery.id;
        let record = match requested {
            Ok(record) => record,
            Err(NotSent::Stale) => return Completion::Stale { delivery },
            Err(NotSent::OwnOutage(cause)) => return Completion::OwnOutage { delivery, cause },
            Err(NotSent::InternalError(record)) => {
                let counts =
                    task.errors.is_some_and(|errors| errors.counts_as_failure(self.progress()));
                match record.filter(|_| counts) {
                    Some(record) => *record,
                    None => return Completion::InternalError { delivery },
                }
            }
        };
        let span = spans::commit(&task.delivery, task.guard.fence(), record.trace);
        self.commit(task, record).instrument(span).await
    }

    async fn request(&self, task: &mut AttemptTask) -> Result<AttemptRecord, NotSent> {
        let payload = self.payload(task).await?;
        let AttemptTask { guard, endpoint, delivery, permit, .. } = task;
        // If this process was suspended, the actor's check may have been long ago.
        if guard.is_revoked() {
            return Err(NotSent::Stale);
        }
        let span = spans::attempt(delivery, &endpoint.url, task.trace);
        let target = reach::target(endpoint);
        let (at, began) = (self.clock.now(), self.surroundings.used(&target));
        let sent = self.send(endpoint, delivery, &payload, permit).instrument(span.clone()).await;
        spans::record_result(&span, &sent);
        // The span ends with the request, before the record is committed.
        let trace = trace::of(&span);
        drop(span);
        match sent {
            Ok((exchange, reach)) => match self.excuse(&target, began, &exchange, reach).await {
                None => Ok(AttemptRecord { at, exchange, trace }),
                Some(cause) => {
                    tracing::debug!(delivery = %delivery.id, cause = cause.as_str(), "an attempt failed because of this node's own outage");
                    Err(NotSent::OwnOutage(cause))
                }
            },
            Err(OutOfResources { source, exchange }) => {
                // Local ports run out for one address at a time; descriptors and memory for all.
                if source.raw_os_error() != Some(failure::EADDRNOTAVAIL) {
                    self.surroundings.exhausted().await;
                    return Err(NotSent::OwnOutage(Cause::Resources));
                }
                tracing::error!(error = %source, "ran out of resources for requests");
                let record = AttemptRecord { at, exchange: *exchange, trace };
                Err(NotSent::InternalError(Some(Box::new(record))))
            }
        }
    }

    /// Why an attempt does not count, if it does not.
    async fn excuse(
        &self,
        target: &Target,
        began: Duration,
        exchange: &Exchange,
        reach: Reach,
    ) -> Option<Cause> {
        let response = exchange.response.as_ref();
        let rejected = response.and_then(|response| {
            let date = response.date()?;
            self.surroundings.observe_clock(target, date, response.status)
        });
        let timed_out =
            exchange.outcome.error().is_some_and(|failure| failure.kind == ErrorKind::Timeout);
        let unreachable = self.surroundings.excuse(target, began, reach, timed_out).await;
        rejected.or(unreachable)
    }

    async fn payload(&self, task: &AttemptTask) -> Result<Payload, NotSent> {
        if let Some(payload) = &task.payload {
            return Ok(payload.clone());
        }
        let Delivery { id, account, event, endpoint, .. } = task.delivery;
        let payload = match self.records.payload(account, event).await {
            Ok(Some(payload)) => payload,
            Ok(None) => return Err(NotSent::Stale),
            Err(error @ Error::Corrupt(_)) => {
                tracing::error!(%event, %error, "a stored payload is corrupt");
                return Err(self.not_sent(task, "Postrider could not read the event's payload"));
            }
            Err(error) => {
                tracing::warn!(%event, %error, "reading a payload failed; retrying the delivery later");
                return Err(NotSent::InternalError(None));
            }
        };
        // The read may have taken a long time, and the endpoint may have been disabled meanwhile.
        match self.records.should_send(account, endpoint, id).await {
            Ok(true) => Ok(payload),
            Ok(false) => Err(NotSent::Stale),
            Err(error) => {
                tracing::warn!(%endpoint, %error, "reading an endpoint's state failed; retrying the delivery later");
                Err(NotSent::InternalError(None))
            }
        }
    }

    fn not_sent(&self, task: &AttemptTask, reason: &str) -> NotSent {
        let exchange = sender::never_sent(&task.endpoint, reason);
        NotSent::InternalError(Some(Box::new(AttemptRecord {
            at: self.clock.now(),
            exchange,
            trace: None,
        })))
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        delivery: &Delivery,
        payload: &Payload,
        permit: &mut Permit,
    ) -> Result<(Exchange, Reach), OutOfResources> {
        let webhook = Webhook { event: delivery.event, event_type: &delivery.event_type, payload };
        self.metrics.in_flight.add(1, &[]);
        let sent = self.sender.send(endpoint, webhook, self.clock.wall()).await;
        self.metrics.in_flight.add(-1, &[]);
        let sent = sent?;
        let reach = sent.reach;
        // Otherwise, only what has arrived already is read.
        let may_wait = permit.begin_reading();
        let time = if may_wait { MAX_RESPONSE_READ_TIME } else { Duration::ZERO };
        Ok((sent.read(time).await, reach))
    }

    async fn commit(&self, task: AttemptTask, record: AttemptRecord) -> Completion {
        let AttemptTask { guard, endpoint, delivery, permit, .. } = task;
        let AttemptRecord { at, exchange, .. } = record;
        let outcome = exchange.outcome.clone();
        let attempt = FencedAttempt {
            fence: guard.fence(),
            account: delivery.account,
            endpoint: delivery.endpoint,
            delivery: delivery.id,
            result: AttemptResult {
                id: self.id_generator.id(at),
                number: delivery.attempt_count + 1,
                at,
                exchange,
                jitter: self.rng.random(),
                disable_when: endpoint.disable_when,
            },
        };
        let applied = self.recorder.record(attempt).await;
        // Held until the attempt is recorded, so that attempts do not go on without limit while the
        // store is unavailable.
        drop(permit);
        spans::record_commit(&Span::current(), applied.as_ref());
        match applied {
            Some(Applied::Recorded(changes)) => {
                self.metrics.recorded(&changes);
                if let Outcome::Success { .. } = outcome {
                    self.successes.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(notice) = &changes.notice {
                    match &notice.report {
                        Report::Disabled(disabled) => {
                            tracing::info!(endpoint = %notice.endpoint, reason = ?disabled.reason, "disabled an endpoint");
                        }
                        report => {
                            tracing::info!(endpoint = %notice.endpoint, ?report, "an endpoint keeps failing");
                        }
                    }
                    self.notifier.wake(guard.fence());
                }
                Completion::Recorded {
                    outcome,
                    disabled: changes.disabled.is_some(),
                    delivery: changes.delivery,
                }
            }
            Some(Applied::Stale) => Completion::Stale { delivery: delivery.id },
            Some(Applied::Fenced) => {
                self.metrics.cluster.fenced(1);
                Completion::Fenced
            }
            None => Completion::InternalError { delivery: delivery.id },
        }
    }
}
