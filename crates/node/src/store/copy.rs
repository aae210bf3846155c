//! `postrider store copy`: moves what a stopped node has on its disk into FoundationDB.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use data_encoding::HEXLOWER;
use postrider_store::kv::Store;
use postrider_store::kv::lmdb::Embedded;
use postrider_store::{Copied, CopyError, Digest, Refusal};

use super::progress::Shown;
use super::{is_in, open, place, say, text};
use crate::cli::StoreCopy;
use crate::config::{self, HAS_FOUNDATIONDB, NO_FOUNDATIONDB};
use crate::data_dir::{DataDir, Use};
use crate::run::seed;

/// Who has the data directory meanwhile, for a node that is started on it.
const HOLDER: &str = "postrider store copy";

/// Copies, unless it must not.
///
/// # Errors
/// When it must not be begun.
pub async fn run(options: StoreCopy) -> Result<ExitCode> {
    ensure!(HAS_FOUNDATIONDB, NO_FOUNDATIONDB);
    let StoreCopy { from: dir, to: cluster_file, subspace } = options;
    let target = config::Store::FoundationDb(config::FoundationDb { cluster_file, subspace });
    let (_lock, from) = take(&dir)?;
    let to = Store::new(open(&target, &dir).await?, seed()?);
    say(&format!("from {} into {}", place(&config::Store::Embedded, &dir), place(&target, &dir)));
    let shown = Shown::new();
    let ended = postrider_store::copy(&from, &to, &|progress| shown.show(progress)).await;
    shown.end();
    match ended {
        Ok(copied) => {
            say(&account(&copied));
            say(&advice(&dir));
            Ok(ExitCode::SUCCESS)
        }
        Err(CopyError::Refused(refusal)) => bail!(explain(&refusal)),
        Err(error) => {
            say(&failure(&error));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The store in `dir`, on which no node runs, nor can be started.
fn take(dir: &Path) -> Result<(DataDir, Store)> {
    ensure!(is_in(dir), "there is no store in {}", dir.display());
    let lock = DataDir::take(dir, HOLDER, Use::Alone)
        .context("the store is copied while no node runs on it: stop them all, and keep them so")?;
    let store = Store::new(Arc::new(Embedded::open(dir)?), seed()?);
    Ok((lock, store))
}

fn account(Copied { source, target, earlier }: &Copied) -> String {
    let mut text = format!("source  {}\ntarget  {}", digest(source), digest(target));
    if *earlier > 0 {
        text += &format!("\n{} of the rows were there from an earlier run", text::count(*earlier));
    }
    text
}

fn digest(Digest { rows, bytes, sha256 }: &Digest) -> String {
    let (rows, size) = (text::count(*rows), text::size(*bytes));
    format!("{rows} rows, {size}, SHA-256 {}", HEXLOWER.encode(sha256))
}

fn advice(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "copied. From now on start nodes with [store] kind = \"foundationdb\", and none on the \
         embedded store in {dir} again: it would send its webhooks a second time. The operator's \
         key is no part of the store: give each host what stands in {dir}/operator.key, as \
         POSTRIDER_OPERATOR_KEY."
    )
}

fn explain(refusal: &Refusal) -> String {
    let next = match refusal {
        Refusal::Occupied | Refusal::OtherSource => {
            "; give another --subspace, or empty this one (the README's \"FoundationDB\" says how)"
        }
        Refusal::Unfinished => "; run the copy that it is the target of again, to its end",
        Refusal::NothingThere | Refusal::Newer { .. } => "",
    };
    format!("{refusal}{next}")
}

fn failure(error: &CopyError) -> String {
    match error {
        CopyError::Differs { source_digest, target_digest } => format!(
            "failed: {error}\nsource  {}\ntarget  {}\nSomebody else has written there. No node \
             starts on it; copy into another --subspace, or empty this one.",
            digest(source_digest),
            digest(target_digest)
        ),
        CopyError::Overtaken => format!("failed: {error}\nLet that one come to its end."),
        _ => format!("failed: {error}\nStart it again, with the same words: it goes on from here."),
    }
}

#[cfg(test)]
mod tests {
    use postrider_store::Records;

    use super::*;

    #[tokio::test]
    async fn a_store_is_taken_when_no_node_runs_on_it() {
        let dir = tempfile::tempdir().unwrap();
        let refused = take(dir.path()).unwrap_err().to_string();
        assert!(refused.starts_with("there is no store in"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made");

        let node = DataDir::take(dir.path(), "node-1", Use::Shared).unwrap();
        let store = Store::new(Arc::new(Embedded::open(dir.path()).unwrap()), 1);
        Records::open(store, 8).await.unwrap();
        let refused = format!("{:#}", take(dir.path()).unwrap_err());
        assert!(refused.contains("stop them all"), "{refused}");
        drop(node);
        let (_lock, _store) = take(dir.path()).unwrap();
        let node = DataDir::take(dir.path(), "node-1", Use::Shared).unwrap_err().to_string();
        assert!(node.contains(HOLDER), "{node}");
    }

    #[test]
    fn what_was_copied_is_accounted_for() {
        let digest = Digest { rows: 1_234, bytes: 5 << 20, sha256: [0xab; 32] };
        let text = account(&Copied { source: digest, target: digest, earlier: 1_000 });
        let sum = "ab".repeat(32);
        let expected = format!(
            "source  1,234 rows, 5.0 MiB, SHA-256 {sum}\n\
             target  1,234 rows, 5.0 MiB, SHA-256 {sum}\n\
             1,000 of the rows were there from an earlier run"
        );
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn a_build_without_foundationdb_says_so_before_anything_else() {
        if HAS_FOUNDATIONDB {
            return;
        }
        let (from, to) = ("/nowhere".into(), "/nowhere".into());
        let options = StoreCopy { from, to, subspace: config::Subspace::default() };
        assert_eq!(run(options).await.unwrap_err().to_string(), NO_FOUNDATIONDB);
    }
}
