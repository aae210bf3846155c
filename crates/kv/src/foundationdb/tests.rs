//! Engine tests against the cluster named by `FDB_CLUSTER_FILE`, each in its own subspace.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::{join_all, try_join_all};
use rand::TryRng;
use rand::rngs::SysRng;

use super::FoundationDb;
use crate::{Engine, Error, Range};

/// An empty store in a subspace of its own.
pub(crate) async fn open() -> Arc<FoundationDb> {
    let number = SysRng.try_next_u64().expect("random numbers");
    let subspace = format!("test-{number:016x}");
    Arc::new(FoundationDb::open(&cluster_file(), &subspace).await.expect("the cluster answers"))
}

/// Clears the store.
pub(crate) async fn empty(engine: &FoundationDb) -> Result<(), Error> {
    let all = Range::prefix("");
    let tx = engine.begin().await?;
    tx.clear_range(all.begin, all.end);
    tx.commit().await
}

fn cluster_file() -> PathBuf {
    let file = std::env::var_os("FDB_CLUSTER_FILE");
    PathBuf::from(file.expect("FDB_CLUSTER_FILE names the cluster for the tests"))
}

#[tokio::test]
async fn subspaces_are_isolated() -> Result<(), Error> {
    let (one, other) = (open().await, open().await);
    let tx = one.begin().await?;
    tx.set("a".into(), "1".into());
    tx.commit().await?;
    assert_eq!(other.begin().await?.get(b"a").await?, None);
    empty(&other).await?;
    assert!(one.begin().await?.get(b"a").await?.is_some());
    empty(&one).await
}

#[tokio::test]
async fn a_range_larger_than_one_page_is_read_completely() -> Result<(), Error> {
    let engine = open().await;
    let rows = 3_000_u32;
    for part in 0..3_u32 {
        let tx = engine.begin().await?;
        for row in part * 1_000..(part + 1) * 1_000 {
            tx.set(row.to_be_bytes().to_vec(), vec![7; 900].into());
        }
        tx.commit().await?;
    }
    let tx = engine.begin().await?;
    let expected: Vec<_> = (0..rows).map(|row| row.to_be_bytes().to_vec()).collect();
    for reverse in [false, true] {
        let all = Range { reverse, ..Range::prefix("") };
        let mut keys: Vec<_> =
            tx.range(all).await?.into_iter().map(|(key, _)| key.to_vec()).collect();
        if reverse {
            keys.reverse();
        }
        assert!(keys == expected, "{} rows, reverse: {reverse}", keys.len());
    }
    assert_eq!(tx.range(Range::prefix("").limit(2_500)).await?.len(), 2_500);
    drop(tx);
    empty(&engine).await
}

/// When many transactions read the same keys, FoundationDB does not report all conflicts at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_transactions_share_commits() -> Result<(), Error> {
    let engine = open().await;
    let begin = async |number: u32| {
        let tx = engine.begin().await?;
        tx.get(&number.to_be_bytes()).await?;
        tx.set(number.to_be_bytes().to_vec(), "1".into());
        Ok::<_, Error>(tx)
    };
    let transactions = try_join_all((0..300).map(begin)).await?;
    let commits = join_all(transactions.into_iter().map(|tx| tx.commit())).await;
    assert!(commits.iter().all(Result::is_ok), "{commits:?}");
    let done = engine.stats();
    assert!(done.transactions == 300 && done.groups < 50, "{done:?}");

    let transactions = try_join_all((0..300).map(begin)).await?;
    let tx = engine.begin().await?;
    tx.clear_range(vec![], vec![u8::MAX]);
    tx.commit().await?;
    let commits = join_all(transactions.into_iter().map(|tx| tx.commit())).await;
    assert!(commits.iter().all(|commit| *commit == Err(Error::Conflict)), "{commits:?}");
    assert_eq!(engine.stats().conflicts, 300);
    empty(&engine).await
}

#[tokio::test]
async fn an_unreachable_cluster_is_named_in_the_error() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let file = dir.path().join("fdb.cluster");
    // No server listens on this port.
    std::fs::write(&file, "a:b@127.0.0.1:1").expect("written");
    let error = open_at(&file).await;
    for part in ["cannot be used", "127.0.0.1:1", "fdb.cluster", "fdbcli"] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

#[tokio::test]
async fn the_cluster_file_of_another_cluster_is_rejected() {
    let dir = tempfile::tempdir().expect("a directory for the test");
    let file = dir.path().join("fdb.cluster");
    let right = std::fs::read_to_string(cluster_file()).expect("the cluster file");
    let (_, addresses) = right.split_once('@').expect("a cluster file");
    std::fs::write(&file, format!("another:cluster@{addresses}")).expect("written");
    let error = open_at(&file).await;
    assert!(error.contains("cannot be used"), "{error}");
}

async fn open_at(file: &Path) -> String {
    FoundationDb::open(file, "test").await.expect_err("there is no such cluster").to_string()
}
