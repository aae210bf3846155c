//! The actor of one endpoint: which deliveries are due, which are in flight, and how many may run
//! concurrently.
//!
//! It lives while its endpoint has deliveries due or in flight. After an idle period it updates the
//! endpoint's pointer, so that its shard finds the next delivery in time, and asks to be stopped.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use postrider_cluster::shard_guard::ShardGuard;
use postrider_domain::concurrency_limit::ConcurrencyLimit;
use postrider_domain::endpoint::{self, Endpoint, Ordering};
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::outcome::Outcome;
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::{
    EndpointWork, OwnerError, Ready, Records, RecoveredBatch, RetryCursor, Workload,
};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::time::Instant;

use crate::attempt::{AttemptTask, Attempts, Completion};
use crate::internal_errors::InternalErrors;
use crate::memory_budget::{CachedPayload, MemoryBudget};
use crate::metrics::Metrics;
use crate::pacing::Pacing;
use crate::permits::{Permit, Permits, Share};
use crate::reach;
use crate::ready_queue::{Entry, ReadyQueue};

/// The actor keeps running if the next attempt is due within this time.
const RETIRE_HORIZON: Duration = Duration::from_secs(5);
/// How long the actor must be idle before it stops, so that a busy endpoint keeps its actor
/// between events.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause after an internal error: an attempt could not be made or recorded, through no fault of the
/// endpoint. The request may have been sent, so it is not repeated at once.
const INTERNAL_ERROR_PAUSE: Duration = Duration::from_secs(10);
/// Pause after an attempt that failed because of an outage of this node. Most outages lower the
/// node's limits, so that attempts wait for a permit; the others affect only few endpoints.
const OWN_OUTAGE_PAUSE: Duration = Duration::from_secs(1);
/// Shortest and longest delay of the actor's timer. A longer wait is split, because due times
/// follow the wall clock, which may be set during the wait.
const MIN_DELAY: Duration = Duration::from_millis(1);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Delay before a failed store operation is retried.
const STORE_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long the endpoint's state may be used before it is read again: the node that disabled or
/// enabled it may have been unable to notify this one. Shorter than the time after which a
/// partitioned node is declared dead.
const SNAPSHOT_TTL: Duration = Duration::from_secs(5);

enum EndpointMsg {
    /// There may be work. Carries the delivery if the sender had it.
    Wake(Option<Box<Ready>>),
    /// The endpoint was changed, enabled or disabled, or deliveries were brought forward.
    Changed,
    /// The requested permit was granted.
    Permit(Permit),
    /// An attempt that started at this time has completed.
    Completed(Box<Completion>, Instant),
    /// The timer has fired.
    Tick,
}

impl ractor::Message for EndpointMsg {}

/// What the actors of all endpoints share.
pub(crate) struct EndpointResources {
    pub(crate) records: Records,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) attempts: Arc<Attempts>,
    pub(crate) permits: Permits,
    pub(crate) memory_budget: Arc<MemoryBudget>,
    pub(crate) metrics: Arc<Metrics>,
}

/// What an endpoint's actor reports to its shard.
pub(crate) enum EndpointReport {
    /// The actor is idle. The shard stops it, unless the shard has sent messages that the actor had
    /// not handled when it sent this.
    Idle {
        /// How many of the shard's messages it had handled.
        handled: u64,
        /// When the endpoint's next delivery is due.
        next: Option<Timestamp>,
    },
    /// A write was fenced off: the shard has a newer owner.
    Fenced,
}

pub(crate) struct Arguments {
    pub(crate) resources: Arc<EndpointResources>,
    pub(crate) report: Box<dyn Fn(EndpointReport) + Send + Sync>,
    pub(crate) guard: ShardGuard,
    /// When this node claimed the shard.
    pub(crate) owned_since: Instant,
    pub(crate) account: AccountId,
    pub(crate) endpoint: EndpointId,
}

/// A handle to an endpoint's actor.
pub(crate) struct EndpointHandle(ActorRef<EndpointMsg>);

impl EndpointHandle {
    /// Starts the actor, supervised by `supervisor`.
    pub(crate) async fn start(args: Arguments, supervisor: ActorCell) -> Result<Self, SpawnErr> {
        let (actor, _) = Actor::spawn_linked(None, EndpointActor, args, supervisor).await?;
        Ok(Self(actor))
    }

    pub(crate) fn id(&self) -> ActorId {
        self.0.get_id()
    }

    /// Tells it that there may be work, with the delivery if the sender had it.
    pub(crate) fn wake(&self, ready: Option<Box<Ready>>) {
        self.cast(EndpointMsg::Wake(ready));
    }

    /// Tells it that the endpoint was changed, enabled or disabled, or that deliveries were brought
    /// forward.
    pub(crate) fn notify_changed(&self) {
        self.cast(EndpointMsg::Changed);
    }

    pub(crate) fn stop(&self) {
        self.0.stop(None);
    }

    fn cast(&self, message: EndpointMsg) {
        // If the actor has just failed, its supervision event follows.
        let _ = self.0.cast(message);
    }
}

/// The actor type; its state is [`ActorState`].
struct EndpointActor;

struct ActorState {
    args: Arguments,
    myself: ActorRef<EndpointMsg>,
    snapshot: Snapshot,
    queue: ReadyQueue,
    in_flight: HashSet<DeliveryId>,
    internal_errors: InternalErrors,
    concurrency_limit: ConcurrencyLimit,
    pacing: Pacing,
    /// Set while retries are brought forward because the endpoint has recovered.
    recovery: Option<Recovery>,
    failing: bool,
    permit_requested: bool,
    /// How many of the shard's messages were handled; see [`EndpointReport::Idle`].
    handled: u64,
    // Waits within this process use the monotonic clock. Only due times, which outlive the process,
    // use the wall clock.
    idle_since: Option<Instant>,
    /// After an internal error, no attempt starts before this time.
    paused_until: Option<Instant>,
    timer: Option<(Instant, tokio::task::AbortHandle)>,
}

/// How far the retries of a recovered endpoint have been brought forward.
struct Recovery {
    after: Option<RetryCursor>,
}

/// The endpoint's state as last read from the store.
enum Snapshot {
    /// It has to be read.
    Unknown,
    /// The endpoint is enabled, as read at this time.
    Enabled(Arc<Endpoint>, Instant),
    /// The endpoint is disabled or deleted, as learnt at this time.
    Closed(Instant),
}

/// Why no more attempts were started.
enum Dispatched {
    /// Every due attempt was started.
    AllDue,
    /// The concurrency limit is reached, the endpoint is throttled, a permit was requested, or the
    /// guard is revoked.
    Saturated,
    /// The state or the queue has to be read again first.
    QueueStale,
}

#[ractor::async_trait]
impl Actor for EndpointActor {
    type Msg = EndpointMsg;
    type State = ActorState;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<EndpointMsg>,
        args: Arguments,
    ) -> Result<ActorState, ActorProcessingErr> {
        args.resources.metrics.endpoints.add(1, &[]);
        let queue = ReadyQueue::new(args.resources.memory_budget.clone());
        let pacing = Pacing::new(args.owned_since);
        Ok(ActorState {
            args,
            myself,
            snapshot: Snapshot::Unknown,
            queue,
            in_flight: HashSet::new(),
            internal_errors: InternalErrors::default(),
            concurrency_limit: ConcurrencyLimit::starting(0),
            pacing,
            recovery: None,
            failing: false,
            permit_requested: false,
            handled: 0,
            idle_since: None,
            paused_until: None,
            timer: None,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<EndpointMsg>,
        message: EndpointMsg,
        state: &mut ActorState,
    ) -> Result<(), ActorProcessingErr> {
        let permit = state.apply(message);
        state.dispatch(permit).await;
        Ok(())
    }
}

/// Runs however the actor ends: an actor that is killed with its shard gets no `post_stop`.
impl Drop for ActorState {
    fn drop(&mut self) {
        self.args.resources.metrics.endpoints.add(-1, &[]);
        self.stop_timer();
    }
}

impl ActorState {
    /// Applies a message to the state.
    fn apply(&mut self, message: EndpointMsg) -> Option<Permit> {
        match message {
            EndpointMsg::Wake(ready) => {
                self.handled += 1;
                // There is work: the endpoint may have been enabled without this node noticing.
                if let Snapshot::Closed(learnt_at) = self.snapshot
                    && learnt_at.elapsed() >= SNAPSHOT_TTL
                {
                    self.snapshot = Snapshot::Unknown;
                }
                match ready {
                    Some(ready) => self.queue.offer(*ready),
                    None => self.queue.mark_stale(),
                }
            }
            EndpointMsg::Changed => {
                self.handled += 1;
                self.snapshot = Snapshot::Unknown;
                // It may have another URL, or a person wants deliveries to be sent now.
                self.pacing.forget_refusals();
            }
            EndpointMsg::Permit(permit) => {
                self.permit_requested = false;
                return Some(permit);
            }
            EndpointMsg::Completed(completion, started_at) => {
                self.on_completed(*completion, started_at);
            }
            EndpointMsg::Tick => self.stop_timer(),
        }
        None
    }

    fn on_completed(&mut self, completion: Completion, started_at: Instant) {
        match completion {
            Completion::Recorded { outcome, delivery, disabled } => {
                self.in_flight.remove(&delivery.id);
                self.internal_errors.reset(delivery.id);
                let now = self.args.resources.clock.now();
                let next_attempt_in = delivery.due().map(|due| due.since(now));
                self.pacing.completed(&outcome, started_at, next_attempt_in, Instant::now());
                self.note_outcome(&outcome);
                self.queue.requeue(delivery);
                if disabled {
                    self.snapshot = Snapshot::Closed(Instant::now());
                }
            }
            Completion::Stale { delivery } => {
                self.in_flight.remove(&delivery);
                self.internal_errors.reset(delivery);
                self.snapshot = Snapshot::Unknown;
            }
            Completion::InternalError { delivery } => {
                self.in_flight.remove(&delivery);
                self.internal_errors.note(delivery, self.args.resources.attempts.progress());
                self.snapshot = Snapshot::Unknown;
                self.paused_until = Some(Instant::now() + INTERNAL_ERROR_PAUSE);
            }
            Completion::OwnOutage { delivery, cause } => {
                self.in_flight.remove(&delivery);
                self.snapshot = Snapshot::Unknown;
                let limited = cause.lowers_limits();
                let pause = if limited { OWN_OUTAGE_PAUSE } else { INTERNAL_ERROR_PAUSE };
                self.paused_until = Some(Instant::now() + pause);
            }
            Completion::Fenced => self.on_superseded(),
        }
    }

    fn note_outcome(&mut self, outcome: &Outcome) {
        let was_failing = self.failing;
        self.failing = matches!(outcome, Outcome::Failure(_));
        if self.failing {
            self.concurrency_limit = self.concurrency_limit.after_failure();
            self.recovery = None;
        } else {
            self.concurrency_limit = self.concurrency_limit.after_success();
            if was_failing {
                self.recovery = Some(Recovery { after: None });
            }
        }
    }

    /// One of this actor's own writes was fenced off.
    fn on_fenced(&mut self) {
        self.args.resources.metrics.cluster.fenced(1);
        self.on_superseded();
    }

    fn on_superseded(&mut self) {
        (self.args.report)(EndpointReport::Fenced);
        self.snapshot = Snapshot::Closed(Instant::now());
    }

    /// Starts every attempt that may start now, and arranges a wake-up for the rest.
    async fn dispatch(&mut self, mut permit: Option<Permit>) {
        if let Some(until) = self.paused_until.filter(|until| *until > Instant::now()) {
            return self.wake_at(until);
        }
        let mut refreshed = false;
        loop {
            if matches!(self.snapshot, Snapshot::Unknown) {
                match self.refresh().await {
                    // Deliveries are being discarded or brought forward first; a tick is queued.
                    Ok(()) if matches!(self.snapshot, Snapshot::Unknown) => return,
                    Ok(()) => refreshed = true,
                    Err(OwnerError::Fenced) => return self.on_fenced(),
                    Err(OwnerError::Store(error)) => {
                        tracing::warn!(endpoint = %self.args.endpoint, %error, "reading an endpoint's queue failed; retrying");
                        return self.wake_in(STORE_RETRY_DELAY);
                    }
                }
            }
            match self.start_due(&mut permit) {
                Dispatched::Saturated => return,
                Dispatched::AllDue => break,
                Dispatched::QueueStale => {
                    self.snapshot = Snapshot::Unknown;
                    if refreshed {
                        // The queue was just read, so it should not need another read.
                        tracing::error!(endpoint = %self.args.endpoint, "an endpoint's queue is inconsistent");
                        return self.wake_in(STORE_RETRY_DELAY);
                    }
                }
            }
        }
        drop(permit);
        if let Some(Recovery { after }) = self.recovery.take() {
            return self.continue_recovery(after).await;
        }
        self.wait_or_retire().await;
    }

    /// The endpoint has recovered and nothing is due: brings the next retries forward.
    async fn continue_recovery(&mut self, after: Option<RetryCursor>) {
        let Arguments { resources, guard, account, endpoint, .. } = &self.args;
        let (records, now) = (&resources.records, resources.clock.now());
        let batch =
            records.bring_forward_recovered(guard.fence(), *account, *endpoint, after, now).await;
        match batch {
            Ok(RecoveredBatch { count, next }) => {
                if count > 0 {
                    self.snapshot = Snapshot::Unknown;
                }
                self.recovery = next.map(|next| Recovery { after: Some(next) });
                let _ = self.myself.cast(EndpointMsg::Tick);
            }
            Err(OwnerError::Fenced) => self.on_fenced(),
            Err(OwnerError::Store(error)) => {
                // They keep their due times.
                tracing::warn!(%endpoint, %error, "bringing an endpoint's retries forward failed");
                self.wait_or_retire().await;
            }
        }
    }

    /// Starts due attempts until none is left, or none may start.
    fn start_due(&mut self, permit: &mut Option<Permit>) -> Dispatched {
        while let Snapshot::Enabled(endpoint, read_at) = &self.snapshot {
            let (endpoint, read_at) = (endpoint.clone(), *read_at);
            let now = self.args.resources.clock.now();
            if self.args.guard.is_revoked() || self.in_flight.len() >= self.limit(endpoint.ordering)
            {
                return Dispatched::Saturated;
            }
            if self.queue.needs_read(now) || read_at.elapsed() >= SNAPSHOT_TTL {
                return Dispatched::QueueStale;
            }
            let Some(due) = self.queue.next_due(now).filter(|due| *due <= now) else {
                break;
            };
            if let Some(until) = self.pacing.wait(endpoint.rate_limit, Instant::now()) {
                self.wake_at(until);
                return Dispatched::Saturated;
            }
            let resources = &self.args.resources;
            let target = reach::target(&endpoint);
            let named = resources.attempts.surroundings.needs_name_server(&target);
            let host = resources.permits.host(&target.host, target.port);
            let share = Share { failing: self.failing, named, host };
            let granted = permit.take().filter(|permit| *permit.share() == share);
            let Some(permit) = granted.or_else(|| resources.permits.try_acquire(share.clone()))
            else {
                resources.attempts.surroundings.used(&target);
                self.request_permit(share);
                return Dispatched::Saturated;
            };
            let entry = self.queue.pop_due(now).expect("it is due");
            self.in_flight.insert(entry.delivery.id);
            self.idle_since = None;
            let lateness = now.since(due);
            let throttled_by = self.pacing.started(endpoint.rate_limit, lateness, Instant::now());
            self.args.resources.metrics.started(lateness, throttled_by);
            self.start(endpoint, entry, permit);
        }
        Dispatched::AllDue
    }

    fn limit(&self, ordering: Ordering) -> usize {
        match ordering {
            Ordering::Strict => 1,
            Ordering::Parallel if self.pacing.is_probing() => 1,
            Ordering::Parallel => self.concurrency_limit.limit() as usize,
        }
    }

    fn start(&self, endpoint: Arc<Endpoint>, entry: Entry, permit: Permit) {
        let Entry { delivery, payload, trace, .. } = entry;
        let payload = payload.map(CachedPayload::into_payload);
        let guard = self.args.guard.clone();
        let errors = self.internal_errors.streak(delivery.id);
        let task = AttemptTask { guard, endpoint, delivery, payload, trace, permit, errors };
        let (attempts, myself) = (self.args.resources.attempts.clone(), self.myself.clone());
        let started_at = Instant::now();
        tokio::spawn(async move {
            let delivery = task.delivery.id;
            let ran = AssertUnwindSafe(attempts.run(task)).catch_unwind().await;
            let completion = ran.unwrap_or(Completion::InternalError { delivery });
            // The actor may have failed meanwhile; its successor reads the record.
            let _ = myself.cast(EndpointMsg::Completed(Box::new(completion), started_at));
        });
    }

    fn request_permit(&mut self, share: Share) {
        if !std::mem::replace(&mut self.permit_requested, true) {
            let (permits, myself) = (self.args.resources.permits.clone(), self.myself.clone());
            tokio::spawn(async move {
                let _ = myself.cast(EndpointMsg::Permit(permits.acquire(share).await));
            });
        }
    }

    /// Reads the endpoint's state and queue.
    async fn refresh(&mut self) -> Result<(), OwnerError> {
        let Arguments { resources, guard, account, endpoint, .. } = &self.args;
        let (now, read_at) = (resources.clock.now(), Instant::now());
        // Deliveries in flight are at the head of the stored queue too.
        let limit = self.queue.window() + self.in_flight.len();
        match resources.records.workload(*account, *endpoint, limit).await? {
            EndpointWork::Discard => {
                self.internal_errors.clear();
                resources.records.discard_some(guard.fence(), *account, *endpoint, now).await?;
                // One batch per message: there may be very many, and other messages may be waiting.
                let _ = self.myself.cast(EndpointMsg::Tick);
            }
            EndpointWork::BringForward => {
                self.pacing.forget_refusals();
                self.recovery = None;
                resources
                    .records
                    .bring_forward_some(guard.fence(), *account, *endpoint, now)
                    .await?;
                let _ = self.myself.cast(EndpointMsg::Tick);
            }
            EndpointWork::Send(workload) => self.apply_workload(*workload, now, read_at),
            EndpointWork::Closed | EndpointWork::Gone => {
                self.internal_errors.clear();
                self.queue.invalidate();
                self.snapshot = Snapshot::Closed(Instant::now());
            }
        }
        Ok(())
    }

    fn apply_workload(&mut self, workload: Workload, now: Timestamp, read_at: Instant) {
        let Workload { endpoint, health, retries, firsts } = workload;
        let due_in = |failed: DeliveryId| {
            let mut deliveries = retries.deliveries.iter().chain(&firsts.deliveries);
            deliveries.find(|delivery| delivery.id == failed)?.due().map(|due| due.since(now))
        };
        self.pacing.apply_health(&health, due_in, Instant::now(), now);
        self.queue.load(endpoint.ordering, retries, firsts, &self.in_flight, now);
        if self.in_flight.is_empty() {
            self.apply_health(&health);
        }
        self.snapshot = Snapshot::Enabled(Arc::new(endpoint), read_at);
    }

    /// A new actor knows of earlier failures only from the store.
    fn apply_health(&mut self, health: &endpoint::Health) {
        self.failing = health.failure_count > 0;
        if self.failing {
            self.concurrency_limit = ConcurrencyLimit::starting(health.failure_count);
        }
    }

    /// Waits for the next due time, or asks to be stopped when there is none.
    async fn wait_or_retire(&mut self) {
        let now = self.args.resources.clock.now();
        if !self.in_flight.is_empty() {
            if let Some(due) = self.queue.next_due(now) {
                self.wake_in(due.since(now));
            }
            return;
        }
        match (&self.snapshot, self.queue.next_due(now)) {
            (Snapshot::Enabled(..), Some(due)) if due <= now.plus(RETIRE_HORIZON) => {
                self.wake_in(due.since(now));
            }
            _ => {
                let idle_since = *self.idle_since.get_or_insert_with(Instant::now);
                let mut until = idle_since + IDLE_TIMEOUT;
                if let Snapshot::Enabled(endpoint, _) = &self.snapshot {
                    until = until.max(self.pacing.forgettable_at(endpoint.rate_limit));
                }
                if until <= Instant::now() {
                    self.request_retirement(now).await;
                } else {
                    self.wake_at(until);
                }
            }
        }
    }

    async fn request_retirement(&mut self, now: Timestamp) {
        let Arguments { resources, guard, account, endpoint, report, .. } = &self.args;
        match resources.records.update_pointer(guard.fence(), *account, *endpoint).await {
            // A delivery arrived after the last read.
            Ok(Some(next)) if next <= now => {
                self.snapshot = Snapshot::Unknown;
                let _ = self.myself.cast(EndpointMsg::Tick);
            }
            Ok(next) => {
                report(EndpointReport::Idle { handled: self.handled, next });
            }
            Err(OwnerError::Fenced) => self.on_fenced(),
            Err(OwnerError::Store(error)) => {
                tracing::warn!(%endpoint, %error, "updating an endpoint's pointer failed; retrying");
                self.wake_in(STORE_RETRY_DELAY);
            }
        }
    }

    fn wake_in(&mut self, delay: Duration) {
        self.wake_at(Instant::now() + delay.clamp(MIN_DELAY, MAX_DELAY));
    }

    fn wake_at(&mut self, at: Instant) {
        if self.timer.as_ref().is_some_and(|(scheduled, _)| *scheduled <= at) {
            return;
        }
        self.stop_timer();
        let timer = self.myself.send_after(at - Instant::now(), || EndpointMsg::Tick);
        self.timer = Some((at, timer.abort_handle()));
    }

    fn stop_timer(&mut self) {
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
    }
}
