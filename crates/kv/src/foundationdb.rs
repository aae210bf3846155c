//! The FoundationDB engine: the store of nodes on several hosts.
//!
//! Who takes part: the C client library, whose network thread runs once per process (`network`);
//! the [`FoundationDb`], a database as the cluster file names it; its transactions
//! (`transaction`), which read from one version and gather their writes; the committer (`group`),
//! which makes what waits at the same time durable in one commit; and the pulse (`pulse`), which
//! notices within a second or so when the cluster does not answer.
//!
//! How data passes through: a transaction reads by snapshot reads, and remembers what must not have
//! changed; to commit, it hands those stretches, the version that it read at and its writes to the
//! committer. That builds one FoundationDB transaction for all that wait: the oldest of their
//! versions, all their read conflict ranges, all their writes. When FoundationDB refuses it, it also
//! says which ranges were at fault; only the transactions that read those are refused, and the others
//! go again.
//!
//! All keys lie under one tuple, so that several installations may share a cluster.

mod cluster_file;
mod failure;
mod group;
mod network;
mod pulse;
#[cfg(test)]
pub(crate) mod tests;
mod transaction;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use foundationdb::options::DatabaseOption;
use foundationdb::{Database, FdbError, FdbResult, tuple};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

pub use cluster_file::{ClusterFile, ClusterFileError};
pub use network::{NetworkError, stop};

use crate::{BUDGET, Counts, Engine, Error, Stats, Transaction};
use group::Submission;
use transaction::FdbTransaction;

/// The most that one FoundationDB transaction may hold, with its conflict ranges, in bytes;
/// FoundationDB's own bound is 10 MB. What one of ours may write is less:
/// [`MAX_TRANSACTION`](crate::MAX_TRANSACTION).
const SIZE_LIMIT: i32 = 9_500_000;
/// How often the client may run a transaction again by itself: never, since
/// [`Store::transact`](crate::Store::transact) does, and counts it.
const RETRY_LIMIT: i32 = 0;
/// Transactions that wait for the committer; further ones are refused.
const MAX_WAITING: usize = 8192;

/// A store in a FoundationDB cluster.
pub struct FoundationDb {
    cluster: Arc<Cluster>,
    commits: mpsc::Sender<Submission>,
    away: watch::Receiver<bool>,
    _pulse: AbortOnDropHandle<()>,
}

/// What the parts of the engine share.
struct Cluster {
    database: Database,
    _ending: network::Ending,
    /// Every key begins with it.
    prefix: Vec<u8>,
    counts: Counts,
}

/// The FoundationDB cluster cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The cluster file.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// The client library.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The client library refused what it was told.
    #[error("the FoundationDB client cannot use {}: {cause} (error {})", path.display(), cause.code())]
    Client {
        /// The cluster file.
        path: PathBuf,
        /// Its reason.
        cause: FdbError,
    },
    /// The cluster did not answer.
    #[error(
        "FoundationDB cannot be used ({why}). {} names the coordinators {coordinators}{connections}. Is \
         fdbserver running there, with the same cluster file, of a version that this client \
         can speak with (7.3)? Compare: fdbcli -C {} --exec \"status details\"", path.display(), path.display()
    )]
    Silent {
        /// What came of it.
        why: Error,
        /// The cluster file.
        path: PathBuf,
        /// The addresses in it.
        coordinators: String,
        /// What the client says of its connections.
        connections: String,
    },
}

impl FoundationDb {
    /// Opens the database that the cluster file names, and waits until it has answered. The keys of
    /// this store lie under the tuple `(subspace,)`.
    ///
    /// # Errors
    /// When the client library is too old, the cluster file is unusable, or nobody answers within
    /// 5 s.
    pub async fn open(cluster_file: &Path, subspace: &str) -> Result<Self, OpenError> {
        let file = ClusterFile::read(cluster_file)?;
        network::start()?;
        let refused = |cause| OpenError::Client { path: cluster_file.to_owned(), cause };
        let database = connect(&file).map_err(refused)?;
        let cluster = Arc::new(Cluster {
            database,
            _ending: network::Ending,
            prefix: tuple::pack(&(subspace,)),
            counts: Counts::default(),
        });
        if let Err(why) = pulse::first(&cluster).await {
            return Err(OpenError::Silent {
                why,
                path: cluster_file.to_owned(),
                coordinators: file.coordinators().join(", "),
                connections: pulse::connections(&cluster.database).await,
            });
        }
        let (commits, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(group::run(cluster.clone(), waiting));
        let (pulse, away) = pulse::watch(cluster.clone());
        Ok(Self { cluster, commits, away, _pulse: pulse })
    }
}

fn connect(file: &ClusterFile) -> FdbResult<Database> {
    let database = Database::from_path(file.path_text())?;
    let timeout = i32::try_from(BUDGET.as_millis()).expect("some seconds");
    // They hold for every transaction of this database.
    database.set_option(DatabaseOption::TransactionTimeout(timeout))?;
    database.set_option(DatabaseOption::TransactionRetryLimit(RETRY_LIMIT))?;
    database.set_option(DatabaseOption::TransactionSizeLimit(SIZE_LIMIT))?;
    Ok(database)
}

impl Cluster {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    /// A key as the callers know it.
    fn without_prefix<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.strip_prefix(self.prefix.as_slice()).unwrap_or_default()
    }
}

#[async_trait]
impl Engine for FoundationDb {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        let transaction = FdbTransaction::begin(self.cluster.clone(), self.commits.clone());
        Ok(Box::new(transaction.map_err(failure::of)?))
    }

    async fn begin_urgent(&self) -> Result<Box<dyn Transaction>, Error> {
        let transaction = FdbTransaction::begin_urgent(self.cluster.clone(), self.commits.clone());
        Ok(Box::new(transaction.map_err(failure::of)?))
    }

    fn stats(&self) -> Stats {
        self.cluster.counts.stats()
    }

    async fn failed(&self) {
        let mut pulse = self.away.clone();
        let pulse_ends = async move { while pulse.changed().await.is_ok() {} };
        tokio::select! {
            () = self.commits.closed() => {}
            () = pulse_ends => {}
        }
    }

    async fn away(&self) {
        let mut away = self.away.clone();
        if away.wait_for(|away| *away).await.is_err() {
            // The pulse ends with the engine.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for FoundationDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundationDb").finish_non_exhaustive()
    }
}
