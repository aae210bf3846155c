//! The committer thread, which commits waiting transactions in groups, one LMDB commit per group.
//!
//! Reads are validated by value within the write transaction, and so against earlier transactions
//! of the same group too. A transaction that fails validation changes nothing and the group
//! continues; a disk error fails the whole group.
//!
//! A group begins once this process holds the write lock, so it includes every transaction queued
//! by then. Every function that writes takes the [`WriteGuard`] as proof.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use heed::{Env, RwTxn, WithoutTls};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::disk_reserve::{DiskReserve, is_os_error};
use super::write_lock::{WriteGuard, WriteLock};
use super::{Reader, Rows, Status, bounds, failure};
use crate::{Buffer, Change, Error, counter};

/// The maximum number of transactions in a group.
const MAX_GROUP: usize = 512;
/// How often slots of killed readers are freed and a full disk is checked again.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) enum CommitterMsg {
    Commit(Submission),
    /// The [`Urgent`] queue has submissions.
    Urgent,
    /// The engine was dropped.
    Stop,
    #[cfg(test)]
    Panic,
}

/// A transaction submitted for commit.
pub(super) struct Submission {
    pub(super) buffer: Buffer,
    /// The LMDB transaction id of the commit that its snapshot shows.
    pub(super) snapshot: usize,
    pub(super) reply: oneshot::Sender<Result<(), Error>>,
}

/// The queue of transactions that are committed before all others. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Urgent(Arc<Mutex<VecDeque<Submission>>>);

impl Urgent {
    pub(super) fn push(&self, submission: Submission) {
        self.0.lock().push_back(submission);
    }

    /// The first submission whose caller is still waiting.
    fn pop(&self) -> Option<Submission> {
        let mut queue = self.0.lock();
        loop {
            let next = queue.pop_front()?;
            if !next.reply.is_closed() {
                return Some(next);
            }
        }
    }
}

impl Drop for Committer {
    /// Fails the waiting urgent transactions by closing their reply channels.
    fn drop(&mut self) {
        self.urgent.0.lock().clear();
    }
}

/// A transaction of a group, with its result.
struct Member {
    submission: Submission,
    /// The result of its read validation, and then of its commit.
    result: Result<(), Error>,
}

impl From<Submission> for Member {
    fn from(submission: Submission) -> Self {
        Self { submission, result: Ok(()) }
    }
}

pub(super) struct Committer {
    env: Env<WithoutTls>,
    rows: Rows,
    reserve: DiskReserve,
    status: Arc<Status>,
    urgent: Urgent,
    maintained_at: Instant,
    stopping: bool,
}

impl Committer {
    pub(super) fn new(
        env: Env<WithoutTls>,
        rows: Rows,
        reserve: DiskReserve,
        status: Arc<Status>,
        urgent: Urgent,
    ) -> Self {
        Self { env, rows, reserve, status, urgent, maintained_at: Instant::now(), stopping: false }
    }

    /// Runs until it receives [`CommitterMsg::Stop`].
    pub(super) fn run(mut self, mut write_lock: WriteLock, queue: &Receiver<CommitterMsg>) {
        while !self.stopping {
            match queue.recv_timeout(MAINTENANCE_INTERVAL) {
                Ok(CommitterMsg::Commit(first)) if !first.reply.is_closed() => {
                    self.commit(&mut write_lock, first, queue);
                }
                // An urgent submission may have no message, if the channel was full.
                Ok(CommitterMsg::Commit(_) | CommitterMsg::Urgent)
                | Err(RecvTimeoutError::Timeout) => {
                    if let Some(first) = self.urgent.pop() {
                        self.commit(&mut write_lock, first, queue);
                    }
                }
                Ok(CommitterMsg::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    self.stopping = true;
                }
                #[cfg(test)]
                Ok(CommitterMsg::Panic) => panic!("panic requested by a test"),
            }
            if self.maintained_at.elapsed() >= MAINTENANCE_INTERVAL {
                self.run_maintenance(&mut write_lock);
            }
        }
    }

    /// Commits `first` with every transaction queued by then, and sends the results.
    fn commit(
        &mut self,
        write_lock: &mut WriteLock,
        first: Submission,
        queue: &Receiver<CommitterMsg>,
    ) {
        let guard = match write_lock.acquire() {
            Ok(guard) => guard,
            Err(error) => {
                tracing::error!(%error, "acquiring the store's write lock failed");
                // Ignore a closed channel: the caller was cancelled.
                let _ = first.reply.send(Err(Error::Unavailable(error.to_string())));
                return;
            }
        };
        if first.reply.is_closed() {
            // The caller timed out while we waited for the lock.
            return;
        }
        let mut group = vec![Member::from(first)];
        if let Err(error) = self.commit_queued(&guard, &mut group, queue) {
            self.resolve_failure(error, &guard, &mut group);
        }
        drop(guard);
        self.record(&group);
        for Member { submission, result } in group {
            // Ignore a closed channel: the caller was cancelled.
            let _ = submission.reply.send(result);
        }
    }

    /// Commits the only member of `group` with every transaction queued by now, which it adds.
    fn commit_queued(
        &mut self,
        guard: &WriteGuard<'_>,
        group: &mut Vec<Member>,
        queue: &Receiver<CommitterMsg>,
    ) -> Result<(), heed::Error> {
        let env = self.env.clone();
        let mut txn = Group::begin(&env, self.rows, guard)?;
        let has_room = self.reserve.ensure(guard);
        self.set_nearly_full(!has_room);
        txn.admit(&mut group[0])?;
        while group.len() < MAX_GROUP
            && let Some(submission) = self.next(queue)
        {
            group.push(submission.into());
            txn.admit(group.last_mut().expect("one was pushed"))?;
        }
        #[cfg(test)]
        super::failpoint::hit(super::failpoint::Failpoint::GroupApplied);
        self.finish_commit(txn, guard)
    }

    fn commit_again(
        &mut self,
        guard: &WriteGuard<'_>,
        group: &mut [Member],
    ) -> Result<(), heed::Error> {
        let env = self.env.clone();
        let mut txn = Group::begin(&env, self.rows, guard)?;
        for member in group {
            txn.admit(member)?;
        }
        self.finish_commit(txn, guard)
    }

    fn finish_commit(&mut self, txn: Group<'_>, guard: &WriteGuard<'_>) -> Result<(), heed::Error> {
        let begun = Instant::now();
        txn.commit()?;
        self.reserve.extend_to_used(guard);
        self.status.counters.record_commit_time(begun.elapsed());
        Ok(())
    }

    /// After `group` failed, gives each member its result. With room in the file, a full disk only
    /// means that some transaction is too large for the free pages. The halves of the group are
    /// then committed separately, so that the others do not fail with it.
    fn resolve_failure(
        &mut self,
        error: heed::Error,
        guard: &WriteGuard<'_>,
        group: &mut [Member],
    ) {
        if group.len() > 1
            && self.reserve.is_out_of_space(&error, guard)
            && self.reserve.has_room(guard)
        {
            let (first, second) = group.split_at_mut(group.len() / 2);
            for half in [first, second] {
                if let Err(error) = self.commit_again(guard, half) {
                    self.resolve_failure(error, guard, half);
                }
            }
            return;
        }
        let error = self.handle_failure(error, guard);
        for Member { result, .. } in group.iter_mut().filter(|member| member.result.is_ok()) {
            *result = Err(error.clone());
        }
    }

    /// The next submission whose caller is still waiting.
    fn next(&mut self, queue: &Receiver<CommitterMsg>) -> Option<Submission> {
        if let Some(urgent) = self.urgent.pop() {
            return Some(urgent);
        }
        while !self.stopping {
            match queue.try_recv().ok()? {
                CommitterMsg::Commit(submission) if submission.reply.is_closed() => {}
                CommitterMsg::Commit(submission) => return Some(submission),
                CommitterMsg::Urgent => {}
                CommitterMsg::Stop => self.stopping = true,
                #[cfg(test)]
                CommitterMsg::Panic => panic!("panic requested by a test"),
            }
        }
        None
    }

    /// Converts a group's error for its transactions. A disk error other than a full disk aborts
    /// the process: the page cache may no longer match the disk, and LMDB would build on it.
    fn handle_failure(&mut self, error: heed::Error, guard: &WriteGuard<'_>) -> Error {
        if self.reserve.is_out_of_space(&error, guard) {
            let has_room = self.reserve.has_room(guard);
            self.set_nearly_full(!has_room);
            tracing::error!(%error, has_room, "the store's disk is full");
            return Error::Full;
        }
        if is_os_error(&error) {
            tracing::error!(%error, "the store's disk failed; aborting the process");
            std::process::abort();
        }
        tracing::error!(%error, "committing a group failed");
        failure(error)
    }

    fn record(&self, group: &[Member]) {
        let count = |wanted: fn(&Result<(), Error>) -> bool| {
            group.iter().filter(|member| wanted(&member.result)).count()
        };
        self.status.counters.record_conflicts(count(|result| *result == Err(Error::Conflict)));
        let committed = count(Result::is_ok);
        if committed > 0 {
            self.status.counters.record_commit(committed);
        }
    }

    fn set_nearly_full(&self, nearly_full: bool) {
        let before = self.status.nearly_full.swap(nearly_full, Ordering::Relaxed);
        match (before, nearly_full) {
            (false, true) => {
                tracing::error!("the store's disk is nearly full; new events are rejected");
            }
            (true, false) => tracing::info!("the store has room again; new events are accepted"),
            (true, true) | (false, false) => {}
        }
    }

    fn run_maintenance(&mut self, write_lock: &mut WriteLock) {
        self.maintained_at = Instant::now();
        if let Err(error) = self.env.clear_stale_readers() {
            tracing::warn!(%error, "clearing stale readers failed");
        }
        if self.reserve.is_removed() {
            tracing::error!(
                "the store's data file was removed; aborting the process, as its writes would be lost"
            );
            std::process::abort();
        }
        self.recheck_disk_space(write_lock);
    }

    /// While the store is nearly full, new work is rejected before it reaches the committer.
    /// Without this check an idle store would not notice that there is room again.
    fn recheck_disk_space(&mut self, write_lock: &mut WriteLock) {
        if !self.status.nearly_full.load(Ordering::Relaxed) {
            return;
        }
        match write_lock.acquire() {
            Ok(guard) => {
                let has_room = self.reserve.ensure(&guard);
                self.set_nearly_full(!has_room);
            }
            Err(error) => tracing::warn!(%error, "checking the free disk space failed"),
        }
    }
}

/// A group under construction.
struct Group<'e> {
    txn: RwTxn<'e>,
    rows: Rows,
    /// Pending counter additions, so that a hot counter is written once per group.
    pending_adds: BTreeMap<Vec<u8>, i64>,
    /// Whether a transaction of this group has written anything.
    has_changes: bool,
}

impl<'e> Group<'e> {
    fn begin(
        env: &'e Env<WithoutTls>,
        rows: Rows,
        _guard: &WriteGuard<'_>,
    ) -> Result<Self, heed::Error> {
        Ok(Self { txn: env.write_txn()?, rows, pending_adds: BTreeMap::new(), has_changes: false })
    }

    /// Applies a transaction if its reads are unchanged. An error fails the whole group, which must
    /// then not be committed.
    fn admit(&mut self, member: &mut Member) -> Result<(), heed::Error> {
        let Member { submission: Submission { buffer, snapshot, .. }, result } = member;
        *result = Ok(());
        // The write transaction's id is one more than that of the latest commit.
        let unchanged = !self.has_changes && *snapshot + 1 == self.txn.id();
        if !unchanged {
            self.flush_counters_read_by(buffer)?;
            match buffer.is_unchanged_in(&Reader { txn: &self.txn, rows: self.rows }) {
                Ok(true) => {}
                Ok(false) => {
                    *result = Err(Error::Conflict);
                    return Ok(());
                }
                Err(error) => {
                    *result = Err(error);
                    return Ok(());
                }
            }
        }
        self.has_changes = true;
        self.apply(buffer)
    }

    fn apply(&mut self, buffer: &Buffer) -> Result<(), heed::Error> {
        for (begin, end) in buffer.writes.cleared() {
            self.rows.delete_range(&mut self.txn, &bounds(begin, end))?;
            self.pending_adds.retain(|key, _| key < begin || end <= key);
        }
        for (key, change) in buffer.writes.changes() {
            match change {
                Change::Add(delta) => {
                    let sum = self.pending_adds.entry(key.clone()).or_default();
                    *sum = sum.wrapping_add(*delta);
                }
                Change::Set(value) => {
                    self.pending_adds.remove(key);
                    self.rows.put(&mut self.txn, key, value)?;
                }
                Change::Clear => {
                    self.pending_adds.remove(key);
                    self.rows.delete(&mut self.txn, key)?;
                }
            }
        }
        Ok(())
    }

    /// Writes the pending additions to counters that `buffer` has read, so that validation sees
    /// them.
    fn flush_counters_read_by(&mut self, buffer: &Buffer) -> Result<(), heed::Error> {
        if self.pending_adds.is_empty() {
            return Ok(());
        }
        let Self { txn, rows, pending_adds, .. } = self;
        for key in buffer.keys_read() {
            if let Some(delta) = pending_adds.remove(key) {
                add(*rows, txn, key, delta)?;
            }
        }
        for (begin, end) in buffer.ranges_read() {
            let inside = pending_adds.range(begin.to_vec()..end.to_vec());
            let inside: Vec<_> = inside.map(|(key, _)| key.clone()).collect();
            for (key, delta) in inside.iter().filter_map(|key| pending_adds.remove_entry(key)) {
                add(*rows, txn, &key, delta)?;
            }
        }
        Ok(())
    }

    fn commit(mut self) -> Result<(), heed::Error> {
        for (key, delta) in std::mem::take(&mut self.pending_adds) {
            add(self.rows, &mut self.txn, &key, delta)?;
        }
        self.txn.commit()
    }
}

fn add(rows: Rows, txn: &mut RwTxn<'_>, key: &[u8], delta: i64) -> Result<(), heed::Error> {
    let sum = counter(rows.get(txn, key)?).wrapping_add(delta);
    rows.put(txn, key, &sum.to_le_bytes())
}
