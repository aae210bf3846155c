//! The committer: batches concurrent transactions into one FoundationDB commit.
//!
//! A group is serializable as a whole: FoundationDB checks all its reads from the oldest read
//! version of its members. Within a group, a transaction that read a key written by an earlier
//! member is rejected, as if that member had committed just before it. A member that read at a
//! later version than the oldest may conflict with a change that it has already seen; it is
//! requeued without the older members.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use foundationdb::options::{ConflictRangeType, MutationType, TransactionOption};
use foundationdb::{FdbError, FdbResult};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::{Cluster, failure};
use crate::{Change, Error, Writes};

/// The maximum number of concurrent commits. Meanwhile, new submissions are queued.
const MAX_IN_FLIGHT: usize = 2;
/// The maximum number of transactions in a group.
const MAX_GROUP: usize = 512;
/// The maximum number of bytes in a group, except for a group of one. FoundationDB advises against
/// transactions of more than 1 MB.
const MAX_GROUP_BYTES: usize = 1_000_000;

/// A half-open key range, `begin..end`.
pub(super) type KeyRange = (Vec<u8>, Vec<u8>);

type Reply = oneshot::Sender<Result<(), Error>>;

/// A transaction submitted for commit.
pub(super) struct Submission {
    /// The ranges that must not have changed since `version`.
    pub(super) reads: Vec<KeyRange>,
    /// The read version. `None` if nothing was read.
    pub(super) version: Option<i64>,
    pub(super) writes: Writes,
    pub(super) reply: Reply,
}

/// Transactions that are committed together.
#[derive(Default)]
struct Group {
    members: Vec<Submission>,
    /// Submissions that read a key written by an earlier member.
    rejected: Vec<Reply>,
    written: WriteSet,
    bytes: usize,
}

/// The keys and ranges written by a group's members.
#[derive(Default)]
struct WriteSet {
    keys: BTreeSet<Vec<u8>>,
    cleared: Vec<KeyRange>,
}

/// Why a group's commit failed.
enum CommitFailure {
    /// The members marked `true`, by index, conflict.
    Members(Vec<bool>),
    /// All members failed.
    All(Error),
}

/// Commits submissions until all senders are dropped.
pub(super) async fn run(cluster: Arc<Cluster>, mut queue: mpsc::Receiver<Submission>) {
    let in_flight = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
    let mut next = None;
    loop {
        let permit = in_flight.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let first = match next.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let (group, overflow) = Group::gather(first, &mut queue);
        next = overflow;
        let cluster = cluster.clone();
        tokio::spawn(async move {
            group.commit(&cluster).await;
            drop(permit);
        });
    }
}

/// Commits one transaction outside of any group.
pub(super) async fn commit_single(submission: Submission, cluster: &Cluster) {
    let mut group = Group::default();
    group.add(submission);
    group.commit(cluster).await;
}

impl Group {
    /// Groups `first` with queued submissions. Also returns the submission that did not fit, if
    /// any.
    fn gather(
        first: Submission,
        queue: &mut mpsc::Receiver<Submission>,
    ) -> (Self, Option<Submission>) {
        let mut group = Self::default();
        group.bytes += size(&first);
        group.add(first);
        while group.members.len() < MAX_GROUP {
            let Ok(next) = queue.try_recv() else { break };
            let size = size(&next);
            if group.bytes + size > MAX_GROUP_BYTES {
                return (group, Some(next));
            }
            group.bytes += size;
            group.add(next);
        }
        (group, None)
    }

    fn add(&mut self, submission: Submission) {
        if submission.reads.iter().any(|range| self.written.overlaps(range)) {
            self.rejected.push(submission.reply);
            return;
        }
        self.written.add(&submission.writes);
        self.members.push(submission);
    }

    async fn commit(self, cluster: &Cluster) {
        let Self { mut members, rejected, .. } = self;
        cluster.counters.record_conflicts(rejected.len());
        let mut requeued = Vec::new();
        loop {
            // Skip members whose callers have timed out.
            members.retain(|member| !member.reply.is_closed());
            if members.is_empty() {
                members = std::mem::take(&mut requeued);
                if members.is_empty() {
                    break;
                }
                continue;
            }
            let begun = Instant::now();
            let result = try_commit(cluster, &members).await;
            cluster.counters.record_commit_time(begun.elapsed());
            match result {
                Ok(()) => {
                    cluster.counters.record_commit(members.len());
                    send_result(members.drain(..), &Ok(()));
                }
                Err(CommitFailure::All(error)) => {
                    cluster
                        .counters
                        .record_conflicts(usize::from(error == Error::Conflict) * members.len());
                    send_result(members.drain(..), &Err(error));
                }
                Err(CommitFailure::Members(marked)) => {
                    let oldest = oldest(&members);
                    let (failed, rest) = split(members, marked);
                    members = rest;
                    // A member with a later version may have read the change that the oldest
                    // missed.
                    let (conflicting, retriable): (Vec<_>, Vec<_>) =
                        failed.into_iter().partition(|member| member.version == oldest);
                    cluster.counters.record_conflicts(conflicting.len());
                    send_result(conflicting, &Err(Error::Conflict));
                    requeued.extend(retriable);
                }
            }
        }
        for rejected in rejected {
            let _ = rejected.send(Err(Error::Conflict));
        }
    }
}

/// Splits the members into the marked ones and the others.
fn split(members: Vec<Submission>, marked: Vec<bool>) -> (Vec<Submission>, Vec<Submission>) {
    let (failed, rest): (Vec<_>, Vec<_>) =
        members.into_iter().zip(marked).partition(|(_, is_marked)| *is_marked);
    let unmarked = |members: Vec<(Submission, bool)>| members.into_iter().map(|(member, _)| member);
    (unmarked(failed).collect(), unmarked(rest).collect())
}

fn send_result(members: impl IntoIterator<Item = Submission>, result: &Result<(), Error>) {
    for member in members {
        // Ignore a closed channel: the caller was cancelled.
        let _ = member.reply.send(result.clone());
    }
}

/// Commits all members in one FoundationDB transaction.
async fn try_commit(cluster: &Cluster, members: &[Submission]) -> Result<(), CommitFailure> {
    let transaction = build_transaction(cluster, members)
        .map_err(|error| CommitFailure::All(failure::from_read(error)))?;
    let Err(failed) = transaction.commit().await else {
        return Ok(());
    };
    let error: FdbError = *failed;
    let conflicting: Vec<_> = match error.code() {
        failure::NOT_COMMITTED if members.len() > 1 => {
            // Without a report, all members fail. FoundationDB reports only the first of many
            // conflicts; the others are reported when the rest is retried.
            let ranges = failed.conflicting_keys().await.unwrap_or_default();
            let strip = |key| cluster.without_prefix(key).to_vec();
            let ranges: Vec<_> =
                ranges.iter().map(|range| (strip(range.begin()), strip(range.end()))).collect();
            let is_conflicting =
                |member: &Submission| member.reads.iter().any(|read| overlaps_any(read, &ranges));
            members.iter().map(is_conflicting).collect()
        }
        failure::TRANSACTION_TOO_OLD if members.len() > 1 => {
            let oldest = oldest(members);
            members.iter().map(|member| member.version == oldest).collect()
        }
        _ => Vec::new(),
    };
    match conflicting.contains(&true) {
        true => Err(CommitFailure::Members(conflicting)),
        false => Err(CommitFailure::All(failure::from_commit(error))),
    }
}

fn oldest(members: &[Submission]) -> Option<i64> {
    members.iter().filter_map(|member| member.version).min()
}

fn build_transaction(
    cluster: &Cluster,
    members: &[Submission],
) -> FdbResult<foundationdb::Transaction> {
    let transaction = cluster.database.create_trx()?;
    if members.len() > 1 {
        transaction.set_option(TransactionOption::ReportConflictingKeys)?;
    }
    if let Some(version) = oldest(members) {
        transaction.set_read_version(version);
    }
    for Submission { reads, writes, .. } in members {
        for (begin, end) in reads {
            let (begin, end) = (cluster.key(begin), cluster.key(end));
            transaction.add_conflict_range(&begin, &end, ConflictRangeType::Read)?;
        }
        for (begin, end) in writes.cleared() {
            transaction.clear_range(&cluster.key(begin), &cluster.key(end));
        }
        for (key, change) in writes.changes() {
            let key = cluster.key(key);
            match change {
                Change::Set(value) => transaction.set(&key, value),
                Change::Clear => transaction.clear(&key),
                Change::Add(delta) => {
                    transaction.atomic_op(&key, &delta.to_le_bytes(), MutationType::Add);
                }
            }
        }
    }
    Ok(transaction)
}

fn overlaps_any(read: &KeyRange, ranges: &[KeyRange]) -> bool {
    ranges.iter().any(|(begin, end)| read.0 < *end && *begin < read.1)
}

/// The approximate size of a submission as FoundationDB counts it.
fn size(submission: &Submission) -> usize {
    let reads = submission.reads.iter().map(|(begin, end)| begin.len() + end.len());
    let cleared = submission.writes.cleared().iter().map(|(begin, end)| begin.len() + end.len());
    let changes = submission.writes.changes().map(|(key, change)| {
        let value = match change {
            Change::Set(value) => Bytes::len(value),
            Change::Clear => 0,
            Change::Add(_) => size_of::<i64>(),
        };
        // Each key also appears in a conflict range.
        3 * key.len() + value
    });
    reads.chain(cleared).chain(changes).sum()
}

impl WriteSet {
    fn add(&mut self, writes: &Writes) {
        self.keys.extend(writes.changes().map(|(key, _)| key.clone()));
        self.cleared.extend(writes.cleared().iter().cloned());
    }

    fn overlaps(&self, read: &KeyRange) -> bool {
        let (begin, end) = read;
        let bounds = (Bound::Included(begin.as_slice()), Bound::Excluded(end.as_slice()));
        begin < end
            && (self.keys.range::<[u8], _>(bounds).next().is_some()
                || overlaps_any(read, &self.cleared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(
        reads: &[&str],
        writes: &[&str],
    ) -> (Submission, oneshot::Receiver<Result<(), Error>>) {
        let mut buffered = Writes::default();
        for key in writes {
            buffered.set(key.as_bytes().to_vec(), Bytes::new());
        }
        let reads =
            reads.iter().map(|key| (key.as_bytes().to_vec(), [key.as_bytes(), &[0]].concat()));
        let (reply, reply_rx) = oneshot::channel();
        (Submission { reads: reads.collect(), version: Some(1), writes: buffered, reply }, reply_rx)
    }

    #[test]
    fn a_read_of_a_key_written_by_an_earlier_member_is_rejected() {
        let mut group = Group::default();
        let mut replies = Vec::new();
        for (reads, writes) in [
            (&["a"][..], &["a"][..]),
            (&["a"], &["b"]),
            // The write of the rejected submission does not count.
            (&["b"], &["c"]),
            (&[], &["a"]),
        ] {
            let (submission, reply_rx) = submission(reads, writes);
            group.add(submission);
            replies.push(reply_rx);
        }
        assert_eq!((group.members.len(), group.rejected.len()), (3, 1));
    }

    #[test]
    fn a_cleared_range_counts_as_written() {
        let mut written = WriteSet::default();
        let mut writes = Writes::default();
        writes.clear_range(b"b".to_vec(), b"d".to_vec());
        written.add(&writes);
        let overlaps = |begin: &str, end: &str| written.overlaps(&(begin.into(), end.into()));
        assert!(overlaps("c", "c\0") && overlaps("a", "z") && overlaps("a", "b\0"));
        assert!(!overlaps("a", "b") && !overlaps("d", "e") && !overlaps("c", "c"));
    }

    #[tokio::test]
    async fn a_group_is_bounded() {
        let (send, mut queue) = mpsc::channel(MAX_GROUP * 2);
        let mut replies = Vec::new();
        for number in 0..MAX_GROUP + 10 {
            let (submission, reply_rx) = submission(&[], &[&number.to_string()]);
            send.try_send(submission).expect("the channel has capacity");
            replies.push(reply_rx);
        }
        let first = queue.recv().await.expect("the first");
        let (group, overflow) = Group::gather(first, &mut queue);
        assert_eq!(group.members.len(), MAX_GROUP);
        assert!(overflow.is_none() && !queue.is_empty());
    }
}
