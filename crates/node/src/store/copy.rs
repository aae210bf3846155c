//! `postrider store copy`: copies a stopped node's embedded store to FoundationDB.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use data_encoding::HEXLOWER;
use postrider_store::kv::Store;
use postrider_store::kv::lmdb::Lmdb;
use postrider_store::{CopyError, CopyRejected, CopySummary, Digest};

use super::progress::ProgressDisplay;
use super::{describe, exists, format, open, print_line};
use crate::cli::StoreCopy;
use crate::config::{self, HAS_FOUNDATIONDB, NO_FOUNDATIONDB};
use crate::data_dir::{DataDir, LockMode};
use crate::run::seed;

/// The holder of the lock on the data directory, in the error of a node that is started on it.
const LOCK_HOLDER: &str = "postrider store copy";

/// Copies the store, and prints progress and result.
///
/// # Errors
/// If the copy is refused.
pub async fn run(options: StoreCopy) -> Result<ExitCode> {
    ensure!(HAS_FOUNDATIONDB, NO_FOUNDATIONDB);
    let StoreCopy { from: dir, to: cluster_file, subspace } = options;
    let target = config::Store::FoundationDb(config::FoundationDb { cluster_file, subspace });
    let (_lock, from) = lock_source(&dir)?;
    let to = Store::new(open(&target, &dir).await?, seed()?);
    print_line(&format!(
        "copying {} to {}",
        describe(&config::Store::Embedded, &dir),
        describe(&target, &dir)
    ));
    let display = ProgressDisplay::new();
    let result = postrider_store::copy(&from, &to, &|progress| display.show(progress)).await;
    display.finish();
    match result {
        Ok(copied) => {
            print_line(&summary(&copied));
            print_line(&next_steps(&dir));
            Ok(ExitCode::SUCCESS)
        }
        Err(CopyError::Rejected(rejected)) => bail!(rejection_message(&rejected)),
        Err(error) => {
            print_line(&failure_message(&error));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Opens the store in `dir`, and locks the directory so that no node runs or starts on it.
fn lock_source(dir: &Path) -> Result<(DataDir, Store)> {
    ensure!(exists(dir), "no store in {}", dir.display());
    let lock = DataDir::open(dir, LOCK_HOLDER, LockMode::Exclusive).context(
        "cannot copy a store that is in use; stop all nodes on it, and do not restart them",
    )?;
    let store = Store::new(Arc::new(Lmdb::open(dir)?), seed()?);
    Ok((lock, store))
}

fn summary(CopySummary { source, target, resumed_rows }: &CopySummary) -> String {
    let mut text = format!("source  {}\ntarget  {}", digest(source), digest(target));
    if *resumed_rows > 0 {
        text += &format!(
            "\n{} of the rows were copied by an earlier run",
            format::count(*resumed_rows)
        );
    }
    text
}

fn digest(Digest { rows, bytes, sha256 }: &Digest) -> String {
    let (rows, size) = (format::count(*rows), format::size(*bytes));
    format!("{rows} rows, {size}, SHA-256 {}", HEXLOWER.encode(sha256))
}

fn next_steps(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "Copy complete. Start nodes with [store] kind = \"foundationdb\" from now on. Do not start a \
         node on the embedded store in {dir} again: it would send webhooks a second time. The \
         operator key is not part of the store: on each host, set POSTRIDER_OPERATOR_KEY to the \
         content of {dir}/operator.key."
    )
}

fn rejection_message(rejected: &CopyRejected) -> String {
    let next = match rejected {
        CopyRejected::TargetNotEmpty | CopyRejected::SourceMismatch => {
            "; choose another --subspace, or empty this one (see cluster-config/foundationdb/README.md)"
        }
        CopyRejected::SourceUnfinished => {
            "; first finish the copy into it by running that command again"
        }
        CopyRejected::EmptySource | CopyRejected::Newer { .. } => "",
    };
    format!("{rejected}{next}")
}

fn failure_message(error: &CopyError) -> String {
    match error {
        CopyError::Differs { source_digest, target_digest } => format!(
            "failed: {error}\nsource  {}\ntarget  {}\nAnother process wrote to the target. No \
             node can start on it; choose another --subspace, or empty this one.",
            digest(source_digest),
            digest(target_digest)
        ),
        CopyError::ConcurrentCopy => format!("failed: {error}\nWait for the other copy to finish."),
        _ => format!("failed: {error}\nRun the same command again to resume."),
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::Records;

    use super::*;

    #[tokio::test]
    async fn the_source_is_locked_only_if_no_node_runs_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let error = lock_source(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("no store in"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is created");

        let node = DataDir::open(dir.path(), "node-1", LockMode::Shared).unwrap();
        let store = Store::new(Arc::new(Lmdb::open(dir.path()).unwrap()), 1);
        Records::open(store, 8).await.unwrap();
        let error = format!("{:#}", lock_source(dir.path()).unwrap_err());
        assert!(error.contains("stop all nodes"), "{error}");
        drop(node);
        let (_lock, _store) = lock_source(dir.path()).unwrap();
        let node = DataDir::open(dir.path(), "node-1", LockMode::Shared).unwrap_err().to_string();
        assert!(node.contains(LOCK_HOLDER), "{node}");
    }

    #[test]
    fn the_summary_shows_both_digests() {
        let digest = Digest { rows: 1_234, bytes: 5 << 20, sha256: [0xab; 32] };
        let text = summary(&CopySummary { source: digest, target: digest, resumed_rows: 1_000 });
        let sum = "ab".repeat(32);
        let expected = format!(
            "source  1,234 rows, 5.0 MiB, SHA-256 {sum}\n\
             target  1,234 rows, 5.0 MiB, SHA-256 {sum}\n\
             1,000 of the rows were copied by an earlier run"
        );
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn a_build_without_foundationdb_says_so_first() {
        if HAS_FOUNDATIONDB {
            return;
        }
        let (from, to) = ("/nowhere".into(), "/nowhere".into());
        let options = StoreCopy { from, to, subspace: config::Subspace::default() };
        assert_eq!(run(options).await.unwrap_err().to_string(), NO_FOUNDATIONDB);
    }
}
