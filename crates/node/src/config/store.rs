//! `[store]`: the storage engine and its location.

use std::fmt;
use std::path::PathBuf;

use super::reader::Reader;
use super::{PLAIN_NAME, is_plain_name};

/// `[store]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    /// LMDB in the data directory, for nodes on one host.
    Embedded,
    /// FoundationDB, for nodes on any number of hosts.
    FoundationDb(FoundationDb),
}

/// A subspace in a FoundationDB cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundationDb {
    /// The cluster file, which lists the coordinators.
    pub cluster_file: PathBuf,
    /// The prefix of all keys.
    pub subspace: Subspace,
}

/// The key prefix of an installation: 1 to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subspace(String);

/// Whether this build includes the FoundationDB engine.
pub const HAS_FOUNDATIONDB: bool = cfg!(feature = "foundationdb");
/// The error for a build without the engine.
pub const NO_FOUNDATIONDB: &str = "this build does not include the FoundationDB engine; build with \
    `cargo build --release --package postrider-node --features foundationdb`, which needs \
    FoundationDB's client library (see cluster-config/foundationdb/README.md), or use \"embedded\"";

/// The path that FoundationDB's packages use.
const CLUSTER_FILE: &str = "/etc/foundationdb/fdb.cluster";
const SUBSPACE: &str = "postrider";

impl Store {
    /// Reads the section, for a build with or without the FoundationDB engine.
    pub(super) fn build(reader: &mut Reader, has_foundationdb: bool) -> Self {
        let errors_before = reader.error_count();
        let kind = reader.option("store", "kind", |kind: String| match kind.as_str() {
            "embedded" => Ok(Kind::Embedded),
            "foundationdb" if has_foundationdb => Ok(Kind::FoundationDb),
            "foundationdb" => Err(NO_FOUNDATIONDB),
            _ => Err("must be \"embedded\" or \"foundationdb\""),
        });
        let cluster_file = reader.option("store", "cluster_file", super::path);
        let subspace = reader.option("store", "subspace", |text: String| Subspace::parse(&text));
        if reader.error_count() > errors_before {
            return Self::Embedded;
        }
        match kind.unwrap_or(Kind::Embedded) {
            Kind::Embedded => {
                for key in ["cluster_file", "subspace"] {
                    if reader.has("store", key) {
                        reader.error("store", key, OF_FOUNDATIONDB.to_owned());
                    }
                }
                Self::Embedded
            }
            Kind::FoundationDb => Self::FoundationDb(FoundationDb {
                cluster_file: cluster_file.unwrap_or_else(|| PathBuf::from(CLUSTER_FILE)),
                subspace: subspace.unwrap_or_default(),
            }),
        }
    }
}

const OF_FOUNDATIONDB: &str = "applies only to kind = \"foundationdb\"";

enum Kind {
    Embedded,
    FoundationDb,
}

impl Subspace {
    /// Parses a subspace name.
    ///
    /// # Errors
    /// If the name is empty, too long, or contains other characters.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if is_plain_name(text) { Ok(Self(text.to_owned())) } else { Err(PLAIN_NAME) }
    }

    #[must_use]
    #[cfg_attr(not(feature = "foundationdb"), allow(dead_code, reason = "only the engine uses it"))]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Subspace {
    fn default() -> Self {
        Self(SUBSPACE.to_owned())
    }
}

impl fmt::Display for Subspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
