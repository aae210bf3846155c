//! Opens the configured store, and implements the `postrider store` commands.
//!
//! | File | Contents |
//! |---|---|
//! | [`check`] | `postrider store check`: does the store work, and how fast is it? |
//! | [`measure`] | latency and throughput of a store |
//! | [`copy`] | `postrider store copy`: from an embedded store to FoundationDB |
//! | [`progress`] | the progress of a copy, as a bar or as log lines |
//! | [`disk`] | size and type of the disk that holds an embedded store |
//! | [`mod@format`] | numbers, sizes and times for people |

pub mod check;
pub mod copy;
mod disk;
mod format;
mod measure;
mod progress;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use postrider_store::kv::Engine;
use postrider_store::kv::lmdb::Lmdb;

use crate::config;

/// Opens the store. An embedded store is created in `dir` if it does not exist.
///
/// # Errors
/// If it cannot be opened. The message says what to do.
pub async fn open(store: &config::Store, dir: &Path) -> Result<Arc<dyn Engine>> {
    match store {
        config::Store::Embedded => Ok(Arc::new(Lmdb::open(dir)?)),
        config::Store::FoundationDb(foundationdb) => open_foundationdb(foundationdb).await,
    }
}

#[cfg(feature = "foundationdb")]
async fn open_foundationdb(foundationdb: &config::FoundationDb) -> Result<Arc<dyn Engine>> {
    use postrider_store::kv::foundationdb::FoundationDb;
    let config::FoundationDb { cluster_file, subspace } = foundationdb;
    Ok(Arc::new(FoundationDb::open(cluster_file, subspace.as_str()).await?))
}

#[cfg(not(feature = "foundationdb"))]
async fn open_foundationdb(_: &config::FoundationDb) -> Result<Arc<dyn Engine>> {
    anyhow::bail!(config::NO_FOUNDATIONDB)
}

/// Stops FoundationDB's network thread. No store can be opened afterwards.
pub fn close() {
    #[cfg(feature = "foundationdb")]
    postrider_store::kv::foundationdb::stop();
}

/// Describes the store, for the middle of a sentence.
pub fn describe(store: &config::Store, dir: &Path) -> String {
    match store {
        config::Store::Embedded => format!("the store in {}", dir.display()),
        config::Store::FoundationDb(config::FoundationDb { cluster_file, subspace }) => {
            format!("the store in FoundationDB subspace {subspace} ({})", cluster_file.display())
        }
    }
}

/// Whether `dir` contains an embedded store. Opening it would create it.
pub fn exists(dir: &Path) -> bool {
    dir.join("data.mdb").exists()
}

/// Prints a line to stdout. Ignores errors: stdout may be closed.
fn print_line(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
