//! The committer: makes the transactions that wait at the same time durable in one commit.
//!
//! A group is serializable as a whole: FoundationDB checks all its reads from the oldest version that
//! one of them read at. Within a group, a transaction that read what an earlier one writes is
//! refused, as it would be if the earlier one had committed by itself just before. Whoever read later
//! than the oldest, and is blamed for a change that it may well have seen, goes again without it.

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

/// Commits that are under way at the same time. While they are, what comes is gathered.
const UNDER_WAY: usize = 2;
/// Most transactions in a group.
const MAX_GROUP: usize = 512;
/// A group takes no more when it has so many bytes. FoundationDB advises against transactions of
/// more than 1 MB; one of ours alone may have more.
const MAX_GROUP_BYTES: usize = 1_000_000;

/// Keys from the first to before the second.
pub(super) type Stretch = (Vec<u8>, Vec<u8>);

type Answer = oneshot::Sender<Result<(), Error>>;

/// A transaction that wants to be committed.
pub(super) struct Submission {
    /// What must not have changed since `version`.
    pub(super) reads: Vec<Stretch>,
    /// None for one that read nothing.
    pub(super) version: Option<i64>,
    pub(super) writes: Writes,
    pub(super) answer: Answer,
}

/// Transactions that are committed together.
#[derive(Default)]
struct Group {
    members: Vec<Submission>,
    /// Those that read what an earlier member writes.
    refused: Vec<Answer>,
    written: Written,
    bytes: usize,
}

/// What the members of a group write.
#[derive(Default)]
struct Written {
    keys: BTreeSet<Vec<u8>>,
    cleared: Vec<Stretch>,
}

/// How a commit of several went wrong.
enum Refusal {
    /// These of them are to blame, by their place.
    Some(Vec<bool>),
    /// All of them have failed.
    All(Error),
}

/// Commits what comes, until nobody is left to submit anything.
pub(super) async fn run(cluster: Arc<Cluster>, mut waiting: mpsc::Receiver<Submission>) {
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    let mut next = None;
    loop {
        let permit = under_way.clone().acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let first = match next.take() {
            Some(first) => first,
            None => match waiting.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let (group, left) = Group::gather(first, &mut waiting);
        next = left;
        let cluster = cluster.clone();
        tokio::spawn(async move {
            group.commit(&cluster).await;
            drop(permit);
        });
    }
}

/// Commits one transaction beside all groups.
pub(super) async fn commit_alone(submission: Submission, cluster: &Cluster) {
    let mut group = Group::default();
    group.add(submission);
    group.commit(cluster).await;
}

impl Group {
    /// The first and those that wait behind it, and the one that has no room any more.
    fn gather(
        first: Submission,
        waiting: &mut mpsc::Receiver<Submission>,
    ) -> (Self, Option<Submission>) {
        let mut group = Self::default();
        group.bytes += size(&first);
        group.add(first);
        while group.members.len() < MAX_GROUP {
            let Ok(next) = waiting.try_recv() else { break };
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
        if submission.reads.iter().any(|stretch| self.written.touches(stretch)) {
            self.refused.push(submission.answer);
            return;
        }
        self.written.note(&submission.writes);
        self.members.push(submission);
    }

    async fn commit(self, cluster: &Cluster) {
        let Self { mut members, refused, .. } = self;
        cluster.counts.refused(refused.len());
        let mut again = Vec::new();
        loop {
            // The time of some may be up.
            members.retain(|member| !member.answer.is_closed());
            if members.is_empty() {
                members = std::mem::take(&mut again);
                if members.is_empty() {
                    break;
                }
                continue;
            }
            let begun = Instant::now();
            let result = attempt(cluster, &members).await;
            cluster.counts.spent(begun.elapsed());
            match result {
                Ok(()) => {
                    cluster.counts.committed(members.len());
                    answer(members.drain(..), &Ok(()));
                }
                Err(Refusal::All(error)) => {
                    cluster.counts.refused(usize::from(error == Error::Conflict) * members.len());
                    answer(members.drain(..), &Err(error));
                }
                Err(Refusal::Some(to_blame)) => {
                    let oldest = oldest(&members);
                    let (blamed, rest) = split(members, to_blame);
                    members = rest;
                    // What another read later than the oldest of the group may still be so.
                    let (conflicting, doubtful): (Vec<_>, Vec<_>) =
                        blamed.into_iter().partition(|member| member.version == oldest);
                    cluster.counts.refused(conflicting.len());
                    answer(conflicting, &Err(Error::Conflict));
                    again.extend(doubtful);
                }
            }
        }
        for refused in refused {
            let _ = refused.send(Err(Error::Conflict));
        }
    }
}

/// Those to blame, and the others.
fn split(members: Vec<Submission>, to_blame: Vec<bool>) -> (Vec<Submission>, Vec<Submission>) {
    let (blamed, rest): (Vec<_>, Vec<_>) =
        members.into_iter().zip(to_blame).partition(|(_, blamed)| *blamed);
    let bare = |members: Vec<(Submission, bool)>| members.into_iter().map(|(member, _)| member);
    (bare(blamed).collect(), bare(rest).collect())
}

/// Whoever waited may have given up.
fn answer(members: impl IntoIterator<Item = Submission>, result: &Result<(), Error>) {
    for member in members {
        let _ = member.answer.send(result.clone());
    }
}

/// One FoundationDB transaction for all members.
async fn attempt(cluster: &Cluster, members: &[Submission]) -> Result<(), Refusal> {
    let transaction = build(cluster, members).map_err(|error| Refusal::All(failure::of(error)))?;
    let Err(failed) = transaction.commit().await else {
        return Ok(());
    };
    let error: FdbError = *failed;
    let to_blame: Vec<_> = match error.code() {
        failure::NOT_COMMITTED if members.len() > 1 => {
            // Without them, all are to blame. Of many, only the first are told: the others are when
            // the rest goes again.
            let ranges = failed.conflicting_keys().await.unwrap_or_default();
            let bare = |key| cluster.without_prefix(key).to_vec();
            let ranges: Vec<_> =
                ranges.iter().map(|range| (bare(range.begin()), bare(range.end()))).collect();
            let is_to_blame =
                |member: &Submission| member.reads.iter().any(|read| meets_any(read, &ranges));
            members.iter().map(is_to_blame).collect()
        }
        failure::TRANSACTION_TOO_OLD if members.len() > 1 => {
            let oldest = oldest(members);
            members.iter().map(|member| member.version == oldest).collect()
        }
        _ => Vec::new(),
    };
    match to_blame.contains(&true) {
        true => Err(Refusal::Some(to_blame)),
        false => Err(Refusal::All(failure::of_commit(error))),
    }
}

fn oldest(members: &[Submission]) -> Option<i64> {
    members.iter().filter_map(|member| member.version).min()
}

fn build(cluster: &Cluster, members: &[Submission]) -> FdbResult<foundationdb::Transaction> {
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

fn meets_any(read: &Stretch, ranges: &[Stretch]) -> bool {
    ranges.iter().any(|(begin, end)| read.0 < *end && *begin < read.1)
}

/// What it counts for, about as FoundationDB counts it.
fn size(submission: &Submission) -> usize {
    let reads = submission.reads.iter().map(|(begin, end)| begin.len() + end.len());
    let cleared = submission.writes.cleared().iter().map(|(begin, end)| begin.len() + end.len());
    let changes = submission.writes.changes().map(|(key, change)| {
        let value = match change {
            Change::Set(value) => Bytes::len(value),
            Change::Clear => 0,
            Change::Add(_) => size_of::<i64>(),
        };
        // Each key is in a conflict range, too.
        3 * key.len() + value
    });
    reads.chain(cleared).chain(changes).sum()
}

impl Written {
    fn note(&mut self, writes: &Writes) {
        self.keys.extend(writes.changes().map(|(key, _)| key.clone()));
        self.cleared.extend(writes.cleared().iter().cloned());
    }

    fn touches(&self, read: &Stretch) -> bool {
        let (begin, end) = read;
        let bounds = (Bound::Included(begin.as_slice()), Bound::Excluded(end.as_slice()));
        begin < end
            && (self.keys.range::<[u8], _>(bounds).next().is_some()
                || meets_any(read, &self.cleared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(
        reads: &[&str],
        writes: &[&str],
    ) -> (Submission, oneshot::Receiver<Result<(), Error>>) {
        let mut gathered = Writes::default();
        for key in writes {
            gathered.set(key.as_bytes().to_vec(), Bytes::new());
        }
        let reads =
            reads.iter().map(|key| (key.as_bytes().to_vec(), [key.as_bytes(), &[0]].concat()));
        let (answer, answered) = oneshot::channel();
        (
            Submission { reads: reads.collect(), version: Some(1), writes: gathered, answer },
            answered,
        )
    }

    #[test]
    fn who_read_what_an_earlier_member_writes_is_refused() {
        let mut group = Group::default();
        let mut answers = Vec::new();
        for (reads, writes) in [
            (&["a"][..], &["a"][..]),
            (&["a"], &["b"]),
            // What the refused one would have written counts for nothing.
            (&["b"], &["c"]),
            (&[], &["a"]),
        ] {
            let (submission, answered) = submission(reads, writes);
            group.add(submission);
            answers.push(answered);
        }
        assert_eq!((group.members.len(), group.refused.len()), (3, 1));
    }

    #[test]
    fn a_cleared_range_is_written_too() {
        let mut written = Written::default();
        let mut writes = Writes::default();
        writes.clear_range(b"b".to_vec(), b"d".to_vec());
        written.note(&writes);
        let touches = |begin: &str, end: &str| written.touches(&(begin.into(), end.into()));
        assert!(touches("c", "c\0") && touches("a", "z") && touches("a", "b\0"));
        assert!(!touches("a", "b") && !touches("d", "e") && !touches("c", "c"));
    }

    #[tokio::test]
    async fn a_group_is_bounded() {
        let (send, mut waiting) = mpsc::channel(MAX_GROUP * 2);
        let mut answers = Vec::new();
        for number in 0..MAX_GROUP + 10 {
            let (submission, answered) = submission(&[], &[&number.to_string()]);
            send.try_send(submission).expect("there is room");
            answers.push(answered);
        }
        let first = waiting.recv().await.expect("the first");
        let (group, left) = Group::gather(first, &mut waiting);
        assert_eq!(group.members.len(), MAX_GROUP);
        assert!(left.is_none() && !waiting.is_empty());
    }
}
