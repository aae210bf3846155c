//! A store of a test's own in the cluster that `FDB_CLUSTER_FILE` names.

use std::path::PathBuf;
use std::sync::Arc;

use rand::TryRng;
use rand::rngs::SysRng;

use super::FoundationDb;
use crate::kv::{Engine, Error, Range};

/// An empty store that shares nothing with other tests.
pub(crate) async fn open() -> Arc<FoundationDb> {
    let file = std::env::var_os("FDB_CLUSTER_FILE");
    let file = PathBuf::from(file.expect("FDB_CLUSTER_FILE names the cluster for the tests"));
    let number = SysRng.try_next_u64().expect("random numbers");
    let subspace = format!("test-{number:016x}");
    Arc::new(FoundationDb::open(&file, &subspace).await.expect("the cluster answers"))
}

/// Removes everything.
pub(crate) async fn empty(engine: &FoundationDb) -> Result<(), Error> {
    let all = Range::prefix("");
    let tx = engine.begin().await?;
    tx.clear_range(all.begin, all.end);
    tx.commit().await
}
