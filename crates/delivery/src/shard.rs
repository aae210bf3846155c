//! The actor of one shard: it supervises the endpoint actors, starts one when its endpoint has
//! work, and keeps a timer for the next due pointer.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use postrider_cluster::shard_guard::ShardGuard;
use postrider_domain::clock_check;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::time::{Clock, Timestamp};
use postrider_store::{DueEndpoint, Ready, Records, WaitingJobs, Wake};
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::time::Instant;

use crate::endpoint::{Arguments, EndpointHandle, EndpointReport, EndpointResources};
use crate::jobs::{Fenced, JobKind, Jobs};

/// How often the due rows and the jobs are scanned even without a wake: wakes are hints, rows are
/// the truth.
const RESCAN_INTERVAL: Duration = Duration::from_secs(5);
/// How often the shard deletes expired rows.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Shortest delay of the scan timer.
const MIN_DELAY: Duration = Duration::from_millis(1);
/// Delay before the next scan after an actor or a read failed.
const FAILURE_DELAY: Duration = Duration::from_secs(1);
/// Delay before the scan continues with the next batch of pointers.
const NEXT_BATCH_DELAY: Duration = Duration::from_millis(100);

enum ShardMsg {
    Wake(Wake),
    /// A report from an endpoint's actor.
    Endpoint(EndpointKey, EndpointReport),
    /// Read the due rows.
    Scan,
    /// No jobs of this kind are left for now.
    JobsDone(JobKind),
    /// A write was fenced off: the shard has a newer owner.
    Fenced,
    /// The guard was revoked.
    Revoked,
}

impl ractor::Message for ShardMsg {}

/// Bounds that tests lower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Maximum pointers that one scan of a shard reads.
    pub(crate) pointers_per_scan: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { pointers_per_scan: 4096 }
    }
}

/// What the actors of all shards share.
pub(crate) struct ShardResources {
    pub(crate) bounds: Bounds,
    pub(crate) records: Records,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) endpoints: Arc<EndpointResources>,
}

/// Includes the account, so that no account can wake or block another's endpoint.
type EndpointKey = (AccountId, EndpointId);

/// A handle to a shard's actor.
#[derive(Clone)]
pub(crate) struct ShardHandle(ActorRef<ShardMsg>);

impl ShardHandle {
    /// Starts the actor, supervised by `supervisor`. It runs until the guard is revoked.
    pub(crate) async fn start(
        resources: Arc<ShardResources>,
        guard: ShardGuard,
        supervisor: ActorCell,
    ) -> Result<Self, SpawnErr> {
        let (actor, _) =
            Actor::spawn_linked(None, ShardActor, (resources, guard), supervisor).await?;
        Ok(Self(actor))
    }

    pub(crate) fn id(&self) -> ActorId {
        self.0.get_id()
    }

    /// Tells it that there may be work. An actor that has just stopped ignores this: the new owner
    /// scans.
    pub(crate) fn wake(&self, wake: Wake) {
        let _ = self.0.cast(ShardMsg::Wake(wake));
    }

    /// Makes it scan its due rows now.
    pub(crate) fn scan_now(&self) {
        let _ = self.0.cast(ShardMsg::Scan);
    }
}

/// The actor type; its state is [`ShardState`].
struct ShardActor;

struct ShardState {
    resources: Arc<ShardResources>,
    guard: ShardGuard,
    myself: ActorRef<ShardMsg>,
    endpoints: HashMap<EndpointKey, Child>,
    /// The last pointer that the scan has read. The next scan continues after it; once no more
    /// pointers are due, it starts over.
    scan_cursor: Option<DueEndpoint>,
    scan_timer: Option<(Instant, tokio::task::AbortHandle)>,
    /// The kinds of jobs that are running. The value says whether to run the job again afterwards.
    jobs: HashMap<JobKind, bool>,
    /// When this node claimed the shard.
    owned_since: Instant,
    /// When the last sweep began.
    swept_at: Option<Instant>,
    /// The clock's time at the last scan. `None` until the times that the shard's earlier owners may
    /// have used were read.
    scanned_at: Option<Timestamp>,
}

struct Child {
    handle: EndpointHandle,
    sent: u64,
}

#[ractor::async_trait]
impl Actor for ShardActor {
    type Msg = ShardMsg;
    type State = ShardState;
    type Arguments = (Arc<ShardResources>, ShardGuard);

    async fn pre_start(
        &self,
        myself: ActorRef<ShardMsg>,
        (resources, guard): (Arc<ShardResources>, ShardGuard),
    ) -> Result<ShardState, ActorProcessingErr> {
        let _ = myself.cast(ShardMsg::Scan);
        stop_on_revocation(&guard, myself.clone());
        Ok(ShardState {
            resources,
            guard,
            myself,
            endpoints: HashMap::new(),
            scan_cursor: None,
            scan_timer: None,
            jobs: HashMap::new(),
            owned_since: Instant::now(),
            swept_at: None,
            scanned_at: None,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ShardMsg>,
        message: ShardMsg,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ShardMsg::Wake(Wake::Endpoint { account, endpoint, ready, .. }) => {
                state.wake_endpoint((account, endpoint), ready).await;
            }
            ShardMsg::Wake(Wake::Changed { account, endpoint, .. }) => {
                state.notify_changed((account, endpoint)).await;
            }
            ShardMsg::Wake(Wake::Jobs { .. }) => {
                state.run_jobs(JobKind::FanOut);
                state.run_jobs(JobKind::Replay);
            }
            ShardMsg::Endpoint(key, EndpointReport::Idle { handled, next }) => {
                state.retire(key, handled, next);
            }
            ShardMsg::Endpoint(_, EndpointReport::Fenced) => state.on_fenced(),
            ShardMsg::Scan => state.scan().await,
            ShardMsg::JobsDone(kind) => state.jobs_done(kind),
            ShardMsg::Fenced => state.on_fenced(),
            ShardMsg::Revoked => state.shut_down(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<ShardMsg>,
        event: SupervisionEvent,
        state: &mut ShardState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                tracing::error!(%error, shard = state.guard.fence().shard, "an endpoint actor failed; restarting it");
                state.on_child_exit(&actor);
            }
            SupervisionEvent::ActorTerminated(actor, ..) => state.on_child_exit(&actor),
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => {}
        }
        Ok(())
    }
}

impl ShardState {
    async fn wake_endpoint(&mut self, key: EndpointKey, ready: Option<Box<Ready>>) {
        if let Some(endpoint) = self.child(key).await {
            endpoint.wake(ready);
        }
    }

    async fn notify_changed(&mut self, key: EndpointKey) {
        if let Some(endpoint) = self.child(key).await {
            endpoint.notify_changed();
        }
    }

    /// The actor of an endpoint, to be sent one message. Starts it if it is not running.
    async fn child(&mut self, key: EndpointKey) -> Option<&EndpointHandle> {
        if self.guard.is_revoked() {
            return None;
        }
        if !self.endpoints.contains_key(&key) {
            let handle = self.start(key).await?;
            self.endpoints.insert(key, Child { handle, sent: 0 });
        }
        let child = self.endpoints.get_mut(&key)?;
        child.sent += 1;
        Some(&child.handle)
    }

    async fn start(&mut self, key: EndpointKey) -> Option<EndpointHandle> {
        let shard = self.myself.clone();
        let report = move |report| {
            let _ = shard.cast(ShardMsg::Endpoint(key, report));
        };
        let (account, endpoint) = key;
        let arguments = Arguments {
            resources: self.resources.endpoints.clone(),
            report: Box::new(report),
            guard: self.guard.clone(),
            owned_since: self.owned_since,
            account,
            endpoint,
        };
        match EndpointHandle::start(arguments, self.myself.get_cell()).await {
            Ok(handle) => Some(handle),
            Err(error) => {
                tracing::error!(%endpoint, %error, "starting an endpoint actor failed");
                self.scan_in(FAILURE_DELAY);
                None
            }
        }
    }

    fn retire(&mut self, key: EndpointKey, handled: u64, next: Option<Timestamp>) {
        if self.endpoints.get(&key).is_some_and(|child| child.sent == handled)
            && let Some(child) = self.endpoints.remove(&key)
        {
            child.handle.stop();
        }
        if let Some(next) = next {
            self.scan_in(next.since(self.resources.clock.now()));
        }
    }

    fn on_child_exit(&mut self, actor: &ActorCell) {
        let before = self.endpoints.len();
        self.endpoints.retain(|_, child| child.handle.id() != actor.get_id());
        if self.endpoints.len() < before {
            self.scan_in(FAILURE_DELAY);
        }
    }

    /// Reads the due rows, wakes the endpoints with due deliveries, and starts pending jobs.
    /// Running actors are woken too: their wake may have been lost.
    async fn scan(&mut self) {
        self.stop_timer();
        let now = self.resources.clock.now();
        let mut next = RESCAN_INTERVAL;
        let (shard, limit) = (self.guard.fence().shard, self.resources.bounds.pointers_per_scan);
        let after = self.scan_cursor.take();
        match self.resources.records.due_endpoints(shard, after.as_ref(), limit).await {
            Ok(read) => {
                let last = read.last().filter(|last| read.len() == limit && last.at <= now);
                // The pointer of a busy endpoint does not move, so the pointers of busy endpoints
                // may fill whole batches. Starting over each time would starve the others.
                if let Some(last) = last {
                    self.scan_cursor = Some(*last);
                    next = NEXT_BATCH_DELAY;
                }
                for pointer in read {
                    if pointer.at > now {
                        next = next.min(pointer.at.since(now));
                        break;
                    }
                    self.wake_endpoint((pointer.account, pointer.endpoint), None).await;
                }
            }
            Err(error) => {
                tracing::warn!(shard = self.guard.fence().shard, %error, "reading the due rows failed");
                next = FAILURE_DELAY;
            }
        }
        self.check_clock(now).await;
        self.start_pending_jobs().await;
        if self.swept_at.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL) {
            self.swept_at = Some(Instant::now());
            self.run_jobs(JobKind::Sweep);
        }
        self.scan_in(next);
    }

    /// Moves retries if the clock was set back since the last scan, or shows an earlier time than
    /// those of the shard's earlier owners.
    async fn check_clock(&mut self, now: Timestamp) {
        let is_set_back = match self.scanned_at {
            Some(before) => now.plus(clock_check::STEP) < before,
            None => match self.resources.records.latest_clock().await {
                Ok(latest) => latest.is_some_and(|at| now.plus(clock_check::TOLERANCE) < at),
                Err(error) => {
                    let shard = self.guard.fence().shard;
                    tracing::warn!(shard, %error, "reading the nodes' clocks failed");
                    return;
                }
            },
        };
        self.scanned_at = Some(now);
        if is_set_back {
            self.run_jobs(JobKind::StepBack);
        }
    }

    fn scan_in(&mut self, delay: Duration) {
        let at = Instant::now() + delay.clamp(MIN_DELAY, RESCAN_INTERVAL);
        if self.scan_timer.as_ref().is_some_and(|(scheduled, _)| *scheduled <= at) {
            return;
        }
        self.stop_timer();
        let timer = self.myself.send_after(at - Instant::now(), || ShardMsg::Scan);
        self.scan_timer = Some((at, timer.abort_handle()));
    }

    fn stop_timer(&mut self) {
        if let Some((_, timer)) = self.scan_timer.take() {
            timer.abort();
        }
    }

    /// Starts jobs whose wake was lost. Running jobs pick up new work themselves.
    async fn start_pending_jobs(&mut self) {
        let shard = self.guard.fence().shard;
        match self.resources.records.waiting_jobs(shard).await {
            Ok(WaitingJobs { fan_outs, replays }) => {
                for (kind, waiting) in [(JobKind::FanOut, fan_outs), (JobKind::Replay, replays)] {
                    if waiting && !self.jobs.contains_key(&kind) {
                        self.run_jobs(kind);
                    }
                }
            }
            Err(error) => tracing::warn!(shard, %error, "checking a shard for jobs failed"),
        }
    }

    /// Runs the shard's jobs of this kind in a task. If they are running, they run again
    /// afterwards.
    fn run_jobs(&mut self, kind: JobKind) {
        if self.guard.is_revoked() {
            return;
        }
        if let Some(run_again) = self.jobs.get_mut(&kind) {
            *run_again = true;
            return;
        }
        self.jobs.insert(kind, false);
        let (jobs, guard, myself) =
            (self.resources.jobs.clone(), self.guard.clone(), self.myself.clone());
        tokio::spawn(async move {
            let run = AssertUnwindSafe(jobs.run(kind, &guard)).catch_unwind();
            let message = match run.await {
                Ok(Err(Fenced)) => ShardMsg::Fenced,
                // After a panic, the next scan retries.
                Ok(Ok(())) | Err(_) => ShardMsg::JobsDone(kind),
            };
            let _ = myself.cast(message);
        });
    }

    fn jobs_done(&mut self, kind: JobKind) {
        if self.jobs.remove(&kind) == Some(true) {
            self.run_jobs(kind);
        }
    }

    fn on_fenced(&mut self) {
        if !self.guard.is_revoked() {
            let fence = self.guard.fence();
            tracing::warn!(
                shard = fence.shard,
                epoch = fence.epoch,
                "lost a shard to a newer owner"
            );
            self.guard.revoke();
        }
        self.shut_down();
    }

    /// Starts nothing new. Attempts in flight run to completion and hold the guard until then.
    fn shut_down(&mut self) {
        self.stop_timer();
        for (_, child) in self.endpoints.drain() {
            child.handle.stop();
        }
        self.myself.stop(None);
    }
}

fn stop_on_revocation(guard: &ShardGuard, shard: ActorRef<ShardMsg>) {
    let revoked = guard.revoked();
    tokio::spawn(async move {
        revoked.wait().await;
        // If the actor has failed, the supervisor does not restart it once the guard is revoked.
        let _ = shard.cast(ShardMsg::Revoked);
    });
}
