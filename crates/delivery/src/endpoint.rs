//! The actor of one endpoint: what is due, what is in flight, and how fast it may go.
//!
//! It lives while its endpoint has work due or in flight. When there is none for a while it
//! settles the endpoint's pointer, so that its shard finds it again in time, and asks to be
//! retired.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use postrider_cluster::tenure::Tenure;
use postrider_domain::endpoint::{self, Endpoint, Ordering};
use postrider_domain::ids::{AccountId, DeliveryId, EndpointId};
use postrider_domain::outcome::Outcome;
use postrider_domain::pace::Pace;
use postrider_domain::time::Timestamp;
use postrider_store::{OwnerError, Ready, Work, Workload};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use crate::attempt::{self, Ended, Job};
use crate::context::Context;
use crate::line::{Entry, Line};
use crate::permits::Permit;
use crate::room::Kept;
use crate::shard;
use crate::trouble::Troubles;

/// How far off the next attempt must be for the actor to end.
const LINGER: Duration = Duration::from_secs(5);
/// How long it must have had nothing to do: a busy endpoint keeps its actor between events.
const IDLE: Duration = Duration::from_secs(2);
/// The pause after an attempt could not be made or recorded, through no fault of the endpoint's.
/// Such an attempt may have gone over the wire, so it is not repeated at once.
const AFTER_TROUBLE: Duration = Duration::from_secs(10);
/// The shortest and the longest time for which the actor's timer is set. A longer wait is taken in
/// parts: the wall clock, by which due times go, may be set in its midst.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The pause after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How long what was read of the endpoint is believed: whoever disabled or enabled it may not have been
/// able to tell this node. Shorter than the time after which a node that is cut off counts as dead.
const BELIEVED: Duration = Duration::from_secs(5);

/// What an endpoint's actor is told.
pub(crate) enum Message {
    /// There may be work; perhaps the delivery itself.
    Wake(Option<Box<Ready>>),
    /// The endpoint was changed, enabled or disabled.
    Changed,
    /// A permit that it waited for.
    Permit(Permit),
    /// An attempt is over and on record.
    Ended(Box<Ended>),
    /// Time has passed that it waited for.
    Tick,
}

impl ractor::Message for Message {}

/// What an endpoint's actor begins with.
pub(crate) struct Arguments {
    pub(crate) context: Arc<Context>,
    pub(crate) shard: ActorRef<shard::Message>,
    pub(crate) tenure: Tenure,
    pub(crate) account: AccountId,
    pub(crate) endpoint: EndpointId,
}

/// The actor's type; all that it knows is in [`Data`].
pub(crate) struct EndpointActor;

/// What the actor knows.
pub(crate) struct Data {
    about: Arguments,
    myself: ActorRef<Message>,
    phase: Phase,
    line: Line,
    in_flight: HashSet<DeliveryId>,
    troubles: Troubles,
    pace: Pace,
    failing: bool,
    /// A permit has been asked for.
    asked: bool,
    /// Messages that the shard sent and that were handled; see [`shard::Message::Idle`].
    handled: u64,
    // Waits within this process go by the clock that cannot be set. Only due times, which outlast
    // the process, go by the wall clock.
    /// Since when there has been nothing to do.
    idle_since: Option<Instant>,
    /// After trouble of our own, nothing is done until then.
    paused_until: Option<Instant>,
    timer: Option<(Instant, tokio::task::AbortHandle)>,
}

/// What is known of the endpoint.
enum Phase {
    /// It has to be read.
    Unknown,
    /// It is sent to, as it was read at this time.
    Enabled(Arc<Endpoint>, Instant),
    /// It is disabled or gone, as was learnt at this time: nothing is sent.
    Closed(Instant),
}

#[ractor::async_trait]
impl Actor for EndpointActor {
    type Msg = Message;
    type State = Data;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        about: Arguments,
    ) -> Result<Data, ActorProcessingErr> {
        about.context.metrics.endpoints.add(1, &[]);
        let line = Line::new(about.context.room.clone());
        Ok(Data {
            about,
            myself,
            phase: Phase::Unknown,
            line,
            in_flight: HashSet::new(),
            troubles: Troubles::default(),
            pace: Pace::starting(0),
            failing: false,
            asked: false,
            handled: 0,
            idle_since: None,
            paused_until: None,
            timer: None,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        data: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        let permit = data.note(message);
        data.go_on(permit).await;
        Ok(())
    }
}

/// However the actor ends: one that is killed with its shard's is not told.
impl Drop for Data {
    fn drop(&mut self) {
        self.about.context.metrics.endpoints.add(-1, &[]);
        self.stop_timer();
    }
}

impl Data {
    /// Takes in what a message says.
    fn note(&mut self, message: Message) -> Option<Permit> {
        match message {
            Message::Wake(ready) => {
                self.handled += 1;
                // There is work, so whoever enabled it may not have been able to tell this node.
                if let Phase::Closed(learnt_at) = self.phase
                    && learnt_at.elapsed() >= BELIEVED
                {
                    self.phase = Phase::Unknown;
                }
                match ready {
                    Some(ready) => self.line.offer(*ready),
                    None => self.line.hint(),
                }
            }
            Message::Changed => {
                self.handled += 1;
                self.phase = Phase::Unknown;
            }
            Message::Permit(permit) => {
                self.asked = false;
                return Some(permit);
            }
            Message::Ended(ended) => self.ended(*ended),
            Message::Tick => self.stop_timer(),
        }
        None
    }

    fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Recorded { outcome, delivery, disabled } => {
                self.in_flight.remove(&delivery.id);
                self.troubles.forget(delivery.id);
                self.failing = matches!(outcome, Outcome::Failure(_));
                self.pace = if self.failing {
                    self.pace.after_failure()
                } else {
                    self.pace.after_success()
                };
                self.line.put_back(delivery);
                if disabled {
                    self.phase = Phase::Closed(Instant::now());
                }
            }
            Ended::Stale { delivery } => {
                self.in_flight.remove(&delivery);
                self.troubles.forget(delivery);
                self.phase = Phase::Unknown;
            }
            Ended::Trouble { delivery } => {
                self.in_flight.remove(&delivery);
                self.troubles.note(delivery, self.about.context.done());
                self.phase = Phase::Unknown;
                self.paused_until = Some(Instant::now() + AFTER_TROUBLE);
            }
            Ended::Fenced => self.superseded(),
        }
    }

    /// A write of this actor's own was refused.
    fn fenced(&mut self) {
        self.about.context.metrics.cluster.fenced(1);
        self.superseded();
    }

    fn superseded(&mut self) {
        let _ = self.about.shard.cast(shard::Message::Fenced);
        self.phase = Phase::Closed(Instant::now());
    }

    /// Starts what may start, and sees to it that it is woken for the rest.
    async fn go_on(&mut self, mut permit: Option<Permit>) {
        if let Some(until) = self.paused_until.filter(|until| *until > Instant::now()) {
            return self.wake_at(until);
        }
        let read = matches!(self.phase, Phase::Unknown);
        match self.read_if_needed().await {
            // What is to be discarded goes first; it is on its way.
            Ok(()) if matches!(self.phase, Phase::Unknown) => return,
            Ok(()) => {}
            Err(OwnerError::Fenced) => return self.fenced(),
            Err(OwnerError::Store(error)) => {
                tracing::warn!(endpoint = %self.about.endpoint, %error, "an endpoint's queue cannot be read");
                return self.wake_in(PAUSE);
            }
        }
        while let Phase::Enabled(endpoint, read_at) = &self.phase {
            if self.about.tenure.is_over() {
                return;
            }
            let (endpoint, read_at) = (endpoint.clone(), *read_at);
            let now = self.about.context.now();
            if self.in_flight.len() >= self.limit(endpoint.ordering) {
                return;
            }
            if self.line.wants_read(now) || read_at.elapsed() >= BELIEVED {
                self.phase = Phase::Unknown;
                if read {
                    // What was read just now leaves nothing to choose from: not by the rules.
                    tracing::error!(endpoint = %self.about.endpoint, "an endpoint's queue is out of order");
                    return self.wake_in(PAUSE);
                }
                return Box::pin(self.go_on(permit)).await;
            }
            let Some(due) = self.line.next_due(now).filter(|due| *due <= now) else {
                break;
            };
            let permits = &self.about.context.permits;
            let waited_for = permit.take().filter(|permit| permit.is_for_failing() == self.failing);
            let Some(permit) = waited_for.or_else(|| permits.try_acquire(self.failing)) else {
                return self.ask_for_permit();
            };
            let entry = self.line.pop_due(now).expect("it is due");
            self.in_flight.insert(entry.delivery.id);
            self.idle_since = None;
            self.about.context.metrics.started(now.since(due));
            self.start(endpoint, entry, permit);
        }
        drop(permit);
        self.rest().await;
    }

    fn limit(&self, ordering: Ordering) -> usize {
        match ordering {
            Ordering::Strict => 1,
            Ordering::Parallel => self.pace.limit() as usize,
        }
    }

    fn start(&self, endpoint: Arc<Endpoint>, entry: Entry, permit: Permit) {
        let Entry { delivery, payload, trace, .. } = entry;
        let payload = payload.map(Kept::take);
        let tenure = self.about.tenure.clone();
        let row = self.troubles.of(delivery.id);
        let job = Job { tenure, endpoint, delivery, payload, trace, permit, row };
        let (context, myself) = (self.about.context.clone(), self.myself.clone());
        tokio::spawn(async move {
            let delivery = job.delivery.id;
            let made = AssertUnwindSafe(attempt::make(&context, job)).catch_unwind().await;
            let ended = made.unwrap_or(Ended::Trouble { delivery });
            // The actor may have failed meanwhile; its successor reads what was recorded.
            let _ = myself.cast(Message::Ended(Box::new(ended)));
        });
    }

    fn ask_for_permit(&mut self) {
        if !std::mem::replace(&mut self.asked, true) {
            let (permits, failing, myself) =
                (self.about.context.permits.clone(), self.failing, self.myself.clone());
            tokio::spawn(async move {
                let _ = myself.cast(Message::Permit(permits.acquire(failing).await));
            });
        }
    }

    async fn read_if_needed(&mut self) -> Result<(), OwnerError> {
        if !matches!(self.phase, Phase::Unknown) {
            return Ok(());
        }
        let Arguments { context, tenure, account, endpoint, .. } = &self.about;
        let (now, read_at) = (context.now(), Instant::now());
        // Those in flight stand at the head of the queue too.
        let limit = self.line.window() + self.in_flight.len();
        match context.records.workload(*account, *endpoint, limit).await? {
            Work::Discard => {
                self.troubles.clear();
                context.records.discard_some(tenure.fence(), *account, *endpoint, now).await?;
                // One step a message: there may be very many, and more may have been said.
                let _ = self.myself.cast(Message::Tick);
            }
            Work::Send(workload) => self.learn(*workload, now, read_at),
            Work::Closed | Work::Gone => {
                self.troubles.clear();
                self.line.invalidate();
                self.phase = Phase::Closed(Instant::now());
            }
        }
        Ok(())
    }

    fn learn(&mut self, workload: Workload, now: Timestamp, read_at: Instant) {
        let Workload { endpoint, health, retries, firsts } = workload;
        self.line.load(endpoint.ordering, retries, firsts, &self.in_flight, now);
        if self.in_flight.is_empty() {
            self.take_health(&health);
        }
        self.phase = Phase::Enabled(Arc::new(endpoint), read_at);
    }

    /// At its start an actor knows nothing of earlier failures but what is on record.
    fn take_health(&mut self, health: &endpoint::Health) {
        self.failing = health.failure_count > 0;
        if self.failing {
            self.pace = Pace::starting(health.failure_count);
        }
    }

    /// Waits for the next due time, or asks to be retired when there is nothing to wait for.
    async fn rest(&mut self) {
        let now = self.about.context.now();
        if !self.in_flight.is_empty() {
            if let Some(due) = self.line.next_due(now) {
                self.wake_in(due.since(now));
            }
            return;
        }
        match (&self.phase, self.line.next_due(now)) {
            (Phase::Enabled(..), Some(due)) if due <= now.plus(LINGER) => {
                self.wake_in(due.since(now));
            }
            _ => {
                let idle_since = *self.idle_since.get_or_insert_with(Instant::now);
                if idle_since.elapsed() >= IDLE {
                    self.retire(now).await;
                } else {
                    self.wake_at(idle_since + IDLE);
                }
            }
        }
    }

    async fn retire(&mut self, now: Timestamp) {
        let Arguments { context, tenure, account, endpoint, shard, .. } = &self.about;
        match context.records.settle(tenure.fence(), *account, *endpoint).await {
            // Something came between the last read and this one.
            Ok(Some(next)) if next <= now => {
                self.phase = Phase::Unknown;
                let _ = self.myself.cast(Message::Tick);
            }
            Ok(next) => {
                let idle = shard::Message::Idle {
                    account: *account,
                    endpoint: *endpoint,
                    handled: self.handled,
                    next,
                };
                let _ = shard.cast(idle);
            }
            Err(OwnerError::Fenced) => self.fenced(),
            Err(OwnerError::Store(error)) => {
                tracing::warn!(%endpoint, %error, "an endpoint's pointer cannot be settled");
                self.wake_in(PAUSE);
            }
        }
    }

    fn wake_in(&mut self, wait: Duration) {
        self.wake_at(Instant::now() + wait.clamp(SHORTEST_WAIT, LONGEST_WAIT));
    }

    fn wake_at(&mut self, at: Instant) {
        if self.timer.as_ref().is_some_and(|(planned, _)| *planned <= at) {
            return;
        }
        self.stop_timer();
        let timer = self.myself.send_after(at - Instant::now(), || Message::Tick);
        self.timer = Some((at, timer.abort_handle()));
    }

    fn stop_timer(&mut self) {
        if let Some((_, timer)) = self.timer.take() {
            timer.abort();
        }
    }
}
