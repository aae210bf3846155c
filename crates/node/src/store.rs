//! The store that the configuration names: opening it for a node, and the commands about it.
//!
//! | File | Is |
//! |---|---|
//! | [`check`] | `postrider store check`: whether it works, and how fast |
//! | [`measure`] | the measuring |
//! | [`copy`] | `postrider store copy`: from one machine's disk into FoundationDB |
//! | [`progress`] | how far a copy has come, on a terminal or in lines |
//! | [`disk`] | the disk that an embedded store lies on |
//! | [`text`] | numbers as people read them |

pub mod check;
pub mod copy;
mod disk;
mod measure;
mod progress;
mod text;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use postrider_store::kv::Engine;
use postrider_store::kv::lmdb::Embedded;

use crate::config;

/// Opens the store; an embedded one lies in `dir`, and is made if it is not there.
///
/// # Errors
/// When it cannot be had, with what to do about it.
pub async fn open(store: &config::Store, dir: &Path) -> Result<Arc<dyn Engine>> {
    match store {
        config::Store::Embedded => Ok(Arc::new(Embedded::open(dir)?)),
        config::Store::FoundationDb(place) => open_foundationdb(place).await,
    }
}

#[cfg(feature = "foundationdb")]
async fn open_foundationdb(place: &config::FoundationDb) -> Result<Arc<dyn Engine>> {
    use postrider_store::kv::foundationdb::FoundationDb;
    let config::FoundationDb { cluster_file, subspace } = place;
    Ok(Arc::new(FoundationDb::open(cluster_file, subspace.as_str()).await?))
}

#[cfg(not(feature = "foundationdb"))]
async fn open_foundationdb(_: &config::FoundationDb) -> Result<Arc<dyn Engine>> {
    anyhow::bail!(config::NO_FOUNDATIONDB)
}

/// Ends what a store leaves running in the process. None can be opened afterwards.
pub fn close() {
    #[cfg(feature = "foundationdb")]
    postrider_store::kv::foundationdb::stop();
}

/// What to call the store, in the middle of a sentence.
pub fn place(store: &config::Store, dir: &Path) -> String {
    match store {
        config::Store::Embedded => format!("the store in {}", dir.display()),
        config::Store::FoundationDb(config::FoundationDb { cluster_file, subspace }) => {
            format!("the store under {subspace} in FoundationDB ({})", cluster_file.display())
        }
    }
}

/// Whether an embedded store lies in `dir`; to open one that does not would make it.
fn is_in(dir: &Path) -> bool {
    dir.join("data.mdb").exists()
}

/// A line for whoever started the command. Nobody need read it.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}
