//! The FoundationDB engine: a store for nodes on several hosts.
//!
//! Participants: the C client library, whose network thread runs once per process (`network`);
//! [`FoundationDb`], a database named by its cluster file; its transactions (`transaction`), which
//! read at one version and buffer their writes; the committer (`committer`), which batches
//! concurrent transactions into one commit; and the health check (`health_check`), which detects
//! within about a second that the cluster does not answer.
//!
//! Data flow: a transaction uses snapshot reads and records which key ranges must not have changed.
//! To commit, it sends these ranges, its read version and its writes to the committer. The
//! committer builds one FoundationDB transaction for all queued ones: the oldest read version, all
//! read conflict ranges, all writes. If FoundationDB rejects it, it also reports the conflicting
//! ranges. Only the transactions that read those are rejected; the others are retried.
//!
//! All keys are under one tuple, so that several installations can share a cluster.

mod cluster_file;
mod committer;
mod failure;
mod health_check;
mod network;
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

use crate::{BUDGET, Counters, Engine, Error, Stats, Transaction};
use committer::Submission;
use transaction::FdbTransaction;

/// The size limit of a FoundationDB transaction including its conflict ranges, in bytes.
/// FoundationDB's own limit is 10 MB. One of our transactions may write less:
/// [`MAX_TRANSACTION`](crate::MAX_TRANSACTION).
const SIZE_LIMIT: i32 = 9_500_000;
/// Retries by the client library: none, since [`Store::transact`](crate::Store::transact)
/// retries and counts.
const RETRY_LIMIT: i32 = 0;
/// The maximum number of transactions queued for the committer; further ones are rejected.
const MAX_QUEUED: usize = 8192;

/// A store in a FoundationDB cluster.
pub struct FoundationDb {
    cluster: Arc<Cluster>,
    commits: mpsc::Sender<Submission>,
    unreachable: watch::Receiver<bool>,
    _health_check: AbortOnDropHandle<()>,
}

/// State shared by the parts of the engine.
struct Cluster {
    database: Database,
    _stop_guard: network::StopGuard,
    /// The prefix of every key.
    prefix: Vec<u8>,
    counters: Counters,
}

/// Why a FoundationDB cluster cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The cluster file is invalid.
    #[error(transparent)]
    ClusterFile(#[from] ClusterFileError),
    /// The client library is unusable.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The client library rejected the cluster file or an option.
    #[error("the FoundationDB client cannot use {}: {cause} (error {})", path.display(), cause.code())]
    Client {
        /// The cluster file.
        path: PathBuf,
        /// The client's error.
        cause: FdbError,
    },
    /// The cluster did not answer.
    #[error(
        "FoundationDB cannot be used ({reason}). {} lists the coordinators {coordinators}{connections}. \
         Check that fdbserver is running there, with the same cluster file and a version that is \
         compatible with this client (7.3): fdbcli -C {} --exec \"status details\"", path.display(), path.display()
    )]
    Unreachable {
        /// The error of the last request.
        reason: Error,
        /// The cluster file.
        path: PathBuf,
        /// The coordinators' addresses.
        coordinators: String,
        /// The client's connection status, if known.
        connections: String,
    },
}

impl FoundationDb {
    /// Opens the database named by the cluster file and waits for its first answer. The keys of
    /// this store are under the tuple `(subspace,)`.
    ///
    /// # Errors
    /// If the client library is too old, the cluster file is invalid, or the cluster does not
    /// answer within 5 s.
    pub async fn open(cluster_file: &Path, subspace: &str) -> Result<Self, OpenError> {
        let file = ClusterFile::read(cluster_file)?;
        network::start()?;
        let rejected = |cause| OpenError::Client { path: cluster_file.to_owned(), cause };
        let database = connect(&file).map_err(rejected)?;
        let cluster = Arc::new(Cluster {
            database,
            _stop_guard: network::StopGuard,
            prefix: tuple::pack(&(subspace,)),
            counters: Counters::default(),
        });
        if let Err(reason) = health_check::wait_until_reachable(&cluster).await {
            return Err(OpenError::Unreachable {
                reason,
                path: cluster_file.to_owned(),
                coordinators: file.coordinators().join(", "),
                connections: health_check::connections(&cluster.database).await,
            });
        }
        let (commits, queue) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(committer::run(cluster.clone(), queue));
        let (health_check, unreachable) = health_check::monitor(cluster.clone());
        Ok(Self { cluster, commits, unreachable, _health_check: health_check })
    }
}

fn connect(file: &ClusterFile) -> FdbResult<Database> {
    let database = Database::from_path(file.path_text())?;
    let timeout = i32::try_from(BUDGET.as_millis()).expect("a few seconds fit");
    // These options apply to every transaction of this database.
    database.set_option(DatabaseOption::TransactionTimeout(timeout))?;
    database.set_option(DatabaseOption::TransactionRetryLimit(RETRY_LIMIT))?;
    database.set_option(DatabaseOption::TransactionSizeLimit(SIZE_LIMIT))?;
    Ok(database)
}

impl Cluster {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    /// Strips the prefix from a stored key.
    fn without_prefix<'a>(&self, key: &'a [u8]) -> &'a [u8] {
        key.strip_prefix(self.prefix.as_slice()).unwrap_or_default()
    }
}

#[async_trait]
impl Engine for FoundationDb {
    async fn begin(&self) -> Result<Box<dyn Transaction>, Error> {
        let transaction = FdbTransaction::begin(self.cluster.clone(), self.commits.clone());
        Ok(Box::new(transaction.map_err(failure::from_read)?))
    }

    async fn begin_urgent(&self) -> Result<Box<dyn Transaction>, Error> {
        let transaction = FdbTransaction::begin_urgent(self.cluster.clone(), self.commits.clone());
        Ok(Box::new(transaction.map_err(failure::from_read)?))
    }

    fn stats(&self) -> Stats {
        self.cluster.counters.stats()
    }

    async fn failed(&self) {
        let mut health = self.unreachable.clone();
        let health_check_ended = async move { while health.changed().await.is_ok() {} };
        tokio::select! {
            () = self.commits.closed() => {}
            () = health_check_ended => {}
        }
    }

    async fn unreachable(&self) {
        let mut unreachable = self.unreachable.clone();
        if unreachable.wait_for(|unreachable| *unreachable).await.is_err() {
            // The health check ended with the engine.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for FoundationDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundationDb").finish_non_exhaustive()
    }
}
