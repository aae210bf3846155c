//! The actor of one shard: it supervises the endpoints' actors, starts one when there is work
//! for it, and holds the due window, that is the time at which the next pointer wants a look.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use postrider_cluster::tenure::Tenure;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::time::Timestamp;
use postrider_store::{DueEndpoint, Ready, WaitingJobs, Wake};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::time::Instant;

use crate::context::Context;
use crate::endpoint::{self, Arguments, EndpointActor};
use crate::jobs::{self, Fenced, Kind};

/// How often the due rows and the jobs are looked for even if nobody tells of any: signals hint,
/// rows tell.
const RESCAN: Duration = Duration::from_secs(5);
/// How often the shard forgets what has expired.
const SWEEP: Duration = Duration::from_secs(60);
/// The shortest time for which the shard's timer is set.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);
/// The pause before a failed actor's endpoint is looked at again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The pause before the scan goes on behind the pointers that it has read.
const NEXT_POINTERS: Duration = Duration::from_millis(100);

/// What a shard's actor is told.
pub(crate) enum Message {
    /// There is work.
    Wake(Wake),
    /// An endpoint's actor has nothing to do. It may go, unless it was sent more messages than
    /// it had handled when it said so.
    Idle {
        /// Whose.
        account: AccountId,
        /// Which.
        endpoint: EndpointId,
        /// How many of the shard's messages it had handled.
        handled: u64,
        /// When its endpoint wants to be looked at next.
        next: Option<Timestamp>,
    },
    /// It is time to read the due rows.
    Scan,
    /// The shard's jobs of this kind are done for now.
    JobsDone(Kind),
    /// The shard has a later owner.
    Fenced,
    /// The tenure is over.
    End,
}

impl ractor::Message for Message {}

/// The actor's type; all that it knows is in [`Data`].
pub(crate) struct ShardActor;

/// What the actor knows.
pub(crate) struct Data {
    context: Arc<Context>,
    tenure: Tenure,
    myself: ActorRef<Message>,
    /// By account too: nobody can have another's endpoint worked on, or kept from it.
    endpoints: HashMap<(AccountId, EndpointId), Child>,
    /// The last pointer that the scan has read; it goes on behind it, and begins anew after the last
    /// one that is due.
    scanned: Option<DueEndpoint>,
    scan: Option<(Instant, tokio::task::AbortHandle)>,
    /// The kinds of jobs that are being worked on, each with whether more has come meanwhile.
    jobs: HashMap<Kind, bool>,
    /// When the last sweep began.
    swept_at: Option<Instant>,
}

struct Child {
    actor: ActorRef<endpoint::Message>,
    sent: u64,
}

#[ractor::async_trait]
impl Actor for ShardActor {
    type Msg = Message;
    type State = Data;
    type Arguments = (Arc<Context>, Tenure);

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        (context, tenure): (Arc<Context>, Tenure),
    ) -> Result<Data, ActorProcessingErr> {
        let _ = myself.cast(Message::Scan);
        // Before it can learn of the end, at which it is removed again.
        context.shards.insert(tenure.fence(), myself.clone());
        tell_of_the_end(&tenure, myself.clone());
        Ok(Data {
            context,
            tenure,
            myself,
            endpoints: HashMap::new(),
            scanned: None,
            scan: None,
            jobs: HashMap::new(),
            swept_at: None,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        data: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Wake(Wake::Endpoint { account, endpoint, ready, .. }) => {
                data.tell(account, endpoint, ready).await;
            }
            Message::Wake(Wake::Changed { account, endpoint, .. }) => {
                data.changed(account, endpoint).await
            }
            Message::Wake(Wake::Jobs { .. }) => {
                data.run_jobs(Kind::FanOut);
                data.run_jobs(Kind::Replay);
            }
            Message::Idle { account, endpoint, handled, next } => {
                data.retire((account, endpoint), handled, next);
            }
            Message::Scan => data.scan().await,
            Message::JobsDone(kind) => data.jobs_done(kind),
            Message::Fenced => data.give_up(),
            Message::End => data.end(),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Message>,
        event: SupervisionEvent,
        data: &mut Data,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                tracing::error!(%error, shard = data.tenure.fence().shard, "an endpoint's actor failed; it starts anew");
                data.lost(&actor);
            }
            SupervisionEvent::ActorTerminated(actor, ..) => data.lost(&actor),
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => {}
        }
        Ok(())
    }
}

impl Data {
    async fn tell(&mut self, account: AccountId, endpoint: EndpointId, ready: Option<Box<Ready>>) {
        self.send(account, endpoint, endpoint::Message::Wake(ready)).await;
    }

    async fn changed(&mut self, account: AccountId, endpoint: EndpointId) {
        self.send(account, endpoint, endpoint::Message::Changed).await;
    }

    async fn send(&mut self, account: AccountId, endpoint: EndpointId, message: endpoint::Message) {
        if self.tenure.is_over() {
            return;
        }
        let place = (account, endpoint);
        if !self.endpoints.contains_key(&place) && !self.start(account, endpoint).await {
            return;
        }
        if let Some(child) = self.endpoints.get_mut(&place) {
            child.sent += 1;
            // An actor that has just failed is told of by its supervision event.
            let _ = child.actor.cast(message);
        }
    }

    async fn start(&mut self, account: AccountId, endpoint: EndpointId) -> bool {
        let arguments = Arguments {
            context: self.context.clone(),
            shard: self.myself.clone(),
            tenure: self.tenure.clone(),
            account,
            endpoint,
        };
        match Actor::spawn_linked(None, EndpointActor, arguments, self.myself.get_cell()).await {
            Ok((actor, _)) => {
                self.endpoints.insert((account, endpoint), Child { actor, sent: 0 });
                true
            }
            Err(error) => {
                tracing::error!(%endpoint, %error, "an endpoint's actor cannot start");
                self.scan_in(AFTER_FAILURE);
                false
            }
        }
    }

    fn retire(&mut self, place: (AccountId, EndpointId), handled: u64, next: Option<Timestamp>) {
        if self.endpoints.get(&place).is_some_and(|child| child.sent == handled)
            && let Some(child) = self.endpoints.remove(&place)
        {
            child.actor.stop(None);
        }
        if let Some(next) = next {
            self.scan_in(next.since(self.context.now()));
        }
    }

    fn lost(&mut self, actor: &ActorCell) {
        let before = self.endpoints.len();
        self.endpoints.retain(|_, child| child.actor.get_id() != actor.get_id());
        if self.endpoints.len() < before {
            self.scan_in(AFTER_FAILURE);
        }
    }

    /// Reads the due rows, tells those who have something due, and starts the jobs that wait. The
    /// actors that live are told too: a wake may have been lost.
    async fn scan(&mut self) {
        self.stop_timer();
        let now = self.context.now();
        let mut next = RESCAN;
        let (shard, pointers) = (self.tenure.fence().shard, self.context.bounds.pointers);
        let after = self.scanned.take();
        match self.context.records.due_endpoints(shard, after.as_ref(), pointers).await {
            Ok(read) => {
                let last = read.last().filter(|last| read.len() == pointers && last.at <= now);
                // The pointer of a busy endpoint stays where it is, so those of busy ones may fill
                // any number of reads, and hide the others from whoever begins anew each time.
                if let Some(last) = last {
                    self.scanned = Some(*last);
                    next = NEXT_POINTERS;
                }
                for pointer in read {
                    if pointer.at > now {
                        next = next.min(pointer.at.since(now));
                        break;
                    }
                    self.tell(pointer.account, pointer.endpoint, None).await;
                }
            }
            Err(error) => {
                tracing::warn!(shard = self.tenure.fence().shard, %error, "the due rows cannot be read");
                next = AFTER_FAILURE;
            }
        }
        self.look_for_jobs().await;
        if self.swept_at.is_none_or(|at| at.elapsed() >= SWEEP) {
            self.swept_at = Some(Instant::now());
            self.run_jobs(Kind::Sweep);
        }
        self.scan_in(next);
    }

    fn scan_in(&mut self, wait: Duration) {
        let at = Instant::now() + wait.clamp(SHORTEST_WAIT, RESCAN);
        if self.scan.as_ref().is_some_and(|(planned, _)| *planned <= at) {
            return;
        }
        self.stop_timer();
        let timer = self.myself.send_after(at - Instant::now(), || Message::Scan);
        self.scan = Some((at, timer.abort_handle()));
    }

    fn stop_timer(&mut self) {
        if let Some((_, timer)) = self.scan.take() {
            timer.abort();
        }
    }

    /// Starts the jobs that nobody told of. Those that run find by themselves what there is.
    async fn look_for_jobs(&mut self) {
        let shard = self.tenure.fence().shard;
        match self.context.records.waiting_jobs(shard).await {
            Ok(WaitingJobs { fan_outs, replays }) => {
                for (kind, waiting) in [(Kind::FanOut, fan_outs), (Kind::Replay, replays)] {
                    if waiting && !self.jobs.contains_key(&kind) {
                        self.run_jobs(kind);
                    }
                }
            }
            Err(error) => tracing::warn!(shard, %error, "checking a shard for jobs failed"),
        }
    }

    /// Has a task work on the shard's jobs of this kind, now or again when it is through.
    fn run_jobs(&mut self, kind: Kind) {
        if self.tenure.is_over() {
            return;
        }
        if let Some(more) = self.jobs.get_mut(&kind) {
            *more = true;
            return;
        }
        self.jobs.insert(kind, false);
        let (context, tenure, myself) =
            (self.context.clone(), self.tenure.clone(), self.myself.clone());
        tokio::spawn(async move {
            let run = AssertUnwindSafe(jobs::run(kind, &context, &tenure)).catch_unwind();
            let told = match run.await {
                Ok(Err(Fenced)) => Message::Fenced,
                // What panicked is tried again at the next scan.
                Ok(Ok(())) | Err(_) => Message::JobsDone(kind),
            };
            let _ = myself.cast(told);
        });
    }

    fn jobs_done(&mut self, kind: Kind) {
        if self.jobs.remove(&kind) == Some(true) {
            self.run_jobs(kind);
        }
    }

    fn give_up(&mut self) {
        if !self.tenure.is_over() {
            let fence = self.tenure.fence();
            tracing::warn!(shard = fence.shard, epoch = fence.epoch, "the shard has a later owner");
            self.tenure.give_up();
        }
        self.end();
    }

    /// Nothing new begins. What is in flight ends by itself, and holds the tenure until then.
    fn end(&mut self) {
        self.context.shards.remove(self.tenure.fence());
        self.stop_timer();
        for (_, child) in self.endpoints.drain() {
            child.actor.stop(None);
        }
        self.myself.stop(None);
    }
}

fn tell_of_the_end(tenure: &Tenure, shard: ActorRef<Message>) {
    let ending = tenure.ending();
    tokio::spawn(async move {
        ending.wait().await;
        // It may have failed meanwhile; the supervisor starts none anew whose tenure is over.
        let _ = shard.cast(Message::End);
    });
}
