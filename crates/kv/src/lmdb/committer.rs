//! The thread that commits: all the transactions that wait, in groups, one commit for each group.
//!
//! Reads are checked by value in the transaction that is being written, and so against the earlier
//! transactions of the same group as well. A transaction that fails its check touches nothing and
//! the group goes on; an error of the disk is the whole group's.
//!
//! A group begins when this process's [`Turn`] comes, and so takes on everybody who has come
//! meanwhile. Whatever writes takes a turn by value.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heed::{Env, RwTxn, WithoutTls};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::room::{Room, is_io};
use super::turn::{Turn, Turnstile};
use super::{Gauges, Reader, Rows, bounds, failure};
use crate::{Buffer, Change, Error, counter, lock};

/// The most transactions in a group.
const MAX_GROUP: usize = 512;
/// How often the slots of readers that were killed are freed, and a full disk is looked at again.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

pub(super) enum Message {
    Commit(Submission),
    /// There are [`Urgent`] ones.
    Urgent,
    /// Nobody needs the committer any more.
    Stop,
    #[cfg(test)]
    Panic,
}

/// A transaction on its way to be committed.
pub(super) struct Submission {
    pub(super) buffer: Buffer,
    /// The number of the commit that its snapshot shows.
    pub(super) snapshot: usize,
    pub(super) answer: oneshot::Sender<Result<(), Error>>,
}

/// Transactions that go before all others that wait. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Urgent(Arc<Mutex<VecDeque<Submission>>>);

impl Urgent {
    pub(super) fn push(&self, submission: Submission) {
        lock(&self.0).push_back(submission);
    }

    /// The first one that somebody still waits for.
    fn pop(&self) -> Option<Submission> {
        let mut waiting = lock(&self.0);
        loop {
            let next = waiting.pop_front()?;
            if !next.answer.is_closed() {
                return Some(next);
            }
        }
    }
}

impl Drop for Committer {
    /// Whoever waits for an urgent transaction learns that the committer is gone.
    fn drop(&mut self) {
        lock(&self.urgent.0).clear();
    }
}

type Answer = (oneshot::Sender<Result<(), Error>>, Result<(), Error>);

pub(super) struct Committer {
    env: Env<WithoutTls>,
    rows: Rows,
    room: Room,
    gauges: Arc<Gauges>,
    urgent: Urgent,
    swept: Instant,
    stopping: bool,
}

impl Committer {
    pub(super) fn new(
        env: Env<WithoutTls>,
        rows: Rows,
        room: Room,
        gauges: Arc<Gauges>,
        urgent: Urgent,
    ) -> Self {
        Self { env, rows, room, gauges, urgent, swept: Instant::now(), stopping: false }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self, mut turnstile: Turnstile, waiting: &Receiver<Message>) {
        while !self.stopping {
            match waiting.recv_timeout(SWEEP_EVERY) {
                Ok(Message::Commit(first)) if !first.answer.is_closed() => {
                    self.commit(&mut turnstile, first, waiting);
                }
                // An urgent one may wait without a message: the channel may have been full.
                Ok(Message::Commit(_) | Message::Urgent) | Err(RecvTimeoutError::Timeout) => {
                    if let Some(first) = self.urgent.pop() {
                        self.commit(&mut turnstile, first, waiting);
                    }
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => self.stopping = true,
                #[cfg(test)]
                Ok(Message::Panic) => panic!("the committer is told to panic"),
            }
            if self.swept.elapsed() >= SWEEP_EVERY {
                self.sweep(&mut turnstile);
            }
        }
    }

    /// Commits `first` and everybody who is waiting by then, and answers them.
    fn commit(
        &mut self,
        turnstile: &mut Turnstile,
        first: Submission,
        waiting: &Receiver<Message>,
    ) {
        let turn = match turnstile.take() {
            Ok(turn) => turn,
            Err(error) => {
                tracing::error!(%error, "cannot take the store's write lock");
                // Ignore a closed channel: the caller was cancelled.
                let _ = first.answer.send(Err(Error::Unavailable(error.to_string())));
                return;
            }
        };
        if first.answer.is_closed() {
            // The wait was too long for it.
            return;
        }
        let mut answers = Vec::new();
        let outcome = self.try_commit(&turn, first, waiting, &mut answers);
        let outcome = outcome.map_err(|error| self.judge(error, &turn));
        drop(turn);
        self.count(&answers, outcome.is_ok());
        for (answer, verdict) in answers {
            // Ignore a closed channel: the caller was cancelled.
            let _ = answer.send(verdict.and(outcome.clone()));
        }
    }

    /// Puts every transaction that it takes on into `answers`, with the verdict on its reads; the
    /// result is that of them all.
    fn try_commit(
        &mut self,
        turn: &Turn<'_>,
        first: Submission,
        waiting: &Receiver<Message>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), heed::Error> {
        let Submission { buffer, snapshot, answer } = first;
        answers.push((answer, Ok(())));
        let env = self.env.clone();
        let mut group = Group::begin(&env, self.rows, turn)?;
        self.gauges.nearly_full.store(!self.room.ensure(turn), Ordering::Relaxed);
        answers[0].1 = group.admit(&buffer, snapshot)?;
        while answers.len() < MAX_GROUP
            && let Some(Submission { buffer, snapshot, answer }) = self.next(waiting)
        {
            answers.push((answer, Ok(())));
            let verdict = group.admit(&buffer, snapshot)?;
            answers.last_mut().expect("one was pushed").1 = verdict;
        }
        #[cfg(test)]
        super::hook::reached(super::hook::Stage::Group);
        let begun = Instant::now();
        group.commit()?;
        self.room.cover(turn);
        self.gauges.done.spent(begun.elapsed());
        Ok(())
    }

    /// The next transaction that somebody still waits for.
    fn next(&mut self, waiting: &Receiver<Message>) -> Option<Submission> {
        if let Some(urgent) = self.urgent.pop() {
            return Some(urgent);
        }
        while !self.stopping {
            match waiting.try_recv().ok()? {
                Message::Commit(submission) if submission.answer.is_closed() => {}
                Message::Commit(submission) => return Some(submission),
                Message::Urgent => {}
                Message::Stop => self.stopping = true,
                #[cfg(test)]
                Message::Panic => panic!("the committer is told to panic"),
            }
        }
        None
    }

    /// What a failed group's transactions are told. After an error of the disk that is not for want
    /// of room, the process ends: what the page cache then holds may not be what the disk holds,
    /// and LMDB would build on it.
    fn judge(&mut self, error: heed::Error, turn: &Turn<'_>) -> Error {
        if self.room.is_full(&error, turn) {
            self.gauges.nearly_full.store(true, Ordering::Relaxed);
            tracing::error!(%error, "the store's disk is full");
            return Error::Full;
        }
        if is_io(&error) {
            tracing::error!(%error, "the store's disk has failed; ending the process");
            std::process::abort();
        }
        tracing::error!(%error, "a commit has failed");
        failure(error)
    }

    fn count(&self, answers: &[Answer], committed: bool) {
        let conflicts = answers.iter().filter(|(_, checked)| checked.is_err()).count();
        self.gauges.done.refused(conflicts);
        if committed && answers.len() > conflicts {
            self.gauges.done.committed(answers.len() - conflicts);
        }
    }

    fn sweep(&mut self, turnstile: &mut Turnstile) {
        self.swept = Instant::now();
        if let Err(error) = self.env.clear_stale_readers() {
            tracing::warn!(%error, "cannot clear stale readers");
        }
        if self.room.is_removed() {
            tracing::error!(
                "the store's file was removed; ending the process, which only pretends to store"
            );
            std::process::abort();
        }
        self.look_for_room(turnstile);
    }

    /// While the store is nearly full new work is refused before it comes here, so that without
    /// this a store at rest would not notice that there is room again.
    fn look_for_room(&mut self, turnstile: &mut Turnstile) {
        if !self.gauges.nearly_full.load(Ordering::Relaxed) {
            return;
        }
        match turnstile.take() {
            Ok(turn) => self.gauges.nearly_full.store(!self.room.ensure(&turn), Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "cannot look whether the disk has room again"),
        }
    }
}

/// A group under construction.
struct Group<'e> {
    txn: RwTxn<'e>,
    rows: Rows,
    /// What is still to be added to counters: a popular one is written once per group.
    sums: BTreeMap<Vec<u8>, i64>,
    /// Whether a transaction of this group has written anything yet.
    changed: bool,
}

impl<'e> Group<'e> {
    fn begin(env: &'e Env<WithoutTls>, rows: Rows, _turn: &Turn<'_>) -> Result<Self, heed::Error> {
        Ok(Self { txn: env.write_txn()?, rows, sums: BTreeMap::new(), changed: false })
    }

    /// Applies a transaction if what it has read still holds. An error of the outer kind is the
    /// whole group's, which must not be committed any more.
    fn admit(
        &mut self,
        buffer: &Buffer,
        snapshot: usize,
    ) -> Result<Result<(), Error>, heed::Error> {
        // The write transaction's number is one more than that of the newest commit.
        let unchanged = !self.changed && snapshot + 1 == self.txn.id();
        if !unchanged {
            self.settle_for(buffer)?;
            match buffer.holds_in(&Reader { txn: &self.txn, rows: self.rows }) {
                Ok(true) => {}
                Ok(false) => return Ok(Err(Error::Conflict)),
                Err(error) => return Ok(Err(error)),
            }
        }
        self.changed = true;
        self.apply(buffer).map(Ok)
    }

    fn apply(&mut self, buffer: &Buffer) -> Result<(), heed::Error> {
        for (begin, end) in buffer.writes.cleared() {
            self.rows.delete_range(&mut self.txn, &bounds(begin, end))?;
            self.sums.retain(|key, _| key < begin || end <= key);
        }
        for (key, change) in buffer.writes.changes() {
            match change {
                Change::Add(delta) => {
                    let sum = self.sums.entry(key.clone()).or_default();
                    *sum = sum.wrapping_add(*delta);
                }
                Change::Set(value) => {
                    self.sums.remove(key);
                    self.rows.put(&mut self.txn, key, value)?;
                }
                Change::Clear => {
                    self.sums.remove(key);
                    self.rows.delete(&mut self.txn, key)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the counters that `buffer`'s transaction has read, so that its check sees them.
    fn settle_for(&mut self, buffer: &Buffer) -> Result<(), heed::Error> {
        if self.sums.is_empty() {
            return Ok(());
        }
        let Self { txn, rows, sums, .. } = self;
        for key in buffer.keys_read() {
            if let Some(delta) = sums.remove(key) {
                add(*rows, txn, key, delta)?;
            }
        }
        for (begin, end) in buffer.stretches_read() {
            let inside = sums.range(begin.to_vec()..end.to_vec());
            let inside: Vec<_> = inside.map(|(key, _)| key.clone()).collect();
            for (key, delta) in inside.iter().filter_map(|key| sums.remove_entry(key)) {
                add(*rows, txn, &key, delta)?;
            }
        }
        Ok(())
    }

    fn commit(mut self) -> Result<(), heed::Error> {
        for (key, delta) in std::mem::take(&mut self.sums) {
            add(self.rows, &mut self.txn, &key, delta)?;
        }
        self.txn.commit()
    }
}

fn add(rows: Rows, txn: &mut RwTxn<'_>, key: &[u8], delta: i64) -> Result<(), heed::Error> {
    let sum = counter(rows.get(txn, key)?).wrapping_add(delta);
    rows.put(txn, key, &sum.to_le_bytes())
}
