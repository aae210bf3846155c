//! The notifier: one actor a node, and the handle on it.
//!
//! The actor takes one step a message, and a step is one look at a shard or one email, so that
//! it can be stopped between any two. While the mail server (or the store) is away it does
//! nothing at all until the wait is over; nudges do not shorten that. One notice that some
//! contact's server puts off waits by itself and holds nobody else up; so does one whose
//! conversation breaks off, and one that makes a step panic or meets a damaged record. A notice
//! that cannot be read is passed over. However many of a shard's notices wait, those behind them
//! have their turn, and so has every other shard: a look takes a page, and goes on behind it when
//! each of the others has had its look.

mod errand;
mod owned;
mod progress;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
mod to_look;

use std::collections::{BTreeSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use postrider_cluster::metrics::Instruments;
use postrider_cluster::route::Notifier;
use postrider_cluster::tenure::Tenure;
use postrider_domain::email::Email;
use postrider_domain::ids::{AccountId, EndpointId};
use postrider_domain::notice::Notice;
use postrider_domain::ownership::{Fence, Shard};
use postrider_domain::time::Clock;
use postrider_net::tasks::Tasks;
use postrider_store::{NoticeCursor, OwnerError, Records, kv};
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use tracing::{debug, error, warn};

use crate::backoff::Backoff;
use crate::smtp::Mailer;
use errand::{Courier, Errand, Trouble};
use owned::Owned;
use progress::{Book, Progress};
use to_look::ToLook;

/// Most notices of one shard that are read at once, and sent before another shard has its turn.
const LOOK: usize = 100;
/// How long an email in flight is awaited when the notifier stops.
const LAST_EMAIL: Duration = Duration::from_secs(5);

/// Where the page of an endpoint is, if people can reach one.
pub type PageOf = Arc<dyn Fn(AccountId, EndpointId) -> Option<String> + Send + Sync>;

/// Starts notifiers.
pub struct Notify;

/// The notifier could not be started.
#[derive(Debug, thiserror::Error)]
#[error("the notifier cannot be started")]
pub struct StartError(#[from] SpawnErr);

/// The handle on the notifier. Clones are cheap and share it.
#[derive(Clone)]
pub struct NotifierHandle {
    actor: ActorRef<Message>,
    nudged: Nudged,
    owned: Owned,
}

/// Shards that have something new. A set beside the mailbox, so that ten thousand nudges are
/// one message.
type Nudged = Arc<Mutex<BTreeSet<Shard>>>;

/// How often and how fast.
#[derive(Clone, Copy)]
struct Intervals {
    /// Every shard is looked at again so often, as its due rows are: a nudge may be lost.
    rescan: Duration,
    /// Between tries while nothing can be sent.
    away: Backoff,
    /// Between tries of a notice that was put off or set aside.
    deferred: Backoff,
}

const INTERVALS: Intervals = Intervals {
    rescan: Duration::from_secs(5),
    away: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) },
    deferred: Backoff { first: Duration::from_secs(60), longest: Duration::from_secs(3600) },
};

impl Notify {
    /// Starts the notifier, which owns no shard yet. `page_of` tells where people find an endpoint,
    /// and `seed` makes its jitter.
    ///
    /// # Errors
    /// When the actor does not start.
    pub async fn start(
        records: Records,
        clock: Arc<dyn Clock>,
        mailer: Mailer,
        page_of: PageOf,
        seed: u64,
        tasks: &Tasks,
    ) -> Result<NotifierHandle, StartError> {
        let courier = Courier { records, clock, mailer, instruments: Instruments::new(), page_of };
        start(courier, seed, INTERVALS, tasks).await
    }
}

async fn start(
    courier: Courier,
    seed: u64,
    intervals: Intervals,
    tasks: &Tasks,
) -> Result<NotifierHandle, StartError> {
    let (nudged, owned) = (Nudged::default(), Owned::default());
    let state = State {
        courier,
        intervals,
        luck: SmallRng::seed_from_u64(seed),
        nudged: Arc::clone(&nudged),
        owned: owned.clone(),
        to_look: ToLook::default(),
        damaged: BTreeSet::new(),
        queue: VecDeque::new(),
        book: Book::default(),
        troubles: 0,
        phase: Phase::Idle,
    };
    let (actor, running) = Actor::spawn(None, Outbox, state).await?;
    tasks.watch("notifier", running);
    Ok(NotifierHandle { actor, nudged, owned })
}

impl NotifierHandle {
    /// Sends a shard's notices until the tenure is over, also those left by an earlier owner. An
    /// email of that shard that is then under way holds the tenure until it is off and on record.
    pub fn own(&self, tenure: Tenure) {
        let (fence, ending, handle) = (tenure.fence(), tenure.ending(), self.clone());
        self.owned.insert(tenure);
        self.tell(Message::Own(fence.shard));
        tokio::spawn(async move {
            ending.wait().await;
            handle.owned.remove(fence);
            handle.tell(Message::Ended);
        });
    }

    /// Stops. An email in flight is awaited for some seconds; one that does not end by then is
    /// broken off and sent again by the next owner.
    pub async fn stop(&self) {
        let stopped = self.actor.stop_and_wait(None, Some(LAST_EMAIL)).await;
        if stopped.is_err() {
            self.actor.kill();
        }
    }

    fn tell(&self, message: Message) {
        if self.actor.send_message(message).is_err() {
            debug!("the notifier has stopped");
        }
    }
}

impl Notifier for NotifierHandle {
    fn nudge(&self, fence: Fence) {
        let mut nudged = self.nudged.lock().unwrap_or_else(PoisonError::into_inner);
        let first = nudged.is_empty();
        nudged.insert(fence.shard);
        drop(nudged);
        if first {
            self.tell(Message::Nudged);
        }
    }
}

/// What the actor is told.
enum Message {
    /// This shard is this node's.
    Own(Shard),
    /// Some tenures are over.
    Ended,
    /// Some shards have something new.
    Nudged,
    /// Time to look at every shard.
    Rescan,
    /// Take the next step.
    Step,
    /// The wait is over.
    Resume,
}

impl ractor::Message for Message {}

struct Outbox;

struct State {
    courier: Courier,
    intervals: Intervals,
    luck: SmallRng,
    nudged: Nudged,
    owned: Owned,
    /// Shards to look at once the queue is empty.
    to_look: ToLook,
    /// Shards with notices that could not be read when last looked at.
    damaged: BTreeSet<Shard>,
    /// Notices of one shard, oldest first.
    queue: VecDeque<(Fence, Notice)>,
    book: Book,
    /// Failures in a row that concern every notice.
    troubles: u32,
    phase: Phase,
}

/// What the actor waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Something to do.
    Idle,
    /// Its own `Step`, which is in the mailbox.
    Busy,
    /// `Resume`, while the mail server or the store is away.
    Away,
}

#[async_trait]
impl Actor for Outbox {
    type Msg = Message;
    type State = State;
    type Arguments = State;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        state: State,
    ) -> Result<State, ActorProcessingErr> {
        myself.send_interval(state.intervals.rescan, || Message::Rescan);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Own(shard) => state.own(shard),
            Message::Ended => state.disown_ended(),
            Message::Nudged => state.take_nudges(),
            Message::Rescan => state.to_look.add(state.owned.shards()),
            Message::Resume => state.phase = Phase::Idle,
            Message::Step => {
                state.phase = Phase::Idle;
                if let Err(trouble) = state.guarded_step().await {
                    let wait = state.away();
                    warn!(%trouble, ?wait, "sending emails failed; retrying");
                    myself.send_after(wait, || Message::Resume);
                }
            }
        }
        if state.phase == Phase::Idle && state.has_work() {
            state.phase = Phase::Busy;
            myself.send_message(Message::Step)?;
        }
        Ok(())
    }

    /// It has no children; the default would stop it if it ever had one that ended.
    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<Message>,
        _: SupervisionEvent,
        _: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

impl State {
    fn own(&mut self, shard: Shard) {
        self.damaged.remove(&shard);
        self.to_look.add([shard]);
        self.disown_ended();
    }

    /// Forgets the shards whose tenure is over. What is queued under another fence than the present
    /// one goes too, and is found again.
    fn disown_ended(&mut self) {
        let owned = &self.owned;
        self.to_look.retain(|shard| owned.of(shard).is_some());
        self.queue.retain(|(fence, _)| owned.under(*fence).is_some());
    }

    fn take_nudges(&mut self) {
        let nudged =
            std::mem::take(&mut *self.nudged.lock().unwrap_or_else(PoisonError::into_inner));
        let ours = nudged.into_iter().filter(|s| self.owned.of(*s).is_some());
        self.to_look.add(ours);
    }

    fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.to_look.is_empty()
    }

    /// A step whose panic is a trouble like others: nobody would start the actor again. A notice
    /// leaves the queue at the end of its step, so whose step panicked is still in front.
    async fn guarded_step(&mut self) -> Result<(), Trouble> {
        let stepped = AssertUnwindSafe(self.step()).catch_unwind().await;
        stepped.unwrap_or_else(|_| {
            if let Some((_, notice)) = self.queue.front().cloned() {
                error!(endpoint = %notice.endpoint, "telling of a disabled endpoint panicked");
                self.set_aside(&notice);
            }
            Err(Trouble::Panic)
        })
    }

    async fn step(&mut self) -> Result<(), Trouble> {
        if let Some((fence, notice)) = self.queue.front().cloned() {
            match self.tell(fence, &notice).await {
                Err(Trouble::Store(
                    damage @ (kv::Error::Corrupt(_) | kv::Error::TooLarge { .. }),
                )) => {
                    self.damaged_notice(&notice, &damage);
                }
                told => told?,
            }
        } else if let Some((shard, after)) = self.to_look.next() {
            let next = self.look(shard, after.as_ref()).await?;
            self.to_look.looked(shard, next);
        }
        self.troubles = 0;
        Ok(())
    }

    /// Queues the due notices of a page, and gives where the next page begins.
    async fn look(
        &mut self,
        shard: Shard,
        after: Option<&NoticeCursor>,
    ) -> Result<Option<NoticeCursor>, Trouble> {
        let Some(fence) = self.owned.of(shard).map(|tenure| tenure.fence()) else {
            return Ok(None);
        };
        let page = self.courier.records.notices(shard, after, LOOK).await?;
        match page.damage {
            Some(damage) => self.damaged_shard(shard, &damage),
            // The whole shard was read, so whatever was damaged is sound again.
            None if after.is_none() && page.next.is_none() => drop(self.damaged.remove(&shard)),
            None => {}
        }
        let now = Instant::now();
        let due = page.notices.into_iter().filter(|n| self.book.is_due(n, now));
        self.queue.extend(due.map(|notice| (fence, notice)));
        Ok(page.next)
    }

    /// Does one notice's errand. It leaves the queue only when that came to something.
    async fn tell(&mut self, fence: Fence, notice: &Notice) -> Result<(), Trouble> {
        // Held until the email is off and on record.
        let Some(_tenure) = self.owned.under(fence) else {
            self.disown_ended();
            return Ok(());
        };
        let mut progress = self.book.progress(notice);
        let ran = self.courier.run(notice, &mut progress).await;
        // Before anything else, lest what fails now makes us send it twice.
        self.book.note(notice, progress.clone());
        let errand = ran?;
        let email = progress.email.clone();
        let email = email.as_ref();
        if errand == Errand::Deferred {
            self.log(fence, notice, email).await;
            self.put_off(notice, progress);
            return Ok(());
        }
        match self.courier.records.finish_notice(fence, notice, email).await {
            Ok(()) => self.dequeue(notice),
            Err(OwnerError::Fenced) => self.disown(fence),
            Err(OwnerError::Store(error)) => return Err(error.into()),
        }
        self.book.forget(notice);
        Ok(())
    }

    /// Lets people see that an email is put off. What is lost here is told with the next try.
    async fn log(&mut self, fence: Fence, notice: &Notice, email: Option<&Email>) {
        let Some(email) = email else { return };
        match self.courier.records.log_email(fence, notice, email).await {
            Ok(()) => {}
            Err(OwnerError::Fenced) => self.disown(fence),
            Err(OwnerError::Store(error)) => {
                let endpoint = notice.endpoint;
                warn!(%endpoint, %error, "people cannot see that an email is put off");
            }
        }
    }

    /// Says once that some of a shard's notices cannot be read. The next rescan looks again.
    fn damaged_shard(&mut self, shard: Shard, damage: &kv::Error) {
        if self.damaged.insert(shard) {
            error!(shard, %damage, "a shard has notices that cannot be read; their emails wait");
        }
    }

    /// Says once that what the first notice of the queue needs cannot be read or written, and sets
    /// it aside.
    fn damaged_notice(&mut self, notice: &Notice, damage: &kv::Error) {
        if self.book.progress(notice).mishaps == 0 {
            error!(endpoint = %notice.endpoint, %damage, "an email waits for what cannot be read or written");
        }
        self.set_aside(notice);
    }

    /// Lets a notice wait by itself, for no contact's fault.
    fn set_aside(&mut self, notice: &Notice) {
        let mut progress = self.book.progress(notice);
        progress.mishaps = progress.mishaps.saturating_add(1);
        self.put_off(notice, progress);
    }

    /// Lets a notice wait by itself.
    fn put_off(&mut self, notice: &Notice, mut progress: Progress) {
        let failures = progress.deferrals.saturating_add(progress.mishaps);
        let wait = self.intervals.deferred.wait(failures, self.luck.random());
        progress.due = Some(Instant::now() + wait);
        self.book.note(notice, progress);
        self.dequeue(notice);
    }

    /// It may have left the queue already, with its shard.
    fn dequeue(&mut self, notice: &Notice) {
        self.queue.retain(|(_, queued)| queued != notice);
    }

    /// A later owner has the shard, and sends what is left of its notices.
    fn disown(&mut self, fence: Fence) {
        debug!(shard = fence.shard, "the shard's notices are another node's now");
        if let Some(tenure) = self.owned.under(fence) {
            tenure.give_up();
        }
        self.owned.remove(fence);
        self.disown_ended();
    }

    /// Counts a failure that concerns every notice, and says how long to wait.
    fn away(&mut self) -> Duration {
        self.phase = Phase::Away;
        self.troubles = self.troubles.saturating_add(1);
        self.intervals.away.wait(self.troubles, self.luck.random())
    }
}
