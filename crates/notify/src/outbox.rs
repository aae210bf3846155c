//! The outbox: one actor per node that sends the emails of notices, and its handle.
//!
//! The actor runs one step per message, and a step reads one page of a shard's notices or sends one
//! email, so that it can be stopped between steps. While the mail server or the store is
//! unavailable it backs off completely; wakes do not shorten the wait. A notice is retried
//! separately, without blocking others, if a contact's server defers it, if its SMTP session is
//! aborted, if its step panics, or if it needs a corrupt record. An unreadable notice is skipped.
//! Deferred notices do not block those after them or other shards: a scan reads one page at a time,
//! and the shards take turns.

mod notice_sender;
mod owned_shards;
mod retry_state;
mod scan_queue;
#[cfg(test)]
pub(crate) mod test_data;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use parking_lot::Mutex;
use postrider_cluster::metrics::Instruments;
use postrider_cluster::route::Notifier;
use postrider_cluster::shard_guard::ShardGuard;
use postrider_domain::assignment::{Fence, Shard};
use postrider_domain::backoff::Backoff;
use postrider_domain::email::Email;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::Notice;
use postrider_domain::time::Clock;
use postrider_net::tasks::Tasks;
use postrider_store::{NoticeCursor, OwnerError, Records, kv};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::smtp::Mailer;
use notice_sender::{NoticeSender, OutboxError, SendStatus};
use owned_shards::OwnedShards;
use retry_state::{RetryState, RetryStates};
use scan_queue::ScanQueue;

/// Maximum notices of one shard that are read at once and sent before the next shard's turn.
const PAGE_SIZE: usize = 100;
/// How long stopping waits for an email in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the URL of an endpoint's dashboard page, if the dashboard has a public URL.
pub type EndpointPageUrl = Arc<dyn Fn(AccountId, EndpointId) -> Option<String> + Send + Sync>;

/// Starts the outbox.
pub struct Outbox;

/// The outbox actor could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the outbox")]
pub struct StartError(#[from] SpawnErr);

/// A handle to the outbox. Clones are cheap and share it.
#[derive(Clone)]
pub struct OutboxHandle {
    actor: ActorRef<OutboxMsg>,
    woken: WokenShards,
    owned: OwnedShards,
}

/// Shards with new notices. A set outside the mailbox, so that ten thousand wakes become one
/// message.
type WokenShards = Arc<Mutex<BTreeSet<Shard>>>;

#[derive(Clone, Copy)]
struct Intervals {
    /// How often every shard is scanned, since a wake may be lost.
    rescan: Duration,
    /// Between retries while nothing can be sent.
    unavailable: Backoff,
    /// Between retries of a deferred notice.
    deferred: Backoff,
}

const INTERVALS: Intervals = Intervals {
    rescan: Duration::from_secs(5),
    unavailable: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) },
    deferred: Backoff { initial: Duration::from_secs(60), max: Duration::from_secs(3600) },
};

impl Outbox {
    /// Starts the outbox. It owns no shards yet. `page_of` returns the URL of an endpoint's
    /// dashboard page, and `seed` seeds the jitter.
    pub async fn start(
        records: Records,
        clock: Arc<dyn Clock>,
        mailer: Mailer,
        page_of: EndpointPageUrl,
        seed: u64,
        tasks: &Tasks,
    ) -> Result<OutboxHandle, StartError> {
        let notice_sender =
            NoticeSender { records, clock, mailer, instruments: Instruments::new(), page_of };
        start(notice_sender, seed, INTERVALS, tasks).await
    }
}

async fn start(
    notice_sender: NoticeSender,
    seed: u64,
    intervals: Intervals,
    tasks: &Tasks,
) -> Result<OutboxHandle, StartError> {
    let (woken, owned) = (WokenShards::default(), OwnedShards::default());
    let state = State {
        notice_sender,
        intervals,
        rng: SmallRng::seed_from_u64(seed),
        woken: Arc::clone(&woken),
        owned: owned.clone(),
        scan_queue: ScanQueue::default(),
        corrupt_shards: BTreeSet::new(),
        queue: VecDeque::new(),
        retry_states: RetryStates::default(),
        failures: 0,
        phase: Phase::Idle,
    };
    let (actor, running) = Actor::spawn(None, OutboxActor, state).await?;
    tasks.watch("outbox", running);
    Ok(OutboxHandle { actor, woken, owned })
}

impl OutboxHandle {
    /// Sends a shard's notices, including those left by an earlier owner, until the guard is
    /// revoked. An email in flight at that time holds the guard until it is sent and recorded.
    pub fn own(&self, guard: ShardGuard) {
        let (fence, revoked, handle) = (guard.fence(), guard.revoked(), self.clone());
        self.owned.insert(guard);
        self.send(OutboxMsg::Own(fence.shard));
        tokio::spawn(async move {
            revoked.wait().await;
            handle.owned.remove(fence);
            handle.send(OutboxMsg::OwnershipEnded);
        });
    }

    /// Stops the outbox. Waits a few seconds for an email in flight; if it has not completed by
    /// then, it is aborted, and the next owner sends it again.
    pub async fn stop(&self) {
        let stopped = self.actor.stop_and_wait(None, Some(STOP_TIMEOUT)).await;
        if stopped.is_err() {
            self.actor.kill();
        }
    }

    fn send(&self, message: OutboxMsg) {
        if self.actor.send_message(message).is_err() {
            debug!("the outbox has stopped");
        }
    }
}

impl Notifier for OutboxHandle {
    fn wake(&self, fence: Fence) {
        let mut woken = self.woken.lock();
        let first = woken.is_empty();
        woken.insert(fence.shard);
        drop(woken);
        if first {
            self.send(OutboxMsg::Woken);
        }
    }
}

enum OutboxMsg {
    /// This node owns the shard.
    Own(Shard),
    /// A guard was revoked.
    OwnershipEnded,
    /// Some shards have new notices.
    Woken,
    /// Scan every shard.
    Rescan,
    /// Run the next step.
    Step,
    /// The backoff has elapsed.
    Resume,
}

impl ractor::Message for OutboxMsg {}

struct OutboxActor;

struct State {
    notice_sender: NoticeSender,
    intervals: Intervals,
    rng: SmallRng,
    woken: WokenShards,
    owned: OwnedShards,
    /// Shards to scan once the queue is empty.
    scan_queue: ScanQueue,
    /// Shards that had unreadable notices in the last scan.
    corrupt_shards: BTreeSet<Shard>,
    /// Notices of one shard, oldest first.
    queue: VecDeque<(Fence, Notice)>,
    retry_states: RetryStates,
    /// Consecutive failures that affect all notices.
    failures: u32,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for work.
    Idle,
    /// A `Step` message is in the mailbox.
    Busy,
    /// Waiting for `Resume`, while the mail server or the store is unavailable.
    Unavailable,
}

#[async_trait]
impl Actor for OutboxActor {
    type Msg = OutboxMsg;
    type State = State;
    type Arguments = State;

    async fn pre_start(
        &self,
        myself: ActorRef<OutboxMsg>,
        state: State,
    ) -> Result<State, ActorProcessingErr> {
        myself.send_interval(state.intervals.rescan, || OutboxMsg::Rescan);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<OutboxMsg>,
        message: OutboxMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            OutboxMsg::Own(shard) => state.own(shard),
            OutboxMsg::OwnershipEnded => state.drop_ended_shards(),
            OutboxMsg::Woken => state.take_woken(),
            OutboxMsg::Rescan => state.scan_queue.add(state.owned.shards()),
            OutboxMsg::Resume => state.phase = Phase::Idle,
            OutboxMsg::Step => {
                state.phase = Phase::Idle;
                if let Err(error) = state.step_catching_panics().await {
                    let delay = state.back_off();
                    warn!(%error, ?delay, "sending emails failed; retrying");
                    myself.send_after(delay, || OutboxMsg::Resume);
                }
            }
        }
        if state.phase == Phase::Idle && state.has_work() {
            state.phase = Phase::Busy;
            myself.send_message(OutboxMsg::Step)?;
        }
        Ok(())
    }

    /// There are no children. The default would stop the actor if a child ended.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<OutboxMsg>,
        _: SupervisionEvent,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl State {
    fn own(&mut self, shard: Shard) {
        self.corrupt_shards.remove(&shard);
        self.scan_queue.add([shard]);
        self.drop_ended_shards();
    }

    /// Drops the shards whose guard was revoked. Notices queued under an older fence are dropped
    /// too; the next scan finds them again.
    fn drop_ended_shards(&mut self) {
        let owned = &self.owned;
        self.scan_queue.retain(|shard| owned.of(shard).is_some());
        self.queue.retain(|(fence, _)| owned.under(*fence).is_some());
    }

    fn take_woken(&mut self) {
        let woken = std::mem::take(&mut *self.woken.lock());
        let ours = woken.into_iter().filter(|s| self.owned.of(*s).is_some());
        self.scan_queue.add(ours);
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.scan_queue.is_empty()
    }

    /// Runs a step and turns a panic into an error, because no supervisor would restart the actor.
    /// A notice leaves the queue at the end of its step, so the one that panicked is still in
    /// front.
    async fn step_catching_panics(&mut self) -> Result<(), OutboxError> {
        let stepped = AssertUnwindSafe(self.step()).catch_unwind().await;
        stepped.unwrap_or_else(|_| {
            if let Some((_, notice)) = self.queue.front().cloned() {
                error!(endpoint = %notice.endpoint, "sending a notice panicked");
                self.defer_internal(&notice);
            }
            Err(OutboxError::Panic)
        })
    }

    async fn step(&mut self) -> Result<(), OutboxError> {
        if let Some((fence, notice)) = self.queue.front().cloned() {
            match self.send_notice(fence, &notice).await {
                Err(OutboxError::Store(
                    error @ (kv::Error::Corrupt(_) | kv::Error::TooLarge { .. }),
                )) => {
                    self.on_corrupt_notice(&notice, &error);
                }
                sent => sent?,
            }
        } else if let Some((shard, after)) = self.scan_queue.next() {
            let next = self.scan_page(shard, after.as_ref()).await?;
            self.scan_queue.advance(shard, next);
        }
        self.failures = 0;
        Ok(())
    }

    /// Queues the due notices of one page. Returns the cursor of the next page.
    async fn scan_page(
        &mut self,
        shard: Shard,
        after: Option<&NoticeCursor>,
    ) -> Result<Option<NoticeCursor>, OutboxError> {
        let Some(fence) = self.owned.of(shard).map(|guard| guard.fence()) else {
            return Ok(None);
        };
        let page = self.notice_sender.records.notices(shard, after, PAGE_SIZE).await?;
        match page.damage {
            Some(error) => self.on_corrupt_shard(shard, &error),
            // The whole shard was read, so no notice is corrupt any more.
            None if after.is_none() && page.next.is_none() => {
                self.corrupt_shards.remove(&shard);
            }
            None => {}
        }
        let now = Instant::now();
        let due = page.notices.into_iter().filter(|n| self.retry_states.is_due(n, now));
        self.queue.extend(due.map(|notice| (fence, notice)));
        Ok(page.next)
    }

    /// Sends one notice's email. The notice leaves the queue unless sending failed.
    async fn send_notice(&mut self, fence: Fence, notice: &Notice) -> Result<(), OutboxError> {
        // Held until the email is sent and recorded.
        let Some(_guard) = self.owned.under(fence) else {
            self.drop_ended_shards();
            return Ok(());
        };
        let mut retry_state = self.retry_states.get(notice);
        let ran = self.notice_sender.run(notice, &mut retry_state).await;
        // First of all, so that a failure below cannot cause a second email.
        self.retry_states.set(notice, retry_state.clone());
        let status = ran?;
        let email = retry_state.email.clone();
        let email = email.as_ref();
        if status == SendStatus::Deferred {
            self.log(fence, notice, email).await;
            self.defer(notice, retry_state);
            return Ok(());
        }
        match self.notice_sender.records.finish_notice(fence, notice, email).await {
            Ok(()) => self.dequeue(notice),
            Err(OwnerError::Fenced) => self.give_up_shard(fence),
            Err(OwnerError::Store(error)) => return Err(error.into()),
        }
        self.retry_states.remove(notice);
        Ok(())
    }

    /// Records a deferred email, so that the account can see it. If this fails, the next try
    /// records it.
    async fn log(&mut self, fence: Fence, notice: &Notice, email: Option<&Email>) {
        let Some(email) = email else { return };
        match self.notice_sender.records.log_email(fence, notice, email).await {
            Ok(()) => {}
            Err(OwnerError::Fenced) => self.give_up_shard(fence),
            Err(OwnerError::Store(error)) => {
                let endpoint = notice.endpoint;
                warn!(%endpoint, %error, "recording a deferred email failed");
            }
        }
    }

    /// Logs once that a shard has unreadable notices. The next scan reads them again.
    fn on_corrupt_shard(&mut self, shard: Shard, error: &kv::Error) {
        if self.corrupt_shards.insert(shard) {
            error!(shard, %error, "a shard has corrupt notices; their emails are delayed");
        }
    }

    /// Logs once that a record needed by the first queued notice cannot be read or written, and
    /// defers the notice.
    fn on_corrupt_notice(&mut self, notice: &Notice, error: &kv::Error) {
        if self.retry_states.get(notice).internal_failures == 0 {
            error!(endpoint = %notice.endpoint, %error, "a notice depends on a corrupt record; its email is delayed");
        }
        self.defer_internal(notice);
    }

    /// Defers a notice because of an internal failure.
    fn defer_internal(&mut self, notice: &Notice) {
        let mut retry_state = self.retry_states.get(notice);
        retry_state.internal_failures = retry_state.internal_failures.saturating_add(1);
        self.defer(notice, retry_state);
    }

    /// Schedules a notice's retry, without blocking others.
    fn defer(&mut self, notice: &Notice, mut retry_state: RetryState) {
        let failures = retry_state.deferrals.saturating_add(retry_state.internal_failures);
        let delay = self.intervals.deferred.delay(failures, self.rng.random());
        retry_state.due = Some(Instant::now() + delay);
        self.retry_states.set(notice, retry_state);
        self.dequeue(notice);
    }

    /// Removes a notice, unless it has already left the queue with its shard.
    fn dequeue(&mut self, notice: &Notice) {
        self.queue.retain(|(_, queued)| queued != notice);
    }

    /// Gives up a shard to its newer owner, which sends the remaining notices.
    fn give_up_shard(&mut self, fence: Fence) {
        debug!(shard = fence.shard, "lost a shard to a newer owner");
        if let Some(guard) = self.owned.under(fence) {
            guard.revoke();
        }
        self.owned.remove(fence);
        self.drop_ended_shards();
    }

    /// Counts a failure that affects all notices, and returns the delay.
    fn back_off(&mut self) -> Duration {
        self.phase = Phase::Unavailable;
        self.failures = self.failures.saturating_add(1);
        self.intervals.unavailable.delay(self.failures, self.rng.random())
    }
}
