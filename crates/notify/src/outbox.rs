//! The outbox: one actor per node that sends the emails of notices, and its handle.
//!
//! The actor runs one step per message, and a step reads one page of a shard's notices or sends one
//! email, so that it can be stopped between steps. Accounts take turns: an email lists the notices
//! of one account that were queued, and the account's next email waits for a minute. A notice that
//! has to wait stays in the store, and a later scan finds it.
//!
//! While the mail server or the store is unavailable the actor backs off completely; wakes do not
//! shorten the wait. A notice is retried separately, without blocking others, if a contact's server
//! defers it, if its SMTP session is aborted, if its step panics, or if it needs a corrupt record. An
//! unreadable notice is skipped. Deferred notices do not block those after them or other shards: a
//! scan reads one page at a time, and the shards take turns.

mod collecting;
mod notice_sender;
mod owned_shards;
mod queue;
mod retry_state;
mod scan_queue;
#[cfg(test)]
pub(crate) mod test_data;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
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
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::Notice;
use postrider_domain::time::Clock;
use postrider_net::tasks::Tasks;
use postrider_store::{MAX_NOTICES_PER_TRANSACTION, NoticeCursor, OwnerError, Records, kv};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::smtp::{Mailer, Unavailable};
use collecting::{Collecting, Periods};
use notice_sender::{Group, Item, ItemStatus, NoticeSender, OutboxError};
use owned_shards::OwnedShards;
use queue::Queue;
use retry_state::{RetryState, RetryStates};
use scan_queue::ScanQueue;

/// Maximum notices of one shard that are read before the next shard's turn.
const PAGE_SIZE: usize = 100;
/// Maximum pages that are read before the next email, beyond one for each shard: an email that is
/// sent after the scan lists more.
const MAX_PAGES_BETWEEN_EMAILS: usize = 100;
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
    /// How long an account's notices are collected.
    collect: Periods,
}

const INTERVALS: Intervals = Intervals {
    rescan: Duration::from_secs(5),
    unavailable: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) },
    deferred: Backoff { initial: Duration::from_secs(60), max: Duration::from_secs(3600) },
    collect: Periods { first: Duration::from_secs(5), next: Duration::from_secs(60) },
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
        let mailer = Arc::new(mailer);
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
    let state = State::new(notice_sender, seed, intervals);
    let (woken, owned) = (Arc::clone(&state.woken), state.owned.clone());
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
    /// Check the mail server.
    Check,
    /// The result of the check.
    Checked(Result<(), Unavailable>),
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
    /// Notices of accounts that may get an email now.
    queue: Queue,
    /// The notices of the email that the current step sends.
    sending: Vec<Notice>,
    collecting: Collecting,
    /// When the first of the accounts that the last scans found may get its email.
    next_ready: Option<Instant>,
    /// When a rescan for that is scheduled.
    rescan_at: Option<Instant>,
    /// Pages read since the last email while another was waiting to be sent.
    pages: usize,
    retry_states: RetryStates,
    /// Consecutive failures that affect all notices.
    failures: u32,
    /// Consecutive checks that the mail server failed.
    failed_checks: u32,
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
        myself.send_message(OutboxMsg::Check)?;
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
            OutboxMsg::Check => state.check_mail_server(&myself),
            OutboxMsg::Checked(checked) => {
                if let Some(delay) = state.on_checked(checked) {
                    myself.send_after(delay, || OutboxMsg::Check);
                }
            }
            OutboxMsg::Step => {
                state.phase = Phase::Idle;
                if let Err(error) = state.step_catching_panics().await {
                    let delay = state.back_off();
                    warn!(%error, ?delay, "sending emails failed; retrying");
                    myself.send_after(delay, || OutboxMsg::Resume);
                }
            }
        }
        if let Some(at) = state.schedule_rescan() {
            myself.send_after(at.duration_since(Instant::now()), || OutboxMsg::Rescan);
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
    fn new(notice_sender: NoticeSender, seed: u64, intervals: Intervals) -> Self {
        Self {
            notice_sender,
            intervals,
            rng: SmallRng::seed_from_u64(seed),
            woken: WokenShards::default(),
            owned: OwnedShards::default(),
            scan_queue: ScanQueue::default(),
            corrupt_shards: BTreeSet::new(),
            queue: Queue::default(),
            sending: Vec::new(),
            collecting: Collecting::new(intervals.collect),
            next_ready: None,
            rescan_at: None,
            pages: 0,
            retry_states: RetryStates::default(),
            failures: 0,
            failed_checks: 0,
            phase: Phase::Idle,
        }
    }

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
        self.queue.retain(|fence| owned.under(fence).is_some());
    }

    fn take_woken(&mut self) {
        let woken = std::mem::take(&mut *self.woken.lock());
        let ours = woken.into_iter().filter(|s| self.owned.of(*s).is_some());
        self.scan_queue.add(ours);
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.scan_queue.is_empty()
    }

    /// When to scan again for the accounts whose notices are being collected. `None` if that is
    /// scheduled already.
    fn schedule_rescan(&mut self) -> Option<Instant> {
        let next = self.next_ready.take()?;
        let now = Instant::now();
        if self.rescan_at.is_some_and(|at| now <= at && at <= next) {
            return None;
        }
        self.rescan_at = Some(next);
        self.rescan_at
    }

    /// Checks the mail server in the background. The check takes at most half a minute.
    fn check_mail_server(&self, myself: &ActorRef<OutboxMsg>) {
        let (mailer, myself) = (Arc::clone(&self.notice_sender.mailer), myself.clone());
        tokio::spawn(async move {
            let checked = mailer.check().await;
            if myself.send_message(OutboxMsg::Checked(checked)).is_err() {
                debug!("the outbox stopped during the check of the mail server");
            }
        });
    }

    /// Reports a check. Returns the delay until the next one, which only a failure needs: emails
    /// show from then on whether the server works.
    fn on_checked(&mut self, checked: Result<(), Unavailable>) -> Option<Duration> {
        self.notice_sender.instruments.mail_server_up(checked.is_ok());
        let server = self.notice_sender.mailer.description();
        let Err(error) = checked else {
            info!(server, "the mail server works");
            return None;
        };
        self.failed_checks = self.failed_checks.saturating_add(1);
        if self.failed_checks == 1 {
            warn!(server, %error, "the mail server does not work; emails wait until it does");
        } else {
            debug!(server, %error, "the mail server still does not work");
        }
        Some(self.intervals.unavailable.delay(self.failed_checks, self.rng.random()))
    }

    /// Runs a step and turns a panic into an error, because no supervisor would restart the actor.
    async fn step_catching_panics(&mut self) -> Result<(), OutboxError> {
        let stepped = AssertUnwindSafe(self.step()).catch_unwind().await;
        let sending = std::mem::take(&mut self.sending);
        stepped.unwrap_or_else(|_| {
            if !sending.is_empty() {
                error!(notices = sending.len(), "sending notices panicked");
                self.defer_internal(&sending);
            }
            Err(OutboxError::Panic)
        })
    }

    async fn step(&mut self) -> Result<(), OutboxError> {
        if self.queue.is_empty() {
            self.pages = 0;
        }
        let scan = self.pages < self.owned.len() + MAX_PAGES_BETWEEN_EMAILS;
        if let Some((shard, after)) = self.scan_queue.next().filter(|_| scan) {
            let next = self.scan_page(shard, after.as_ref()).await?;
            self.scan_queue.advance(shard, next);
            self.pages = self.pages.saturating_add(1);
        } else if let Some((account, notices)) = self.queue.next() {
            self.pages = 0;
            self.send_email(account, notices).await?;
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
        let NoticeSender { records, clock, .. } = &self.notice_sender;
        let page = records.notices(shard, clock.now(), after, PAGE_SIZE).await?;
        match page.damage {
            Some(error) => self.on_corrupt_shard(shard, &error),
            // The whole shard was read, so no notice is corrupt any more.
            None if after.is_none() && page.next.is_none() => {
                self.corrupt_shards.remove(&shard);
            }
            None => {}
        }
        let now = Instant::now();
        for notice in page.notices {
            if !self.retry_states.is_due(&notice, now) {
                continue;
            }
            let ready_at = self.collecting.ready_at(notice.account, now);
            if ready_at <= now {
                self.queue.add(fence, notice);
            } else {
                self.next_ready = Some(self.next_ready.map_or(ready_at, |at| at.min(ready_at)));
            }
        }
        Ok(page.next)
    }

    /// Sends one email about notices of an account. They leave the queue unless sending failed.
    async fn send_email(
        &mut self,
        account: AccountId,
        notices: Vec<(Fence, Notice)>,
    ) -> Result<(), OutboxError> {
        let mut items = Vec::with_capacity(notices.len());
        // Held until the email is sent and recorded.
        let mut guards = BTreeMap::new();
        for (fence, notice) in notices {
            let Some(guard) = self.owned.under(fence) else { continue };
            guards.insert(fence.shard, guard);
            let retry_state = self.retry_states.get(&notice);
            items.push(Item { fence, notice, retry_state, status: ItemStatus::Done });
        }
        if items.is_empty() {
            self.drop_ended_shards();
            return Ok(());
        }
        self.sending = items.iter().map(|item| item.notice.clone()).collect();
        let group = self.notice_sender.group(account, items).await;
        let mut group = match group {
            Ok(group) => group,
            Err(error) if is_corruption(&error) => {
                let notices = std::mem::take(&mut self.sending);
                self.on_corrupt_record(&notices, &error);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        guards.retain(|shard, _| group.items.iter().any(|item| item.fence.shard == *shard));
        self.sending = group.items.iter().map(|item| item.notice.clone()).collect();
        let sent = self.notice_sender.send(&mut group).await;
        // First of all, so that a failure below cannot cause a second email.
        for item in &group.items {
            self.retry_states.set(&item.notice, item.retry_state.clone());
        }
        if sent? {
            self.collecting.emailed(account, Instant::now());
            // The account's other notices wait, and are found again by a later scan.
            self.queue.keep_only(account, &self.sending);
        }
        self.record(group).await
    }

    /// Records the results of an email.
    async fn record(&mut self, group: Group) -> Result<(), OutboxError> {
        let (mut done, mut deferred) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for item in group.items {
            match &item.status {
                ItemStatus::Done => done.entry(item.fence.shard).or_default().push(item),
                ItemStatus::Deferred => deferred.entry(item.fence.shard).or_default().push(item),
                ItemStatus::Corrupt(error) => {
                    self.on_corrupt_record(std::slice::from_ref(&item.notice), error);
                }
            }
        }
        for items in deferred.values().flat_map(|items| items.chunks(MAX_NOTICES_PER_TRANSACTION)) {
            self.log(items).await;
        }
        let deferred: Vec<_> = deferred.into_values().flatten().map(|item| item.notice).collect();
        self.defer(&deferred);
        for items in done.values().flat_map(|items| items.chunks(MAX_NOTICES_PER_TRANSACTION)) {
            self.finish(items).await?;
        }
        Ok(())
    }

    /// Deletes finished notices of one shard, and records their emails. If a record is corrupt, only
    /// the notices that need it are deferred.
    async fn finish(&mut self, items: &[Item]) -> Result<(), OutboxError> {
        match self.finish_together(items).await {
            Err(error) if is_corruption(&error) => {}
            finished => return Ok(finished?),
        }
        for item in items {
            match self.finish_together(std::slice::from_ref(item)).await {
                Err(error) if is_corruption(&error) => {
                    self.on_corrupt_record(std::slice::from_ref(&item.notice), &error);
                }
                finished => finished?,
            }
        }
        Ok(())
    }

    async fn finish_together(&mut self, items: &[Item]) -> Result<(), kv::Error> {
        let Some(fence) = items.first().map(|item| item.fence) else { return Ok(()) };
        let finished: Vec<_> =
            items.iter().map(|item| (&item.notice, item.retry_state.email.as_ref())).collect();
        let NoticeSender { records, clock, .. } = &self.notice_sender;
        match records.finish_notices(fence, &finished, clock.now()).await {
            Ok(()) => {
                for item in items {
                    self.queue.remove(&item.notice);
                }
            }
            Err(OwnerError::Fenced) => self.give_up_shard(fence),
            Err(OwnerError::Store(error)) => return Err(error),
        }
        for item in items {
            self.retry_states.remove(&item.notice);
        }
        Ok(())
    }

    /// Records a deferred email, so that the account can see it. If this fails, the next try
    /// records it.
    async fn log(&mut self, items: &[Item]) {
        let Some(fence) = items.first().map(|item| item.fence) else { return };
        let emails: Vec<_> = items
            .iter()
            .filter_map(|item| Some((&item.notice, item.retry_state.email.as_ref()?)))
            .collect();
        match self.notice_sender.records.log_emails(fence, &emails).await {
            Ok(()) => {}
            Err(OwnerError::Fenced) => self.give_up_shard(fence),
            Err(OwnerError::Store(error)) => {
                let endpoint = items[0].notice.endpoint;
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

    /// Logs once that a record needed by these notices cannot be read or written, and defers them.
    fn on_corrupt_record(&mut self, notices: &[Notice], error: &kv::Error) {
        let is_new = |notice: &Notice| self.retry_states.get(notice).internal_failures == 0;
        if let Some(first) = notices.iter().find(|notice| is_new(notice)) {
            error!(endpoint = %first.endpoint, notices = notices.len(), %error, "a notice depends on a corrupt record; its email is delayed");
        }
        self.defer_internal(notices);
    }

    /// Defers notices because of an internal failure.
    fn defer_internal(&mut self, notices: &[Notice]) {
        for notice in notices {
            let mut retry_state = self.retry_states.get(notice);
            retry_state.internal_failures = retry_state.internal_failures.saturating_add(1);
            self.retry_states.set(notice, retry_state);
        }
        self.defer(notices);
    }

    /// Schedules the retry of notices, without blocking others. Notices deferred together are
    /// retried together.
    fn defer(&mut self, notices: &[Notice]) {
        let (now, random) = (Instant::now(), self.rng.random());
        for notice in notices {
            let mut retry_state: RetryState = self.retry_states.get(notice);
            let failures = retry_state.deferrals.saturating_add(retry_state.internal_failures);
            let delay = self.intervals.deferred.delay(failures, random);
            retry_state.due = Some(now + delay);
            self.retry_states.set(notice, retry_state);
            self.queue.remove(notice);
        }
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

fn is_corruption(error: &kv::Error) -> bool {
    matches!(error, kv::Error::Corrupt(_) | kv::Error::TooLarge { .. })
}
